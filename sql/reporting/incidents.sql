-- What was wrong with the operation, and for how long.
CREATE VIEW reporting.incidents AS
SELECT
    id AS incident_id,
    key,
    severity,
    opened_at,
    last_seen_at,
    closed_at,
    times_seen
FROM incidents;
COMMENT ON VIEW reporting.incidents IS 'One row per condition from when it was seen failing until it was well again.';
