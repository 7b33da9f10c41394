-- Per day of the end (UTC), over all organizations: of the calls that connected and ended, how many told us by webhook.
CREATE VIEW reporting.reliability_by_day AS
SELECT
    day,
    ended,
    by_webhook,
    ended - by_webhook AS lost,
    round(by_webhook::numeric / ended, 8) AS ratio
FROM (
    SELECT
        (ended_at AT TIME ZONE 'UTC')::date AS day,
        count(*) AS ended,
        count(*) FILTER (WHERE NOT reconciled) AS by_webhook
    FROM calls
    WHERE started_at IS NOT NULL AND ended_at IS NOT NULL
    GROUP BY (ended_at AT TIME ZONE 'UTC')::date
) AS days;
COMMENT ON VIEW reporting.reliability_by_day IS 'Webhook reliability over time; a day without calls has no row.';
