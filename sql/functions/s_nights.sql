-- correct_calls: correct_call for many, in the order of their ids, so that crossing batches cannot deadlock.
--
-- p_calls: array of {id, started_at, ended_at, provider_cost_micros}. Answers as correct_call, once per call.
-- Errors: TY004; one refuses the whole batch.
CREATE OR REPLACE FUNCTION correct_calls(p_calls jsonb)
RETURNS TABLE (call_id text, organization_id uuid, difference_micros bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    told record;
BEGIN
    FOR told IN
        SELECT DISTINCT ON (changed.id) changed.*
        FROM jsonb_to_recordset(p_calls) AS changed (
            id text, started_at timestamptz, ended_at timestamptz, provider_cost_micros bigint
        )
        ORDER BY changed.id
    LOOP
        call_id := told.id;
        difference_micros := correct_call(told.id, told.started_at, told.ended_at, told.provider_cost_micros);
        SELECT calls.organization_id INTO organization_id FROM calls WHERE calls.id = told.id;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- value_calls: what these calls cost their organizations, by currency, corrections included; and what those of them
-- that cannot be charged yet would cost at the default price in force when they began (USD first).
CREATE OR REPLACE FUNCTION value_calls(p_call_ids text[])
RETURNS TABLE (currency text, charged_micros bigint, at_risk_micros bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
    WITH valued AS (
        SELECT
            coalesce(wallet.currency, price.currency)::text AS currency,
            charged.amount_micros AS charged_micros,
            CASE
                WHEN charged.amount_micros IS NULL THEN billed_amount_micros(billed_seconds(
                    call.duration_ms, price.increment_seconds, price.minimum_seconds, price.free_seconds
                ), price.per_minute_micros)
            END AS at_risk_micros
        FROM unnest(p_call_ids) AS told (id)
        CROSS JOIN LATERAL (SELECT * FROM calls WHERE calls.id = told.id LIMIT 1) AS call
        LEFT JOIN LATERAL (
            SELECT wallets.currency FROM wallets WHERE wallets.organization_id = call.organization_id LIMIT 1
        ) AS wallet ON true
        LEFT JOIN LATERAL (
            SELECT sum(charges.amount_micros)::bigint AS amount_micros FROM charges
            WHERE (charges.idempotency_key = 'call:' || told.id OR charges.corrects = 'call:' || told.id)
                AND charges.state <> 'cancelled'
        ) AS charged ON true
        LEFT JOIN LATERAL (
            SELECT prices.* FROM prices
            WHERE prices.organization_id IS NULL AND prices.valid @> coalesce(call.started_at, call.created_at)
                AND (wallet.currency IS NULL OR prices.currency = wallet.currency)
            ORDER BY prices.currency <> 'USD'
            LIMIT 1
        ) AS price ON true
    )

    SELECT
        valued.currency,
        coalesce(sum(valued.charged_micros), 0)::bigint,
        coalesce(sum(valued.at_risk_micros), 0)::bigint
    FROM valued
    WHERE valued.currency IS NOT NULL
    GROUP BY valued.currency
    ORDER BY valued.currency
$$;
