-- Every movement of a wallet as its owner would read it: signed, with the balance after it.
CREATE VIEW wallet_statement WITH (security_invoker = true) AS
SELECT
    organization_id,
    wallet_sequence,
    event_at,
    booked_at,
    kind,
    CASE WHEN to_account = organization_id THEN amount_micros ELSE -amount_micros END AS amount_micros,
    balance_after_micros,
    currency,
    idempotency_key,
    overrun,
    reason
FROM transfers
WHERE wallet_sequence IS NOT NULL;
