-- The inbox in numbers: how many events of each provider and type are in each state, and since when the oldest.
CREATE VIEW event_queue WITH (security_invoker = true) AS
SELECT
    provider,
    type,
    state,
    count(*) AS events,
    min(received_at) AS oldest_received_at
FROM events
GROUP BY provider, type, state;
