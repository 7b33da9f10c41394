-- Where webhooks get lost: ended calls by assistant, hour of the end (UTC) and reason, and how many told nobody.
CREATE VIEW reporting.missing_calls AS
SELECT
    calls.organization_id,
    organizations.name AS organization,
    calls.assistant_id,
    date_trunc('hour', calls.ended_at, 'UTC') AS hour,
    calls.ended_reason,
    count(*) AS ended,
    count(*) FILTER (WHERE calls.reconciled) AS missing
FROM calls
LEFT JOIN organizations ON calls.organization_id = organizations.id
WHERE calls.started_at IS NOT NULL AND calls.ended_at IS NOT NULL
GROUP BY
    calls.organization_id, organizations.name, calls.assistant_id, date_trunc('hour', calls.ended_at, 'UTC'),
    calls.ended_reason;
COMMENT ON VIEW reporting.missing_calls IS
'Rows with missing = 0 are there too, so that shares can be reckoned over any grouping: sum(missing) / sum(ended).';
