-- create_organization: an organization with its wallet, and the reseller's own accounts in its currency.
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
        'stripe', 'call_revenue', 'sms_revenue', 'refunds', 'disputes', 'adjustments', 'suspense'
    ]) AS kind
    ON CONFLICT DO NOTHING;
    INSERT INTO accounts (id, kind, currency, organization_id) VALUES (new_id, 'wallet', p_currency, new_id);
    INSERT INTO wallets (organization_id, currency, debt_limit_micros)
    VALUES (new_id, p_currency, p_debt_limit_micros);
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

-- set_price: what a minute costs from a time on, for one organization or (null) for all without a price of their own.
-- The price in force then ends there; prices that begin later stay. Charges made keep the price that they were made at.
-- Answers with the price's id. Errors: TY003; check_violation for an increment other than 1, 6 or 60.
CREATE OR REPLACE FUNCTION set_price(
    p_organization_id uuid,
    p_per_minute_micros bigint,
    p_increment_seconds integer DEFAULT 1,
    p_minimum_seconds integer DEFAULT 0,
    p_free_seconds integer DEFAULT 0,
    p_from timestamptz DEFAULT '-infinity',
    p_currency text DEFAULT 'USD'
)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    currency_used text := p_currency;
    until_time timestamptz;
    new_id bigint;
BEGIN
    IF p_organization_id IS NOT NULL THEN
        currency_used := (lock_wallet(p_organization_id)).currency;
    END IF;
    LOCK TABLE prices IN SHARE ROW EXCLUSIVE MODE; -- two settings at once would split the same range
    SELECT min(lower(valid)) INTO until_time
    FROM prices
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND lower(valid) > p_from;
    DELETE FROM prices
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND lower(valid) = p_from AND NOT EXISTS (SELECT FROM charges WHERE charges.price_id = prices.id);
    UPDATE prices SET valid = tstzrange(lower(valid), p_from)
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND valid @> p_from;
    INSERT INTO prices (
        organization_id, currency, per_minute_micros, increment_seconds, minimum_seconds, free_seconds, valid
    ) VALUES (
        p_organization_id, currency_used, p_per_minute_micros, p_increment_seconds, p_minimum_seconds,
        p_free_seconds, tstzrange(p_from, until_time)
    )
    RETURNING id INTO new_id;
    RETURN new_id;
END;
$$;

-- add_route: from a time on, calls of an assistant, squad or phone number belong to an organization.
-- Without a time: from the beginning if the id was never routed, else from now. Charges the quarantined calls that it
-- explains and puts parked events back in line. Answers with how many calls it charged and how many events it woke.
-- Errors: TY003.
CREATE OR REPLACE FUNCTION add_route(
    p_organization_id uuid, p_kind text, p_external_id text, p_from timestamptz DEFAULT NULL
)
RETURNS TABLE (charged_calls integer, woken_events integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    from_time timestamptz := p_from;
    until_time timestamptz;
    explained text[];
BEGIN
    PERFORM lock_wallet(p_organization_id);
    LOCK TABLE routes IN SHARE ROW EXCLUSIVE MODE;
    IF from_time IS NULL THEN
        from_time := CASE
            WHEN EXISTS (SELECT FROM routes WHERE kind = p_kind AND external_id = p_external_id) THEN now()
            ELSE '-infinity'
        END;
    END IF;
    SELECT min(lower(valid)) INTO until_time
    FROM routes
    WHERE kind = p_kind AND external_id = p_external_id AND lower(valid) > from_time;
    DELETE FROM routes WHERE kind = p_kind AND external_id = p_external_id AND lower(valid) = from_time;
    UPDATE routes SET valid = tstzrange(lower(valid), from_time)
    WHERE kind = p_kind AND external_id = p_external_id AND valid @> from_time;
    INSERT INTO routes (kind, external_id, organization_id, valid)
    VALUES (p_kind, p_external_id, p_organization_id, tstzrange(from_time, until_time));

    WITH attributed AS (
        UPDATE calls
        SET organization_id = find_organization(assistant_id, squad_id, phone_number_id, created_at)
        WHERE organization_id IS NULL
            AND find_organization(assistant_id, squad_id, phone_number_id, created_at) IS NOT NULL
        RETURNING id
    )

    SELECT coalesce(array_agg(id), '{}') INTO explained FROM attributed;
    charged_calls := charge_calls(explained);
    woken_events := wake_events('unknown_organization');
    RETURN NEXT;
END;
$$;
