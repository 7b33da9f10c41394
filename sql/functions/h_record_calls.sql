-- find_route: the route that names who pays for a call, by our own mapping at the time of the call; the assistant
-- decides before the squad, the squad before the workflow, the workflow before the phone number; what the call's
-- metadata says (key=value) decides last, and only by a route of its own: whoever starts a web call can write there
-- what he likes. No row if nobody is known.
CREATE OR REPLACE FUNCTION find_route(
    p_assistant_id text, p_squad_id text, p_workflow_id text, p_phone_number_id text, p_metadata text, p_at timestamptz
)
RETURNS SETOF routes LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT id, kind, external_id, organization_id, valid
    FROM (
        SELECT 1 AS rank, routes.* FROM routes
        WHERE kind = 'assistant' AND external_id = p_assistant_id AND valid @> p_at
        UNION ALL
        SELECT 2 AS rank, routes.* FROM routes
        WHERE kind = 'squad' AND external_id = p_squad_id AND valid @> p_at
        UNION ALL
        SELECT 3 AS rank, routes.* FROM routes
        WHERE kind = 'workflow' AND external_id = p_workflow_id AND valid @> p_at
        UNION ALL
        SELECT 4 AS rank, routes.* FROM routes
        WHERE kind = 'phone_number' AND external_id = p_phone_number_id AND valid @> p_at
        UNION ALL
        SELECT 5 AS rank, routes.* FROM routes
        WHERE kind = 'metadata' AND external_id = p_metadata AND valid @> p_at
    ) AS found
    ORDER BY rank
    LIMIT 1
$$;

-- find_organization: who pays for a call; null if nobody is known.
CREATE OR REPLACE FUNCTION find_organization(
    p_assistant_id text, p_squad_id text, p_workflow_id text, p_phone_number_id text, p_metadata text, p_at timestamptz
)
RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT organization_id
    FROM find_route(p_assistant_id, p_squad_id, p_workflow_id, p_phone_number_id, p_metadata, p_at)
$$;

-- names_another: whether a call's metadata (key=value) names another organization than this one: by a route, or else by
-- its id. Such a call is held: it is nobody's until a person says whose.
CREATE OR REPLACE FUNCTION names_another(p_metadata text, p_organization_id uuid, p_at timestamptz)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(coalesce(
        (
            SELECT routes.organization_id FROM routes
            WHERE kind = 'metadata' AND external_id = p_metadata AND valid @> p_at
        ),
        (
            SELECT organizations.id FROM organizations
            WHERE id = CASE
                WHEN p_metadata ~* '=[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                    THEN split_part(p_metadata, '=', 2)::uuid
            END
        )
    ) <> p_organization_id, false)
$$;

-- call_problem: why a call that is over cannot be charged as it was told, in words; null if it can.
--
-- Vapi ends a call after maxDurationSeconds, 43,200 at most; ten minutes are left for ringing and for transfers, since
-- it is not documented when that clock begins. It began in 2023, stamps both times of a call that connected and neither
-- of one that did not, which costs 0; calls cost cents to a few dollars. A clock may be a day off.
CREATE OR REPLACE FUNCTION call_problem(
    p_created_at timestamptz, p_started_at timestamptz, p_ended_at timestamptz, p_provider_cost_micros bigint,
    p_max_duration_seconds integer
)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN p_provider_cost_micros < 0 THEN 'its cost is negative'
    WHEN p_provider_cost_micros > 1000000000 THEN 'its cost is more than a call can cost'
    WHEN least(p_created_at, p_started_at, p_ended_at) < timestamptz '2023-01-01 00:00+00' THEN 'it is older than Vapi'
    WHEN greatest(p_created_at, p_started_at, p_ended_at) > now() + interval '1 day' THEN 'it lies in the future'
    WHEN p_ended_at < p_started_at THEN 'it ended before it started'
    WHEN p_started_at IS NOT NULL AND p_ended_at IS NULL THEN 'it started and is over, but has no end'
    WHEN p_started_at IS NULL AND p_provider_cost_micros > 0 THEN 'it cost money, but has no start'
    WHEN p_started_at IS NULL AND p_ended_at IS NOT NULL AND p_provider_cost_micros IS NULL
        THEN 'it ended, but has no start'
    WHEN call_duration_ms(p_started_at, p_ended_at) = 0 AND p_provider_cost_micros > 0
        THEN 'it ended as it started, but cost money'
    WHEN p_started_at < p_created_at - interval '1 day' THEN 'it started before it was created'
    WHEN call_duration_ms(p_started_at, p_ended_at) > 600000 + 1000 * CASE
        WHEN p_max_duration_seconds BETWEEN 10 AND 43200 THEN p_max_duration_seconds ELSE 43200
    END THEN 'it lasted longer than it could'
END;

