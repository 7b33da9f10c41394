-- sms_rank: how far a message has come, as a total order: the furthest status told wins, whatever the order in which
-- they are told. Two ends that contradict each other are settled in favour of the better one.
CREATE OR REPLACE FUNCTION sms_rank(p_status text)
RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN array_position(
    ARRAY[
        'scheduled', 'accepted', 'queued', 'sending', 'sent', 'canceled', 'failed', 'partially_delivered',
        'undelivered', 'delivered', 'read'
    ], p_status
);

-- sms_is_final: whether a status is an end; `read` may still follow `delivered`.
CREATE OR REPLACE FUNCTION sms_is_final(p_status text)
RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN sms_rank(p_status) >= sms_rank('canceled');

-- sms_is_billable: whether a status says that a carrier has taken the message. Twilio bills sent, delivered and
-- undelivered by the segment, and neither failed (it never left Twilio) nor canceled.
CREATE OR REPLACE FUNCTION sms_is_billable(p_status text)
RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN p_status IN ('sent', 'partially_delivered', 'undelivered', 'delivered', 'read');

-- find_sms_price: the price of a segment in force for an organization at a time: its own, else its currency's default.
CREATE OR REPLACE FUNCTION find_sms_price(p_organization_id uuid, p_currency text, p_at timestamptz)
RETURNS SETOF sms_prices LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT *
    FROM sms_prices
    WHERE (organization_id = p_organization_id OR organization_id IS NULL)
        AND currency = p_currency AND valid @> p_at
    ORDER BY organization_id NULLS LAST
    LIMIT 1
$$;

