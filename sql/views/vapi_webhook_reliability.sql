-- Per organization and day of the end (UTC): of the calls that connected and ended, how many told us by webhook before
-- the night had to find them. Calls that never connected send no report, so they do not count.
-- Acts as its owner, since the analyst reads no table; the last condition leaves a tenant what is its own.
CREATE VIEW vapi_webhook_reliability WITH (security_barrier = true) AS
SELECT
    organization_id,
    (ended_at AT TIME ZONE 'UTC')::date AS day,
    count(*) AS ended,
    count(*) FILTER (WHERE NOT reconciled) AS by_webhook,
    count(*) FILTER (WHERE reconciled) AS reconciled,
    round(count(*) FILTER (WHERE NOT reconciled)::numeric / count(*), 8) AS ratio
FROM calls
WHERE
    started_at IS NOT NULL AND ended_at IS NOT NULL
    AND (
        (
            SELECT bool_or(pg_has_role(role_name, 'USAGE'))
            FROM unnest(ARRAY[
                'calltally_receiver', 'calltally_worker', 'calltally_nights', 'calltally_analyst', 'calltally_owner'
            ]) AS role_name
        )
        OR organization_id = nullif(current_setting('app.org_id', true), '')::uuid
    )
GROUP BY organization_id, (ended_at AT TIME ZONE 'UTC')::date;
