-- A row: refunds and disputes took more of a payment than was credited for it.
CREATE VIEW checks.taken_back_within_credited WITH (security_invoker = true) AS
SELECT
    min(organization_id::text)::uuid AS organization_id,
    jsonb_build_object('payment_id', payment_id, 'left_micros', sum(left_micros)) AS detail
FROM (
    SELECT
        organization_id,
        payment_id,
        CASE WHEN to_account = organization_id THEN amount_micros ELSE -amount_micros END AS left_micros
    FROM transfers
    WHERE payment_id IS NOT NULL AND wallet_sequence IS NOT NULL
) AS movements
GROUP BY payment_id
HAVING sum(left_micros) < 0;
