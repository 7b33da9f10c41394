-- ensure_partitions: makes the months of event_bodies that are missing, p_months of them from that of p_from on (UTC).
-- What had come for such a month in the meantime moves into it. Safe at any time and beside any traffic, which waits
-- for a moment if something has to move. Acts as the tables' owner. Answers with how many it made.
CREATE OR REPLACE FUNCTION ensure_partitions(p_from timestamptz DEFAULT now(), p_months integer DEFAULT 4)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first_month timestamp := date_trunc('month', p_from AT TIME ZONE 'UTC');
    month_start timestamptz;
    month_end timestamptz;
    part text;
    made integer := 0;
BEGIN
    LOCK TABLE event_bodies IN SHARE UPDATE EXCLUSIVE MODE; -- one at a time; webhooks do not wait for it
    FOR ahead IN 0 .. p_months - 1 LOOP
        month_start := (first_month + make_interval(months => ahead)) AT TIME ZONE 'UTC';
        month_end := (first_month + make_interval(months => ahead + 1)) AT TIME ZONE 'UTC';
        part := to_char(month_start AT TIME ZONE 'UTC', '"parts.event_bodies_"YYYY_MM');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;

        LOCK TABLE parts.event_bodies_other IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %s (LIKE event_bodies INCLUDING ALL)', part);
        EXECUTE format(
            'WITH moved AS (DELETE FROM parts.event_bodies_other WHERE received_at >= $1 AND received_at < $2 '
            'RETURNING received_at, event_id, body) INSERT INTO %s SELECT received_at, event_id, body FROM moved', part
        ) USING month_start, month_end;
        EXECUTE format(
            'ALTER TABLE event_bodies ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', part, month_start, month_end
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END;
$$;

-- forget_bodies: drops the months of event_bodies that ended p_age ago, and up to p_limit older bodies that lie in
-- none. Bodies of events that are not done or skipped stay. Dropping a month keeps webhooks waiting for milliseconds;
-- if it has to wait for others for long, it gives up for today (lock_not_available). Internal: prune_events calls it;
-- acts as the tables' owner.
CREATE OR REPLACE FUNCTION forget_bodies(p_age interval, p_limit integer)
RETURNS TABLE (months integer, bodies integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET enable_seqscan = off SET lock_timeout = '3s' AS $$
DECLARE
    part regclass;
BEGIN
    months := 0;
    FOR part IN
        SELECT inhrelid::regclass
        FROM pg_inherits
        INNER JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'event_bodies'::regclass AND relname ~ '^event_bodies_\d{4}_\d\d$'
            AND (to_date(right(relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= now() - p_age
        ORDER BY relname
    LOOP
        EXECUTE format('ALTER TABLE event_bodies DETACH PARTITION %s', part);
        EXECUTE format(
            'INSERT INTO event_bodies (received_at, event_id, body) SELECT part.received_at, part.event_id, part.body '
            'FROM unfinished_events() AS event CROSS JOIN LATERAL (SELECT * FROM %s AS bodies '
            'WHERE bodies.received_at = event.received_at AND bodies.event_id = event.id LIMIT 1) AS part', part
        );
        EXECUTE format('DROP TABLE %s', part);
        months := months + 1;
    END LOOP;

    DELETE FROM parts.event_bodies_other AS gone
    USING (
        SELECT old.received_at, old.event_id
        FROM parts.event_bodies_other AS old
        LEFT JOIN LATERAL (SELECT state FROM events WHERE events.id = old.event_id LIMIT 1) AS event ON true
        WHERE old.received_at < now() - p_age AND coalesce(event.state, 'done') IN ('done', 'skipped')
        ORDER BY old.received_at
        LIMIT p_limit
    ) AS chosen
    WHERE gone.received_at = chosen.received_at AND gone.event_id = chosen.event_id;
    GET DIAGNOSTICS bodies = ROW_COUNT;
    RETURN NEXT;
END;
$$;

-- unfinished_events: those that may still have to be applied, through the small index of each state. Internal.
CREATE OR REPLACE FUNCTION unfinished_events()
RETURNS SETOF events LANGUAGE sql STABLE AS $$
    SELECT * FROM events WHERE state = 'waiting'
    UNION ALL
    SELECT * FROM events WHERE state IN ('active', 'delayed')
    UNION ALL
    SELECT * FROM events WHERE state = 'parked'
    UNION ALL
    SELECT * FROM events WHERE state = 'dead'
$$;

-- body_of_event: what an event came with; no row once it is forgotten. Internal.
CREATE OR REPLACE FUNCTION body_of_event(p_received_at timestamptz, p_event_id bigint)
RETURNS SETOF bytea LANGUAGE sql STABLE AS $$
    SELECT body FROM event_bodies WHERE received_at = p_received_at AND event_id = p_event_id LIMIT 1
$$;
