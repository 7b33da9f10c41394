-- Every movement of a wallet, signed, with the balance after it.
CREATE VIEW reporting.wallet_statement AS
SELECT
    transfers.organization_id,
    organizations.name AS organization,
    transfers.wallet_sequence,
    transfers.event_at,
    transfers.booked_at,
    transfers.kind,
    CASE
        WHEN transfers.to_account = transfers.organization_id THEN transfers.amount_micros
        ELSE -transfers.amount_micros
    END AS amount_micros,
    transfers.balance_after_micros,
    transfers.currency,
    transfers.idempotency_key,
    transfers.overrun
FROM transfers
INNER JOIN organizations ON transfers.organization_id = organizations.id
WHERE transfers.wallet_sequence IS NOT NULL;
COMMENT ON VIEW reporting.wallet_statement IS
'The ledger as the wallets'' owners would read it: what came in is positive, what went out negative, in micros.';
