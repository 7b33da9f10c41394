-- A row: a wallet's transfers are not numbered 1, 2, 3 …, or a balance does not follow from the one before.
CREATE VIEW checks.sequences_without_gaps WITH (security_invoker = true) AS
SELECT
    organization_id,
    jsonb_build_object('idempotency_key', idempotency_key, 'wallet_sequence', wallet_sequence) AS detail
FROM (
    SELECT
        transfers.*,
        lag(transfers.wallet_sequence, 1, 0::bigint) OVER wallet AS previous_sequence,
        lag(transfers.balance_after_micros, 1, 0::bigint) OVER wallet
        + CASE
            WHEN transfers.to_account = transfers.organization_id THEN transfers.amount_micros ELSE
                -transfers.amount_micros
        END AS expected_micros
    FROM transfers
    WHERE transfers.wallet_sequence IS NOT NULL
    WINDOW wallet AS (PARTITION BY organization_id ORDER BY wallet_sequence)
) AS chained
WHERE wallet_sequence <> previous_sequence + 1 OR balance_after_micros <> expected_micros;
