-- correct_call: the provider corrected a call's duration after it was charged; books the difference, once.
--
-- The new amount is reckoned at the price that the call was charged at. A settled charge gets a correction of the
-- signed difference, which names what it corrects; an outstanding one is cancelled and replaced by a correction of the
-- whole new amount. Idempotent by state: a call that already has this duration and cost is left alone.
-- Answers with the difference in micros, 0 if nothing changed; null if the call is unknown or not charged yet.
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
    basis charges;   -- the first charge: it holds the price
    new_duration_ms bigint := coalesce(round(extract(EPOCH FROM p_ended_at - p_started_at) * 1000), 0);
    seconds integer;
    new_micros bigint;
    old_micros bigint;
    kept_micros bigint; -- of the old amount, what is not cancelled
    corrections bigint;
    wallet wallets;
BEGIN
    IF new_duration_ms < 0 THEN
        PERFORM refuse(
            'TY004', 'a call cannot end before it starts',
            jsonb_build_object('call_id', p_call_id, 'duration_ms', new_duration_ms),
            'Look the call up at the provider; nothing was moved.'
        );
    END IF;
    SELECT * INTO call FROM calls WHERE id = p_call_id FOR UPDATE;
    IF call.organization_id IS NULL THEN
        RETURN NULL;
    END IF;
    wallet := lock_wallet(call.organization_id);
    SELECT * INTO basis FROM charges WHERE idempotency_key = 'call:' || p_call_id;
    IF NOT found OR (basis.per_minute_micros IS NULL AND basis.amount_micros > 0) THEN
        RETURN NULL; -- not charged yet, or charged by amount alone, which no duration can change
    END IF;
    IF basis.per_minute_micros IS NULL AND new_duration_ms > 0 THEN -- it never connected, so no price was looked up
        SELECT price.id, price.per_minute_micros, price.increment_seconds, price.minimum_seconds, price.free_seconds
        INTO basis.price_id, basis.per_minute_micros, basis.increment_seconds, basis.minimum_seconds,
            basis.free_seconds
        FROM find_price(call.organization_id, wallet.currency, p_started_at) AS price;
    END IF;
    seconds := coalesce(
        billed_seconds(new_duration_ms, basis.increment_seconds, basis.minimum_seconds, basis.free_seconds), 0
    );
    new_micros := coalesce(billed_amount_micros(seconds, basis.per_minute_micros), 0);
    SELECT sum(amount_micros) FILTER (WHERE state <> 'cancelled'), count(*) FILTER (WHERE kind = 'correction')
    INTO old_micros, corrections
    FROM charges
    WHERE idempotency_key = basis.idempotency_key OR corrects = basis.idempotency_key;

    UPDATE calls SET
        started_at = p_started_at, ended_at = p_ended_at, duration_ms = new_duration_ms,
        provider_cost_micros = coalesce(p_provider_cost_micros, provider_cost_micros)
    WHERE id = p_call_id;
    IF new_micros = old_micros THEN
        RETURN 0;
    END IF;
    WITH cancelled AS (
        UPDATE charges SET state = 'cancelled'
        WHERE (idempotency_key = basis.idempotency_key OR corrects = basis.idempotency_key) AND state = 'outstanding'
        RETURNING amount_micros
    )

    SELECT old_micros - coalesce(sum(amount_micros), 0) INTO kept_micros FROM cancelled;
    IF new_micros <> kept_micros THEN
        PERFORM post_charge(ROW(
            call.organization_id, basis.idempotency_key || ':correction:' || corrections + 1, 'correction',
            new_micros - kept_micros, p_event_at, new_duration_ms, seconds, basis.price_id, basis.per_minute_micros,
            basis.increment_seconds, basis.minimum_seconds, basis.free_seconds, basis.idempotency_key
        )::charge_request);
        PERFORM settle_outstanding(call.organization_id);
    END IF;
    RETURN new_micros - old_micros;
END;
$$;
