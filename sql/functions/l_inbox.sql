-- accept_events: stores deliveries, one row per (provider, delivery key), with their bodies; a repeated one only counts
-- up, in whatever month it comes.
-- Wakes the workers when the transaction commits. Arrays of one length. Keys are taken in order, so that two
-- receivers with the same keys cannot deadlock.
CREATE OR REPLACE FUNCTION accept_events(
    p_providers text[], p_delivery_keys text[], p_types text[], p_bodies bytea[]
)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    WITH delivery AS (
        SELECT DISTINCT ON (provider, delivery_key)
            provider, delivery_key, type, body, count(*) OVER (PARTITION BY provider, delivery_key) AS deliveries
        FROM unnest(p_providers, p_delivery_keys, p_types, p_bodies) AS told (provider, delivery_key, type, body)
        ORDER BY provider, delivery_key
    ),

    stored AS (
        INSERT INTO events (provider, delivery_key, type, deliveries)
        SELECT provider, delivery_key, type, deliveries FROM delivery ORDER BY provider, delivery_key
        ON CONFLICT (provider, delivery_key) DO UPDATE SET
            deliveries = events.deliveries + excluded.deliveries, last_received_at = now()
        RETURNING id, provider, delivery_key, received_at
    )

    INSERT INTO event_bodies (received_at, event_id, body)
    SELECT stored.received_at, stored.id, delivery.body
    FROM stored
    INNER JOIN delivery ON delivery.provider = stored.provider AND delivery.delivery_key = stored.delivery_key
    WHERE stored.received_at = now() -- a repeated one was received before
    ON CONFLICT DO NOTHING;
    NOTIFY calltally_events;
END;
$$;

-- claim_events: takes up to p_limit waiting events, oldest first, for a worker until its lease ends; of bodies no more
-- than p_max_bytes, so that the worker has room for them however long the calls were (null: as much as there is).
-- Each provider with something waiting has the same share of both, so a flood of one does not starve another, and gets
-- one event at least, however large.
-- An event is suspected once a claim of it has expired (sweep_events): it may be what ended its worker. It is claimed
-- alone, those that were so least often first, so that what is innocent is applied before the culprit comes again.
-- p_suspects: true asks for a suspected event, false for others; null for others and, if there are none, for a suspect.
-- The token of the claim is what finishing asks for. Never waits for another worker. Answers with all that the worker
-- needs: a look at the table in the same statement would miss what was committed since that began.
-- Looks for bodies in every month, of which there are few: PostgreSQL 18.6 crashes (perform_pruning_base_step) when an
-- event changes while it is claimed, as by a repeated delivery, and the recheck chooses the month of its body.
CREATE OR REPLACE FUNCTION claim_events(
    p_claimed_by text, p_limit integer, p_lease interval, p_flow_run_id uuid DEFAULT NULL,
    p_max_bytes bigint DEFAULT NULL, p_suspects boolean DEFAULT NULL
)
RETURNS TABLE (
    id bigint, provider text, type text, body bytea, attempts integer, claim_token uuid, received_at timestamptz
)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp SET enable_partition_pruning = off AS $$
    WITH busy AS (
        SELECT known.provider FROM (VALUES ('stripe'), ('vapi'), ('twilio')) AS known (provider)
        WHERE p_suspects IS NOT TRUE AND EXISTS (
            SELECT FROM events
            WHERE events.state = 'waiting' AND events.provider = known.provider AND NOT events.suspected
        )
    ),

    heads AS (
        SELECT busy.provider, line.id, line.received_at,
            row_number() OVER (PARTITION BY busy.provider ORDER BY line.id) AS place
        FROM busy
        CROSS JOIN LATERAL (
            SELECT events.id, events.received_at FROM events
            WHERE events.state = 'waiting' AND events.provider = busy.provider AND NOT events.suspected
            ORDER BY events.id
            LIMIT ceil(p_limit::numeric / (SELECT count(*) FROM busy))
            FOR UPDATE SKIP LOCKED
        ) AS line
        -- Rounded up, the shares may add up to more than the limit; cutting by id alone would starve the youngest.
        ORDER BY place, line.id
        LIMIT p_limit
    ),

    suspect AS (
        SELECT events.provider, events.id, events.received_at, 1 AS place FROM events
        WHERE events.state = 'waiting' AND events.suspected
            AND p_suspects IS NOT FALSE AND NOT EXISTS (SELECT FROM busy)
        ORDER BY events.expired_claims, events.id
        LIMIT least(p_limit, 1)
        FOR UPDATE OF events SKIP LOCKED
    ),

    chosen AS (
        SELECT provider, id, received_at, place FROM heads
        UNION ALL
        SELECT provider, id, received_at, place FROM suspect
    ),

    -- The length of a body stands beside it: it is not read for that, and must not be carried along, or it would be.
    measured AS (
        SELECT chosen.id, chosen.place,
            sum(octet_length(stored.body)) OVER (PARTITION BY chosen.provider ORDER BY chosen.id) AS bytes_so_far
        FROM chosen
        LEFT JOIN LATERAL body_of_event(chosen.received_at, chosen.id) AS stored (body) ON true
    ),

    due AS (
        SELECT measured.id FROM measured
        WHERE measured.place = 1 OR p_max_bytes IS NULL
            OR coalesce(measured.bytes_so_far, 0) <= p_max_bytes / greatest(1, (SELECT count(*) FROM busy))
    ),

    token AS MATERIALIZED (SELECT gen_random_uuid() AS id),

    claimed AS (
        UPDATE events
        SET state = 'active', claimed_by = p_claimed_by, claim_token = token.id, lease_until = now() + p_lease,
            flow_run_id = coalesce(p_flow_run_id, events.flow_run_id), reason = NULL
        FROM due, token
        WHERE events.id = due.id
        RETURNING events.*
    )

    SELECT
        claimed.id, claimed.provider, claimed.type, stored.body, claimed.attempts, claimed.claim_token,
        claimed.received_at
    FROM claimed
    LEFT JOIN LATERAL body_of_event(claimed.received_at, claimed.id) AS stored (body) ON true
    ORDER BY claimed.id
