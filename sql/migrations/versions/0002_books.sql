-- calls, charges and transfers name organizations, accounts and prices without foreign keys: each of those would lock
-- the referenced row again for every charge, and the functions that write hold the wallet's lock or read the price in
-- the same statement anyway. The check references_lead_somewhere watches it.
CREATE TABLE calls (
    id text PRIMARY KEY CHECK (id <> ''),
    organization_id uuid,
    assistant_id text,
    squad_id text,
    phone_number_id text,
    call_type text,
    ended_reason text,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    duration_ms bigint NOT NULL CHECK (duration_ms >= 0),
    provider_cost_micros bigint,
    reconciled boolean NOT NULL DEFAULT false,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    webhook_at timestamptz,
    reconciliation_run_id uuid
);
-- The two names are known to people's scripts.
CREATE INDEX idx_calls_reconciled ON calls (created_at) WHERE reconciled;
CREATE INDEX idx_calls_org_created ON calls (organization_id, created_at);
CREATE INDEX calls_created ON calls (created_at);
CREATE INDEX calls_unattributed ON calls (created_at) WHERE organization_id IS NULL;
COMMENT ON TABLE calls IS
'Every ended call that a webhook or a night told us of; one without organization is in quarantine.';
COMMENT ON COLUMN calls.reconciled IS
'True if the night saw the call before any webhook did. Set at first sight and never again, so a repair or a late '
'webhook cannot improve the reliability ratio.';
COMMENT ON COLUMN calls.webhook_at IS 'When the first end-of-call report arrived, even if after the repair.';
COMMENT ON COLUMN calls.duration_ms IS 'ended_at - started_at by the provider''s clock; 0 if the call never connected.';

CREATE TABLE transfers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_account uuid NOT NULL,
    to_account uuid NOT NULL,
    amount_micros bigint NOT NULL CHECK (amount_micros > 0),
    currency char(3) NOT NULL,
    idempotency_key text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (
        kind IN ('topup', 'call', 'sms', 'correction', 'refund', 'dispute', 'reinstatement', 'adjustment')
    ),
    organization_id uuid NOT NULL,
    wallet_sequence bigint NOT NULL,
    balance_after_micros bigint NOT NULL,
    debt_limit_micros bigint NOT NULL,
    overrun boolean NOT NULL DEFAULT false,
    payment_id text,
    corrects_transfer_id bigint REFERENCES transfers (id),
    reason text,
    event_at timestamptz NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization_id, wallet_sequence),
    -- Exactly one side is the organization's wallet, whose account bears the organization's id.
    CHECK ((from_account = organization_id) <> (to_account = organization_id))
);
CREATE UNIQUE INDEX transfers_one_credit_per_payment ON transfers (payment_id) WHERE kind = 'topup';
CREATE INDEX transfers_payment ON transfers (payment_id) WHERE payment_id IS NOT NULL AND kind <> 'topup';
COMMENT ON TABLE transfers IS
'The ledger: double entry, append-only. Direction is from and to; the amount is positive.';
COMMENT ON COLUMN transfers.debt_limit_micros IS 'The limit in force when it was booked.';
COMMENT ON COLUMN transfers.event_at IS 'When it happened, by the provider''s clock; booked_at is ours.';

CREATE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', tg_table_name, tg_op USING
        ERRCODE = 'TY008',
        DETAIL = jsonb_build_object('table', tg_table_name, 'operation', tg_op),
        HINT = 'Book a correcting transfer instead.';
END;
$$;
CREATE TRIGGER transfers_keep_rows BEFORE UPDATE OR DELETE ON transfers
FOR EACH ROW EXECUTE FUNCTION refuse_change_of_history();
CREATE TRIGGER transfers_keep_table BEFORE TRUNCATE ON transfers
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TABLE charges (
    idempotency_key text PRIMARY KEY,
    organization_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('call', 'sms', 'correction')),
    state text NOT NULL CHECK (state IN ('settled', 'outstanding', 'free', 'cancelled')),
    amount_micros bigint NOT NULL CHECK (amount_micros >= 0 OR kind = 'correction'),
    event_at timestamptz NOT NULL,
    duration_ms bigint,
    billed_seconds integer,
    price_id bigint,
    per_minute_micros bigint,
    increment_seconds integer,
    minimum_seconds integer,
    free_seconds integer,
    corrects text REFERENCES charges (idempotency_key),
    -- The answer that the first caller got; a duplicate gets it again.
    accepted boolean NOT NULL,
    balance_before_micros bigint NOT NULL,
    debt_limit_micros bigint NOT NULL,
    needs_recharge boolean NOT NULL,
    charged_at timestamptz NOT NULL DEFAULT now(),
    settled_by_transfer_id bigint REFERENCES transfers (id)
);
CREATE INDEX charges_outstanding ON charges (organization_id, event_at, idempotency_key) WHERE state = 'outstanding';
CREATE INDEX charges_corrections ON charges (corrects) WHERE corrects IS NOT NULL;
CREATE INDEX charges_settled_by ON charges (settled_by_transfer_id) WHERE settled_by_transfer_id IS NOT NULL;
COMMENT ON TABLE charges IS
'What one call or message costs its organization, with the price that it was charged at. '
'Its transfer, if any, has the same key.';
COMMENT ON COLUMN charges.state IS
'settled: paid from the wallet. outstanding: refused by the debt limit, owed. free: costs nothing. '
'cancelled: outstanding, then replaced by a correction.';
COMMENT ON COLUMN charges.settled_by_transfer_id IS 'The credit that paid an outstanding charge.';

-- How the functions speak of charges among themselves.
CREATE TYPE charge_request AS (
    organization_id uuid,
    idempotency_key text,
    kind text,
    amount_micros bigint,
    event_at timestamptz,
    duration_ms bigint,
    billed_seconds integer,
    price_id bigint,
    per_minute_micros bigint,
    increment_seconds integer,
    minimum_seconds integer,
    free_seconds integer,
    corrects text
);
CREATE TYPE charge_answer AS (charge charges, duplicate boolean);
