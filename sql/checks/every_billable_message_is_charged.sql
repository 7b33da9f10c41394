-- A row: a carrier took a message, its organization, segments and price are known, and it has no charge.
CREATE VIEW checks.every_billable_message_is_charged WITH (security_invoker = true) AS
SELECT
    messages.organization_id,
    jsonb_build_object('sid', messages.sid, 'sent_at', messages.sent_at, 'sms_price_id', price.id) AS detail
FROM sms_messages AS messages
INNER JOIN wallets ON messages.organization_id = wallets.organization_id
CROSS JOIN LATERAL find_sms_price(messages.organization_id, wallets.currency, messages.sent_at) AS price
LEFT JOIN charges ON charges.idempotency_key = 'sms:' || messages.sid
WHERE messages.carrier_accepted AND messages.num_segments IS NOT NULL AND charges.idempotency_key IS NULL;
