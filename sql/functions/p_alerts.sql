-- open_dead_event_alerts: opens one alert per provider and kind of error that killed events since its last alert, and
-- no more than one per p_window. Answers with every alert that is not sent yet, so a sender that died is made up for.
CREATE OR REPLACE FUNCTION open_dead_event_alerts(p_window interval)
RETURNS SETOF alerts LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    LOCK TABLE alerts IN SHARE ROW EXCLUSIVE MODE; -- two openers would both open
    INSERT INTO alerts (key, facts)
    SELECT
        died.key,
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
    LEFT JOIN LATERAL (
        SELECT max(alerts.opened_at) AS opened_at FROM alerts WHERE alerts.key = died.key
    ) AS latest ON true
    WHERE latest.opened_at IS NULL
        OR (died.finished_at > latest.opened_at AND latest.opened_at < now() - p_window)
    GROUP BY died.key;
    RETURN QUERY SELECT * FROM alerts WHERE alerts.sent_at IS NULL AND alerts.opened_at > now() - interval '1 hour';
END;
$$;

-- note_alert: what came of sending an alert; only `sent` ends it.
CREATE OR REPLACE FUNCTION note_alert(p_id bigint, p_outcome text)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE alerts SET outcome = p_outcome, sent_at = CASE WHEN p_outcome = 'sent' THEN now() END WHERE id = p_id
$$;
