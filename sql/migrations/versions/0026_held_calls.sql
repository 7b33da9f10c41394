-- They answer with more, or are asked with more, now.
DROP FUNCTION IF EXISTS find_route(text, text, text, timestamptz) CASCADE; -- views are made anew
DROP FUNCTION IF EXISTS find_organization(text, text, text, timestamptz);
DROP FUNCTION IF EXISTS record_calls(jsonb, boolean, uuid);
DROP FUNCTION IF EXISTS correct_calls(jsonb, uuid);

ALTER TABLE calls
ADD COLUMN workflow_id text,
ADD COLUMN metadata text,
ADD COLUMN max_duration_seconds integer,
ADD COLUMN held text;
COMMENT ON COLUMN calls.metadata IS
'What its metadata says of whose it is, as key=value, of the first key there: org_id, organization_id, tenant_id.';
COMMENT ON COLUMN calls.max_duration_seconds IS
'How long it may last, where whoever started it said so; Vapi then ends it.';
COMMENT ON COLUMN calls.held IS
'Why it cannot be charged as it was told: a person decides (release_call, assign_call), or the provider tells better.';
CREATE INDEX calls_held ON calls (id) WHERE held IS NOT NULL;

CREATE TABLE call_decisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_id text NOT NULL REFERENCES calls (id),
    decision text NOT NULL CHECK (decision IN ('assigned', 'released')),
    organization_id uuid REFERENCES organizations (id),
    duration_ms bigint CHECK (duration_ms >= 0),
    held text,
    reason text,
    decided_at timestamptz NOT NULL DEFAULT now(),
    decided_by text NOT NULL DEFAULT session_user
);
CREATE INDEX call_decisions_call ON call_decisions (call_id);
COMMENT ON TABLE call_decisions IS
'What people decided of single calls: whose it is, or how long it lasted. Only ever added to.';
COMMENT ON COLUMN call_decisions.held IS 'Why the call was held when it was decided.';
COMMENT ON COLUMN call_decisions.reason IS 'As the person said.';

ALTER TABLE routes DROP CONSTRAINT routes_kind_check;
ALTER TABLE routes ADD CONSTRAINT routes_kind_check CHECK (kind IN (
    'assistant', 'squad', 'workflow', 'phone_number', 'metadata',
    'messaging_service', 'sms_number', 'twilio_account'
));

-- A key names something. Rows from before are not looked at again.
ALTER TABLE transfers ADD CONSTRAINT transfers_key_names_something
CHECK (idempotency_key !~ '^([a-z_]*:)?\s*(:|$)') NOT VALID;
ALTER TABLE charges ADD CONSTRAINT charges_key_names_something
CHECK (idempotency_key !~ '^([a-z_]*:)?\s*(:|$)') NOT VALID;
ALTER TABLE prices ADD CONSTRAINT prices_currency_check CHECK (currency ~ '^[A-Z]{3}$') NOT VALID;
ALTER TABLE sms_prices ADD CONSTRAINT sms_prices_currency_check CHECK (currency ~ '^[A-Z]{3}$') NOT VALID;

-- Nights of one organization are no alarm any more, so nothing would ever end these.
UPDATE incidents SET closed_at = now() WHERE starts_with(key, 'webhook_reliability:') AND closed_at IS NULL;
