-- The inbox in numbers.
CREATE VIEW reporting.event_queue AS
SELECT
    provider,
    type,
    state,
    count(*) AS events,
    min(received_at) AS oldest_received_at
FROM events
GROUP BY provider, type, state;
COMMENT ON VIEW reporting.event_queue IS 'How many events of each kind are in each state, and since when the oldest.';
