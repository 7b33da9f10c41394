-- record_movements: notes what refunds and disputes move, as Stripe tells it or a person, and books what can be booked,
-- in whatever order and however often it is told. What it comes to is the view payment_reversals.
--
-- p_told: array of {id, kind (refund, dispute), source_id, payment_id, charge_id (either will do), amount_micros
-- (negative: taken), currency, disputed_micros, disputed_currency, event_at (null: a refund that is only announced)}.
-- Answers per id with booked; noted (nothing to move yet: announced, or the return of what was never taken); skipped
-- (its payment is none of ours); or parked and why: payment_not_credited:<pi or ch>, or currency_mismatch:<pi>. These
-- go on by themselves when the payment is credited, or somebody books the movement in the payment's currency.
-- Always booked, even past the debt limit: the money is gone. Locks payments, then wallets.
-- Errors: TY002 told with other facts before, TY004 amount, id or time missing.
CREATE OR REPLACE FUNCTION record_movements(p_told jsonb)
RETURNS TABLE (movement_id text, outcome text, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    resolved jsonb;
    told movements;
    payment record;
    news text[] := '{}';
BEGIN
    PERFORM note_payments(p_told || name_charges(p_told));
    SELECT jsonb_agg(named || jsonb_build_object('payment_id', find_payment(named))) INTO resolved
    FROM jsonb_array_elements(p_told) AS named;
    PERFORM lock_payments(array(SELECT named ->> 'payment_id' FROM jsonb_array_elements(resolved) AS named));
    FOR told IN SELECT * FROM jsonb_populate_recordset(NULL::movements, resolved) LOOP
        IF note_movement(told) THEN
            news := news || told.payment_id;
        END IF;
    END LOOP;
    FOR payment IN -- wallets are locked in the order of their ids
        SELECT DISTINCT payments.organization_id, payments.payment_id
        FROM jsonb_to_recordset(resolved) AS named (payment_id text)
        INNER JOIN payments ON payments.payment_id = named.payment_id
        ORDER BY payments.organization_id, payments.payment_id
    LOOP
        PERFORM book_reversals(payment.payment_id);
    END LOOP;
    PERFORM wake_payment(id) FROM (SELECT DISTINCT id FROM unnest(news) AS named (id)) AS woken;
    RETURN QUERY
    SELECT
        movements.id,
        CASE
            WHEN movements.booked_at IS NOT NULL THEN 'booked'
            WHEN NOT was_taken(movements) THEN 'noted'
            WHEN payments.payment_id IS NULL AND seen.skipped_because IS NOT NULL THEN 'skipped'
            ELSE 'parked'
        END,
        CASE
            WHEN movements.booked_at IS NOT NULL OR NOT was_taken(movements) THEN NULL
            WHEN payments.payment_id IS NOT NULL THEN 'currency_mismatch:' || movements.payment_id
            ELSE coalesce(seen.skipped_because, 'payment_not_credited:' || movements.payment_id)
        END
    FROM movements
    LEFT JOIN payments ON payments.payment_id = movements.payment_id
    LEFT JOIN seen_payments AS seen ON seen.payment_id = movements.payment_id
    WHERE movements.id IN (SELECT named ->> 'id' FROM jsonb_array_elements(resolved) AS named);
END;
$$;

-- note_movement: keeps what was told; whether it says anything new. What was told first stays, but a refund that was
-- announced may happen, and what somebody exchanged by hand goes before what nothing is known to exchange.
-- Internal; the caller holds the payment's lock. Errors: TY002, TY004.
CREATE OR REPLACE FUNCTION note_movement(p_told movements)
RETURNS boolean LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    known movements;
BEGIN
    IF coalesce(p_told.amount_micros, 0) = 0 OR coalesce(p_told.id, '') = '' OR p_told.payment_id IS NULL
        OR (p_told.event_at IS NULL AND p_told.kind <> 'refund')
    THEN
        PERFORM refuse(
            'TY004', 'a refund or dispute needs an id, a payment, a time and an amount', to_jsonb(p_told),
            'Look it up at Stripe; nothing was moved.'
        );
    END IF;
    INSERT INTO movements (
        id, kind, source_id, payment_id, amount_micros, currency, disputed_micros, disputed_currency, event_at
    ) VALUES (
        p_told.id, p_told.kind, p_told.source_id, p_told.payment_id, p_told.amount_micros, p_told.currency,
        p_told.disputed_micros, p_told.disputed_currency, p_told.event_at
    ) ON CONFLICT DO NOTHING;
    IF found THEN
        RETURN true;
    END IF;
    SELECT * INTO STRICT known FROM movements WHERE id = p_told.id;
    IF (known.kind, known.source_id, known.payment_id) <> (p_told.kind, p_told.source_id, p_told.payment_id)
        OR (known.currency = p_told.currency AND known.amount_micros <> p_told.amount_micros)
    THEN
        PERFORM refuse(
            'TY002', format('%s was told with other facts before', p_told.id),
            jsonb_build_object('id', p_told.id, 'known', to_jsonb(known), 'told', to_jsonb(p_told)),
            'Nothing was moved. Look it up at Stripe. If it was booked wrongly by hand, book the difference with '
            || 'calltally wallet debit or credit, then: calltally events dismiss.'
        );
    END IF;
    UPDATE movements SET
        amount_micros = CASE WHEN is_exchanged THEN p_told.amount_micros ELSE amount_micros END,
        currency = CASE WHEN is_exchanged THEN p_told.currency ELSE currency END,
        disputed_micros = greatest(disputed_micros, p_told.disputed_micros),
        disputed_currency = coalesce(disputed_currency, p_told.disputed_currency),
        event_at = coalesce(event_at, p_told.event_at)
    FROM (
        SELECT EXISTS (
            SELECT FROM payments
            WHERE payments.payment_id = p_told.payment_id AND payments.currency = p_told.currency
                AND known.currency <> p_told.currency AND known.booked_at IS NULL
        ) AS is_exchanged
    ) AS exchange
    WHERE id = p_told.id AND (is_exchanged OR (event_at IS NULL AND p_told.event_at IS NOT NULL)
        OR (disputed_currency = p_told.disputed_currency AND disputed_micros < p_told.disputed_micros));
    RETURN found;
END;
$$;

-- was_taken: whether the money of this movement's refund or dispute was taken at all, by it or by another movement;
-- p_currency: by one whose worth is known in it. Internal.
CREATE OR REPLACE FUNCTION was_taken(p_movement movements, p_currency text DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT p_movement.event_at IS NOT NULL AND EXISTS (
        SELECT FROM movements AS taken
        WHERE taken.payment_id = p_movement.payment_id AND taken.source_id = p_movement.source_id
            AND taken.amount_micros < 0 AND taken.event_at IS NOT NULL
            AND (
                p_currency IS NULL OR p_movement.currency = p_currency
                OR (p_movement.kind = 'dispute' AND taken.currency = p_movement.currency)
            )
    )
$$;

-- exchange: an amount in the payment's currency, if it is in the other one of its sale (adaptive pricing), at the rate
-- of the sale; null if it is in neither. Internal, pure.
CREATE OR REPLACE FUNCTION exchange(p_payment payments, p_micros bigint, p_currency text)
RETURNS bigint LANGUAGE sql IMMUTABLE SET search_path = public, pg_temp AS $$
    SELECT CASE
        WHEN p_currency = p_payment.currency::text THEN p_micros
        WHEN p_payment.sale ->> 'shown_currency' = p_currency AND p_payment.sale ->> 'currency' = p_payment.currency::text
            THEN share_of(
                (p_payment.sale ->> 'total_micros')::bigint, p_micros, (p_payment.sale ->> 'shown_micros')::bigint
            )
        WHEN p_payment.sale ->> 'currency' = p_currency AND p_payment.sale ->> 'shown_currency' = p_payment.currency::text
            THEN share_of(
                (p_payment.sale ->> 'shown_micros')::bigint, p_micros, (p_payment.sale ->> 'total_micros')::bigint
            )
    END
$$;

-- book_reversals: takes every movement of a payment into account that can be, one after the other: what was taken
-- before what came back. Nothing happens while the payment is not credited. Internal; the caller holds the payment's
-- lock.
CREATE OR REPLACE FUNCTION book_reversals(p_payment_id text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    payment payments;
    next_one movements;
BEGIN
    SELECT * INTO payment FROM payments WHERE payment_id = p_payment_id;
    IF NOT found OR NOT EXISTS (SELECT FROM movements WHERE payment_id = p_payment_id) THEN
        RETURN;
    END IF;
    PERFORM lock_wallet(payment.organization_id);
    LOOP
        SELECT * INTO next_one FROM movements
        WHERE payment_id = p_payment_id AND booked_at IS NULL AND (
            was_taken(movements, payment.currency)
            OR (exchange(payment, 0, movements.currency) IS NOT NULL AND was_taken(movements))
        )
        ORDER BY amount_micros > 0, kind = 'dispute' AND starts_with(id, source_id), event_at, id
        LIMIT 1;
        EXIT WHEN NOT found;
        UPDATE movements SET booked_at = now() WHERE id = next_one.id;
        PERFORM book_due(next_one, next_one.kind || ':' || next_one.id);
    END LOOP;
    -- What was known before may be worth another amount since: the dispute is about more.
    SELECT * INTO next_one FROM movements
    WHERE payment_id = p_payment_id AND booked_at IS NOT NULL ORDER BY booked_at DESC, id LIMIT 1;
    IF found THEN
        PERFORM book_due(next_one, format(
            '%s:%s:restated:%s', next_one.kind, next_one.id,
            (SELECT count(*) FROM transfers WHERE payment_id = p_payment_id AND kind <> 'topup')
        ));
    END IF;
END;
$$;

-- book_due: books what of a payment's refunds and disputes is due and not booked, under the key of the movement that
-- made it so. Internal; the caller holds the wallet's lock.
CREATE OR REPLACE FUNCTION book_due(p_movement movements, p_key text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    due payment_reversals;
    account text := CASE p_movement.kind WHEN 'refund' THEN 'refunds' ELSE 'disputes' END;
    credit_id bigint := (
        SELECT id FROM transfers WHERE payment_id = p_movement.payment_id AND kind = 'topup'
    );
    missing_micros bigint;
    booked transfers;
    own record;
BEGIN
    SELECT * INTO STRICT due FROM payment_reversals WHERE payment_id = p_movement.payment_id;
    missing_micros := due.wallet_due_micros - due.wallet_booked_micros;
    IF missing_micros <> 0 THEN
        booked := book_transfer(
            due.organization_id, -missing_micros, account,
            CASE WHEN missing_micros > 0 THEN p_movement.kind ELSE 'reinstatement' END, p_key, p_movement.event_at,
            p_payment_id => due.payment_id, p_corrects_transfer_id => credit_id
        );
    END IF;
    FOR own IN
        SELECT * FROM (VALUES
            ('tax', 'tax', 'stripe', due.tax_due_micros - due.tax_booked_micros),
            ('fee', 'fees', 'stripe', due.fee_due_micros - due.fee_booked_micros),
            ('excess', 'adjustments', 'disputes', due.excess_due_micros - due.excess_booked_micros)
        ) AS parts (kind, giver, taker, micros)
        WHERE micros <> 0
    LOOP
        PERFORM book_own_transfer(
            due.organization_id,
            CASE WHEN own.micros > 0 THEN own.giver ELSE own.taker END,
            CASE WHEN own.micros > 0 THEN own.taker ELSE own.giver END,
            abs(own.micros), due.currency, own.kind, own.kind || ':' || p_key, p_movement.event_at, due.payment_id,
            credit_id
        );
    END LOOP;
    IF missing_micros < 0 THEN
        PERFORM settle_outstanding(due.organization_id, booked.id);
    END IF;
END;
$$;

-- compare_refunds: whether every refund that a charge speaks of is known; its sum says what, but not which.
--
-- p_told: array of {event_id, payment_id, charge_id, refunded_micros (cumulative), currency}. Answers per event with
-- compared; skipped (the payment is none of ours); or parked and why: payment_not_credited:<pi or ch>, or
-- refunds_not_told:<pi>, which goes on when another refund of the payment is told.
CREATE OR REPLACE FUNCTION compare_refunds(p_told jsonb)
RETURNS TABLE (event_id bigint, outcome text, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM note_payments(p_told);
    RETURN QUERY
    SELECT
        (named ->> 'event_id')::bigint,
        CASE
            WHEN payments.payment_id IS NULL AND seen.skipped_because IS NOT NULL THEN 'skipped'
            WHEN payments.payment_id IS NULL OR (named ->> 'refunded_micros')::bigint > known.micros THEN 'parked'
            ELSE 'compared'
        END,
        CASE
            WHEN payments.payment_id IS NULL
                THEN coalesce(seen.skipped_because, 'payment_not_credited:' || found_payment.id)
            WHEN (named ->> 'refunded_micros')::bigint > known.micros THEN 'refunds_not_told:' || found_payment.id
        END
    FROM jsonb_array_elements(p_told) AS named
    CROSS JOIN LATERAL (SELECT find_payment(named)) AS found_payment (id)
    LEFT JOIN payments ON payments.payment_id = found_payment.id
    LEFT JOIN seen_payments AS seen ON seen.payment_id = found_payment.id
    CROSS JOIN LATERAL ( -- one that failed counts once: the sum never goes down
        SELECT coalesce(sum(refund.micros), 0)::bigint AS micros FROM (
            SELECT max(abs(amount_micros)) AS micros FROM movements
            WHERE movements.payment_id = found_payment.id AND kind = 'refund'
                AND currency = named ->> 'currency'
            GROUP BY source_id
        ) AS refund
    ) AS known;
END;
$$;
