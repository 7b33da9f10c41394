-- The same per day, organization and assistant.
CREATE VIEW reporting.reliability_by_assistant AS
SELECT
    counted.day,
    counted.organization_id,
    organizations.name AS organization,
    counted.assistant_id,
    counted.ended,
    counted.by_webhook,
    counted.ended - counted.by_webhook AS lost,
    round(counted.by_webhook::numeric / counted.ended, 8) AS ratio
FROM (
    SELECT
        (ended_at AT TIME ZONE 'UTC')::date AS day,
        organization_id,
        assistant_id,
        count(*) AS ended,
        count(*) FILTER (WHERE NOT reconciled) AS by_webhook
    FROM calls
    WHERE started_at IS NOT NULL AND ended_at IS NOT NULL
    GROUP BY (ended_at AT TIME ZONE 'UTC')::date, organization_id, assistant_id
) AS counted
LEFT JOIN organizations ON counted.organization_id = organizations.id;
COMMENT ON VIEW reporting.reliability_by_assistant IS 'Webhook reliability by day, organization and assistant.';