-- find_price: the price in force for an organization at a time: its own, else the default of its currency.
CREATE OR REPLACE FUNCTION find_price(p_organization_id uuid, p_currency text, p_at timestamptz)
RETURNS SETOF prices LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT *
    FROM prices
    WHERE (organization_id = p_organization_id OR organization_id IS NULL)
        AND currency = p_currency AND valid @> p_at
    ORDER BY organization_id NULLS LAST
    LIMIT 1
$$;

-- record_calls: stores ended calls and charges each once; the one way in for webhooks (p_reconciled = false) and for
-- the night (true).
--
-- p_calls: array of {id, assistant_id, squad_id, workflow_id, phone_number_id, metadata, call_type, ended_reason,
-- created_at, started_at, ended_at, provider_cost_micros, max_duration_seconds, problem}; times ISO 8601; problem: why
-- some of it could not be read. A call with a problem, told or found (call_problem, names_another), is stored and held:
-- nothing is charged. What was seen first stays: a call that is known already keeps its facts, and only notes that its
-- webhook has arrived; but one that is held takes better ones. What a night kept of its first sight of a call decides
-- whether the call counts as reconciled, whoever records it and whatever has arrived since; without that, one that the
-- night records does if its report is not in the inbox either, in whatever state. Waits for changes of routes and
-- prices; locks calls in the order of their ids, then wallets. LATERAL with LIMIT 1, and no sequential scan, keep the
-- plan to one look-up by key per call, however small the tables were when it was made.
-- Answers once per call id with outcome: settled, outstanding, free or cancelled (its charge), held (and why, as
-- problem), unattributed (no route; stored, and charged when a route appears) or unpriced (no price in force; the
-- same), and whether it was known before (to anybody but the run p_run_id).
-- Errors: TY002, TY003.
CREATE OR REPLACE FUNCTION record_calls(p_calls jsonb, p_reconciled boolean DEFAULT false, p_run_id uuid DEFAULT NULL)
RETURNS TABLE (
    call_id text, organization_id uuid, outcome text, amount_micros bigint, known boolean, problem text
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    told text[];
    are_known boolean[];
BEGIN
    LOCK TABLE routes, prices IN ROW EXCLUSIVE MODE; -- add_route and set_price would miss what we are about to store

    WITH told_calls AS (
        SELECT DISTINCT ON (told_call.id) told_call.*
        FROM jsonb_to_recordset(p_calls) AS told_call (
            id text, assistant_id text, squad_id text, workflow_id text, phone_number_id text, metadata text,
            call_type text, ended_reason text, created_at timestamptz, started_at timestamptz, ended_at timestamptz,
            provider_cost_micros bigint, max_duration_seconds integer, problem text
        )
        ORDER BY told_call.id
    ),

    stored AS (
        INSERT INTO calls (
            id, organization_id, assistant_id, squad_id, workflow_id, phone_number_id, metadata, call_type,
            ended_reason, created_at, started_at, ended_at, duration_ms, provider_cost_micros, max_duration_seconds,
            held, reconciled, webhook_at, reconciliation_run_id
        )
        SELECT
            told_calls.id, CASE WHEN NOT route.is_contradicted THEN route.organization_id END, assistant_id, squad_id,
            workflow_id, phone_number_id, metadata, call_type, ended_reason, created_at, started_at, ended_at,
            call_duration_ms(started_at, ended_at), provider_cost_micros, max_duration_seconds,
            coalesce(
                told_calls.problem,
                call_problem(created_at, started_at, ended_at, provider_cost_micros, max_duration_seconds),
                CASE WHEN route.is_contradicted THEN held_by_metadata() END
            ),
            coalesce(NOT sight.told, p_reconciled AND report.received_at IS NULL),
            CASE WHEN p_reconciled THEN report.received_at ELSE now() END, p_run_id
        FROM told_calls
        LEFT JOIN LATERAL (
            SELECT found.organization_id, names_another(metadata, found.organization_id, created_at) AS is_contradicted
            FROM find_route(assistant_id, squad_id, workflow_id, phone_number_id, metadata, created_at) AS found
        ) AS route ON true
        LEFT JOIN LATERAL (
            SELECT received_at FROM events
            WHERE p_reconciled AND provider = 'vapi' AND delivery_key = told_calls.id || ':end-of-call-report'
            LIMIT 1
        ) AS report ON true
        LEFT JOIN LATERAL (
            SELECT first_sights.told FROM first_sights WHERE first_sights.call_id = told_calls.id LIMIT 1
        ) AS sight ON true
        ORDER BY told_calls.id
        ON CONFLICT (id) DO UPDATE SET
            webhook_at = coalesce(calls.webhook_at, excluded.webhook_at),
            organization_id = coalesce(calls.organization_id, excluded.organization_id),
            started_at = CASE WHEN is_better(calls.held, excluded.held) THEN excluded.started_at ELSE calls.started_at END,
            ended_at = CASE WHEN is_better(calls.held, excluded.held) THEN excluded.ended_at ELSE calls.ended_at END,
            duration_ms = CASE WHEN is_better(calls.held, excluded.held) THEN excluded.duration_ms ELSE calls.duration_ms END,
            provider_cost_micros = CASE
                WHEN is_better(calls.held, excluded.held) THEN excluded.provider_cost_micros ELSE calls.provider_cost_micros
            END,
            held = CASE WHEN NOT is_better(calls.held, excluded.held) THEN calls.held END
        RETURNING id, xmax <> 0 AS is_known -- xmax is 0 on a row that this statement inserted
    )

    SELECT array_agg(id), array_agg(is_known) INTO told, are_known FROM stored;

    PERFORM charge_calls(told);

    RETURN QUERY
    SELECT
        told_call.id,
        call.organization_id,
        CASE
            WHEN call.held IS NOT NULL THEN 'held'
            WHEN call.organization_id IS NULL THEN 'unattributed'
            ELSE coalesce(charge.state, 'unpriced')
        END,
        charge.amount_micros,
        CASE WHEN p_run_id IS NULL THEN told_call.is_known ELSE call.run_id IS DISTINCT FROM p_run_id END,
        call.held
    FROM unnest(told, are_known) AS told_call (id, is_known)
    CROSS JOIN LATERAL (
        SELECT calls.organization_id, calls.reconciliation_run_id AS run_id, calls.held
        FROM calls WHERE calls.id = told_call.id LIMIT 1
    ) AS call
    LEFT JOIN LATERAL (
        SELECT charges.state, charges.amount_micros FROM charges
        WHERE charges.idempotency_key = 'call:' || told_call.id
        LIMIT 1
    ) AS charge ON true;
END;
$$;

-- held_by_metadata: why a call is held whose metadata contradicts its route.
CREATE OR REPLACE FUNCTION held_by_metadata()
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'its metadata names another organization than its route';

-- contradiction_of: the same of a stored call that is nobody's yet; null if it says nothing else. Internal.
CREATE OR REPLACE FUNCTION contradiction_of(p_call calls)
RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT held_by_metadata()
    FROM find_route(
        p_call.assistant_id, p_call.squad_id, p_call.workflow_id, p_call.phone_number_id, p_call.metadata,
        p_call.created_at
    ) AS route
    WHERE p_call.organization_id IS NULL AND names_another(p_call.metadata, route.organization_id, p_call.created_at)
$$;

-- is_better: whether what is told of a call now can be charged, and what is stored of it cannot. Internal.
CREATE OR REPLACE FUNCTION is_better(p_held_as_stored text, p_held_as_told text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_held_as_stored IS NOT NULL AND p_held_as_told IS NULL;

-- charge_calls: charges those of the stored calls that have an organization, a price and no charge yet, and are not
-- held.
-- Oldest first, which decides what fits below a debt limit. Internal. Answers with how many it charged.
CREATE OR REPLACE FUNCTION charge_calls(p_call_ids text[])
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    requests charge_request[];
BEGIN
    SELECT array_agg(
        ROW(
            call.organization_id, 'call:' || call.id, 'call',
            coalesce(billed_amount_micros(used.billed_seconds, price.per_minute_micros), 0),
            coalesce(call.ended_at, call.created_at), call.duration_ms, used.billed_seconds,
            price.id, price.per_minute_micros, price.increment_seconds, price.minimum_seconds, price.free_seconds,
            NULL
        )::charge_request
        ORDER BY coalesce(call.ended_at, call.created_at), call.id
    ) INTO requests
    FROM unnest(p_call_ids) AS told (id)
    CROSS JOIN LATERAL (SELECT * FROM calls WHERE calls.id = told.id LIMIT 1) AS call
    CROSS JOIN LATERAL (
        SELECT currency FROM wallets WHERE wallets.organization_id = call.organization_id LIMIT 1
    ) AS wallet
    LEFT JOIN LATERAL (
        SELECT true AS found FROM charges WHERE charges.idempotency_key = 'call:' || told.id LIMIT 1
    ) AS charge ON true
    LEFT JOIN LATERAL find_price(
        call.organization_id, wallet.currency, coalesce(call.started_at, call.created_at)
    ) AS price ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(billed_seconds(
            call.duration_ms, price.increment_seconds, price.minimum_seconds, price.free_seconds
        ), 0) AS billed_seconds
    ) AS used
    WHERE charge.found IS NULL AND call.held IS NULL AND (price.id IS NOT NULL OR call.duration_ms = 0);
    PERFORM book_charges(requests) WHERE requests IS NOT NULL;
    RETURN coalesce(cardinality(requests), 0);
END;
$$;
