-- note_condition: what somebody found when looking at a condition, such as too many lost webhooks.
--   failing, no incident open    opens one and enqueues an alert 'raised'
--   failing, one open            keeps the facts; enqueues a 'reminder' once the last message is older than
--                                p_remind_after (null: never), or at once when it has become critical
--   well, one open               closes it and enqueues an alert 'cleared'
--   well, none open              nothing
-- A message that still waits is brought up to date instead of followed by another: Slack may be away for days. Answers
-- with the incident and what it enqueued, no row when there is none. Idempotent but for the count. Locks: alerts, then
-- the key, until the end of the transaction.
CREATE OR REPLACE FUNCTION note_condition(
    p_key text, p_failing boolean, p_facts jsonb, p_severity text DEFAULT 'warning',
    p_remind_after interval DEFAULT '24 hours'
)
RETURNS TABLE (incident bigint, enqueued text, since timestamptz, times integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    known incidents;
    worse boolean;
    waiting boolean := false;
BEGIN
    LOCK TABLE alerts IN ROW EXCLUSIVE MODE; -- first, as in note_dead_events, which then comes here
    PERFORM lock_keys('incident', ARRAY[p_key]);
    SELECT * INTO known FROM incidents WHERE key = p_key AND closed_at IS NULL;

    IF known.id IS NULL THEN
        IF NOT p_failing THEN
            RETURN;
        END IF;
        INSERT INTO incidents (key, severity, facts) VALUES (p_key, p_severity, p_facts) RETURNING * INTO known;
        enqueued := 'raised';
    ELSIF p_failing THEN
        worse := known.severity <> 'critical' AND p_severity = 'critical';
        UPDATE incidents
        SET last_seen_at = now(), times_seen = times_seen + 1, facts = p_facts, severity = p_severity
        WHERE id = known.id
        RETURNING * INTO known;
        UPDATE alerts SET facts = p_facts, severity = p_severity
        WHERE incident_id = known.id AND sent_at IS NULL AND withdrawn_at IS NULL
            AND (claim_token IS NULL OR due_at <= now());
        IF NOT EXISTS (
            SELECT FROM alerts WHERE incident_id = known.id AND sent_at IS NULL AND withdrawn_at IS NULL
        ) AND (
            worse OR (SELECT max(sent_at) FROM alerts WHERE incident_id = known.id) <= now() - p_remind_after
        ) THEN
            enqueued := 'reminder';
        END IF;
    ELSE
        UPDATE incidents SET closed_at = now() WHERE id = known.id RETURNING * INTO known;
        UPDATE alerts SET kind = 'cleared', facts = p_facts -- whoever was not told of it yet is told once, of both
        WHERE incident_id = known.id AND sent_at IS NULL AND withdrawn_at IS NULL
            AND (claim_token IS NULL OR due_at <= now());
        waiting := found;
        enqueued := 'cleared';
    END IF;

    IF enqueued IS NOT NULL AND NOT waiting THEN
        INSERT INTO alerts (incident_id, key, kind, severity, facts)
        VALUES (known.id, p_key, enqueued, known.severity, p_facts);
    END IF;
    incident := known.id;
    since := known.opened_at;
    times := known.times_seen;
    RETURN NEXT;
END;
$$;

-- note_dead_events: one incident per provider and kind of error while events are dead of it; a reminder at most once a
-- day, and only if more died. Answers with how many messages wait for a sender, whatever they are about.
CREATE OR REPLACE FUNCTION note_dead_events()
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    death record;
    told_of timestamptz;
BEGIN
    IF EXISTS (SELECT FROM events WHERE state = 'dead')
        OR EXISTS (SELECT FROM incidents WHERE closed_at IS NULL AND starts_with(key, 'dead_events:')) THEN
        -- Who ends events as dead holds this table too until the end of its transaction, and looks at the clock after
        -- that: so a death is either seen here or later than all that are.
        LOCK TABLE alerts IN SHARE ROW EXCLUSIVE MODE;
        FOR death IN
            SELECT
                'dead_events:' || provider || ':' || error AS key,
                max(finished_at) AS last_died_at,
                jsonb_build_object(
                    'provider', provider,
                    'error', error,
                    'events', count(*),
                    'first_ids', to_jsonb((array_agg(id ORDER BY id))[:10]),
                    'example', left(min(reason), 500),
                    'last_died_at', max(finished_at)
                ) AS facts
            FROM (SELECT *, split_part(reason, ': ', 1) AS error FROM events WHERE state = 'dead') AS died
            GROUP BY provider, error
        LOOP
            SELECT max((alerts.facts ->> 'last_died_at')::timestamptz) INTO told_of
            FROM alerts
            INNER JOIN incidents ON incidents.id = alerts.incident_id
            WHERE incidents.key = death.key AND incidents.closed_at IS NULL;
            PERFORM note_condition(
                death.key, true, death.facts, 'warning',
                CASE WHEN death.last_died_at > told_of THEN interval '24 hours' END
            );
        END LOOP;
        PERFORM note_condition(gone.key, false, gone.facts || '{"events": 0, "first_ids": []}')
        FROM incidents AS gone
        WHERE gone.closed_at IS NULL AND starts_with(gone.key, 'dead_events:') AND NOT EXISTS (
            SELECT FROM events
            WHERE state = 'dead'
                AND 'dead_events:' || provider || ':' || split_part(reason, ': ', 1) = gone.key
        );
    END IF;
    RETURN (SELECT count(*) FROM alerts WHERE sent_at IS NULL AND withdrawn_at IS NULL AND due_at <= now());
END;
$$;
