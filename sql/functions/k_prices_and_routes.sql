-- set_price: what a minute costs from a time on, for one organization or (null) for all without a price of their own.
-- The price in force then ends there; prices that begin later stay. Charges made keep the price that they were made at
-- (reprice_call changes them one by one); calls that had no price are charged now.
-- Waits for running record_calls. Answers with the price's id.
-- Errors: TY003; check_violation for an increment other than 1, 6 or 60 or a negative number.
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
    from_time timestamptz := coalesce(p_from, '-infinity');
    until_time timestamptz;
    new_id bigint;
BEGIN
    LOCK TABLE prices IN SHARE ROW EXCLUSIVE MODE; -- two settings at once would split the same range
    IF p_organization_id IS NOT NULL THEN
        SELECT currency INTO currency_used FROM wallets WHERE organization_id = p_organization_id;
        IF NOT found THEN
            PERFORM refuse_unknown(p_organization_id);
        END IF;
    END IF;
    SELECT min(lower(valid)) INTO until_time
    FROM prices
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND lower(valid) > from_time;
    UPDATE prices SET valid = tstzrange(lower(valid), from_time)
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND valid @> from_time;
    INSERT INTO prices (
        organization_id, currency, per_minute_micros, increment_seconds, minimum_seconds, free_seconds, valid
    ) VALUES (
        p_organization_id, currency_used, p_per_minute_micros, p_increment_seconds, p_minimum_seconds,
        p_free_seconds, tstzrange(from_time, until_time)
    )
    RETURNING id INTO new_id;
    PERFORM charge_calls(array_agg(calls.id))
    FROM calls
    INNER JOIN wallets ON wallets.organization_id = calls.organization_id
    WHERE wallets.currency = currency_used
        AND (p_organization_id IS NULL OR wallets.organization_id = p_organization_id)
        AND coalesce(calls.started_at, calls.created_at) >= from_time
        AND NOT EXISTS (SELECT FROM charges WHERE charges.idempotency_key = 'call:' || calls.id);
    RETURN new_id;
END;
$$;

-- add_route: from a time on, what an assistant, squad, workflow, phone number, messaging service, sender (sms_number)
-- or account does, or a call whose metadata says so (key=value) and which nothing else names, is an organization's.
-- Without a time: from the beginning if the id was never routed, else from now. Charges the quarantined calls or
-- messages that it explains and puts parked events back in line. Waits for running record_calls and record_messages and
-- for prices being set, in the order of their tables; locks calls or messages, then wallets.
-- Answers with how many calls it charged and how many events it woke.
-- Errors: TY003; check_violation for another kind or an empty id.
CREATE OR REPLACE FUNCTION add_route(
    p_organization_id uuid, p_kind text, p_external_id text, p_from timestamptz DEFAULT NULL
)
RETURNS TABLE (charged_calls integer, woken_events integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    from_time timestamptz := p_from;
    until_time timestamptz;
BEGIN
    LOCK TABLE routes, prices IN SHARE ROW EXCLUSIVE MODE; -- set_price would miss what we are about to attribute
    IF NOT EXISTS (SELECT FROM wallets WHERE organization_id = p_organization_id) THEN
        PERFORM refuse_unknown(p_organization_id);
    END IF;
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
    IF p_kind IN ('messaging_service', 'sms_number', 'twilio_account') THEN
        PERFORM charge_quarantined_messages();
        charged_calls := 0;
    ELSE
        charged_calls := charge_quarantined_calls();
    END IF;
    -- Calls and messages; a payment says behind a colon which it is, and no route explains it.
    UPDATE events SET state = 'waiting', reason = NULL
    WHERE state = 'parked' AND events.reason = 'unknown_organization';
    GET DIAGNOSTICS woken_events = ROW_COUNT;
    NOTIFY calltally_events;
    RETURN NEXT;
END;
$$;

-- charge_quarantined_calls: attributes the calls without an organization that a route explains, and charges them; those
-- whose metadata names somebody else are held. Internal; the caller holds the locks of routes and prices. Answers with
-- how many it charged.
CREATE OR REPLACE FUNCTION charge_quarantined_calls()
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    explained text[];
BEGIN
    WITH quarantined AS (
        SELECT
            calls.id, route.organization_id,
            names_another(metadata, route.organization_id, created_at) AS is_contradicted
        FROM calls
        CROSS JOIN LATERAL find_route(
            assistant_id, squad_id, workflow_id, phone_number_id, metadata, created_at
        ) AS route
        WHERE calls.organization_id IS NULL
        ORDER BY calls.id
        FOR UPDATE OF calls
    ),

    attributed AS (
        UPDATE calls SET
            organization_id = CASE WHEN NOT is_contradicted THEN quarantined.organization_id END,
            held = CASE
                WHEN is_contradicted THEN coalesce(held, held_by_metadata())
                WHEN held <> held_by_metadata() THEN held
            END
        FROM quarantined
        WHERE calls.id = quarantined.id
        RETURNING calls.id
    )

    SELECT coalesce(array_agg(id), '{}') INTO explained FROM attributed;
    RETURN charge_calls(explained);
END;
$$;
