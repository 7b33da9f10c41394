-- credit_wallet: puts money into a wallet once per idempotency key, then settles outstanding charges with it.
--
-- Kinds: topup (from the stripe account; key topup:<payment_intent id>) and adjustment (from adjustments).
-- A payment is credited once, whatever its key: a bare payment intent id (pi_…) means topup:pi_…, and Stripe's own
-- event is the duplicate of a credit by hand. Other keys of a topup stay as they are.
-- What was taken back of a payment that came ahead of it is booked with it, as movements of its own after it.
-- A duplicate answers with the first outcome and moves nothing. Keys of other movements (call:…, sms:…, refund:…,
-- dispute:…, and topup:… for an adjustment) are refused: a credit under one of them would block that movement for ever.
-- Errors: TY002 key used with other facts, TY003 unknown organization, TY004 amount or kind not acceptable,
-- TY005 other currency than the wallet's (only if one is given).
CREATE OR REPLACE FUNCTION credit_wallet(
    p_organization_id uuid,
    p_amount_micros bigint,
    p_idempotency_key text,
    p_kind text DEFAULT 'topup',
    p_event_at timestamptz DEFAULT now(),
    p_currency text DEFAULT NULL,
    p_reason text DEFAULT NULL
)
RETURNS TABLE (
    success boolean,
    duplicate boolean,
    balance_before_micros bigint,
    balance_after_micros bigint,
    settled_outstanding_micros bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    paid_id text := CASE WHEN p_kind = 'topup' THEN regexp_replace(p_idempotency_key, '^topup:', '') END;
    credit_key text := CASE WHEN starts_with(paid_id, 'pi_') THEN 'topup:' || paid_id ELSE p_idempotency_key END;
    wallet wallets;
    booked transfers;
    settled_micros bigint;
    is_duplicate boolean := true;
BEGIN
    PERFORM lock_payments(ARRAY[paid_id]);
    wallet := lock_wallet(p_organization_id);
    IF p_amount_micros IS NULL OR p_amount_micros <= 0 OR coalesce(p_kind, '') NOT IN ('topup', 'adjustment')
        OR coalesce(p_idempotency_key, '') ~ '^([a-z_]*:)?\s*(:|$)' OR p_idempotency_key ~ '^(call|sms|refund|dispute):'
        OR (p_kind = 'adjustment' AND starts_with(p_idempotency_key, 'topup:')) OR p_event_at IS NULL
    THEN
        PERFORM refuse(
            'TY004', 'a credit needs a positive amount, a key of its own, a time and the kind topup or adjustment',
            jsonb_build_object('amount_micros', p_amount_micros, 'kind', p_kind, 'idempotency_key', p_idempotency_key),
            'Correct the call; nothing was moved. Keys topup:… are for the kind topup.'
        );
    END IF;
    IF p_currency <> wallet.currency THEN
        PERFORM refuse(
            'TY005', format('the wallet holds %s, not %s', wallet.currency, p_currency),
            jsonb_build_object('wallet_currency', wallet.currency, 'currency', p_currency),
            'Exchange it outside and credit the wallet''s own currency.'
        );
    END IF;
    SELECT * INTO booked FROM transfers
    WHERE idempotency_key = credit_key OR (kind = 'topup' AND payment_id = paid_id)
    ORDER BY idempotency_key = credit_key DESC
    LIMIT 1;
    IF NOT found THEN
        is_duplicate := false;
        INSERT INTO payments (payment_id, organization_id, currency, charged_micros, credited_micros)
        SELECT paid_id, p_organization_id, wallet.currency, p_amount_micros, p_amount_micros
        WHERE paid_id IS NOT NULL
        ON CONFLICT DO NOTHING; -- credit_payments has told more of it
        booked := book_transfer(
            p_organization_id, p_amount_micros, CASE p_kind WHEN 'topup' THEN 'stripe' ELSE 'adjustments' END,
            p_kind, credit_key, p_event_at,
            p_payment_id => paid_id, p_reason => p_reason
        );
        settled_micros := settle_outstanding(p_organization_id, booked.id);
        PERFORM book_reversals(paid_id); -- it may have been taken back before we knew of it
        PERFORM wake_payment(paid_id);
    ELSE
        PERFORM check_same_facts(
            credit_key,
            jsonb_build_object(
                'to_account', booked.to_account, 'amount_micros', booked.amount_micros, 'kind', booked.kind
            ),
            jsonb_build_object('to_account', p_organization_id, 'amount_micros', p_amount_micros, 'kind', p_kind),
            'Use another key for another payment.'
        );
        SELECT coalesce(sum(charges.amount_micros), 0) INTO settled_micros
        FROM charges WHERE charges.settled_by_transfer_id = booked.id;
    END IF;
    RETURN QUERY SELECT
        true, is_duplicate, booked.balance_after_micros - booked.amount_micros,
        booked.balance_after_micros - settled_micros, settled_micros;
END;
$$;
