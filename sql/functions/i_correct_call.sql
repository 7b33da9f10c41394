-- correct_call: the provider corrected a call's times after it was recorded; books the difference, once.
--
-- The new amount is reckoned at the price that the call was charged at. A settled charge gets a correction of the
-- signed difference, which names what it corrects; an outstanding one is cancelled and replaced by a correction of the
-- whole new amount. Idempotent by state: a call that already has this duration and cost is left alone.
-- A call that is not charged yet takes the new facts, and is charged by them once a route or a price says how; one that
-- was held is charged at once. Facts that cannot be (call_problem) change nothing.
-- Waits for changes of prices; locks the call, then the wallet. Answers with the difference in micros, 0 if nothing
-- changed; null if the call is unknown, not charged yet, charged by amount alone, has no price to be reckoned at, or is
-- not over by these times: what runs again keeps what it cost until it has ended again.
-- Errors: TY004 negative duration.
CREATE OR REPLACE FUNCTION correct_call(
    p_call_id text,
    p_started_at timestamptz,
    p_ended_at timestamptz,
    p_provider_cost_micros bigint,
    p_event_at timestamptz DEFAULT now()
)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    call calls;
    basis charges; -- the charge in force: it holds the price
    new_duration_ms bigint := call_duration_ms(p_started_at, p_ended_at);
BEGIN
    IF p_ended_at < p_started_at THEN
        PERFORM refuse(
            'TY004', 'a call cannot end before it starts',
            jsonb_build_object('call_id', p_call_id, 'started_at', p_started_at, 'ended_at', p_ended_at),
            'Look the call up at the provider; nothing was moved.'
        );
    END IF;
    IF p_ended_at IS NULL THEN
        RETURN NULL;
    END IF;
    LOCK TABLE prices IN ROW EXCLUSIVE MODE; -- set_price would charge what we are about to change
    SELECT * INTO call FROM calls WHERE id = p_call_id FOR UPDATE;
    IF call_problem(
        call.created_at, p_started_at, p_ended_at, p_provider_cost_micros, call.max_duration_seconds
    ) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    IF call.organization_id IS NOT NULL THEN
        PERFORM lock_wallet(call.organization_id);
        basis := last_charge('call:' || p_call_id);
    END IF;
    IF basis.per_minute_micros IS NULL AND basis.amount_micros = 0 THEN -- it never connected: no price was looked up
        basis := with_price_in_force(basis, coalesce(p_started_at, call.created_at));
    END IF;
    IF basis.idempotency_key IS NOT NULL AND basis.per_minute_micros IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE calls SET
        started_at = p_started_at, ended_at = p_ended_at, duration_ms = new_duration_ms,
        provider_cost_micros = coalesce(p_provider_cost_micros, provider_cost_micros),
        held = contradiction_of(calls)
    WHERE id = p_call_id;
    IF basis.idempotency_key IS NULL THEN
        IF call.held IS NULL THEN
            RETURN NULL;
        END IF;
        PERFORM charge_calls(ARRAY[p_call_id]);
        RETURN (SELECT amount_micros FROM charges WHERE idempotency_key = 'call:' || p_call_id);
    END IF;
    RETURN book_correction(basis, 'call:' || p_call_id, new_duration_ms, p_event_at);
END;
$$;

-- reprice_call: the price was wrong when the call was charged, and set_price has set it right since; books the
-- difference, once. As correct_call otherwise: the same answers, the same locks.
CREATE OR REPLACE FUNCTION reprice_call(p_call_id text, p_event_at timestamptz DEFAULT now())
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    call calls;
    basis charges;
BEGIN
    LOCK TABLE prices IN ROW EXCLUSIVE MODE; -- set_price first locks prices, then calls and wallets
    SELECT * INTO call FROM calls WHERE id = p_call_id FOR UPDATE;
    IF call.organization_id IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM lock_wallet(call.organization_id);
    basis := last_charge('call:' || p_call_id);
    IF basis.per_minute_micros IS NULL THEN
        RETURN NULL;
    END IF;
    basis := with_price_in_force(basis, coalesce(call.started_at, call.created_at));
    RETURN book_correction(basis, 'call:' || p_call_id, call.duration_ms, p_event_at);
END;
$$;

