-- claim_these_events: takes up to p_limit chosen events that are waiting, oldest first, whatever else waits; of bodies
-- no more than p_max_bytes, but one event at least (null: as many as there are). For a replay that was rehearsed.
-- Looks for bodies in every month, as claim_events.
CREATE OR REPLACE FUNCTION claim_these_events(
    p_ids bigint[], p_claimed_by text, p_lease interval, p_limit integer DEFAULT NULL,
    p_max_bytes bigint DEFAULT NULL
)
RETURNS TABLE (
    id bigint, provider text, type text, body bytea, attempts integer, claim_token uuid, received_at timestamptz
)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp SET enable_partition_pruning = off AS $$
    WITH heads AS (
        SELECT events.id, events.received_at FROM events
        WHERE events.id = ANY (p_ids) AND events.state = 'waiting'
        ORDER BY events.id
        LIMIT p_limit
        FOR UPDATE
    ),

    measured AS (
        SELECT heads.id,
            row_number() OVER (ORDER BY heads.id) AS place,
            sum(octet_length(stored.body)) OVER (ORDER BY heads.id) AS bytes_so_far
        FROM heads
        LEFT JOIN LATERAL body_of_event(heads.received_at, heads.id) AS stored (body) ON true
    ),

    token AS MATERIALIZED (SELECT gen_random_uuid() AS id),

    claimed AS (
        UPDATE events
        SET state = 'active', claimed_by = p_claimed_by, claim_token = token.id, lease_until = now() + p_lease,
            reason = NULL
        FROM measured, token
        WHERE events.id = measured.id AND (
            measured.place = 1 OR p_max_bytes IS NULL OR coalesce(measured.bytes_so_far, 0) <= p_max_bytes
        )
        RETURNING events.*
    )

    SELECT
        claimed.id, claimed.provider, claimed.type, stored.body, claimed.attempts, claimed.claim_token,
        claimed.received_at
    FROM claimed
    LEFT JOIN LATERAL body_of_event(claimed.received_at, claimed.id) AS stored (body) ON true
$$;

-- extend_lease: a worker that is still busy keeps its events. Answers with how many it still holds.
CREATE OR REPLACE FUNCTION extend_lease(p_claim_tokens uuid[], p_lease interval)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    held integer;
BEGIN
    UPDATE events SET lease_until = greatest(lease_until, now() + p_lease)
    WHERE id IN (
        SELECT id FROM events
        WHERE state IN ('active', 'delayed') AND claim_token = ANY (p_claim_tokens)
        FOR UPDATE SKIP LOCKED -- what is being finished right now needs no longer lease
    );
    GET DIAGNOSTICS held = ROW_COUNT;
    RETURN held;
END;
$$;

-- oldest_waiting_event: where the line begins; null if nobody waits.
CREATE OR REPLACE FUNCTION oldest_waiting_event()
RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT min(heads.id)
    FROM (VALUES ('stripe'), ('vapi'), ('twilio')) AS known (provider)
    CROSS JOIN LATERAL (
        SELECT events.id FROM events
        WHERE events.state = 'waiting' AND events.provider = known.provider
        ORDER BY events.id
        LIMIT 1
    ) AS heads
$$;

-- queue_metrics: how many events are in each state, and since when the oldest waits. What is unfinished is counted
-- exactly, through small indexes; finished ones are estimated once there are more than 100,000, so that asking costs
-- the same however many the table keeps.
CREATE OR REPLACE FUNCTION queue_metrics()
RETURNS TABLE (
    waiting bigint, active bigint, delayed bigint, parked bigint, dead bigint, finished bigint,
    oldest_waiting_at timestamptz
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    estimated bigint := (SELECT reltuples FROM pg_class WHERE oid = 'events'::regclass);
BEGIN
    SELECT count(*) INTO waiting FROM events WHERE state = 'waiting';
    SELECT received_at INTO oldest_waiting_at FROM events WHERE id = oldest_waiting_event();
    SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state = 'delayed')
    INTO active, delayed FROM events WHERE state IN ('active', 'delayed');
    SELECT count(*) INTO parked FROM events WHERE state = 'parked';
    SELECT count(*) INTO dead FROM events WHERE state = 'dead';
    IF estimated > 100000 THEN
        finished := greatest(0, estimated - waiting - active - delayed - parked - dead);
    ELSE
        SELECT count(*) INTO finished FROM events WHERE state IN ('done', 'skipped');
    END IF;
    RETURN NEXT;
