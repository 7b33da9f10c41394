CREATE EXTENSION IF NOT EXISTS btree_gist; -- exclusion constraints that mix = and &&

CREATE TABLE organizations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> ''),
    email text NOT NULL CHECK (email LIKE '%_@_%'),
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    charge_policy text NOT NULL DEFAULT 'record' CHECK (charge_policy IN ('record', 'allow_overrun')),
    stripe_customer_id text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE organizations IS 'A tenant: the reseller''s customer.';
COMMENT ON COLUMN organizations.charge_policy IS
'record: a charge past the debt limit stays outstanding. allow_overrun: it is booked all the same, and flagged.';

CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (
        kind IN ('wallet', 'stripe', 'call_revenue', 'sms_revenue', 'refunds', 'disputes', 'adjustments', 'suspense')
    ),
    currency char(3) NOT NULL,
    organization_id uuid REFERENCES organizations (id),
    CHECK ((kind = 'wallet') = (organization_id IS NOT NULL)),
    CHECK (organization_id IS NULL OR id = organization_id)
);
CREATE UNIQUE INDEX accounts_own ON accounts (kind, currency) WHERE organization_id IS NULL;
COMMENT ON TABLE accounts IS
'Where money is: a wallet per organization (with the organization''s own id), and the reseller''s own per currency.';

CREATE TABLE wallets (
    organization_id uuid PRIMARY KEY REFERENCES accounts (id),
    currency char(3) NOT NULL,
    balance_micros bigint NOT NULL DEFAULT 0,
    debt_limit_micros bigint NOT NULL CHECK (debt_limit_micros >= 0),
    recharge_threshold_micros bigint NOT NULL DEFAULT 0,
    last_sequence bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50); -- the hottest rows of all: room for in-page updates
COMMENT ON TABLE wallets IS
'The only stored balances. Its row lock decides the order in which one organization''s money moves.';

CREATE TABLE prices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid REFERENCES organizations (id),
    currency char(3) NOT NULL,
    per_minute_micros bigint NOT NULL CHECK (per_minute_micros >= 0),
    increment_seconds integer NOT NULL DEFAULT 1 CHECK (increment_seconds IN (1, 6, 60)),
    minimum_seconds integer NOT NULL DEFAULT 0 CHECK (minimum_seconds >= 0),
    free_seconds integer NOT NULL DEFAULT 0 CHECK (free_seconds >= 0),
    valid tstzrange NOT NULL, -- empty: replaced before it ended; kept for the charges that were made at it
    CONSTRAINT prices_do_not_overlap EXCLUDE USING gist (
        (coalesce(organization_id, '00000000-0000-0000-0000-000000000000')) WITH =, currency WITH =, valid WITH &&
    )
);
COMMENT ON TABLE prices IS 'What a minute costs, and since when; a row without organization is everybody''s default.';
CREATE INDEX prices_organization ON prices (organization_id);

INSERT INTO prices (currency, per_minute_micros, valid) VALUES ('USD', 700000, '(,)');

CREATE TABLE routes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('assistant', 'squad', 'phone_number')),
    external_id text NOT NULL CHECK (external_id <> ''),
    organization_id uuid NOT NULL REFERENCES organizations (id),
    valid tstzrange NOT NULL CHECK (NOT isempty(valid)),
    CONSTRAINT routes_do_not_overlap EXCLUDE USING gist (kind WITH =, external_id WITH =, valid WITH &&)
);
COMMENT ON TABLE routes IS
'Our own dated mapping from a provider''s assistant, squad or phone number to the organization that pays.';
CREATE INDEX routes_external_id ON routes (external_id, kind);
