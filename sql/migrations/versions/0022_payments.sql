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
    booked_at timestamptz NOT NULL DEFAULT now(),
    CHECK (charged_micros = credited_micros + tax_micros + fee_micros)
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
