-- A row: usage took a wallet past the debt limit in force, and nobody had allowed it.
CREATE VIEW checks.no_usage_beyond_debt_limit WITH (security_invoker = true) AS
SELECT
    organization_id,
    jsonb_build_object(
        'idempotency_key', idempotency_key,
        'balance_after_micros', balance_after_micros,
        'debt_limit_micros', debt_limit_micros
    ) AS detail
FROM transfers
WHERE
    kind IN ('call', 'sms', 'correction') AND from_account = organization_id
    AND balance_after_micros < -debt_limit_micros AND NOT overrun;
