-- deduct_call_credits: charges one call to its organization's wallet, once, and within the debt limit.
--
-- Decided and written under the wallet's lock. Refused (success = false, reason = debt_limit_exceeded): the charge
-- stays outstanding and a later credit settles it. A duplicate answers with the first outcome and moves nothing.
-- remaining_debt_capacity_micros is how much further into debt usage may take the wallet.
-- Errors: TY002 the call is charged with other facts, TY003 unknown organization, TY004 negative or missing amount.
CREATE OR REPLACE FUNCTION deduct_call_credits(
    p_organization_id uuid, p_call_id text, p_amount_micros bigint, p_event_at timestamptz DEFAULT now()
)
RETURNS TABLE (
    success boolean,
    duplicate boolean,
    balance_before_micros bigint,
    balance_after_micros bigint,
    debt_limit_micros bigint,
    remaining_debt_capacity_micros bigint,
    needs_recharge boolean,
    reason text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    answer charge_answer;
    posted charges;
    after_micros bigint;
BEGIN
    IF p_amount_micros IS NULL OR p_amount_micros < 0 OR coalesce(p_call_id, '') !~ '\S' OR p_event_at IS NULL THEN
        PERFORM refuse(
            'TY004', 'a deduction needs a call id, a time and an amount of zero or more',
            jsonb_build_object('call_id', p_call_id, 'amount_micros', p_amount_micros),
            'Correct the call; nothing was moved.'
        );
    END IF;
    answer := post_charge(ROW(
        p_organization_id, 'call:' || p_call_id, 'call', p_amount_micros, p_event_at,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    )::charge_request);
    posted := answer.charge;
    after_micros := posted.balance_before_micros - CASE WHEN posted.accepted THEN posted.amount_micros ELSE 0 END;
    RETURN QUERY SELECT
        posted.accepted, answer.duplicate, posted.balance_before_micros, after_micros, posted.debt_limit_micros,
        greatest(0, posted.debt_limit_micros + least(after_micros, 0)), posted.needs_recharge,
        CASE WHEN NOT posted.accepted THEN 'debt_limit_exceeded' END;
END;
$$;
