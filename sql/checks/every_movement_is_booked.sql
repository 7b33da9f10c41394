-- A row: a refund or dispute can be booked, since its payment is credited and its worth is known, and is not.
CREATE VIEW checks.every_movement_is_booked WITH (security_invoker = true) AS
SELECT
    payments.organization_id,
    jsonb_build_object('id', movements.id, 'payment_id', movements.payment_id) AS detail
FROM movements
INNER JOIN payments ON movements.payment_id = payments.payment_id
WHERE movements.booked_at IS NULL AND was_taken(movements, payments.currency);
