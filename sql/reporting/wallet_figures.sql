-- What all wallets of a currency hold together, by their state: for monitoring, which sees no organization's.
CREATE VIEW reporting.wallet_figures AS
SELECT
    currency,
    state,
    count(*) AS wallets,
    sum(balance_micros)::bigint AS balance_micros,
    sum(outstanding_micros)::bigint AS outstanding_micros
FROM wallet_balances
GROUP BY currency, state;
COMMENT ON VIEW reporting.wallet_figures IS
'What all wallets of a currency hold and owe together, by state, in micros.';
