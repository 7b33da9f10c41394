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

-- find_told_payer: find_payer with what a payment does not prove: text that its payer may have written, or a customer
-- who names nobody. A person's word goes before all that. Internal.
CREATE OR REPLACE FUNCTION find_told_payer(p_told told_payment)
RETURNS TABLE (organization_id uuid, reason text)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT
        coalesce(assigned.organization_id, payer.organization_id),
        CASE WHEN assigned.organization_id IS NULL THEN coalesce(
            p_told.obstacle,
            payer.reason,
            CASE
                WHEN coalesce(p_told.reference, '') NOT ILIKE organizations.id::text
                    THEN CASE WHEN NOT coalesce(p_told.customer_suffices, true) THEN 'unnamed_payment' END
                WHEN organizations.stripe_customer_id IS NOT DISTINCT FROM p_told.customer_id
                    AND p_told.customer_id IS NOT NULL THEN NULL
                WHEN coalesce(p_told.text_suffices, false) THEN NULL
                WHEN p_told.reference_kind = 'link'
                    OR (p_told.reference_kind = 'text' AND organizations.stripe_customer_id IS NOT NULL)
                    THEN 'unproven_payer'
            END
        ) END
    FROM find_payer(p_told.reference, p_told.customer_id) AS payer
    LEFT JOIN organizations ON organizations.id = payer.organization_id
    LEFT JOIN assigned_payments AS assigned ON assigned.payment_id = p_told.payment_id
$$;

-- assign_payment: a person says whose a payment is, whatever it says itself. It is credited with what Stripe says was
-- sold when its events, which this puts back in line, are applied. Answers with how many those are.
-- Errors: TY002 it is credited to another, TY003, TY004 without an id or a reason.
CREATE OR REPLACE FUNCTION assign_payment(p_payment_id text, p_organization_id uuid, p_reason text)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    waiting integer;
BEGIN
    PERFORM lock_payments(ARRAY[p_payment_id]);
    PERFORM lock_wallet(p_organization_id);
    IF coalesce(p_payment_id, '') = '' OR coalesce(p_reason, '') = '' THEN
        PERFORM refuse(
            'TY004', 'assigning a payment needs its id and a reason', jsonb_build_object('payment_id', p_payment_id),
            'Say which payment (pi_…), and how you know whose it is.'
        );
    END IF;
    INSERT INTO assigned_payments (payment_id, organization_id, reason)
    VALUES (p_payment_id, p_organization_id, p_reason)
    ON CONFLICT (payment_id) DO UPDATE SET organization_id = p_organization_id, reason = p_reason, assigned_at = now();
    PERFORM check_same_facts(
        'topup:' || payment_id, jsonb_build_object('organization_id', organization_id),
        jsonb_build_object('organization_id', p_organization_id),
        'Move it by hand, with calltally wallet debit and credit.'
    ) FROM payments WHERE payment_id = p_payment_id;
    SELECT count(*) INTO waiting FROM events
    WHERE state = 'parked' AND split_part(events.reason, ':', 2) = p_payment_id;
    PERFORM wake_payment(p_payment_id);
    RETURN waiting;
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
    RETURN wake_events('unknown_organization') + wake_events('customer_mismatch') + wake_events('unproven_payer');
END;
$$;
