-- A row: over all accounts of the chart, the money of a currency does not sum to zero: it came from nowhere or went to
-- an account that is not there or holds another currency.
CREATE VIEW checks.transfers_sum_to_zero WITH (security_invoker = true) AS
SELECT
    NULL::uuid AS organization_id,
    jsonb_build_object('currency', legs.currency, 'micros', sum(legs.micros) FILTER (WHERE accounts.id IS NOT NULL))
        AS detail
FROM (
    SELECT
        currency,
        from_account AS account,
        -amount_micros AS micros
    FROM transfers
    UNION ALL
    SELECT
        currency,
        to_account AS account,
        amount_micros AS micros
    FROM transfers
) AS legs
LEFT JOIN accounts ON legs.account = accounts.id AND legs.currency = accounts.currency
GROUP BY legs.currency
HAVING sum(legs.micros) FILTER (WHERE accounts.id IS NOT NULL) <> 0 OR bool_or(accounts.id IS NULL);
