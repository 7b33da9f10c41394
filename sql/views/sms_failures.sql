-- Messages that did not arrive, by hour (UTC) in which we heard of it, organization, status and error code; beside them
-- how many messages of that organization came to any end in that hour. Codes: https://www.twilio.com/docs/api/errors
CREATE VIEW sms_failures WITH (security_invoker = true) AS
SELECT
    hour,
    organization_id,
    status,
    error_code,
    messages,
    ended_messages
FROM (
    SELECT
        date_trunc('hour', status_at, 'UTC') AS hour,
        organization_id,
        status,
        error_code,
        count(*) AS messages,
        (sum(count(*)) OVER (PARTITION BY date_trunc('hour', status_at, 'UTC'), organization_id))::bigint
            AS ended_messages
    FROM sms_messages
    WHERE sms_is_final(status)
    GROUP BY date_trunc('hour', status_at, 'UTC'), organization_id, status, error_code
) AS ended
WHERE status IN ('failed', 'undelivered');
