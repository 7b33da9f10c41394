-- What each organization has, owes and may still owe.
CREATE VIEW wallet_balances WITH (security_invoker = true) AS
SELECT
    wallets.organization_id,
    wallets.currency,
    wallets.balance_micros,
    wallets.debt_limit_micros,
    coalesce(owed.outstanding_micros, 0)::bigint AS outstanding_micros,
    wallets.balance_micros < wallets.recharge_threshold_micros AS needs_recharge
FROM wallets
LEFT JOIN (
    SELECT
        organization_id,
        sum(amount_micros) AS outstanding_micros
    FROM charges
    WHERE state = 'outstanding'
    GROUP BY organization_id
) AS owed USING (organization_id);
