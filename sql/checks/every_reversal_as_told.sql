-- A row: a refund or dispute is booked with another amount or of another payment than Stripe told.
CREATE VIEW checks.every_reversal_as_told WITH (security_invoker = true) AS
SELECT
    transfers.organization_id,
    jsonb_build_object('id', reversal_states.id, 'payment_id', reversal_states.payment_id) AS detail
FROM reversal_states
INNER JOIN transfers ON reversal_states.taken_key = transfers.idempotency_key
WHERE reversal_states.is_contradicted;