END;
$$;

-- prune_events: forgets bodies p_body_age after they came (they hold personal data), by whole months, so up to a month
-- later; and the rows of done and skipped events p_row_age after their end. Of these, and of bodies that lie in no
-- month, up to p_limit at a time, oldest first. Dead, parked and unfinished ones are kept with their bodies. Answers
-- with how many of each. Errors: TY004 an age below a day, which would forget what people may still ask about.
CREATE OR REPLACE FUNCTION prune_events(
    p_body_age interval DEFAULT '30 days', p_row_age interval DEFAULT '400 days', p_limit integer DEFAULT 10000
)
RETURNS TABLE (months integer, bodies integer, events_removed integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF NOT coalesce(
        now() - p_body_age <= now() - interval '1 day' AND now() - p_row_age <= now() - interval '1 day', false
    ) THEN
        PERFORM refuse(
            'TY004', 'bodies and rows of events are kept for a day at least',
            jsonb_build_object('body_age', p_body_age, 'row_age', p_row_age), 'Give ages of a day or more.'
        );
    END IF;
    SELECT forgotten.months, forgotten.bodies INTO months, bodies
    FROM forget_bodies(p_body_age, p_limit) AS forgotten;
    DELETE FROM events
    WHERE id IN (
        SELECT id FROM events
        WHERE finished_at < now() - p_row_age AND state IN ('done', 'skipped')
        ORDER BY finished_at
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS events_removed = ROW_COUNT;
    RETURN NEXT;
END;
$$;

-- dismiss_events: ends parked or dead events that somebody looked at and that are nobody's business here, such as
-- payments for other products of the same Stripe account; their refunds and disputes are skipped with them. Nothing is
-- booked; they can still be replayed. Answers with the ids that it ended. Errors: TY004 without a reason.
CREATE OR REPLACE FUNCTION dismiss_events(p_ids bigint[], p_reason text)
RETURNS SETOF bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    payments jsonb := (
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'payment_id', split_part(reason, ':', 2), 'skipped_because', 'payment dismissed: ' || p_reason
        )) FROM events
        WHERE id = ANY (p_ids) AND state = 'parked' AND provider = 'stripe' AND split_part(reason, ':', 2) <> ''
            AND type ~ '^(v1\.)?(payment_intent|checkout\.session)\.'
    );
BEGIN
    IF coalesce(p_reason, '') = '' THEN
        PERFORM refuse(
            'TY004', 'dismissing events needs a reason', jsonb_build_object('event_ids', to_jsonb(p_ids)),
            'Say why nothing has to be done about them.'
        );
    END IF;
    RETURN QUERY
    UPDATE events SET state = 'skipped', reason = 'dismissed: ' || p_reason, finished_at = clock_timestamp()
    WHERE id = ANY (p_ids) AND state IN ('parked', 'dead')
    RETURNING id;
    PERFORM note_payments(payments);
END;
$$;

-- replay_events: puts dead, parked, skipped or done events back in line; what is applied already stays applied once.
-- One that died with its workers is claimed alone again. Answers with the ids that it woke: others are claimed or
-- waiting anyway. Looks in every month, as claim_events.
CREATE OR REPLACE FUNCTION replay_events(p_ids bigint[])
RETURNS SETOF bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET enable_partition_pruning = off AS $$
BEGIN
    RETURN QUERY
    UPDATE events
    SET state = 'waiting', reason = NULL, finished_at = NULL, expired_claims = 0
    WHERE id = ANY (p_ids) AND state IN ('dead', 'parked', 'skipped', 'done')
        AND EXISTS (
            SELECT FROM event_bodies
            WHERE event_bodies.received_at = events.received_at AND event_bodies.event_id = events.id
        )
    RETURNING id;
    NOTIFY calltally_events;
END;
$$;
