-- A row: a payment was credited more than once.
CREATE VIEW checks.one_credit_per_payment WITH (security_invoker = true) AS
SELECT
    min(organization_id::text)::uuid AS organization_id,
    jsonb_build_object('payment_id', payment_id, 'credits', count(*)) AS detail
FROM transfers
WHERE kind = 'topup'
GROUP BY payment_id
HAVING count(*) > 1;
