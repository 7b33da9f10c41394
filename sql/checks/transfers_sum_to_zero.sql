-- A row: money of a currency appeared or vanished, or moved to an account that is not in the chart.
CREATE VIEW checks.transfers_sum_to_zero WITH (security_invoker = true) AS
SELECT
    NULL::uuid AS organization_id,
    jsonb_build_object('currency', currency, 'micros', sum(micros)) AS detail
FROM (
    SELECT
        accounts.currency,
        legs.micros
    FROM transfers
    CROSS JOIN LATERAL (VALUES (from_account, -amount_micros), (to_account, amount_micros)) AS legs (account, micros)
    INNER JOIN accounts ON legs.account = accounts.id AND transfers.currency = accounts.currency
) AS entries
GROUP BY currency
HAVING sum(micros) <> 0;
