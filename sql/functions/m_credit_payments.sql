-- split_payment: what a payment comes to in its wallet's currency: charged, and of that credited, tax and fee, from
-- what is known of its sale and of what was received. Null if neither is in that currency. A part of the sale is the
-- same part of whatever arrived; each bound is rounded once, so the parts add up to the whole. Internal, pure.
CREATE OR REPLACE FUNCTION split_payment(p_payment payments)
RETURNS payments LANGUAGE plpgsql IMMUTABLE SET search_path = public, pg_temp AS $$
DECLARE
    sale jsonb := p_payment.sale;
    shows boolean := sale ->> 'currency' IS DISTINCT FROM p_payment.currency::text;
    total numeric := coalesce((sale ->> CASE WHEN shows THEN 'shown_micros' ELSE 'total_micros' END)::numeric, 1);
    other_total numeric := (sale ->> CASE WHEN shows THEN 'total_micros' ELSE 'shown_micros' END)::numeric;
    other_currency text := sale ->> CASE WHEN shows THEN 'currency' ELSE 'shown_currency' END;
    quoted numeric := coalesce((sale ->> 'quoted_micros')::numeric, 100 + p_payment.tax_percent);
    tax numeric := coalesce((sale ->> 'tax_micros')::numeric, p_payment.tax_percent);
    fee numeric := coalesce((sale ->> 'fee_micros')::numeric, 0);
    arrived numeric; -- as a fraction of one
    one numeric := 1;
BEGIN
    IF shows AND sale IS NOT NULL AND sale ->> 'shown_currency' IS DISTINCT FROM p_payment.currency::text THEN
        RETURN NULL;
    ELSIF p_payment.received_micros IS NULL THEN
        arrived := total;
    ELSIF p_payment.received_currency = p_payment.currency THEN
        arrived := p_payment.received_micros;
    ELSIF p_payment.received_currency::text = other_currency THEN
        arrived := p_payment.received_micros * total;
        one := other_total;
    ELSE
        RETURN NULL;
    END IF;
    p_payment.charged_micros := round_fraction(arrived, one);
    p_payment.credited_micros := round_fraction(arrived * (quoted - tax - fee), one * quoted);
    p_payment.tax_micros := round_fraction(arrived * (quoted - fee), one * quoted) - p_payment.credited_micros;
    p_payment.fee_micros := p_payment.charged_micros - p_payment.credited_micros - p_payment.tax_micros;
    p_payment.discount_micros := round_fraction(
        total * coalesce((sale ->> 'discount_micros')::numeric, 0), quoted
    );
    p_payment.session_id := CASE WHEN starts_with(sale ->> 'id', 'cs_') THEN sale ->> 'id' END;
    RETURN p_payment;
END;
$$;

-- book_shares: moves what of a payment is tax and fee, as far as its row says other than p_before. Internal; p_key: of
-- the payment, or of what corrected it.
CREATE OR REPLACE FUNCTION book_shares(p_before payments, p_now payments, p_key text, p_event_at timestamptz)
RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    SELECT book_own_transfer(
        p_now.organization_id,
        CASE WHEN part.micros > 0 THEN 'stripe' ELSE part.account END,
        CASE WHEN part.micros > 0 THEN part.account ELSE 'stripe' END,
        abs(part.micros), p_now.currency, part.kind, part.kind || ':' || p_key, p_event_at, p_now.payment_id
    )
    FROM (VALUES
        ('tax', 'tax', p_now.tax_micros - coalesce(p_before.tax_micros, 0)),
        ('fee', 'fees', p_now.fee_micros - coalesce(p_before.fee_micros, 0))
    ) AS part (kind, account, micros)
    WHERE part.micros <> 0
$$;

-- learn_of_payment: what a credited payment's other event adds: its sale, or what arrived of it. If that comes to
-- another amount, the difference is booked, and what was taken back of it follows.
-- Internal; the caller holds the payment's lock. Answers whether what is told fits. What somebody credited by hand
-- stays as it is, and fits if it is what arrived or was sold, or less than what arrived while nobody knows the rest.
CREATE OR REPLACE FUNCTION learn_of_payment(p_known payments, p_told told_payment)
RETURNS boolean LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    by_hand boolean := p_known.sale IS NULL AND p_known.received_micros IS NULL;
    learned payments := p_known;
    -- Of a credit by hand, each of the two facts may come later and book a difference of its own.
    learned_key text := CASE
        WHEN p_known.sale IS NOT NULL AND p_known.received_micros IS NULL THEN ':arrived' ELSE ':corrected'
    END;
    difference_micros bigint;
    booked transfers;
