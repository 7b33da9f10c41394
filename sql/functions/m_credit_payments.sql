-- find_payer: which organization a payment belongs to. Our reference on the payment and its customer must not
-- contradict each other; either alone is enough. A reference that is no organization's id, but has the form of one,
-- contradicts whatever customer pays. Answers with null and the reason if nobody or somebody else is named.
CREATE OR REPLACE FUNCTION find_payer(p_reference text, p_stripe_customer_id text)
RETURNS TABLE (organization_id uuid, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT
        CASE WHEN count(*) = 1 AND NOT bool_or(contradicted) THEN min(id::text)::uuid END,
        CASE
            WHEN count(*) = 0 THEN 'unknown_organization'
            WHEN count(*) > 1 OR bool_or(contradicted) THEN 'customer_mismatch'
        END
    FROM (
        SELECT
            organizations.id,
            coalesce(stripe_customer_id <> p_stripe_customer_id, false)
            OR coalesce(organizations.id <> referred.id, false) AS contradicted
        FROM organizations
        CROSS JOIN (
            SELECT CASE
                WHEN p_reference ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN p_reference::uuid
            END AS id
        ) AS referred
        WHERE stripe_customer_id = p_stripe_customer_id OR organizations.id = referred.id
    ) AS named
$$;

-- credit_payments: credits each payment once, whichever of its events comes first.
--
-- p_payments: array of {payment_id, reference, customer_id, amount_micros, currency, event_at, event_id, contradicted};
-- event_id is only given back, and may be left out; contradicted: it names two organizations by our reference.
-- Answers for each of them with credited, duplicate, or parked and why: unknown_organization:<pi>,
-- customer_mismatch:<pi> or currency_mismatch:<pi>. The credit of the same payment, by its other event or by hand,
-- wakes what was parked for it.
-- Waits for changes of customers; wallets are locked in the order of their ids.
-- Errors: TY002, TY004.
CREATE OR REPLACE FUNCTION credit_payments(p_payments jsonb)
RETURNS TABLE (payment_id text, outcome text, reason text, event_id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    payment record;
BEGIN
    LOCK TABLE organizations IN ROW EXCLUSIVE MODE; -- link_customer would miss what we are about to park
    PERFORM lock_payments(array(SELECT told ->> 'payment_id' FROM jsonb_array_elements(p_payments) AS told));
    FOR payment IN
        SELECT told.*, payer.organization_id, payer.reason, wallets.currency AS wallet_currency
        FROM jsonb_to_recordset(p_payments) AS told (
            payment_id text, reference text, customer_id text, amount_micros bigint, currency text,
            event_at timestamptz, event_id bigint, contradicted boolean
        )
        CROSS JOIN LATERAL find_payer(told.reference, told.customer_id) AS payer
        LEFT JOIN wallets ON wallets.organization_id = payer.organization_id
        ORDER BY -- who names no payer, or two, comes after who does
            coalesce(told.contradicted, false), payer.organization_id, told.event_at, told.payment_id
    LOOP
        event_id := payment.event_id;
        payment_id := payment.payment_id;
        reason := coalesce(
            CASE WHEN payment.contradicted THEN 'customer_mismatch' END,
            payment.reason,
            CASE WHEN payment.currency <> payment.wallet_currency THEN 'currency_mismatch' END
        ) || ':' || payment.payment_id;
        outcome := 'parked';
        IF reason IS NOT NULL AND EXISTS (
            SELECT FROM transfers
            WHERE transfers.kind = 'topup' AND transfers.payment_id = payment.payment_id
                AND transfers.amount_micros = payment.amount_micros AND transfers.currency = payment.currency
        ) THEN -- its other event, which says whose it is, came first
            outcome := 'duplicate';
            reason := NULL;
        ELSIF reason IS NULL THEN
            SELECT CASE WHEN credit.duplicate THEN 'duplicate' ELSE 'credited' END INTO outcome
            FROM credit_wallet(
                payment.organization_id, payment.amount_micros, 'topup:' || payment.payment_id, 'topup',
                payment.event_at, payment.currency
            ) AS credit;
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- link_customer: a Stripe customer pays for an organization. Puts parked events back in line; answers with how many.
-- Errors: TY003; unique_violation if the customer is another organization's.
CREATE OR REPLACE FUNCTION link_customer(p_organization_id uuid, p_stripe_customer_id text)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    LOCK TABLE organizations IN SHARE ROW EXCLUSIVE MODE;
    UPDATE organizations SET stripe_customer_id = p_stripe_customer_id WHERE id = p_organization_id;
    IF NOT found THEN
        PERFORM refuse_unknown(p_organization_id);
    END IF;
    RETURN wake_events('unknown_organization') + wake_events('customer_mismatch');
END;
$$;
