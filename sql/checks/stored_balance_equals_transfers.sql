-- A row: a wallet's stored balance is not the sum of its transfers, or its last number is not the last of theirs.
CREATE VIEW checks.stored_balance_equals_transfers WITH (security_invoker = true) AS
SELECT
    wallets.organization_id,
    jsonb_build_object('stored_micros', wallets.balance_micros, 'summed_micros', summed.micros) AS detail
FROM wallets
CROSS JOIN
    LATERAL (
        SELECT
            coalesce(sum(CASE WHEN to_account = wallets.organization_id THEN amount_micros ELSE -amount_micros END), 0)
                AS micros,
            coalesce(max(wallet_sequence), 0) AS last_sequence
        FROM transfers
        WHERE transfers.organization_id = wallets.organization_id AND transfers.wallet_sequence IS NOT NULL
    ) AS summed
WHERE wallets.balance_micros <> summed.micros OR wallets.last_sequence <> summed.last_sequence;
