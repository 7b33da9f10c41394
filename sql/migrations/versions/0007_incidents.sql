CREATE TABLE incidents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL CHECK (key <> ''),
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    opened_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    facts jsonb NOT NULL,
    times_seen integer NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX incidents_open ON incidents (key) WHERE closed_at IS NULL;
CREATE INDEX incidents_opened ON incidents (opened_at);
COMMENT ON TABLE incidents IS
'A condition from when it was first seen failing to when it was first seen well; one open per key.';
COMMENT ON COLUMN incidents.facts IS 'As it was last seen failing.';
COMMENT ON COLUMN incidents.times_seen IS 'How often it was looked at and found failing.';

DROP FUNCTION IF EXISTS open_dead_event_alerts(interval);
DROP FUNCTION IF EXISTS note_alert(bigint, text);

ALTER TABLE alerts
ADD COLUMN incident_id bigint REFERENCES incidents (id),
ADD COLUMN kind text NOT NULL DEFAULT 'raised'
CHECK (kind IN ('raised', 'reminder', 'cleared', 'summary', 'heartbeat')),
ADD COLUMN severity text NOT NULL DEFAULT 'warning' CHECK (severity IN ('info', 'warning', 'critical')),
ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
ADD COLUMN attempts integer NOT NULL DEFAULT 0,
ADD COLUMN claim_token uuid,
ADD COLUMN withdrawn_at timestamptz;
-- What piled up while Slack was not configured; whatever of it still holds becomes an incident at the next look.
UPDATE alerts SET withdrawn_at = now(), outcome = 'withdrawn: an incident takes its place' WHERE sent_at IS NULL;
CREATE INDEX alerts_waiting ON alerts (id) WHERE sent_at IS NULL AND withdrawn_at IS NULL;
CREATE INDEX alerts_incident ON alerts (incident_id);
CREATE UNIQUE INDEX alerts_scheduled ON alerts (key) WHERE kind IN ('summary', 'heartbeat');
COMMENT ON TABLE alerts IS 'Messages for people, written before they are sent: at most a few per incident.';
COMMENT ON COLUMN alerts.due_at IS
'Not to be sent before: a claim moves it by its lease, a failure by a growing delay.';
COMMENT ON COLUMN alerts.claim_token IS 'Who is sending it; void once due_at has passed.';
COMMENT ON COLUMN alerts.withdrawn_at IS 'When it stopped making sense to send it.';
COMMENT ON COLUMN alerts.outcome IS 'What came of sending it, or why it is held back.';

-- For questions about a range of time; nearly free to maintain, as arrivals are stored in the order of their times.
CREATE INDEX events_received ON events USING brin (received_at);
