-- A row: a settled charge has no transfer of its amount, or a transfer for usage has no settled charge.
CREATE VIEW checks.charges_equal_transfers WITH (security_invoker = true) AS
SELECT
    coalesce(charges.organization_id, usage.organization_id) AS organization_id,
    jsonb_build_object(
        'idempotency_key', coalesce(charges.idempotency_key, usage.idempotency_key),
        'charged_micros', charges.amount_micros,
        'moved_micros', usage.moved_micros
    ) AS detail
FROM (SELECT * FROM charges WHERE state = 'settled') AS charges
FULL JOIN (
    SELECT
        organization_id,
        idempotency_key,
        CASE WHEN from_account = organization_id THEN amount_micros ELSE -amount_micros END AS moved_micros
    FROM transfers
    WHERE kind IN ('call', 'sms', 'correction')
) AS usage USING (idempotency_key)
WHERE
    charges.amount_micros IS DISTINCT FROM usage.moved_micros
    OR charges.organization_id IS DISTINCT FROM usage.organization_id;
