-- post_charge: decides and books one charge under the wallet's lock. Internal; the way in is deduct_call_credits,
-- record_calls or correct_call.
--
-- Idempotent by key: the same key and facts answer with the first outcome and move nothing; other facts are TY002.
-- A charge that would pass the debt limit is stored as outstanding and moves nothing, unless the organization's
-- policy allows the overrun. A charge of nothing is free. A negative one (a correction) always goes into the wallet.
-- Errors: TY002, TY003.
CREATE OR REPLACE FUNCTION post_charge(p_request charge_request)
RETURNS charge_answer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    wallet wallets := lock_wallet(p_request.organization_id);
    balance_after_micros bigint := wallet.balance_micros - p_request.amount_micros;
    fits boolean := p_request.amount_micros <= 0 OR balance_after_micros >= -wallet.debt_limit_micros;
    allowed boolean := fits;
    posted charges;
BEGIN
    IF NOT fits THEN
        SELECT charge_policy = 'allow_overrun' INTO STRICT allowed
        FROM organizations WHERE id = p_request.organization_id;
    END IF;
    INSERT INTO charges (
        idempotency_key, organization_id, kind, state, amount_micros, event_at, duration_ms, billed_seconds,
        price_id, per_minute_micros, increment_seconds, minimum_seconds, free_seconds, corrects,
        accepted, balance_before_micros, debt_limit_micros, needs_recharge
    ) VALUES (
        p_request.idempotency_key, p_request.organization_id, p_request.kind,
        CASE WHEN p_request.amount_micros = 0 THEN 'free' WHEN allowed THEN 'settled' ELSE 'outstanding' END,
        p_request.amount_micros, p_request.event_at, p_request.duration_ms, p_request.billed_seconds,
        p_request.price_id, p_request.per_minute_micros, p_request.increment_seconds, p_request.minimum_seconds,
        p_request.free_seconds, p_request.corrects, allowed, wallet.balance_micros, wallet.debt_limit_micros,
        CASE WHEN allowed THEN balance_after_micros ELSE wallet.balance_micros END < wallet.recharge_threshold_micros
    )
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING * INTO posted;
    IF NOT found THEN
        RETURN (same_charge(p_request), true)::charge_answer;
    END IF;
    IF posted.state = 'settled' THEN
        PERFORM book_transfer(
            posted.organization_id, -posted.amount_micros,
            revenue_kind(posted.idempotency_key),
            posted.kind, posted.idempotency_key, posted.event_at, NOT fits,
            p_corrects_transfer_id => CASE
                WHEN posted.corrects IS NOT NULL THEN (SELECT id FROM transfers WHERE idempotency_key = posted.corrects)
            END
        );
    END IF;
    RETURN (posted, false)::charge_answer;
END;
$$;

-- same_charge: the charge already posted under a request's key, if its facts are the same.
CREATE OR REPLACE FUNCTION same_charge(p_request charge_request)
RETURNS charges LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    posted charges;
BEGIN
    SELECT * INTO STRICT posted FROM charges WHERE idempotency_key = p_request.idempotency_key;
    PERFORM check_same_facts(
        p_request.idempotency_key,
        jsonb_build_object('organization_id', posted.organization_id, 'amount_micros', posted.amount_micros),
        jsonb_build_object('organization_id', p_request.organization_id, 'amount_micros', p_request.amount_micros),
        'Compare both facts; a changed call is corrected, never charged again.'
    );
    RETURN posted;
END;
$$;
