-- A row: a call was charged more than once.
CREATE VIEW checks.one_charge_per_call WITH (security_invoker = true) AS
SELECT
    min(organization_id::text)::uuid AS organization_id,
    jsonb_build_object('call', idempotency_key, 'charges', count(*)) AS detail
FROM charges
WHERE kind = 'call'
GROUP BY idempotency_key
HAVING count(*) > 1;
