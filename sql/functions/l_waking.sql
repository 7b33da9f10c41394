-- wake_events: puts parked events back in line whose obstacle is gone: those of this reason, whatever it is about (what
-- stands behind a colon). Answers with how many. Internal.
CREATE OR REPLACE FUNCTION wake_events(p_reason text)
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    woken integer;
BEGIN
    UPDATE events SET state = 'waiting', reason = NULL
    WHERE state = 'parked' AND (reason = p_reason OR starts_with(reason, p_reason || ':'));
    GET DIAGNOSTICS woken = ROW_COUNT;
    NOTIFY calltally_events;
    RETURN woken;
END;
$$;

-- wake_payment: puts the events of a payment back in line that were parked until it is credited, or somebody says whose
-- it is. Internal.
CREATE OR REPLACE FUNCTION wake_payment(p_payment_id text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE events SET state = 'waiting', reason = NULL
    WHERE state = 'parked' AND reason IN (
        'unknown_organization:' || p_payment_id, 'customer_mismatch:' || p_payment_id,
        'currency_mismatch:' || p_payment_id, 'payment_not_credited:' || p_payment_id,
        'cannot_ask_stripe:' || p_payment_id, 'unnamed_payment:' || p_payment_id, 'unproven_payer:' || p_payment_id,
        'refunds_not_told:' || p_payment_id, 'skipped_money:' || p_payment_id
    );
    IF found THEN
        NOTIFY calltally_events;
    END IF;
END;
$$;

-- wake_report: puts the end-of-call report of a call back in line that was parked for want of a payer. Internal.
CREATE OR REPLACE FUNCTION wake_report(p_call_id text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE events SET state = 'waiting', reason = NULL
    WHERE state = 'parked' AND provider = 'vapi' AND delivery_key = p_call_id || ':end-of-call-report';
    IF found THEN
        NOTIFY calltally_events;
    END IF;
END;
$$;
