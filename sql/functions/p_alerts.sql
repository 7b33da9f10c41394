-- open_dead_event_alerts: opens one alert per provider and kind of error that killed events since its last sent alert,
-- and no more than one per p_window. What was opened and could not be sent for so long is counted in the next one.
-- Answers with the alerts that it opened, and with older ones that are not sent, so a sender that died is made up for.
CREATE OR REPLACE FUNCTION open_dead_event_alerts(p_window interval)
RETURNS SETOF alerts LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    -- Two openers would both open. Who ends events as dead holds this table too until the end of its transaction, and
    -- looks at the clock after that, as we do: so each death is either seen here or later than opened_at.
    LOCK TABLE alerts IN SHARE ROW EXCLUSIVE MODE;
    RETURN QUERY
    WITH opened AS (
        INSERT INTO alerts (key, opened_at, facts)
        SELECT
            died.key,
            clock_timestamp(),
            jsonb_build_object(
                'provider', min(died.provider),
                'error', min(died.error),
                'events', count(*),
                'first_ids', to_jsonb((array_agg(died.id ORDER BY died.id))[:10]),
                'example', min(died.reason)
            )
        FROM (
            SELECT
                events.*,
                split_part(events.reason, ': ', 1) AS error,
                'dead_events:' || events.provider || ':' || split_part(events.reason, ': ', 1) AS key
            FROM events
            WHERE events.state = 'dead'
        ) AS died
        CROSS JOIN LATERAL (
            SELECT max(alerts.opened_at) AS opened_at, max(alerts.opened_at) FILTER (WHERE sent_at IS NOT NULL) AS told_at
            FROM alerts
            WHERE alerts.key = died.key
        ) AS latest
        WHERE (latest.told_at IS NULL OR died.finished_at > latest.told_at)
            AND (latest.opened_at IS NULL OR latest.opened_at <= now() - p_window)
        GROUP BY died.key
        RETURNING *
    )

    SELECT * FROM opened
    UNION ALL
    SELECT * FROM alerts
    WHERE sent_at IS NULL AND opened_at > now() - p_window
        AND opened_at < now() - interval '1 minute'; -- until then its opener may be about to send it
END;
$$;

-- note_alert: what came of sending an alert; only `sent` ends it.
CREATE OR REPLACE FUNCTION note_alert(p_id bigint, p_outcome text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE alerts SET outcome = p_outcome, sent_at = CASE WHEN p_outcome = 'sent' THEN now() END WHERE id = p_id
$$;
