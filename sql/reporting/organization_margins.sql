-- Per organization and month of the end (UTC): what its calls earned, and what the provider charged for them.
CREATE VIEW reporting.organization_margins AS
SELECT
    sums.organization_id,
    organizations.name AS organization,
    sums.month,
    coalesce(organizations.currency, 'USD') AS currency,
    sums.calls,
    sums.duration_ms,
    sums.revenue_micros,
    sums.outstanding_micros,
    sums.provider_cost_micros,
    CASE
        WHEN coalesce(organizations.currency, 'USD') = 'USD' THEN sums.revenue_micros - sums.provider_cost_micros
    END AS margin_micros
FROM (
    SELECT
        coalesce(calls.organization_id, charged.organization_id) AS organization_id,
        date_trunc(
            'month', coalesce(calls.ended_at, calls.created_at, charged.event_at) AT TIME ZONE 'UTC'
        )::date AS month,
        count(*) AS calls,
        coalesce(sum(calls.duration_ms), 0)::bigint AS duration_ms,
        coalesce(sum(charged.revenue_micros), 0)::bigint AS revenue_micros,
        coalesce(sum(charged.outstanding_micros), 0)::bigint AS outstanding_micros,
        coalesce(sum(calls.provider_cost_micros), 0)::bigint AS provider_cost_micros
    FROM calls
    FULL JOIN (
        SELECT
            coalesce(corrects, idempotency_key) AS call_key,
            organization_id,
            min(event_at) AS event_at,
            sum(amount_micros) FILTER (WHERE state <> 'cancelled') AS revenue_micros,
            sum(amount_micros) FILTER (WHERE state = 'outstanding') AS outstanding_micros
        FROM charges
        WHERE starts_with(coalesce(corrects, idempotency_key), 'call:')
        GROUP BY coalesce(corrects, idempotency_key), organization_id
    ) AS charged ON charged.call_key = 'call:' || calls.id
    GROUP BY 1, 2
) AS sums
LEFT JOIN organizations ON sums.organization_id = organizations.id;
COMMENT ON VIEW reporting.organization_margins IS
'Calls alone, corrections included. A row without organization is what calls cost that nobody pays for yet.';
COMMENT ON COLUMN reporting.organization_margins.revenue_micros IS 'Charged, whether paid or outstanding.';
COMMENT ON COLUMN reporting.organization_margins.provider_cost_micros IS 'Always USD.';
COMMENT ON COLUMN reporting.organization_margins.margin_micros IS
'Revenue less provider cost; null where the wallet has another currency than the provider''s USD.';
