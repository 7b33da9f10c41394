-- create_organization: an organization with its wallet, and the reseller's own accounts in its currency.
-- With a Stripe customer, puts parked events back in line, as link_customer does.
-- Errors: TY010 the name is taken; check_violation for an empty name, an address without @ or a strange currency.
CREATE OR REPLACE FUNCTION create_organization(
    p_name text,
    p_email text,
    p_currency text DEFAULT 'USD',
    p_debt_limit_micros bigint DEFAULT 5000000,
    p_stripe_customer_id text DEFAULT NULL
)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    new_id uuid;
BEGIN
    LOCK TABLE organizations IN SHARE ROW EXCLUSIVE MODE; -- credit_payments would park what nobody wakes again
    INSERT INTO organizations (name, email, currency, stripe_customer_id)
    VALUES (p_name, p_email, p_currency, p_stripe_customer_id)
    ON CONFLICT (name) DO NOTHING
    RETURNING id INTO new_id;
    IF new_id IS NULL THEN
        PERFORM refuse(
            'TY010', format('there is an organization named %s already', p_name),
            jsonb_build_object('name', p_name), 'Choose another name, or use the one that is there.'
        );
    END IF;
    INSERT INTO accounts (id, kind, currency)
    SELECT own_account(kind, p_currency), kind, p_currency
    FROM unnest(ARRAY[
        'stripe', 'call_revenue', 'sms_revenue', 'refunds', 'disputes', 'adjustments', 'tax', 'fees', 'suspense'
    ]) AS kind
    ON CONFLICT DO NOTHING;
    INSERT INTO accounts (id, kind, currency, organization_id) VALUES (new_id, 'wallet', p_currency, new_id);
    INSERT INTO wallets (organization_id, currency, debt_limit_micros)
    VALUES (new_id, p_currency, p_debt_limit_micros);
    IF p_stripe_customer_id IS NOT NULL THEN
        PERFORM wake_events('unknown_organization');
    END IF;
    RETURN new_id;
END;
$$;

-- set_debt_limit: from now on. A lower one takes nothing back; a higher one settles what it leaves room for.
-- Answers with the sum settled, in micros. Errors: TY003; check_violation for a negative limit.
CREATE OR REPLACE FUNCTION set_debt_limit(p_organization_id uuid, p_debt_limit_micros bigint)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_wallet(p_organization_id);
    UPDATE wallets SET debt_limit_micros = p_debt_limit_micros WHERE organization_id = p_organization_id;
    RETURN settle_outstanding(p_organization_id);
END;
$$;

-- set_charge_policy: record or allow_overrun, from now on. Errors: TY003; check_violation for another word.
CREATE OR REPLACE FUNCTION set_charge_policy(p_organization_id uuid, p_charge_policy text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_wallet(p_organization_id);
    UPDATE organizations SET charge_policy = p_charge_policy WHERE id = p_organization_id;
END;
$$;

-- set_recharge_threshold: below this balance needs_recharge is true. Errors: TY003.
CREATE OR REPLACE FUNCTION set_recharge_threshold(p_organization_id uuid, p_recharge_threshold_micros bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM lock_wallet(p_organization_id);
    UPDATE wallets SET recharge_threshold_micros = p_recharge_threshold_micros
    WHERE organization_id = p_organization_id;
END;
$$;
