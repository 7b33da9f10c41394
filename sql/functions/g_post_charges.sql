-- post_charges: many charges in one go, with exactly the decisions that post_charge would take one by one.
--
-- A wallet with room for all of its charges is booked set-based; one that may meet its limit goes charge by charge.
-- Wallets are locked in the order of their ids, so that crossing batches cannot deadlock. Internal, as post_charge.
-- Answers in the order of the requests. Errors: TY002, TY003.
CREATE OR REPLACE FUNCTION post_charges(p_requests charge_request[])
RETURNS SETOF charge_answer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    fresh bigint[]; -- positions of requests that are the first of their key, here and in the table
    careful uuid[]; -- wallets that may meet their limit
    place bigint;
BEGIN
    PERFORM lock_wallet(concerned.organization_id)
    FROM (SELECT DISTINCT organization_id FROM unnest(p_requests) ORDER BY organization_id) AS concerned;

    SELECT coalesce(array_agg(firsts.place ORDER BY firsts.place), '{}') INTO fresh
    FROM (
        SELECT min(request.ordinality) AS place
        FROM unnest(p_requests) WITH ORDINALITY AS request
        WHERE NOT EXISTS (SELECT FROM charges WHERE charges.idempotency_key = request.idempotency_key)
        GROUP BY request.idempotency_key
    ) AS firsts;

    SELECT coalesce(array_agg(tight.organization_id), '{}') INTO careful
    FROM (
        SELECT wallets.organization_id
        FROM unnest(p_requests) WITH ORDINALITY AS request
        INNER JOIN unnest(fresh) AS kept (ordinality) USING (ordinality)
        INNER JOIN wallets USING (organization_id)
        GROUP BY wallets.organization_id
        HAVING sum(request.amount_micros) > wallets.balance_micros + wallets.debt_limit_micros
            OR bool_or(request.amount_micros < 0) OR bool_or(request.corrects IS NOT NULL)
    ) AS tight;

    WITH plain AS (
        SELECT
            request.*,
            wallets.currency,
            wallets.debt_limit_micros,
            wallets.recharge_threshold_micros,
            wallets.balance_micros - sum(request.amount_micros) OVER so_far AS balance_after_micros,
            wallets.last_sequence + count(*) FILTER (WHERE request.amount_micros > 0) OVER so_far AS wallet_sequence
        FROM unnest(p_requests) WITH ORDINALITY AS request
        INNER JOIN unnest(fresh) AS kept (ordinality) USING (ordinality)
        INNER JOIN wallets USING (organization_id)
        WHERE request.organization_id <> ALL (careful)
        WINDOW so_far AS (PARTITION BY request.organization_id ORDER BY request.ordinality)
    ),

    posted AS (
        INSERT INTO charges (
            idempotency_key, organization_id, kind, state, amount_micros, event_at, duration_ms, billed_seconds,
            price_id, per_minute_micros, increment_seconds, minimum_seconds, free_seconds,
            accepted, balance_before_micros, debt_limit_micros, needs_recharge
        )
        SELECT
            idempotency_key, organization_id, kind, CASE amount_micros WHEN 0 THEN 'free' ELSE 'settled' END,
            amount_micros, event_at, duration_ms, billed_seconds,
            price_id, per_minute_micros, increment_seconds, minimum_seconds, free_seconds,
            true, balance_after_micros + amount_micros, debt_limit_micros,
            balance_after_micros < recharge_threshold_micros
        FROM plain
        ORDER BY ordinality
    ),

    booked AS (
        INSERT INTO transfers (
            from_account, to_account, amount_micros, currency, idempotency_key, kind, organization_id,
            wallet_sequence, balance_after_micros, debt_limit_micros, event_at
        )
        SELECT
            organization_id, own_account(CASE kind WHEN 'sms' THEN 'sms_revenue' ELSE 'call_revenue' END, currency),
            amount_micros, currency, idempotency_key, kind, organization_id,
            wallet_sequence, balance_after_micros, debt_limit_micros, event_at
        FROM plain
        WHERE amount_micros > 0
        ORDER BY ordinality
    )

    UPDATE wallets
    SET balance_micros = wallets.balance_micros - moved.amount_micros, last_sequence = moved.last_sequence
    FROM (
        SELECT organization_id, sum(amount_micros)::bigint AS amount_micros, max(wallet_sequence) AS last_sequence
        FROM plain
        GROUP BY organization_id
    ) AS moved
    WHERE wallets.organization_id = moved.organization_id;

    FOR place IN
        SELECT kept.place FROM unnest(fresh) AS kept (place)
        WHERE (p_requests[kept.place]).organization_id = ANY (careful)
        ORDER BY kept.place
    LOOP
        PERFORM post_charge(p_requests[place]);
    END LOOP;

    RETURN QUERY
    SELECT
        CASE
            WHEN charges.organization_id = request.organization_id AND charges.amount_micros = request.amount_micros
                THEN charges
            ELSE same_charge(p_requests[request.ordinality]) -- refuses
        END,
        NOT request.ordinality = ANY (fresh)
    FROM unnest(p_requests) WITH ORDINALITY AS request
    INNER JOIN charges USING (idempotency_key)
    ORDER BY request.ordinality;
END;
$$;
