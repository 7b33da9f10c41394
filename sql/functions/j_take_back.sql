-- refund_payment, withdraw_dispute, reinstate_dispute: money that Stripe takes back from a payment, or gives back.
--
-- Always booked, even past the debt limit: the money is gone. All that is taken back of one payment never exceeds what
-- was credited for it. Idempotent by refund:<re>, dispute:<dp>:withdrawn and dispute:<dp>:reinstated.
-- Each answers with duplicate and the balance before and after it, in micros.
-- Errors: TY002 key used with other facts, TY004 amount not positive or no id, TY006 no such payment (yet), TY007 more
-- than is left.
CREATE OR REPLACE FUNCTION refund_payment(
    p_payment_id text, p_refund_id text, p_amount_micros bigint, p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM take_back(p_payment_id, 'refund', 'refund:' || p_refund_id, p_amount_micros, p_event_at)
$$;

CREATE OR REPLACE FUNCTION withdraw_dispute(
    p_payment_id text, p_dispute_id text, p_amount_micros bigint, p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM take_back(
        p_payment_id, 'dispute', 'dispute:' || p_dispute_id || ':withdrawn', p_amount_micros, p_event_at
    )
$$;

CREATE OR REPLACE FUNCTION reinstate_dispute(
    p_dispute_id text, p_amount_micros bigint, p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    new_key text := 'dispute:' || p_dispute_id || ':reinstated';
    withdrawn transfers;
    booked transfers;
BEGIN
    SELECT * INTO withdrawn FROM transfers WHERE idempotency_key = 'dispute:' || p_dispute_id || ':withdrawn';
    IF NOT found THEN
        PERFORM refuse(
            'TY006', format('nothing was withdrawn for dispute %s yet', p_dispute_id),
            jsonb_build_object('dispute_id', p_dispute_id), 'Retry when its withdrawal is booked.'
        );
    END IF;
    PERFORM lock_wallet(withdrawn.organization_id);
    SELECT * INTO booked FROM transfers WHERE idempotency_key = new_key;
    IF found THEN
        PERFORM check_same_transfer(booked, p_amount_micros, withdrawn.payment_id);
        RETURN QUERY SELECT true, booked.balance_after_micros - booked.amount_micros, booked.balance_after_micros;
        RETURN;
    END IF;
    IF p_amount_micros IS NULL OR p_amount_micros <= 0 OR p_event_at IS NULL THEN
        PERFORM refuse(
            'TY004', 'giving back needs a time and a positive amount',
            jsonb_build_object('idempotency_key', new_key, 'amount_micros', p_amount_micros),
            'Correct the call; nothing was moved.'
        );
    ELSIF p_amount_micros > withdrawn.amount_micros THEN
        PERFORM refuse(
            'TY007', format('dispute %s can give back at most what it took', p_dispute_id),
            jsonb_build_object('withdrawn_micros', withdrawn.amount_micros, 'amount_micros', p_amount_micros),
            'Look the dispute up at Stripe; nothing was moved.'
        );
    END IF;
    booked := book_transfer(
        withdrawn.organization_id, p_amount_micros, 'disputes', 'reinstatement', new_key, p_event_at,
        p_payment_id => withdrawn.payment_id, p_corrects_transfer_id => withdrawn.id
    );
    PERFORM settle_outstanding(withdrawn.organization_id, booked.id);
    RETURN QUERY SELECT false, booked.balance_after_micros - booked.amount_micros, booked.balance_after_micros;
END;
$$;

-- What the two ways of taking back have in common. Internal.
CREATE OR REPLACE FUNCTION take_back(
    p_payment_id text, p_kind text, p_idempotency_key text, p_amount_micros bigint, p_event_at timestamptz
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    credit transfers;
    booked transfers;
    left_micros bigint;
BEGIN
    SELECT * INTO credit FROM transfers WHERE payment_id = p_payment_id AND kind = 'topup';
    IF NOT found THEN
        PERFORM refuse(
            'TY006', format('no credit is booked for payment %s yet', p_payment_id),
            jsonb_build_object('payment_id', p_payment_id, 'idempotency_key', p_idempotency_key),
            'Retry when the payment is booked.'
        );
    END IF;
    PERFORM lock_wallet(credit.organization_id);
    SELECT * INTO booked FROM transfers WHERE idempotency_key = p_idempotency_key;
    IF found THEN
        PERFORM check_same_transfer(booked, p_amount_micros, p_payment_id);
        RETURN QUERY SELECT true, booked.balance_after_micros + booked.amount_micros, booked.balance_after_micros;
        RETURN;
    END IF;
    SELECT credit.amount_micros - coalesce(
        sum(CASE kind WHEN 'reinstatement' THEN -amount_micros ELSE amount_micros END), 0
    ) INTO left_micros
    FROM transfers
    WHERE payment_id = p_payment_id AND kind <> 'topup';
    IF p_amount_micros IS NULL OR p_amount_micros <= 0 OR p_idempotency_key IS NULL OR p_event_at IS NULL THEN
        PERFORM refuse(
            'TY004', 'taking back needs an id, a time and a positive amount',
            jsonb_build_object('idempotency_key', p_idempotency_key, 'amount_micros', p_amount_micros),
            'Correct the call; nothing was moved.'
        );
    ELSIF p_amount_micros > left_micros THEN
        PERFORM refuse(
            'TY007', format('%s takes back more than is left of payment %s', p_idempotency_key, p_payment_id),
            jsonb_build_object('left_micros', left_micros, 'amount_micros', p_amount_micros),
            'Compare the payment''s refunds and disputes at Stripe with the ledger; nothing was moved.'
        );
    END IF;
    booked := book_transfer(
        credit.organization_id, -p_amount_micros, CASE p_kind WHEN 'refund' THEN 'refunds' ELSE 'disputes' END,
        p_kind, p_idempotency_key, p_event_at, p_payment_id => p_payment_id, p_corrects_transfer_id => credit.id
    );
    RETURN QUERY SELECT false, booked.balance_after_micros + booked.amount_micros, booked.balance_after_micros;
END;
$$;

-- Refuses a key that is booked with other facts (TY002). Internal.
CREATE OR REPLACE FUNCTION check_same_transfer(p_booked transfers, p_amount_micros bigint, p_payment_id text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF (p_booked.amount_micros, p_booked.payment_id) IS DISTINCT FROM (p_amount_micros, p_payment_id) THEN
        PERFORM refuse(
            'TY002', format('%s is already booked with other facts', p_booked.idempotency_key),
            jsonb_build_object(
                'idempotency_key', p_booked.idempotency_key,
                'amount_micros', p_booked.amount_micros,
                'payment_id', p_booked.payment_id,
                'other_amount_micros', p_amount_micros,
                'other_payment_id', p_payment_id
            ),
            'Nothing was moved. Look both up at Stripe.'
        );
    END IF;
END;
$$;
