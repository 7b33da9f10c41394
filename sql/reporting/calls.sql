-- Every call that a webhook or a night told us of: ids, times and cost; neither numbers nor names of callers.
CREATE VIEW reporting.calls AS
SELECT
    calls.id AS call_id,
    calls.organization_id,
    organizations.name AS organization,
    calls.assistant_id,
    calls.squad_id,
    calls.phone_number_id,
    calls.call_type,
    calls.ended_reason,
    calls.created_at,
    calls.started_at,
    calls.ended_at,
    calls.duration_ms,
    calls.provider_cost_micros,
    calls.started_at IS NOT NULL AND calls.ended_at IS NOT NULL AS webhook_was_due,
    NOT calls.reconciled AS by_webhook,
    calls.first_seen_at,
    calls.webhook_at
FROM calls
LEFT JOIN organizations ON calls.organization_id = organizations.id;
COMMENT ON VIEW reporting.calls IS 'One row per call; organization is null while no route says who pays.';
COMMENT ON COLUMN reporting.calls.provider_cost_micros IS 'What the provider charges the reseller, in USD.';
COMMENT ON COLUMN reporting.calls.webhook_was_due IS
'Whether it connected and ended: only such calls send a report, and only they count for reliability.';
COMMENT ON COLUMN reporting.calls.by_webhook IS 'Whether a webhook told us before a night did; fixed at first sight.';
