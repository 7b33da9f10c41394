-- Months are made by ensure_partitions(), in a schema that is open to nobody: whoever may reads and writes them through
-- event_bodies. The key begins with the time, so that its index grows at its end and finds what is old.
CREATE SCHEMA parts;
CREATE TABLE event_bodies (
    received_at timestamptz NOT NULL,
    event_id bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (received_at, event_id)
) PARTITION BY RANGE (received_at);
-- Compressing bodies would cost more than storing them, on the path that has to answer; they are forgotten in time.
ALTER TABLE event_bodies ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE event_bodies IS
'What a webhook said, as it came; by months, which are dropped whole. No row: it is forgotten.';
COMMENT ON COLUMN event_bodies.received_at IS 'That of the event: says in which month to look.';

-- What fits no month: a webhook is never refused for want of one. Bodies from before this revision wait here as well.
CREATE TABLE parts.event_bodies_other PARTITION OF event_bodies DEFAULT;
INSERT INTO event_bodies (received_at, event_id, body)
SELECT
    received_at,
    id,
    body
FROM events
WHERE body IS NOT NULL;

-- The second step writes the table anew, for the bodies' space would come back only as the rows go.
ALTER TABLE events DROP COLUMN body;
ALTER TABLE events ALTER COLUMN attempts TYPE integer USING attempts + 0;

-- What is removed is found by its end, among all that is kept.
DROP INDEX events_finished;
CREATE INDEX events_finished ON events (finished_at) WHERE finished_at IS NOT NULL;

DROP FUNCTION IF EXISTS prune_events(interval, interval, integer); -- it answers with more than it did