-- record_messages: stores what was told of messages and charges each once; the one way in for callbacks and for polls.
--
-- p_messages: array of {sid, status, error_code, account_sid, messaging_service_sid, sender, num_segments, sent_at,
-- provider_price_micros, provider_currency, polled}; the last five only from the Message resource. Any number of them
-- about a message, in any order and any number of times, come to the same: the furthest status with its error, and one
-- charge as soon as it is known that a carrier took it, how many segments it has and when it was sent. Who pays is
-- decided by the routes at that time (before: at first sight), and no more once it is charged. The sender is looked up
-- and not stored. Waits for changes of routes and prices; locks messages in the order of their sids, then wallets.
-- Answers once per sid with outcome: settled, outstanding or free (its charge), unattributed (no route; its events wait
-- for one), not_billable, unmeasured (segments not known yet) or unpriced (no price in force).
-- Errors: TY002, TY003; check_violation for a status that is not of an outgoing message.
CREATE OR REPLACE FUNCTION record_messages(p_messages jsonb)
RETURNS TABLE (message_sid text, organization_id uuid, outcome text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    told text[];
BEGIN
    LOCK TABLE routes, prices IN ROW EXCLUSIVE MODE; -- add_route and set_sms_price would miss what we are about to store

    WITH told_messages AS (
        SELECT
            sid,
            (array_agg(status ORDER BY sms_rank(status) DESC, error_code DESC NULLS LAST))[1] AS status,
            (array_agg(error_code ORDER BY sms_rank(status) DESC, error_code DESC NULLS LAST))[1] AS error_code,
            bool_or(sms_is_billable(status)) AS carrier_accepted,
            max(account_sid) AS account_sid,
            max(messaging_service_sid) AS messaging_service_sid,
            max(num_segments) AS num_segments,
            min(sent_at) AS sent_at,
            max(provider_price_micros) AS provider_price_micros,
            max(provider_currency) AS provider_currency,
            CASE WHEN bool_or(polled) THEN now() END AS polled_at
        FROM read_told_messages(p_messages)
        GROUP BY sid
    ),

    stored AS (
        INSERT INTO sms_messages AS known (
            sid, account_sid, messaging_service_sid, status, error_code, carrier_accepted, num_segments, sent_at,
            provider_price_micros, provider_currency, polled_at
        )
        SELECT
            sid, account_sid, messaging_service_sid, status, error_code, carrier_accepted, num_segments, sent_at,
            provider_price_micros, provider_currency, polled_at
        FROM told_messages
        ORDER BY sid
        ON CONFLICT (sid) DO UPDATE SET
            (status, error_code, status_at) = (
                SELECT statuses.status, statuses.error_code, statuses.status_at
                FROM (
                    VALUES
                    (known.status, known.error_code, known.status_at),
                    (excluded.status, excluded.error_code, now())
                ) AS statuses (status, error_code, status_at)
                ORDER BY sms_rank(statuses.status) DESC, statuses.error_code DESC NULLS LAST, statuses.status_at
                LIMIT 1
            ),
            carrier_accepted = known.carrier_accepted OR excluded.carrier_accepted,
            messaging_service_sid = coalesce(known.messaging_service_sid, excluded.messaging_service_sid),
            num_segments = coalesce(known.num_segments, excluded.num_segments),
            sent_at = coalesce(known.sent_at, excluded.sent_at),
            provider_price_micros = coalesce(known.provider_price_micros, excluded.provider_price_micros),
            provider_currency = coalesce(known.provider_currency, excluded.provider_currency),
            polled_at = coalesce(excluded.polled_at, known.polled_at),
            missing_since = NULL,
            gone_at = NULL
        RETURNING sid
    )

    SELECT array_agg(sid) INTO told FROM stored;

    PERFORM attribute_messages(p_messages);
    PERFORM charge_messages(told);

    RETURN QUERY
    SELECT
        message.sid,
        message.organization_id,
        CASE
            WHEN message.organization_id IS NULL THEN 'unattributed'
            WHEN charge.state IS NOT NULL THEN charge.state
            WHEN NOT message.carrier_accepted OR sms_is_settled(message) THEN 'not_billable'
            WHEN message.num_segments IS NULL OR message.sent_at IS NULL THEN 'unmeasured'
            ELSE 'unpriced'
        END
    FROM unnest(told) AS told_message (sid)
    CROSS JOIN LATERAL (SELECT * FROM sms_messages WHERE sms_messages.sid = told_message.sid LIMIT 1) AS message
    LEFT JOIN LATERAL (
        SELECT charges.state FROM charges WHERE charges.idempotency_key = 'sms:' || told_message.sid LIMIT 1
    ) AS charge ON true;
END;
$$;

-- read_told_messages: the rows of the JSON that record_messages takes. Internal.
CREATE OR REPLACE FUNCTION read_told_messages(p_messages jsonb)
RETURNS TABLE (
    sid text, status text, error_code integer, account_sid text, messaging_service_sid text, sender text,
    num_segments integer, sent_at timestamptz, provider_price_micros bigint, provider_currency text, polled boolean
) LANGUAGE sql IMMUTABLE AS $$
    SELECT *
    FROM jsonb_to_recordset(p_messages) AS told (
        sid text, status text, error_code integer, account_sid text, messaging_service_sid text, sender text,
        num_segments integer, sent_at timestamptz, provider_price_micros bigint, provider_currency text, polled boolean
    )
$$;

-- charge_messages: charges those of the stored messages that can be charged and are not: oldest first, which decides
-- what fits below a debt limit. Internal; the caller holds the messages' locks. Answers with how many it charged.
CREATE OR REPLACE FUNCTION charge_messages(p_sids text[])
RETURNS integer LANGUAGE plpgsql SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    requests charge_request[];
BEGIN
    WITH due AS (
        SELECT message.*, price.id AS price_id, price.per_segment_micros AS price_micros
        FROM unnest(p_sids) AS told (sid)
        CROSS JOIN LATERAL (SELECT * FROM sms_messages WHERE sms_messages.sid = told.sid LIMIT 1) AS message
        CROSS JOIN LATERAL (
            SELECT currency FROM wallets WHERE wallets.organization_id = message.organization_id LIMIT 1
        ) AS wallet
        CROSS JOIN LATERAL find_sms_price(message.organization_id, wallet.currency, message.sent_at) AS price
        WHERE message.sms_price_id IS NULL AND message.carrier_accepted AND message.num_segments IS NOT NULL
    ),

    priced AS (
        UPDATE sms_messages SET sms_price_id = due.price_id, per_segment_micros = due.price_micros
        FROM due
        WHERE sms_messages.sid = due.sid
    )

    SELECT array_agg(
        ROW(
            organization_id, 'sms:' || sid, 'sms', num_segments * price_micros, sent_at,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        )::charge_request
        ORDER BY sent_at, sid
    ) INTO requests
    FROM due;
    PERFORM book_charges(requests) WHERE requests IS NOT NULL;
    RETURN coalesce(cardinality(requests), 0);
END;
$$;

-- set_sms_price: what a segment costs from a time on, for one organization or (null) for all without a price of their
-- own. The price in force then ends there; prices that begin later stay. Charges made keep their price; messages sent
-- since then that had none are charged now. Waits for running record_messages. Answers with the price's id.
-- Errors: TY003; check_violation for a negative price.
CREATE OR REPLACE FUNCTION set_sms_price(
    p_organization_id uuid,
    p_per_segment_micros bigint,
    p_from timestamptz DEFAULT now(),
    p_currency text DEFAULT 'USD'
)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    currency_used text := p_currency;
    from_time timestamptz := coalesce(p_from, now());
    until_time timestamptz;
    new_id bigint;
BEGIN
    LOCK TABLE prices IN SHARE ROW EXCLUSIVE MODE; -- one lock for prices of every kind, so that none waits in a circle
    IF p_organization_id IS NOT NULL THEN
        SELECT currency INTO currency_used FROM wallets WHERE organization_id = p_organization_id;
        IF NOT found THEN
            PERFORM refuse_unknown(p_organization_id);
        END IF;
    END IF;
    SELECT min(lower(valid)) INTO until_time
    FROM sms_prices
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND lower(valid) > from_time;
    UPDATE sms_prices SET valid = tstzrange(lower(valid), from_time)
    WHERE organization_id IS NOT DISTINCT FROM p_organization_id AND currency = currency_used
        AND valid @> from_time;
    INSERT INTO sms_prices (organization_id, currency, per_segment_micros, valid)
    VALUES (p_organization_id, currency_used, p_per_segment_micros, tstzrange(from_time, until_time))
    RETURNING id INTO new_id;
    PERFORM charge_messages(array_agg(uncharged.sid))
    FROM (
        SELECT sms_messages.sid
        FROM sms_messages
        INNER JOIN wallets ON wallets.organization_id = sms_messages.organization_id
        WHERE wallets.currency = currency_used
            AND (p_organization_id IS NULL OR wallets.organization_id = p_organization_id)
            AND sms_messages.sms_price_id IS NULL AND sms_messages.carrier_accepted
            AND sms_messages.sent_at >= from_time
        ORDER BY sms_messages.sid
        FOR UPDATE OF sms_messages
    ) AS uncharged;
    RETURN new_id;
END;
$$;

-- sms_is_settled: whether Twilio has told all that it ever will of a message that came to nothing: one that failed,
-- even after a carrier seemed to have it, need have neither segments nor a price.
CREATE OR REPLACE FUNCTION sms_is_settled(p_message sms_messages)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
RETURN (p_message).status IN ('failed', 'canceled') AND (p_message).polled_at IS NOT NULL
AND (p_message).missing_since IS NULL;

-- messages_to_poll: the messages that Twilio has to be asked about, longest unasked first: those that a carrier took
-- and whose segments or price are not known, those that have come to no end for p_stale, and those without organization
-- whose sender a route by number may name; first those that somebody pays for. Each is asked about ever more rarely (a
-- quarter of its age) and after 30 days no more, nor is one that Twilio has not known for a day.
CREATE OR REPLACE FUNCTION messages_to_poll(p_stale interval, p_limit integer)
RETURNS TABLE (sid text, account_sid text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT sid, account_sid
    FROM sms_messages
    WHERE first_seen_at > now() - interval '30 days' AND gone_at IS NULL
        AND (
            (
                carrier_accepted AND (num_segments IS NULL OR provider_price_micros IS NULL)
                AND NOT sms_is_settled(sms_messages)
            )
            OR (NOT sms_is_final(status) AND status_at < now() - p_stale)
            OR (organization_id IS NULL AND sms_sender_may_decide(sms_messages))
        )
        AND (
            polled_at IS NULL
            OR polled_at < now() - greatest(interval '50 minutes', (now() - first_seen_at) / 4)
        )
    ORDER BY organization_id IS NULL, polled_at NULLS FIRST, first_seen_at
    LIMIT p_limit
$$;

-- note_messages_asked: Twilio was asked about messages and gave no answer that could be recorded; p_gone: it has no
-- such messages. One answer may be wrong: only when it has said so for a day are they not asked about again.
CREATE OR REPLACE FUNCTION note_messages_asked(p_sids text[], p_gone boolean)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE sms_messages SET
        polled_at = now(),
        missing_since = CASE WHEN p_gone THEN coalesce(missing_since, now()) ELSE missing_since END,
        gone_at = CASE WHEN p_gone AND missing_since < now() - interval '1 day' THEN now() ELSE gone_at END
    WHERE sid IN (SELECT sid FROM sms_messages WHERE sid = ANY (p_sids) ORDER BY sid FOR UPDATE)
$$;
