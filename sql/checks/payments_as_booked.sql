-- A row: what a payment brought the wallet, the tax or the fees is not what is booked of it, or nobody knows what was
-- sold by a top-up.
CREATE VIEW checks.payments_as_booked WITH (security_invoker = true) AS
SELECT
    coalesce(payments.organization_id, booked.organization_id) AS organization_id,
    jsonb_build_object('payment_id', coalesce(payments.payment_id, booked.payment_id)) AS detail
FROM payments
FULL JOIN (
    SELECT
        payment_id,
        min(organization_id::text)::uuid AS organization_id,
        sum(micros) FILTER (WHERE kind IN ('topup', 'adjustment')) AS credited_micros,
        sum(micros) FILTER (WHERE kind = 'tax') AS tax_micros,
        sum(micros) FILTER (WHERE kind = 'fee') AS fee_micros
    FROM (
        SELECT
            payment_id,
            organization_id,
            kind,
            CASE to_account WHEN own_account('stripe', currency) THEN -amount_micros ELSE amount_micros END AS micros
        FROM transfers
        WHERE
            payment_id IS NOT NULL AND kind IN ('topup', 'adjustment', 'tax', 'fee')
            AND idempotency_key !~ '^(tax|fee):(refund|dispute):' -- these went back
    ) AS movements
    GROUP BY payment_id
) AS booked ON payments.payment_id = booked.payment_id
WHERE
    payments.payment_id IS NULL OR booked.payment_id IS NULL
    OR (payments.credited_micros, payments.tax_micros, payments.fee_micros)
    <> (coalesce(booked.credited_micros, 0), coalesce(booked.tax_micros, 0), coalesce(booked.fee_micros, 0));
