-- Transfers between the reseller's own accounts: they have no wallet, so neither its number nor its balance. On whose
-- behalf they are is still said.
ALTER TABLE transfers
ALTER COLUMN wallet_sequence DROP NOT NULL,
ALTER COLUMN balance_after_micros DROP NOT NULL,
ALTER COLUMN debt_limit_micros DROP NOT NULL,
DROP CONSTRAINT transfers_check,
DROP CONSTRAINT transfers_kind_check,
ADD CONSTRAINT transfers_check CHECK (
    CASE num_nonnulls(wallet_sequence, balance_after_micros, debt_limit_micros)
        WHEN 3 THEN (from_account = organization_id) <> (to_account = organization_id)
        WHEN 0 THEN organization_id NOT IN (from_account, to_account) AND from_account <> to_account
        ELSE false
    END
),
ADD CONSTRAINT transfers_kind_check CHECK (
    kind IN (
        'topup', 'call', 'sms', 'correction', 'refund', 'dispute', 'reinstatement', 'adjustment',
        'tax', 'fee', 'excess'
    )
);
COMMENT ON COLUMN transfers.organization_id IS
'Whose wallet is one of the sides; between two of the reseller''s accounts, on whose behalf it was.';
COMMENT ON COLUMN transfers.wallet_sequence IS
'The number among the wallet''s transfers; null, as are the balance and the limit, if no side is a wallet.';

ALTER TABLE accounts
DROP CONSTRAINT accounts_kind_check,
ADD CONSTRAINT accounts_kind_check CHECK (
    kind IN (
        'wallet', 'stripe', 'call_revenue', 'sms_revenue', 'refunds', 'disputes', 'adjustments',
        'tax', 'fees', 'suspense'
    )
);
INSERT INTO accounts (id, kind, currency) -- as own_account derives the id
SELECT
    md5('calltally:' || kind || ':' || currency)::uuid,
    kind,
    currency
FROM (SELECT DISTINCT currency FROM wallets) AS held
CROSS JOIN unnest(ARRAY['tax', 'fees']) AS kind
ON CONFLICT DO NOTHING;

CREATE TABLE payments (
    payment_id text PRIMARY KEY CHECK (payment_id <> ''),
    organization_id uuid NOT NULL,
    currency char(3) NOT NULL,
    charged_micros bigint NOT NULL CHECK (charged_micros > 0),
    credited_micros bigint NOT NULL CHECK (credited_micros >= 0),
    tax_micros bigint NOT NULL DEFAULT 0 CHECK (tax_micros >= 0),
    discount_micros bigint NOT NULL DEFAULT 0 CHECK (discount_micros >= 0),
    fee_micros bigint NOT NULL DEFAULT 0 CHECK (fee_micros >= 0),
    session_id text,
    sale jsonb,
    received_micros bigint CHECK (received_micros > 0),
    received_currency char(3),
    tax_percent numeric NOT NULL DEFAULT 0 CHECK (tax_percent >= 0),
    booked_at timestamptz NOT NULL DEFAULT now(),
    CHECK (charged_micros = credited_micros + tax_micros + fee_micros),
    CHECK ((received_micros IS NULL) = (received_currency IS NULL))
);
COMMENT ON TABLE payments IS
'What was sold by each payment that is credited; written with its transfers.';
COMMENT ON COLUMN payments.charged_micros IS
'What the payer paid and what arrived, tax included, in the wallet''s currency.';
COMMENT ON COLUMN payments.credited_micros IS
'What of it is the wallet''s; refunds and disputes take this share of theirs.';
COMMENT ON COLUMN payments.discount_micros IS
'What it would have cost more without discounts; nobody paid it.';
COMMENT ON COLUMN payments.fee_micros IS 'What the payer paid on top that is no credit, such as a surcharge.';
COMMENT ON COLUMN payments.session_id IS 'The Checkout Session that says so; null if none did.';
COMMENT ON COLUMN payments.sale IS
'What its Checkout Session or invoice says, as Stripe told it; null if none did. The amounts follow from this and from '
'what was received.';
COMMENT ON COLUMN payments.received_micros IS
'What the payment intent says arrived; null if it has not told, or if the payment was credited by hand.';
COMMENT ON COLUMN payments.tax_percent IS 'What the settings said of taxes when Stripe could tell none.';
INSERT INTO payments (payment_id, organization_id, currency, charged_micros, credited_micros, booked_at)
SELECT
    payment_id,
    organization_id,
    currency,
    amount_micros AS charged_micros,
    amount_micros AS credited_micros,
    booked_at
FROM transfers
WHERE kind = 'topup' AND payment_id IS NOT NULL;

CREATE TABLE assigned_payments (
    payment_id text PRIMARY KEY CHECK (payment_id <> ''),
    organization_id uuid NOT NULL REFERENCES organizations (id),
    reason text NOT NULL CHECK (reason <> ''),
    assigned_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE assigned_payments IS
'Payments of which a person has said whose they are; that goes before what they say.';

-- A payment as one of its events tells of it; credit_payments takes an array of such objects in JSON.
-- reference_kind: metadata (ours alone), or text (client_reference_id) or link (the same of a payment link, where the
-- payer writes it). amount_micros: what arrived, by the payment; sale: what was sold, by its Checkout Session or
-- invoice {id, currency, total_micros, shown_currency, shown_micros, quoted_micros, tax_micros, fee_micros,
-- discount_micros}: shown is what the payer saw (adaptive pricing), quoted the total that the parts belong to.
-- undecided: Stripe can tell more; obstacle: why it cannot be credited as it is told here. customer_suffices,
-- text_suffices: what the settings allow; tax_percent: what they say of payments without a sale.
CREATE TYPE told_payment AS (
    payment_id text,
    reference text,
    reference_kind text,
    customer_id text,
    amount_micros bigint,
    currency text,
    sale jsonb,
    event_at timestamptz,
    event_id bigint,
    undecided boolean,
    obstacle text,
    customer_suffices boolean,
    text_suffices boolean,
    tax_percent numeric
);
