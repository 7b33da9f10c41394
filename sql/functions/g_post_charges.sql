-- post_charges: many charges in one go, with exactly the decisions that post_charge would take one by one.
--
-- Answers in the order of the requests. Internal, as post_charge. Errors: TY002, TY003; one refuses the whole batch.
CREATE OR REPLACE FUNCTION post_charges(p_requests charge_request[])
RETURNS SETOF charge_answer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    are_fresh boolean[] := book_charges(p_requests);
BEGIN
    RETURN QUERY
    SELECT posted.charge, NOT asked.is_fresh
    FROM (
        SELECT
            request.idempotency_key,
            request.ordinality,
            are_fresh[request.ordinality] AS is_fresh
        FROM unnest(p_requests) WITH ORDINALITY AS request
    ) AS asked
    CROSS JOIN LATERAL (
        SELECT charges AS charge FROM charges WHERE charges.idempotency_key = asked.idempotency_key LIMIT 1
    ) AS posted
    ORDER BY asked.ordinality;
END;
$$;

-- book_charges: does what post_charges does and answers only which requests were the first of their key.
--
-- Wallets are locked in the order of their ids, so that crossing batches cannot deadlock. A wallet with room for all
-- of its charges is booked set-based; one that may meet its limit, or is corrected, goes charge by charge.
-- For LATERAL with LIMIT 1 and the SET clause see record_calls.
CREATE OR REPLACE FUNCTION book_charges(p_requests charge_request[])
RETURNS boolean[] LANGUAGE plpgsql SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    are_fresh boolean[];
    careful charge_request[];     -- fresh, of wallets that may meet their limit
    conflicting charge_request[]; -- with other facts than the first of their key
    request charge_request;
BEGIN
    PERFORM FROM wallets
    WHERE organization_id = ANY (ARRAY(SELECT DISTINCT asked.organization_id FROM unnest(p_requests) AS asked))
    ORDER BY organization_id
    FOR UPDATE;

    WITH asked AS (
        SELECT
            told.*,
            posted.organization_id IS NULL AND row_number() OVER of_key = 1 AS is_fresh,
            coalesce(posted.organization_id, first_value(told.organization_id) OVER of_key) = told.organization_id
            AND coalesce(posted.amount_micros, first_value(told.amount_micros) OVER of_key) = told.amount_micros
                AS is_same
        FROM unnest(p_requests) WITH ORDINALITY AS told
        LEFT JOIN LATERAL (
            SELECT charges.organization_id, charges.amount_micros FROM charges
            WHERE charges.idempotency_key = told.idempotency_key
            LIMIT 1
        ) AS posted ON true
        WINDOW of_key AS (PARTITION BY told.idempotency_key ORDER BY told.ordinality)
    ),

    judged AS (
        SELECT
            asked.*,
            wallet.currency,
            wallet.debt_limit_micros,
            wallet.recharge_threshold_micros,
            asked.is_fresh
            AND sum(asked.amount_micros) FILTER (WHERE asked.is_fresh) OVER of_wallet
            <= wallet.balance_micros + wallet.debt_limit_micros
            AND NOT bool_or(asked.amount_micros < 0 OR asked.corrects IS NOT NULL) OVER of_wallet AS is_plain,
            wallet.balance_micros - sum(asked.amount_micros) FILTER (WHERE asked.is_fresh) OVER so_far
                AS balance_after_micros,
            wallet.last_sequence
            + count(*) FILTER (WHERE asked.is_fresh AND asked.amount_micros > 0) OVER so_far AS wallet_sequence,
            own_account(revenue_kind(asked.idempotency_key), wallet.currency) AS revenue_account
        FROM asked
        LEFT JOIN LATERAL (
            SELECT * FROM wallets WHERE wallets.organization_id = asked.organization_id LIMIT 1
        ) AS wallet ON true
        WINDOW
            of_wallet AS (PARTITION BY asked.organization_id),
            so_far AS (PARTITION BY asked.organization_id ORDER BY asked.ordinality)
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
        FROM judged
        WHERE is_plain
        ORDER BY organization_id, ordinality
    ),

    booked AS (
        INSERT INTO transfers (
            from_account, to_account, amount_micros, currency, idempotency_key, kind, organization_id,
            wallet_sequence, balance_after_micros, debt_limit_micros, event_at
        )
        SELECT
            organization_id, revenue_account, amount_micros, currency, idempotency_key, kind, organization_id,
            wallet_sequence, balance_after_micros, debt_limit_micros, event_at
        FROM judged
        WHERE is_plain AND amount_micros > 0
        ORDER BY organization_id, ordinality
    ),

    moved AS (
        UPDATE wallets
        SET balance_micros = wallets.balance_micros - sums.amount_micros, last_sequence = sums.last_sequence
        FROM (
            SELECT organization_id, sum(amount_micros) AS amount_micros, max(wallet_sequence) AS last_sequence
            FROM judged
            WHERE is_plain AND amount_micros > 0
            GROUP BY organization_id
        ) AS sums
        WHERE wallets.organization_id = sums.organization_id
    )

    SELECT
        array_agg(is_fresh ORDER BY ordinality),
        array_agg(ROW(
            organization_id, idempotency_key, kind, amount_micros, event_at, duration_ms, billed_seconds, price_id,
            per_minute_micros, increment_seconds, minimum_seconds, free_seconds, corrects
        )::charge_request ORDER BY ordinality) FILTER (WHERE is_fresh AND is_plain IS NOT TRUE),
        array_agg(ROW(
            organization_id, idempotency_key, kind, amount_micros, event_at, duration_ms, billed_seconds, price_id,
            per_minute_micros, increment_seconds, minimum_seconds, free_seconds, corrects
        )::charge_request ORDER BY ordinality) FILTER (WHERE NOT is_same OR currency IS NULL)
    INTO are_fresh, careful, conflicting
    FROM judged;

    FOREACH request IN ARRAY coalesce(careful, '{}') LOOP
        PERFORM post_charge(request);
    END LOOP;
    FOREACH request IN ARRAY coalesce(conflicting, '{}') LOOP
        PERFORM lock_wallet(request.organization_id); -- refuses an unknown organization
        PERFORM same_charge(request);                 -- refuses other facts
    END LOOP;
    RETURN are_fresh;
END;
$$;
