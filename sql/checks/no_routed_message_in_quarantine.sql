-- A row: a message is in quarantine although a route of its messaging service or account says whose it is, and no
-- event of Twilio's waits to be applied. (Senders are not stored: where a route by number may decide, it is a row once
-- Twilio was asked.)
CREATE VIEW checks.no_routed_message_in_quarantine WITH (security_invoker = true) AS
SELECT
    route.organization_id,
    jsonb_build_object('sid', messages.sid, 'first_seen_at', messages.first_seen_at) AS detail
FROM sms_messages AS messages
CROSS JOIN
    LATERAL find_sms_route(
        messages.messaging_service_sid, NULL, messages.account_sid, coalesce(messages.sent_at, messages.first_seen_at)
    ) AS route
WHERE
    messages.organization_id IS NULL
    AND (messages.polled_at IS NOT NULL OR NOT sms_sender_may_decide(messages))
    AND NOT EXISTS (
        SELECT FROM events
        WHERE events.provider = 'twilio' AND events.state IN ('waiting', 'active', 'delayed')
    );
