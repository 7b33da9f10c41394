-- record_reversals: notes what Stripe tells of refunds and disputes, and books what can be booked, in whatever order
-- and however often it is told.
--
-- p_told: array of {id, kind (refund, dispute), step (taken, returned), payment_id, amount_micros, currency, event_at}.
-- Answers per id with booked (all that is known of it), noted (nothing to move: it failed before any money moved), or
-- parked and why: payment_not_credited:<pi>, exceeds_payment:<pi> (more than is left of the payment) or
-- currency_mismatch. The first two go on by themselves when the payment is credited, or something of it comes back.
-- Locks payments, then wallets. Errors: TY002 told or booked by hand with other facts, TY004.
CREATE OR REPLACE FUNCTION record_reversals(p_told jsonb)
RETURNS TABLE (reversal_id text, outcome text, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    payment_ids text[] := array(SELECT DISTINCT told ->> 'payment_id' FROM jsonb_array_elements(p_told) AS told);
    ids text[] := array(SELECT told ->> 'id' FROM jsonb_array_elements(p_told) AS told);
    told reversals;
    payment record;
BEGIN
    PERFORM lock_payments(payment_ids);
    FOR told IN
        SELECT
            named.id, named.kind, named.payment_id, named.currency,
            CASE named.step WHEN 'taken' THEN named.amount_micros END,
            CASE named.step WHEN 'taken' THEN named.event_at END,
            CASE named.step WHEN 'returned' THEN named.amount_micros END,
            CASE named.step WHEN 'returned' THEN named.event_at END,
            now()
        FROM jsonb_to_recordset(p_told) AS named (
            id text, kind text, step text, payment_id text, amount_micros bigint, currency text, event_at timestamptz
        )
    LOOP
        PERFORM note_reversal(told);
    END LOOP;
    FOR payment IN
        SELECT named.id FROM unnest(payment_ids) AS named (id)
        LEFT JOIN transfers ON transfers.payment_id = named.id AND transfers.kind = 'topup'
        ORDER BY transfers.organization_id, named.id -- wallets are locked in the order of their ids
    LOOP
        PERFORM book_reversals(payment.id);
    END LOOP;
    PERFORM check_booked_as_told(ids);
    RETURN QUERY
    SELECT state.id, state.outcome, state.reason FROM reversal_states AS state WHERE state.id = ANY(ids);
END;
$$;

-- check_booked_as_told: whether what is booked of these refunds and disputes, perhaps by hand, is what Stripe told.
-- Internal; comes after booking, so that nothing is booked unseen in between. Errors: TY002.
CREATE OR REPLACE FUNCTION check_booked_as_told(p_ids text[])
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM check_same_facts(
        transfers.idempotency_key,
        jsonb_build_object('amount_micros', transfers.amount_micros, 'payment_id', transfers.payment_id),
        jsonb_build_object(
            'amount_micros', coalesce(
                CASE transfers.idempotency_key
                    WHEN state.taken_key THEN state.taken_micros ELSE state.returned_micros
                END,
                transfers.amount_micros
            ),
            'payment_id', state.payment_id
        ),
        'Look it up at Stripe. If it was booked wrongly by hand, book the difference with calltally wallet debit or '
        || 'credit, then: calltally events dismiss.'
    )
    FROM reversal_states AS state
    INNER JOIN transfers ON transfers.idempotency_key IN (state.taken_key, state.returned_key)
    WHERE state.id = ANY(p_ids) AND state.is_contradicted;
END;
$$;

-- note_reversal: keeps what was told; what was told first stays. Internal. Errors: TY002 other facts, TY004.
CREATE OR REPLACE FUNCTION note_reversal(p_told reversals)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    known reversals;
BEGIN
    IF coalesce(p_told.taken_micros, p_told.returned_micros, 0) <= 0
        OR coalesce(p_told.taken_at, p_told.returned_at) IS NULL
    THEN
        PERFORM refuse(
            'TY004', 'a refund or dispute needs a time and a positive amount',
            jsonb_build_object('id', p_told.id, 'amount_micros', coalesce(p_told.taken_micros, p_told.returned_micros)),
            'Look it up at Stripe; nothing was moved.'
        );
    END IF;
    INSERT INTO reversals VALUES (p_told.*)
    ON CONFLICT (id) DO UPDATE SET
        taken_micros = coalesce(reversals.taken_micros, excluded.taken_micros),
        taken_at = coalesce(reversals.taken_at, excluded.taken_at),
        returned_micros = coalesce(reversals.returned_micros, excluded.returned_micros),
        returned_at = coalesce(reversals.returned_at, excluded.returned_at)
    RETURNING * INTO known;
    IF (known.kind, known.payment_id, known.currency) <> (p_told.kind, p_told.payment_id, p_told.currency)
        OR known.taken_micros <> p_told.taken_micros OR known.returned_micros <> p_told.returned_micros
    THEN
        PERFORM refuse(
            'TY002', format('%s was told with other facts before', p_told.id),
            jsonb_build_object('id', p_told.id, 'known', to_jsonb(known), 'told', to_jsonb(p_told)),
            'Nothing was moved. Look it up at Stripe.'
        );
    END IF;
END;
$$;

-- book_reversals: moves what is known of a payment's refunds and disputes, as far as the payment is credited and
-- something is left of it; one that comes back makes room for another. Wakes the events that wait for it.
-- Internal; the caller holds the payment's lock. Answers with how many it moved.
CREATE OR REPLACE FUNCTION book_reversals(p_payment_id text)
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    next_one record;
    moved integer := 0;
BEGIN
    LOOP
        SELECT * INTO next_one FROM reversal_states
        WHERE payment_id = p_payment_id AND is_bookable
        ORDER BY is_taken DESC, taken_at, id
        LIMIT 1;
        EXIT WHEN NOT found;
        IF next_one.is_taken THEN
            PERFORM give_back(
                next_one.taken_key, next_one.returned_key, next_one.returned_micros, next_one.returned_at
            );
        ELSE
            PERFORM take_back(
                p_payment_id, next_one.kind, next_one.taken_key, next_one.taken_micros, next_one.taken_at,
                next_one.given_back_micros
            );
        END IF;
        moved := moved + 1;
    END LOOP;
    IF moved > 0 THEN
        PERFORM wake_events('exceeds_payment:' || p_payment_id);
    END IF;
    RETURN moved;
END;
$$;

-- lock_payments: until the transaction ends, nobody else credits these payments or books what was taken back of them.
-- A refund that comes ahead of its payment would be missed by the credit, and the credit by the refund. Comes before
-- wallets.
CREATE OR REPLACE FUNCTION lock_payments(p_payment_ids text[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT lock_keys('payment', p_payment_ids)
$$;
