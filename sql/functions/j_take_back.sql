-- refund_payment, withdraw_dispute: money that Stripe takes back from a payment. return_refund, reinstate_dispute: the
-- same money comes back, because the refund failed or the dispute was won.
--
-- Always booked, even past the debt limit: the money is gone. All that is taken back of one payment never exceeds what
-- was credited for it. Idempotent by refund:<re>, refund:<re>:returned, dispute:<dp>:withdrawn and
-- dispute:<dp>:reinstated. Each answers with duplicate and the balance before and after it, in micros.
-- Errors: TY002 key used with, or Stripe told, other facts, TY004 amount not positive or no id, TY006 no such payment,
-- refund or dispute (yet), TY007 more than is left.
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

CREATE OR REPLACE FUNCTION return_refund(
    p_refund_id text, p_amount_micros bigint, p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM give_back(
        'refund:' || p_refund_id, 'refund:' || p_refund_id || ':returned', p_amount_micros, p_event_at
    )
$$;

CREATE OR REPLACE FUNCTION reinstate_dispute(
    p_dispute_id text, p_amount_micros bigint, p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM give_back(
        'dispute:' || p_dispute_id || ':withdrawn', 'dispute:' || p_dispute_id || ':reinstated',
        p_amount_micros, p_event_at
    )
$$;

-- What the two ways of giving back have in common. Internal.
CREATE OR REPLACE FUNCTION give_back(
    p_taken_key text, p_idempotency_key text, p_amount_micros bigint, p_event_at timestamptz
)
RETURNS TABLE (duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    taken transfers;
    booked transfers;
BEGIN
    SELECT * INTO taken FROM transfers WHERE idempotency_key = p_taken_key;
    IF NOT found THEN
        PERFORM refuse(
            'TY006', format('nothing is booked as %s yet', p_taken_key),
            jsonb_build_object('idempotency_key', p_idempotency_key), 'Retry when that is booked.'
        );
    END IF;
    PERFORM lock_wallet(taken.organization_id);
    SELECT * INTO booked FROM transfers WHERE idempotency_key = p_idempotency_key;
    IF found THEN
        PERFORM check_same_facts(
            p_idempotency_key,
            jsonb_build_object('amount_micros', booked.amount_micros, 'payment_id', booked.payment_id),
            jsonb_build_object('amount_micros', p_amount_micros, 'payment_id', taken.payment_id),
            'Look both up at Stripe.'
        );
        RETURN QUERY SELECT true, booked.balance_after_micros - booked.amount_micros, booked.balance_after_micros;
        RETURN;
    END IF;
    IF p_amount_micros IS NULL OR p_amount_micros <= 0 OR p_event_at IS NULL THEN
        PERFORM refuse(
            'TY004', 'giving back needs a time and a positive amount',
            jsonb_build_object('idempotency_key', p_idempotency_key, 'amount_micros', p_amount_micros),
            'Correct the call; nothing was moved.'
        );
    ELSIF p_amount_micros > taken.amount_micros THEN
        PERFORM refuse(
            'TY007', format('%s can give back at most what was taken', p_idempotency_key),
            jsonb_build_object('taken_micros', taken.amount_micros, 'amount_micros', p_amount_micros),
            'Look it up at Stripe; nothing was moved.'
        );
    END IF;
    booked := book_transfer(
        taken.organization_id, p_amount_micros, CASE taken.kind WHEN 'refund' THEN 'refunds' ELSE 'disputes' END,
        'reinstatement', p_idempotency_key, p_event_at,
        p_payment_id => taken.payment_id, p_corrects_transfer_id => taken.id
    );
    PERFORM check_booked_as_told(ARRAY[split_part(p_idempotency_key, ':', 2)]);
    PERFORM settle_outstanding(taken.organization_id, booked.id);
    RETURN QUERY SELECT false, booked.balance_after_micros - booked.amount_micros, booked.balance_after_micros;
END;
$$;

-- What the two ways of taking back have in common. p_given_back_micros: how much of it is known to have come back
-- already, and is booked next. Internal.
CREATE OR REPLACE FUNCTION take_back(
    p_payment_id text, p_kind text, p_idempotency_key text, p_amount_micros bigint, p_event_at timestamptz,
    p_given_back_micros bigint DEFAULT 0
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
        PERFORM check_same_facts(
            p_idempotency_key,
            jsonb_build_object('amount_micros', booked.amount_micros, 'payment_id', booked.payment_id),
            jsonb_build_object('amount_micros', p_amount_micros, 'payment_id', p_payment_id),
            'Look both up at Stripe.'
        );
        RETURN QUERY SELECT true, booked.balance_after_micros + booked.amount_micros, booked.balance_after_micros;
        RETURN;
    END IF;
    left_micros := left_of_payment(p_payment_id);
    IF p_amount_micros IS NULL OR p_amount_micros <= 0 OR p_idempotency_key IS NULL OR p_event_at IS NULL THEN
        PERFORM refuse(
            'TY004', 'taking back needs an id, a time and a positive amount',
            jsonb_build_object('idempotency_key', p_idempotency_key, 'amount_micros', p_amount_micros),
            'Correct the call; nothing was moved.'
        );
    ELSIF p_amount_micros - p_given_back_micros > left_micros THEN
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
    PERFORM check_booked_as_told(ARRAY[split_part(p_idempotency_key, ':', 2)]);
    RETURN QUERY SELECT false, booked.balance_after_micros + booked.amount_micros, booked.balance_after_micros;
END;
$$;

-- What was credited for a payment and not taken back, in micros; null without a credit. Internal.
CREATE OR REPLACE FUNCTION left_of_payment(p_payment_id text)
RETURNS bigint LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT sum(CASE WHEN to_account = organization_id THEN amount_micros ELSE -amount_micros END)::bigint
    FROM transfers
    WHERE payment_id = p_payment_id AND wallet_sequence IS NOT NULL
    HAVING bool_or(kind = 'topup')
$$;