$$;

-- finish_events: ends claimed events as done, skipped, parked or dead, in the transaction of their effects.
-- Errors: TY009 the claim is not ours any more, so nothing of this transaction may be committed.
CREATE OR REPLACE FUNCTION finish_events(p_claim_token uuid, p_ids bigint[], p_states text[], p_reasons text[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    finished integer;
BEGIN
    IF 'dead' = ANY (p_states) THEN
        LOCK TABLE alerts IN ROW EXCLUSIVE MODE; -- see note_dead_events
    END IF;
    UPDATE events
    SET state = outcome.state, reason = outcome.reason, attempts = attempts + 1,
        claim_token = NULL, lease_until = NULL, suspected = false, expired_claims = 0,
        finished_at = CASE WHEN outcome.state <> 'parked' THEN clock_timestamp() END
    FROM unnest(p_ids, p_states, p_reasons) AS outcome (id, state, reason)
    WHERE events.id = outcome.id AND events.claim_token = p_claim_token
        AND outcome.state IN ('done', 'skipped', 'parked', 'dead');
    GET DIAGNOSTICS finished = ROW_COUNT;
    INSERT INTO event_attempts (event_id, attempt, error_class, message, flow_run_id)
    SELECT id, attempts, split_part(reason, ': ', 1), regexp_replace(reason, '^\w+: ', ''), flow_run_id
    FROM events
    WHERE id = ANY (p_ids) AND state = 'dead' AND 'dead' = ANY (p_states);
    IF finished <> cardinality(p_ids) THEN
        PERFORM refuse(
            'TY009', format('%s of %s events are no longer claimed', cardinality(p_ids) - finished, cardinality(p_ids)),
            jsonb_build_object('claim_token', p_claim_token, 'event_ids', to_jsonb(p_ids)),
            'Nothing was applied here; whoever holds the claim now applies them.'
        );
    END IF;
END;
$$;

-- fail_event: notes a failed attempt. The event stays with this worker as delayed for p_lease, for its next attempt,
-- or (p_dead) ends here. Errors: TY009.
CREATE OR REPLACE FUNCTION fail_event(
    p_claim_token uuid, p_id bigint, p_error_class text, p_message text, p_dead boolean, p_lease interval,
    p_flow_run_id uuid DEFAULT NULL
)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    failed events;
BEGIN
    IF p_dead THEN
        LOCK TABLE alerts IN ROW EXCLUSIVE MODE; -- see note_dead_events
    END IF;
    UPDATE events
    SET state = CASE WHEN p_dead THEN 'dead' ELSE 'delayed' END,
        reason = p_error_class || ': ' || p_message,
        attempts = attempts + 1,
        claim_token = CASE WHEN NOT p_dead THEN claim_token END,
        lease_until = CASE WHEN NOT p_dead THEN now() + p_lease END,
        finished_at = CASE WHEN p_dead THEN clock_timestamp() END
    WHERE id = p_id AND claim_token = p_claim_token
    RETURNING * INTO failed;
    IF NOT found THEN
        PERFORM refuse(
            'TY009', format('event %s is no longer claimed', p_id),
            jsonb_build_object('claim_token', p_claim_token, 'event_ids', jsonb_build_array(p_id)),
            'Whoever holds the claim now applies it.'
        );
    END IF;
    INSERT INTO event_attempts (event_id, attempt, error_class, message, flow_run_id)
    VALUES (p_id, failed.attempts, p_error_class, p_message, p_flow_run_id);
END;
$$;

-- note_applying: whether events of a claim are being applied again (active), or only kept until something is tried or
-- found out (delayed): an event that is kept is not blamed if its worker dies. Passes over those that another has.
CREATE OR REPLACE FUNCTION note_applying(
    p_claim_tokens uuid[], p_ids bigint[], p_applying boolean, p_lease interval
)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE events
    SET state = CASE WHEN p_applying THEN 'active' ELSE 'delayed' END, lease_until = now() + p_lease
    WHERE id = ANY (p_ids) AND claim_token = ANY (p_claim_tokens) AND state IN ('active', 'delayed')
$$;

-- release_events: a worker gives back what it holds and cannot apply, for a reason that is not the events': they wait
-- again as if they had not been claimed. Those that another has claimed meanwhile stay his. Answers with how many.
CREATE OR REPLACE FUNCTION release_events(p_claim_tokens uuid[], p_ids bigint[])
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    released integer;
BEGIN
    UPDATE events SET state = 'waiting', claim_token = NULL, lease_until = NULL
    WHERE id = ANY (p_ids) AND claim_token = ANY (p_claim_tokens);
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END;
$$;

-- sweep_events: takes events from workers that are gone, that is, whose lease has ended. They wait again, and those
-- that were being applied are suspected from now on: their attempt is noted, and claim_events gives each of them alone.
-- An event with which nothing else of its claim was in its worker's hands, three times, is dead: a worker that dies of
-- another thing does not meet the same one thrice. One that was delayed did nothing when its worker went, and is not
-- blamed. Answers with how many it took.
CREATE OR REPLACE FUNCTION sweep_events()
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    swept integer;
BEGIN
    IF NOT EXISTS (SELECT FROM events WHERE state IN ('active', 'delayed') AND lease_until < now()) THEN
        RETURN 0;
    END IF;
    LOCK TABLE alerts IN ROW EXCLUSIVE MODE; -- see note_dead_events

    WITH lost AS (
        SELECT id, claim_token, state = 'active' AS was_tried FROM events
        WHERE state IN ('active', 'delayed') AND lease_until < now()
        FOR UPDATE SKIP LOCKED
    ),

    judged AS (
        SELECT id, was_tried,
            was_tried AND count(*) FILTER (WHERE was_tried) OVER (PARTITION BY claim_token) = 1 AS was_alone
        FROM lost
    ),

    taken AS (
        UPDATE events
        SET state = CASE WHEN was_alone AND expired_claims >= 2 THEN 'dead' ELSE 'waiting' END,
            reason = CASE
                WHEN was_alone AND expired_claims >= 2
                    THEN 'WorkerDied: its worker ended or hung while it was being applied, alone, for the third time'
            END,
            finished_at = CASE WHEN was_alone AND expired_claims >= 2 THEN clock_timestamp() END,
            suspected = suspected OR was_tried,
            attempts = attempts + was_tried::integer,
            expired_claims = expired_claims + was_alone::integer,
            claim_token = NULL,
            lease_until = NULL
        FROM judged
        WHERE events.id = judged.id
        RETURNING events.id, events.attempts, events.claimed_by, events.flow_run_id, was_tried, was_alone
    ),

    noted AS (
        INSERT INTO event_attempts (event_id, attempt, error_class, message, flow_run_id)
        SELECT
            id, attempts, 'WorkerDied',
            format('its worker (%s) ended or hung while it was being applied, ', claimed_by)
            || CASE WHEN was_alone THEN 'alone' ELSE 'among others' END,
            flow_run_id
        FROM taken WHERE was_tried
    )

    SELECT count(*) INTO swept FROM taken;
    IF swept > 0 THEN
        NOTIFY calltally_events;
    END IF;
    RETURN swept;
END;
$$;

-- beat_heart: says that a worker is there.
CREATE OR REPLACE FUNCTION beat_heart(p_worker text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO workers (name) VALUES (p_worker) ON CONFLICT (name) DO UPDATE SET seen_at = now();
$$;

-- note_prefect_reached: says that Prefect was ready when a worker asked at that time.
CREATE OR REPLACE FUNCTION note_prefect_reached(p_worker text, p_at timestamptz)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO workers (name, prefect_reached_at) VALUES (p_worker, p_at)
    ON CONFLICT (name) DO UPDATE SET prefect_reached_at = p_at;
$$;
