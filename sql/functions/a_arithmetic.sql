-- The arithmetic of money: pure, so that any charge can be recomputed from the row that stores it.

-- Refuses in our own SQLSTATE class (TY), with facts as JSON in DETAIL and the next step in HINT.
CREATE OR REPLACE FUNCTION refuse(p_code text, p_message text, p_facts jsonb, p_hint text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', p_message USING ERRCODE = p_code, DETAIL = p_facts::text, HINT = p_hint;
END;
$$;

-- The only place where money is rounded: once per charge, at the end, halves away from zero.
CREATE OR REPLACE FUNCTION round_to_micros(p_micros numeric)
RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN round(p_micros)::bigint;

-- A fraction as whole micros, rounded as above but without the digits that a quotient of numerics loses.
-- Neither part is negative.
CREATE OR REPLACE FUNCTION round_fraction(p_numerator numeric, p_denominator numeric)
RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN div(2 * p_numerator + p_denominator, 2 * p_denominator)::bigint;

-- share_of: what of an amount is the share that a part is of a whole, to the micro; of nothing negative but the part.
CREATE OR REPLACE FUNCTION share_of(p_micros bigint, p_part_micros bigint, p_whole_micros bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN sign(p_part_micros)::integer * round_fraction(p_micros::numeric * abs(p_part_micros), p_whole_micros);

-- A call's duration by the provider's clock; 0 if it never connected or has not ended.
CREATE OR REPLACE FUNCTION call_duration_ms(p_started_at timestamptz, p_ended_at timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(greatest(0, round(extract(EPOCH FROM p_ended_at - p_started_at) * 1000)), 0)::bigint;

-- Seconds to bill: what exceeds the free seconds, in whole increments, and no less than the minimum.
-- A call that used nothing beyond its free seconds bills nothing, not the minimum.
CREATE OR REPLACE FUNCTION billed_seconds(
    p_duration_ms bigint, p_increment_seconds integer, p_minimum_seconds integer, p_free_seconds integer
)
RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN p_duration_ms <= p_free_seconds * 1000::bigint THEN 0
    ELSE greatest(
        p_minimum_seconds,
        ceil((p_duration_ms - p_free_seconds * 1000::bigint) / (p_increment_seconds * 1000::numeric))
        * p_increment_seconds
    )::integer
END;

CREATE OR REPLACE FUNCTION billed_amount_micros(p_billed_seconds integer, p_per_minute_micros bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN round_to_micros(p_billed_seconds * p_per_minute_micros / 60::numeric);

-- The reseller's own account of a kind and currency. Derived, not looked up: a posting touches no hot row for it.
CREATE OR REPLACE FUNCTION own_account(p_kind text, p_currency text)
RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN md5('calltally:' || p_kind || ':' || p_currency)::uuid;

-- Which of the reseller's accounts earns a charge, by its key.
CREATE OR REPLACE FUNCTION revenue_kind(p_idempotency_key text)
RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN starts_with(p_idempotency_key, 'sms:') THEN 'sms_revenue' ELSE 'call_revenue' END;
