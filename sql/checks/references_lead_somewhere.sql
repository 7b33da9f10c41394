-- A row: a call, message, charge or transfer names an organization, wallet or price that does not exist.
CREATE VIEW checks.references_lead_somewhere WITH (security_invoker = true) AS
SELECT
    named.organization_id,
    jsonb_build_object('in', named.place, 'id', named.id) AS detail
FROM (
    SELECT
        'calls' AS place,
        id,
        organization_id,
        NULL::bigint AS price_id
    FROM calls
    WHERE organization_id IS NOT NULL
    UNION ALL
    SELECT
        'charges' AS place,
        idempotency_key AS id,
        organization_id,
        price_id
    FROM charges
    UNION ALL
    SELECT
        'transfers' AS place,
        idempotency_key AS id,
        organization_id,
        NULL AS price_id
    FROM transfers
    UNION ALL
    SELECT
        'sms_messages' AS place,
        sid AS id,
        organization_id,
        NULL AS price_id
    FROM sms_messages
    WHERE organization_id IS NOT NULL
) AS named
LEFT JOIN wallets USING (organization_id)
LEFT JOIN prices ON named.price_id = prices.id
WHERE wallets.organization_id IS NULL OR (named.price_id IS NOT NULL AND prices.id IS NULL);
