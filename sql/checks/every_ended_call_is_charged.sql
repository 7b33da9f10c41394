-- A row: a call ended, its organization is known, it is not held, and it has no charge (mostly: no price).
CREATE VIEW checks.every_ended_call_is_charged WITH (security_invoker = true) AS
SELECT
    calls.organization_id,
    jsonb_build_object('call_id', calls.id, 'ended_at', calls.ended_at) AS detail
FROM calls
LEFT JOIN charges ON charges.idempotency_key = 'call:' || calls.id
WHERE calls.organization_id IS NOT NULL AND calls.held IS NULL AND charges.idempotency_key IS NULL;