-- last_charge: of the charge with this key and its corrections, the last that was not cancelled, or else the last.
-- Internal.
CREATE OR REPLACE FUNCTION last_charge(p_corrects text)
RETURNS charges LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT charges
    FROM charges
    WHERE idempotency_key = p_corrects OR corrects = p_corrects
    ORDER BY state = 'cancelled', length(idempotency_key) DESC, idempotency_key DESC -- …:correction:10 after …:9
    LIMIT 1
$$;

-- with_price_in_force: a charge with the price that is in force at a time now, if there is one. Internal.
CREATE OR REPLACE FUNCTION with_price_in_force(p_charge charges, p_at timestamptz)
RETURNS charges LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    price prices;
BEGIN
    SELECT found_price.* INTO price
    FROM wallets
    CROSS JOIN LATERAL find_price(wallets.organization_id, wallets.currency, p_at) AS found_price
    WHERE wallets.organization_id = p_charge.organization_id;
    IF found THEN
        p_charge.price_id := price.id;
        p_charge.per_minute_micros := price.per_minute_micros;
        p_charge.increment_seconds := price.increment_seconds;
        p_charge.minimum_seconds := price.minimum_seconds;
        p_charge.free_seconds := price.free_seconds;
    END IF;
    RETURN p_charge;
END;
$$;

-- book_correction: makes a call cost what its duration costs at the price of p_basis. Internal; the caller holds the
-- locks of the call and the wallet. Answers with the difference in micros.
--
-- What is owed instead of an outstanding charge keeps its place in line. A new price that changes no amount is kept as
-- a correction of nothing, so that the next correction is reckoned by it.
CREATE OR REPLACE FUNCTION book_correction(
    p_basis charges, p_corrects text, p_duration_ms bigint, p_event_at timestamptz
)
RETURNS bigint LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    seconds integer := billed_seconds(
        p_duration_ms, p_basis.increment_seconds, p_basis.minimum_seconds, p_basis.free_seconds
    );
    new_micros bigint := billed_amount_micros(seconds, p_basis.per_minute_micros);
    old_micros bigint;
    kept_micros bigint; -- of the old amount, what is not cancelled
    corrections bigint;
    owed_since timestamptz;
BEGIN
    SELECT
        coalesce(sum(amount_micros) FILTER (WHERE state <> 'cancelled'), 0),
        coalesce(sum(amount_micros) FILTER (WHERE state IN ('settled', 'free')), 0),
        count(*) FILTER (WHERE kind = 'correction'),
        min(event_at) FILTER (WHERE state = 'outstanding')
    INTO old_micros, kept_micros, corrections, owed_since
    FROM charges
    WHERE idempotency_key = p_corrects OR corrects = p_corrects;
    IF new_micros = old_micros AND is_priced_like(last_charge(p_corrects), p_basis) THEN
        RETURN 0;
    END IF;
    UPDATE charges SET state = 'cancelled'
    WHERE (idempotency_key = p_corrects OR corrects = p_corrects) AND state = 'outstanding';
    IF new_micros <> kept_micros OR NOT is_priced_like(last_charge(p_corrects), p_basis) THEN
        PERFORM post_charge(ROW(
            p_basis.organization_id, p_corrects || ':correction:' || corrections + 1, 'correction',
            new_micros - kept_micros,
            CASE WHEN new_micros > kept_micros THEN coalesce(owed_since, p_event_at) ELSE p_event_at END,
            p_duration_ms, seconds, p_basis.price_id,
            p_basis.per_minute_micros, p_basis.increment_seconds, p_basis.minimum_seconds, p_basis.free_seconds,
            p_corrects
        )::charge_request);
    END IF;
    PERFORM settle_outstanding(p_basis.organization_id);
    RETURN new_micros - old_micros;
END;
$$;

-- is_priced_like: whether a charge was reckoned by the terms of another, or by none, as of a call that never connected.
-- Internal.
CREATE OR REPLACE FUNCTION is_priced_like(p_charge charges, p_other charges)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_charge.per_minute_micros IS NULL OR (
        p_charge.per_minute_micros, p_charge.increment_seconds, p_charge.minimum_seconds, p_charge.free_seconds
    ) IS NOT DISTINCT FROM (
        p_other.per_minute_micros, p_other.increment_seconds, p_other.minimum_seconds, p_other.free_seconds
    )
$$;
