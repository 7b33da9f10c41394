CREATE TABLE alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    facts jsonb NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    outcome text
);
CREATE INDEX alerts_key ON alerts (key, opened_at);
COMMENT ON TABLE alerts IS 'Messages for people, written before they are sent; one per incident and window.';
