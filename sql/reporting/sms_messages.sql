-- Every outgoing message, without numbers and text.
CREATE VIEW reporting.sms_messages AS
SELECT
    messages.sid,
    messages.organization_id,
    organizations.name AS organization,
    messages.status,
    messages.error_code,
    messages.carrier_accepted,
    messages.num_segments,
    messages.sent_at,
    messages.status_at,
    messages.per_segment_micros,
    messages.provider_price_micros,
    messages.provider_currency
FROM sms_messages AS messages
LEFT JOIN organizations ON messages.organization_id = organizations.id;
COMMENT ON VIEW reporting.sms_messages IS 'One row per message; organization is null while no route says who pays.';
