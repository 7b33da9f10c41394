-- A row: a refund or dispute can be booked, since its payment is credited and enough is left of it, and is not.
CREATE VIEW checks.every_reversal_is_booked WITH (security_invoker = true) AS
SELECT
    transfers.organization_id,
    jsonb_build_object('id', reversal_states.id, 'payment_id', reversal_states.payment_id) AS detail
FROM reversal_states
INNER JOIN transfers ON reversal_states.payment_id = transfers.payment_id AND transfers.kind = 'topup'
WHERE reversal_states.is_bookable;
