-- What each organization has, owes and may still owe, by name.
CREATE VIEW reporting.wallets AS
SELECT
    wallets.organization_id,
    organizations.name AS organization,
    wallets.currency,
    wallets.balance_micros,
    wallets.debt_limit_micros,
    coalesce(owed.outstanding_micros, 0)::bigint AS outstanding_micros,
    coalesce(owed.outstanding_charges, 0)::bigint AS outstanding_charges,
    wallets.recharge_threshold_micros,
    wallets.balance_micros < wallets.recharge_threshold_micros AS needs_recharge
FROM wallets
INNER JOIN organizations ON wallets.organization_id = organizations.id
LEFT JOIN (
    SELECT
        organization_id,
        sum(amount_micros) AS outstanding_micros,
        count(*) AS outstanding_charges
    FROM charges
    WHERE state = 'outstanding'
    GROUP BY organization_id
) AS owed ON wallets.organization_id = owed.organization_id;
COMMENT ON VIEW reporting.wallets IS 'Balances, debt limits and what is outstanding, in micros.';
