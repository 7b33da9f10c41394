-- find_sms_route: the route that names who pays for a message at a time; the messaging service decides before the
-- sender, the sender before the account. No row if nobody is known.
CREATE OR REPLACE FUNCTION find_sms_route(
    p_messaging_service_sid text, p_sender text, p_account_sid text, p_at timestamptz
)
RETURNS SETOF routes LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT id, kind, external_id, organization_id, valid
    FROM (
        SELECT 1 AS rank, routes.* FROM routes
        WHERE kind = 'messaging_service' AND external_id = p_messaging_service_sid AND valid @> p_at
        UNION ALL
        SELECT 2 AS rank, routes.* FROM routes
        WHERE kind = 'sms_number' AND external_id = p_sender AND valid @> p_at
        UNION ALL
        SELECT 3 AS rank, routes.* FROM routes
        WHERE kind = 'twilio_account' AND external_id = p_account_sid AND valid @> p_at
    ) AS found
    ORDER BY rank
    LIMIT 1
$$;

-- sms_sender_may_decide: whether a route by number may name who pays for a stored message. Senders are not stored, so
-- only Twilio can tell.
CREATE OR REPLACE FUNCTION sms_sender_may_decide(p_message sms_messages)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (
        SELECT FROM routes
        WHERE kind = 'sms_number' AND valid @> coalesce(p_message.sent_at, p_message.first_seen_at)
    ) AND NOT EXISTS (
        SELECT FROM routes
        WHERE kind = 'messaging_service' AND external_id = p_message.messaging_service_sid
            AND valid @> coalesce(p_message.sent_at, p_message.first_seen_at)
    )
$$;

-- attribute_messages: decides who pays for the told messages that are not charged yet, as the routes say for the time
-- at which they were sent; whoever was known stays if no route says otherwise. Internal.
CREATE OR REPLACE FUNCTION attribute_messages(p_messages jsonb)
RETURNS void LANGUAGE sql SET search_path = public, pg_temp SET enable_seqscan = off AS $$
    UPDATE sms_messages
    SET organization_id = named.organization_id
    FROM (
        SELECT told.sid, route.organization_id
        FROM (SELECT sid, max(sender) AS sender FROM read_told_messages(p_messages) GROUP BY sid) AS told
        CROSS JOIN LATERAL (SELECT * FROM sms_messages WHERE sms_messages.sid = told.sid LIMIT 1) AS message
        CROSS JOIN LATERAL find_sms_route(
            message.messaging_service_sid, told.sender, message.account_sid,
            coalesce(message.sent_at, message.first_seen_at)
        ) AS route
        WHERE message.sms_price_id IS NULL
    ) AS named
    WHERE sms_messages.sid = named.sid
        AND sms_messages.organization_id IS DISTINCT FROM named.organization_id
$$;

-- charge_quarantined_messages: attributes the messages without an organization that a route explains, and charges them;
-- those whose sender may decide are asked about next, whenever that was done before. Internal; the caller holds the
-- locks of routes and prices.
CREATE OR REPLACE FUNCTION charge_quarantined_messages()
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    changed text[];
BEGIN
    WITH quarantined AS (
        SELECT message.sid, sms_sender_may_decide(message) AS sender_may_decide, route.organization_id
        FROM sms_messages AS message
        LEFT JOIN LATERAL find_sms_route(
            message.messaging_service_sid, NULL, message.account_sid, coalesce(message.sent_at, message.first_seen_at)
        ) AS route ON true
        WHERE message.organization_id IS NULL
        ORDER BY message.sid
        FOR UPDATE OF message
    ),

    attributed AS (
        UPDATE sms_messages SET
            organization_id = CASE WHEN NOT sender_may_decide THEN quarantined.organization_id END,
            polled_at = CASE WHEN NOT sender_may_decide THEN polled_at END
        FROM quarantined
        WHERE sms_messages.sid = quarantined.sid
            AND (quarantined.organization_id IS NOT NULL OR sender_may_decide)
        RETURNING sms_messages.sid
    )

    SELECT array_agg(sid) INTO changed FROM attributed;
    PERFORM charge_messages(changed);
END;
$$;
