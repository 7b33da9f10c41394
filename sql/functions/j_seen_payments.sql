-- name_charges: which charges belong to which payments, since one refund or dispute is told with the one and the other,
-- by Stripe or by hand: array of {payment_id, charge_id}. Internal.
CREATE OR REPLACE FUNCTION name_charges(p_told jsonb)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object(
        'payment_id', CASE WHEN known.is_charge THEN told.payment_id ELSE known.payment_id END,
        'charge_id', CASE WHEN known.is_charge THEN known.payment_id ELSE told.charge_id END
    )), '[]')
    FROM jsonb_to_recordset(p_told) AS told (id text, source_id text, payment_id text, charge_id text)
    CROSS JOIN LATERAL (
        SELECT movements.payment_id, movements.payment_id ~ '^(ch|py)_' AS is_charge
        FROM movements
        WHERE movements.id IN (
            told.id, told.source_id, told.source_id || ':withdrawn', told.source_id || ':reinstated',
            told.source_id || ':returned'
        )
    ) AS known
    WHERE CASE WHEN known.is_charge THEN told.payment_id IS NOT NULL ELSE told.payment_id IS NULL END
$$;

-- note_payments: keeps which charge belongs to which payment, and which payments are none of ours. What waited to know
-- goes on.
--
-- p_seen: array of {payment_id, charge_id, skipped_because}; others are passed over. Locks payments, then wallets.
CREATE OR REPLACE FUNCTION note_payments(p_seen jsonb)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    seen seen_payments;
    payment record;
BEGIN
    PERFORM lock_payments(array(
        SELECT id FROM jsonb_array_elements(p_seen) AS named
        CROSS JOIN LATERAL (VALUES (named ->> 'payment_id'), (named ->> 'charge_id')) AS ids (id)
    ));
    FOR seen IN
        SELECT * FROM jsonb_populate_recordset(NULL::seen_payments, p_seen)
        WHERE payment_id IS NOT NULL AND (charge_id IS NOT NULL OR skipped_because IS NOT NULL)
    LOOP
        INSERT INTO seen_payments AS known (payment_id, charge_id, skipped_because)
        VALUES (seen.payment_id, seen.charge_id, seen.skipped_because)
        ON CONFLICT (payment_id) DO UPDATE SET
            charge_id = coalesce(excluded.charge_id, known.charge_id),
            skipped_because = coalesce(excluded.skipped_because, known.skipped_because)
        WHERE known.charge_id IS DISTINCT FROM coalesce(excluded.charge_id, known.charge_id)
            OR known.skipped_because IS DISTINCT FROM coalesce(excluded.skipped_because, known.skipped_because);
        CONTINUE WHEN NOT found;
        UPDATE movements SET payment_id = seen.payment_id WHERE payment_id = seen.charge_id;
        PERFORM wake_payment(seen.charge_id);
        IF seen.skipped_because IS NOT NULL THEN
            PERFORM wake_payment(seen.payment_id);
        END IF;
    END LOOP;
    FOR payment IN -- what named only the charge is known to be theirs now
        SELECT payments.payment_id FROM jsonb_to_recordset(p_seen) AS named (payment_id text, charge_id text)
        INNER JOIN payments ON payments.payment_id = named.payment_id
        WHERE named.charge_id IS NOT NULL
        ORDER BY payments.organization_id, payments.payment_id
    LOOP
        PERFORM book_reversals(payment.payment_id);
    END LOOP;
END;
$$;

-- find_payment: the payment that an object of Stripe's names, or whose charge it names; else that charge. Internal.
CREATE OR REPLACE FUNCTION find_payment(p_named jsonb)
RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT coalesce(
        p_named ->> 'payment_id',
        (SELECT payment_id FROM seen_payments WHERE charge_id = p_named ->> 'charge_id' LIMIT 1),
        p_named ->> 'charge_id'
    )
$$;

-- lock_payments: until the transaction ends, nobody else credits these payments or books what was taken back of them.
-- A refund that comes ahead of its payment would be missed by the credit, and the credit by the refund. Comes before
-- wallets.
CREATE OR REPLACE FUNCTION lock_payments(p_payment_ids text[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT lock_keys('payment', p_payment_ids)
$$;
