-- debit_wallet: takes money out of a wallet by hand, once per idempotency key; the counterpart of credit_wallet's
-- adjustment. Kind adjustment, into the account adjustments.
--
-- Always booked, even past the debt limit: who corrects the books knows what is owed. Answers with duplicate and the
-- balance before and after it; a duplicate moves nothing. Keys of other movements (topup:…, call:…, sms:…, refund:…,
-- dispute:…) are refused: a debit under one of them would block that movement for ever.
-- Errors: TY002 key used with other facts, TY003 unknown organization, TY004 amount or key not acceptable.
CREATE OR REPLACE FUNCTION debit_wallet(
    p_organization_id uuid,
    p_amount_micros bigint,
    p_idempotency_key text,
    p_reason text,
    p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (success boolean, duplicate boolean, balance_before_micros bigint, balance_after_micros bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    booked transfers;
    is_duplicate boolean;
BEGIN
    PERFORM lock_wallet(p_organization_id);
    IF p_amount_micros IS NULL OR p_amount_micros <= 0 OR coalesce(p_reason, '') = '' OR p_event_at IS NULL
        OR coalesce(p_idempotency_key, '') ~ '^([a-z_]*:)?\s*(:|$)' OR p_idempotency_key ~ '^(topup|call|sms|refund|dispute):'
    THEN
        PERFORM refuse(
            'TY004', 'a debit needs a positive amount, a key of its own, a reason and a time',
            jsonb_build_object('amount_micros', p_amount_micros, 'idempotency_key', p_idempotency_key),
            'Correct the call; nothing was moved.'
        );
    END IF;
    SELECT * INTO booked FROM transfers WHERE idempotency_key = p_idempotency_key;
    is_duplicate := found;
    IF NOT is_duplicate THEN
        booked := book_transfer(
            p_organization_id, -p_amount_micros, 'adjustments', 'adjustment', p_idempotency_key, p_event_at,
            p_reason => p_reason
        );
    ELSE
        PERFORM check_same_facts(
            p_idempotency_key,
            jsonb_build_object(
                'from_account', booked.from_account, 'amount_micros', booked.amount_micros, 'kind', booked.kind
            ),
            jsonb_build_object('from_account', p_organization_id, 'amount_micros', p_amount_micros, 'kind', 'adjustment'),
            'Use another key for another debit.'
        );
    END IF;
    RETURN QUERY SELECT
        true, is_duplicate, booked.balance_after_micros + booked.amount_micros, booked.balance_after_micros;
END;
$$;