BEGIN
    IF p_known.sale ->> 'total_micros' <> p_told.sale ->> 'total_micros'
        OR (p_known.received_currency = p_told.currency AND p_known.received_micros <> p_told.amount_micros)
    THEN
        RETURN false;
    END IF;
    learned.sale := coalesce(p_known.sale, p_told.sale);
    learned.received_micros := coalesce(p_known.received_micros, p_told.amount_micros);
    learned.received_currency := coalesce(
        p_known.received_currency, CASE WHEN p_told.amount_micros IS NOT NULL THEN p_told.currency END
    );
    learned := split_payment(learned);
    IF by_hand AND (p_told.sale IS NULL OR learned.credited_micros IS DISTINCT FROM p_known.credited_micros) THEN
        RETURN learned.charged_micros IS NULL -- somebody has exchanged it
            OR p_known.credited_micros IN (learned.credited_micros, learned.charged_micros)
            OR (coalesce(p_told.undecided, false) AND p_known.credited_micros < learned.charged_micros);
    ELSIF learned.charged_micros IS NULL OR learned IS NOT DISTINCT FROM p_known THEN
        RETURN learned.charged_micros IS NOT NULL;
    END IF;
    UPDATE payments SET
        charged_micros = learned.charged_micros, credited_micros = learned.credited_micros,
        tax_micros = learned.tax_micros, fee_micros = learned.fee_micros, discount_micros = learned.discount_micros,
        session_id = learned.session_id, sale = learned.sale, received_micros = learned.received_micros,
        received_currency = learned.received_currency
    WHERE payment_id = p_known.payment_id;
    PERFORM book_shares(p_known, learned, p_known.payment_id || learned_key, p_told.event_at);
    difference_micros := learned.credited_micros - p_known.credited_micros;
    IF difference_micros <> 0 THEN
        PERFORM lock_wallet(p_known.organization_id);
        booked := book_transfer(
            p_known.organization_id, difference_micros, 'stripe', 'adjustment',
            'topup:' || p_known.payment_id || learned_key, p_told.event_at,
            p_payment_id => p_known.payment_id, p_reason => 'Stripe told what was sold, or what arrived, later'
        );
    END IF;
    PERFORM book_reversals(p_known.payment_id);
    PERFORM wake_payment(learned.sale ->> 'id');
    IF difference_micros > 0 THEN
        PERFORM settle_outstanding(p_known.organization_id, booked.id);
    END IF;
    RETURN true;
END;
$$;

