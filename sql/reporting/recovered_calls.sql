-- Calls whose webhook got lost and that a night found, with what they cost their organization.
CREATE VIEW reporting.recovered_calls AS
SELECT
    calls.id AS call_id,
    calls.organization_id,
    organizations.name AS organization,
    calls.assistant_id,
    calls.ended_reason,
    calls.ended_at,
    calls.duration_ms,
    calls.reconciliation_run_id AS run_id,
    calls.first_seen_at AS recovered_at,
    calls.webhook_at,
    charges.state AS charge_state,
    charges.amount_micros,
    organizations.currency,
    calls.provider_cost_micros
FROM calls
LEFT JOIN organizations ON calls.organization_id = organizations.id
LEFT JOIN charges ON charges.idempotency_key = 'call:' || calls.id
WHERE
    calls.reconciled AND calls.started_at IS NOT NULL AND calls.ended_at IS NOT NULL
    -- Its webhook came after a night had seen the call, and yet was the one that recorded it.
    AND calls.webhook_at IS DISTINCT FROM calls.first_seen_at;
COMMENT ON VIEW reporting.recovered_calls IS 'Money that would have been lost with its webhook, call by call.';
COMMENT ON COLUMN reporting.recovered_calls.webhook_at IS 'When the webhook came after all; null if it never did.';
COMMENT ON COLUMN reporting.recovered_calls.charge_state IS 'Null: no organization or no price yet.';
COMMENT ON COLUMN reporting.recovered_calls.amount_micros IS 'As first charged; corrections are charges of their own.';
