-- find_route: the route that names who pays for a call, by our own mapping at the time of the call; the assistant
-- decides before the squad, the squad before the phone number. No row if nobody is known.
CREATE OR REPLACE FUNCTION find_route(p_assistant_id text, p_squad_id text, p_phone_number_id text, p_at timestamptz)
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
        WHERE kind = 'phone_number' AND external_id = p_phone_number_id AND valid @> p_at
    ) AS found
    ORDER BY rank
    LIMIT 1
$$;

-- find_organization: who pays for a call; null if nobody is known.
CREATE OR REPLACE FUNCTION find_organization(
    p_assistant_id text, p_squad_id text, p_phone_number_id text, p_at timestamptz
)
RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT organization_id FROM find_route(p_assistant_id, p_squad_id, p_phone_number_id, p_at)
$$;

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
-- p_calls: array of {id, assistant_id, squad_id, phone_number_id, call_type, ended_reason, created_at, started_at,
-- ended_at, provider_cost_micros}; times ISO 8601. What was seen first stays: a call that is known already keeps its
-- facts, and only notes that its webhook has arrived. What a night kept of its first sight of a call decides whether
-- the call counts as reconciled, whoever records it and whatever has arrived since; without that, one that the night
-- records does if its report is not in the inbox either, in whatever state. Waits for changes of routes and prices;
-- locks calls in the order of their ids, then wallets. LATERAL with LIMIT 1, and no sequential scan, keep the plan to
-- one look-up by key per call, however small the tables were when it was made.
-- Answers once per call id with outcome: settled, outstanding, free or cancelled (its charge), unattributed (no
-- route; stored, and charged when a route appears) or unpriced (no price in force; the same), and whether it was
-- known before (to anybody but the run p_run_id).
-- Errors: TY002, TY003.
CREATE OR REPLACE FUNCTION record_calls(p_calls jsonb, p_reconciled boolean DEFAULT false, p_run_id uuid DEFAULT NULL)
RETURNS TABLE (call_id text, organization_id uuid, outcome text, amount_micros bigint, known boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    told text[];
    are_known boolean[];
BEGIN
    LOCK TABLE routes, prices IN ROW EXCLUSIVE MODE; -- add_route and set_price would miss what we are about to store

    WITH told_calls AS (
        SELECT DISTINCT ON (told_call.id) told_call.*
        FROM jsonb_to_recordset(p_calls) AS told_call (
            id text, assistant_id text, squad_id text, phone_number_id text, call_type text, ended_reason text,
            created_at timestamptz, started_at timestamptz, ended_at timestamptz, provider_cost_micros bigint
        )
        ORDER BY told_call.id
    ),

    stored AS (
        INSERT INTO calls (
            id, organization_id, assistant_id, squad_id, phone_number_id, call_type, ended_reason, created_at,
            started_at, ended_at, duration_ms, provider_cost_micros, reconciled, webhook_at, reconciliation_run_id
        )
        SELECT
            told_calls.id, route.organization_id, assistant_id, squad_id, phone_number_id, call_type, ended_reason,
            created_at, started_at, ended_at, call_duration_ms(started_at, ended_at), provider_cost_micros,
            coalesce(NOT sight.told, p_reconciled AND report.received_at IS NULL),
            CASE WHEN p_reconciled THEN report.received_at ELSE now() END, p_run_id
        FROM told_calls
        LEFT JOIN LATERAL find_route(assistant_id, squad_id, phone_number_id, created_at) AS route ON true
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
            organization_id = coalesce(calls.organization_id, excluded.organization_id)
        RETURNING id, xmax <> 0 AS is_known -- xmax is 0 on a row that this statement inserted
    )

    SELECT array_agg(id), array_agg(is_known) INTO told, are_known FROM stored;

    PERFORM charge_calls(told);

    RETURN QUERY
    SELECT
        told_call.id,
        call.organization_id,
        CASE
            WHEN call.organization_id IS NULL THEN 'unattributed'
            ELSE coalesce(charge.state, 'unpriced')
        END,
        charge.amount_micros,
        CASE WHEN p_run_id IS NULL THEN told_call.is_known ELSE call.run_id IS DISTINCT FROM p_run_id END
    FROM unnest(told, are_known) AS told_call (id, is_known)
    CROSS JOIN LATERAL (
        SELECT calls.organization_id, calls.reconciliation_run_id AS run_id
        FROM calls WHERE calls.id = told_call.id LIMIT 1
    ) AS call
    LEFT JOIN LATERAL (
        SELECT charges.state, charges.amount_micros FROM charges
        WHERE charges.idempotency_key = 'call:' || told_call.id
        LIMIT 1
    ) AS charge ON true;
END;
$$;

-- charge_calls: charges those of the stored calls that have an organization, a price and no charge yet.
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
    WHERE charge.found IS NULL AND (price.id IS NOT NULL OR call.duration_ms = 0);
    PERFORM book_charges(requests) WHERE requests IS NOT NULL;
    RETURN coalesce(cardinality(requests), 0);
END;
$$;