-- credit_payments: credits each payment once, whichever of its events comes first, with what was sold: net of tax and
-- fees, after discounts, in the wallet's currency, and no more of it than arrived.
--
-- p_payments: array of told_payment; event_id is only given back. amount_micros alone, without the newer fields, is
-- taken for what was sold.
-- Answers for each with credited, duplicate, ask (nothing is booked: Stripe has to say more), or parked and why:
-- its obstacle, unknown_organization, customer_mismatch, unnamed_payment, unproven_payer or currency_mismatch, each
-- with :<pi>. The credit of the same payment, by its other event or by hand, and assign_payment wake what was parked.
-- Waits for changes of customers; wallets are locked in the order of their ids.
-- Errors: TY002, TY004.
CREATE OR REPLACE FUNCTION credit_payments(p_payments jsonb)
RETURNS TABLE (payment_id text, outcome text, reason text, event_id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    told told_payment;
    known payments;
    payer record;
BEGIN
    LOCK TABLE organizations IN ROW EXCLUSIVE MODE; -- link_customer would miss what we are about to park
    PERFORM lock_payments(array(
        SELECT unnest(ARRAY[named ->> 'payment_id', named -> 'sale' ->> 'id']) FROM jsonb_array_elements(p_payments) AS named
    ));
    PERFORM FROM wallets WHERE organization_id IN (
        SELECT found.organization_id FROM jsonb_populate_recordset(NULL::told_payment, p_payments) AS named
        CROSS JOIN LATERAL find_told_payer(named) AS found
        UNION ALL
        SELECT payments.organization_id FROM jsonb_populate_recordset(NULL::told_payment, p_payments) AS named
        INNER JOIN payments ON payments.payment_id = named.payment_id
    ) ORDER BY organization_id FOR UPDATE;
    FOR told IN
        SELECT * FROM jsonb_populate_recordset(NULL::told_payment, p_payments) AS named
        ORDER BY -- who tells less of a payment comes after who tells more
            named.obstacle IS NOT NULL, named.sale IS NULL, coalesce(named.undecided, false),
            named.reference IS NULL, named.event_at, named.payment_id
    LOOP
        IF coalesce(told.payment_id, '') !~ '\S' THEN
            PERFORM refuse(
                'TY004', 'a payment needs an id', jsonb_build_object('event_id', told.event_id),
                'Look it up at Stripe; nothing was moved.'
            );
        END IF;
        event_id := told.event_id;
        payment_id := told.payment_id;
        SELECT * INTO payer FROM find_told_payer(told);
        reason := payer.reason || ':' || told.payment_id;
        SELECT * INTO known FROM payments WHERE payments.payment_id = told.payment_id;
        IF found THEN
            outcome := 'duplicate';
            IF (reason IS NULL AND payer.organization_id <> known.organization_id)
                OR NOT learn_of_payment(known, told)
            THEN
                IF reason IS NULL THEN
                    PERFORM refuse_other_payment(known, told, payer.organization_id);
                END IF;
                outcome := 'parked';
            ELSE
                reason := NULL;
            END IF;
        ELSIF told.undecided AND told.obstacle IS NULL THEN
            outcome := 'ask';
            reason := NULL;
        ELSIF reason IS NOT NULL THEN
            outcome := 'parked';
        ELSE
            reason := credit_payment(told, payer.organization_id);
            outcome := CASE WHEN reason IS NULL THEN 'credited' ELSE 'parked' END;
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- credit_payment: the first credit of a payment. Answers with why it cannot be: currency_mismatch:<pi>, or null.
-- Internal.
CREATE OR REPLACE FUNCTION credit_payment(p_told told_payment, p_organization_id uuid)
RETURNS text LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    sold payments;
BEGIN
    sold.payment_id := p_told.payment_id;
    sold.organization_id := p_organization_id;
    SELECT currency INTO sold.currency FROM wallets WHERE organization_id = p_organization_id;
    sold.sale := p_told.sale;
    sold.received_micros := p_told.amount_micros;
    sold.received_currency := CASE WHEN p_told.amount_micros IS NOT NULL THEN p_told.currency END;
    sold.tax_percent := coalesce(p_told.tax_percent, 0);
    sold.booked_at := now();
    sold := split_payment(sold);
    IF sold.charged_micros IS NULL THEN
        RETURN 'currency_mismatch:' || p_told.payment_id;
    END IF;
    IF sold.credited_micros > 0 THEN -- else the credit refuses it, with its reason
        INSERT INTO payments VALUES (sold.*);
    END IF;
    PERFORM book_shares(NULL, sold, p_told.payment_id, p_told.event_at); -- the credit books what is taken back of them
    PERFORM credit_wallet(
        p_organization_id, sold.credited_micros, 'topup:' || p_told.payment_id, 'topup', p_told.event_at
    );
    PERFORM wake_payment(sold.sale ->> 'id');
    RETURN NULL;
END;
$$;

-- refuse_other_payment: TY002 for a payment that is told otherwise than it is credited. Internal.
CREATE OR REPLACE FUNCTION refuse_other_payment(p_known payments, p_told told_payment, p_organization_id uuid)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM refuse(
        'TY002', format('topup:%s is already booked with other facts', p_known.payment_id),
        jsonb_build_object(
            'idempotency_key', 'topup:' || p_known.payment_id, 'organization_id', p_known.organization_id,
            'charged_micros', p_known.charged_micros, 'credited_micros', p_known.credited_micros,
            'other_organization_id', p_organization_id, 'other_amount_micros', p_told.amount_micros,
            'other_sale', p_told.sale
        ),
        'Nothing was moved. Look it up at Stripe; book a difference with calltally wallet credit or debit, then: '
        || 'calltally events dismiss.'
    );
END;
$$;

-- unbooked_money: which events name an organization of ours and money that is not booked, nor known to be none of ours.
--
-- p_told: array of {event_id, subject, reference}; subject: the payment, or the Checkout Session or invoice that says
-- what was sold by it. The caller holds its lock.
CREATE OR REPLACE FUNCTION unbooked_money(p_told jsonb)
RETURNS TABLE (event_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT told.event_id FROM jsonb_to_recordset(p_told) AS told (event_id bigint, subject text, reference text)
    WHERE EXISTS (SELECT FROM organizations WHERE organizations.id::text = lower(told.reference))
        AND NOT EXISTS (SELECT FROM payments WHERE payments.payment_id = told.subject)
        AND NOT EXISTS (SELECT FROM payments WHERE payments.sale ->> 'id' = told.subject)
        AND NOT EXISTS (
            SELECT FROM seen_payments
            WHERE seen_payments.payment_id = told.subject AND seen_payments.skipped_because IS NOT NULL
        )
$$;
