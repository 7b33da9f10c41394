-- A row: a charge for a message is not its segments times the price that it was made at, or there is no such message,
-- or it is another organization's, or no carrier took it.
CREATE VIEW checks.message_charges_follow_from_their_prices WITH (security_invoker = true) AS
SELECT
    charges.organization_id,
    jsonb_build_object(
        'charge', charges.idempotency_key,
        'charged_micros', charges.amount_micros,
        'num_segments', messages.num_segments,
        'per_segment_micros', messages.per_segment_micros
    ) AS detail
FROM charges
LEFT JOIN sms_messages AS messages ON charges.idempotency_key = 'sms:' || messages.sid
WHERE
    charges.kind = 'sms'
    AND (
        charges.amount_micros IS DISTINCT FROM messages.num_segments * messages.per_segment_micros
        OR charges.organization_id IS DISTINCT FROM messages.organization_id
        OR messages.carrier_accepted IS NOT TRUE
    );
