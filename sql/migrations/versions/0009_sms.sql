ALTER TABLE routes DROP CONSTRAINT routes_kind_check;
ALTER TABLE routes ADD CONSTRAINT routes_kind_check CHECK (
    kind IN ('assistant', 'squad', 'phone_number', 'messaging_service', 'sms_number', 'twilio_account')
);
COMMENT ON TABLE routes IS
'Our own dated mapping from what a provider names (assistant, squad, phone number; messaging service, sender, account '
'of a message) to the organization that pays.';

CREATE TABLE sms_prices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid REFERENCES organizations (id),
    currency char(3) NOT NULL,
    per_segment_micros bigint NOT NULL CHECK (per_segment_micros >= 0),
    valid tstzrange NOT NULL, -- empty: replaced before it ended; kept for the charges that were made at it
    CONSTRAINT sms_prices_do_not_overlap EXCLUDE USING gist (
        (coalesce(organization_id, '00000000-0000-0000-0000-000000000000')) WITH =, currency WITH =, valid WITH &&
    )
);
COMMENT ON TABLE sms_prices IS
'What a segment of a message costs, and since when; a row without organization is everybody''s default. '
'Without a price in force messages are recorded and cost nothing.';
CREATE INDEX sms_prices_organization ON sms_prices (organization_id);

-- Neither numbers nor texts: the inbox holds them until its bodies are forgotten, and the books need none.
CREATE TABLE sms_messages (
    sid text PRIMARY KEY CHECK (sid <> ''),
    organization_id uuid,
    account_sid text NOT NULL,
    messaging_service_sid text,
    status text NOT NULL CHECK (
        status IN (
            'scheduled', 'accepted', 'queued', 'sending', 'sent', 'canceled', 'failed', 'partially_delivered',
            'undelivered', 'delivered', 'read'
        )
    ),
    error_code integer,
    carrier_accepted boolean NOT NULL,
    num_segments integer CHECK (num_segments > 0),
    sent_at timestamptz,
    provider_price_micros bigint,
    provider_currency char(3),
    sms_price_id bigint REFERENCES sms_prices (id),
    per_segment_micros bigint,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    status_at timestamptz NOT NULL DEFAULT now(),
    polled_at timestamptz,
    gone_at timestamptz
);
CREATE INDEX sms_messages_first_seen ON sms_messages (first_seen_at);
CREATE INDEX sms_messages_organization ON sms_messages (organization_id, first_seen_at);
CREATE INDEX sms_messages_unattributed ON sms_messages (first_seen_at) WHERE organization_id IS NULL;
CREATE INDEX sms_messages_failed ON sms_messages (status_at) WHERE status IN ('failed', 'undelivered');
CREATE INDEX sms_messages_uncharged ON sms_messages (sent_at) WHERE sms_price_id IS NULL AND carrier_accepted;
COMMENT ON TABLE sms_messages IS
'Every outgoing message that Twilio told us of; one without organization is in quarantine.';
COMMENT ON COLUMN sms_messages.status IS 'The furthest that was told, in the order of sms_rank, whatever came first.';
COMMENT ON COLUMN sms_messages.carrier_accepted IS
'Whether any status said that a carrier has taken it (sent or beyond, undelivered included): then Twilio bills it.';
COMMENT ON COLUMN sms_messages.num_segments IS
'From the Message resource, callbacks have none; null until it was read after the message was sent.';
COMMENT ON COLUMN sms_messages.sent_at IS 'By Twilio''s clock, from the Message resource.';
COMMENT ON COLUMN sms_messages.provider_price_micros IS 'What Twilio charges the reseller; filled up to a day later.';
COMMENT ON COLUMN sms_messages.per_segment_micros IS 'The price that it was charged at.';
COMMENT ON COLUMN sms_messages.status_at IS 'When the status last moved, by our clock; a callback has no time.';
COMMENT ON COLUMN sms_messages.gone_at IS 'When Twilio answered that it has no such message (any more).';
