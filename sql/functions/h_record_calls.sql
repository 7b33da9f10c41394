-- find_organization: who pays for a call, by our own routes at the time of the call; the assistant decides before the
-- squad, the squad before the phone number. Null if nobody is known.
CREATE OR REPLACE FUNCTION find_organization(
    p_assistant_id text, p_squad_id text, p_phone_number_id text, p_at timestamptz
)
RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT routes.organization_id
    FROM (
        VALUES (1, 'assistant', p_assistant_id), (2, 'squad', p_squad_id), (3, 'phone_number', p_phone_number_id)
    ) AS sought (rank, kind, external_id)
    INNER JOIN routes USING (kind, external_id)
    WHERE routes.valid @> p_at
    ORDER BY sought.rank
    LIMIT 1
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
-- facts, and only notes that its webhook has arrived. Calls are locked in the order of their ids, then the wallets.
-- Answers once per call id with outcome: settled, outstanding or free (its charge), unattributed (no route; stored and
-- charged when a route appears) or unpriced (no price in force; the same), and whether the call was known before.
-- Errors: TY002, TY003.
CREATE OR REPLACE FUNCTION record_calls(p_calls jsonb, p_reconciled boolean DEFAULT false, p_run_id uuid DEFAULT NULL)
RETURNS TABLE (call_id text, organization_id uuid, outcome text, amount_micros bigint, known boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    told text[];
    added text[];
BEGIN
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
            id, find_organization(assistant_id, squad_id, phone_number_id, created_at), assistant_id, squad_id,
            phone_number_id, call_type, ended_reason, created_at, started_at, ended_at,
            coalesce(greatest(0, round(extract(EPOCH FROM ended_at - started_at) * 1000)), 0), provider_cost_micros,
            p_reconciled, CASE WHEN NOT p_reconciled THEN now() END, p_run_id
        FROM told_calls
        ORDER BY id
        ON CONFLICT (id) DO UPDATE SET
            webhook_at = coalesce(calls.webhook_at, excluded.webhook_at),
            organization_id = coalesce(calls.organization_id, excluded.organization_id)
        RETURNING id, xmax = 0 AS is_new -- xmax is 0 on a row that this statement inserted
    )

    SELECT array_agg(id), array_agg(id) FILTER (WHERE is_new) INTO told, added FROM stored;

    PERFORM charge_calls(told);

    RETURN QUERY
    SELECT
        calls.id,
        calls.organization_id,
        CASE
            WHEN calls.organization_id IS NULL THEN 'unattributed'
            ELSE coalesce(charges.state, 'unpriced')
        END,
        charges.amount_micros,
        calls.id <> ALL (coalesce(added, '{}'))
    FROM calls
    LEFT JOIN charges ON charges.idempotency_key = 'call:' || calls.id
    WHERE calls.id = ANY (told);
END;
$$;

-- charge_calls: charges those of the stored calls that have an organization, a price and no charge yet.
-- Oldest first, which decides what fits below a debt limit. Internal. Answers with how many it charged.
CREATE OR REPLACE FUNCTION charge_calls(p_call_ids text[])
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    requests charge_request[];
BEGIN
    SELECT array_agg(
        ROW(
            calls.organization_id, 'call:' || calls.id, 'call',
            CASE
                WHEN calls.duration_ms = 0 THEN 0
                ELSE billed_amount_micros(used.billed_seconds, price.per_minute_micros)
            END,
            coalesce(calls.ended_at, calls.created_at), calls.duration_ms, coalesce(used.billed_seconds, 0),
            price.id, price.per_minute_micros, price.increment_seconds, price.minimum_seconds, price.free_seconds,
            NULL
        )::charge_request
        ORDER BY coalesce(calls.ended_at, calls.created_at), calls.id
    ) INTO requests
    FROM calls
    INNER JOIN wallets ON wallets.organization_id = calls.organization_id
    LEFT JOIN LATERAL find_price(
        calls.organization_id, wallets.currency, coalesce(calls.started_at, calls.created_at)
    ) AS price ON true
    CROSS JOIN LATERAL (
        SELECT billed_seconds(
            calls.duration_ms, price.increment_seconds, price.minimum_seconds, price.free_seconds
        ) AS billed_seconds
    ) AS used
    WHERE calls.id = ANY (p_call_ids)
        AND (price.id IS NOT NULL OR calls.duration_ms = 0)
        AND NOT EXISTS (SELECT FROM charges WHERE charges.idempotency_key = 'call:' || calls.id);
    PERFORM post_charges(requests) WHERE requests IS NOT NULL;
    RETURN coalesce(cardinality(requests), 0);
END;
$$;
