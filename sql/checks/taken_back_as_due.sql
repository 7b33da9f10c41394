-- A row: what is booked of a payment's refunds and disputes is not what they come to, in the wallet, the tax, the fees
-- or the excess.
CREATE VIEW checks.taken_back_as_due WITH (security_invoker = true) AS
SELECT
    organization_id,
    jsonb_build_object(
        'payment_id', payment_id, 'due_micros', wallet_due_micros, 'booked_micros', wallet_booked_micros
    ) AS detail
FROM payment_reversals
WHERE
    (wallet_due_micros, tax_due_micros, fee_due_micros, excess_due_micros)
    <> (wallet_booked_micros, tax_booked_micros, fee_booked_micros, excess_booked_micros);
