-- Alerts are an outbox: written with what they are about, then claimed, sent, and noted. A sender that dies leaves a
-- claim that ends by itself; the next sender takes over, so a message may come twice. None is lost but one that Slack
-- took and lost without an answer.

-- claim_alerts: takes messages that are due, oldest first, until the lease ends; only critical ones if asked so.
-- One message per incident at a time, so that an all-clear never overtakes its alarm. What waited for a week and is
-- over is withdrawn. Never waits for another sender. `since`, `until` and `times_seen` are the incident's; `told`:
-- whether an earlier message of it was sent.
CREATE OR REPLACE FUNCTION claim_alerts(
    p_limit integer DEFAULT 1, p_lease interval DEFAULT '5 minutes', p_only_critical boolean DEFAULT false
)
RETURNS TABLE (
    id bigint, key text, kind text, severity text, facts jsonb, claim_token uuid,
    incident_id bigint, since timestamptz, until timestamptz, times_seen integer, told boolean
)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE alerts SET withdrawn_at = now(), outcome = 'withdrawn: a week old, and over'
    WHERE sent_at IS NULL AND withdrawn_at IS NULL AND opened_at < now() - interval '7 days' AND due_at <= now()
        AND NOT EXISTS (
            SELECT FROM incidents WHERE incidents.id = alerts.incident_id AND incidents.closed_at IS NULL
        );

    WITH due AS (
        SELECT alerts.id FROM alerts
        WHERE sent_at IS NULL AND withdrawn_at IS NULL AND due_at <= now()
            AND (alerts.severity = 'critical' OR NOT p_only_critical)
            AND NOT EXISTS (
                SELECT FROM alerts AS earlier
                WHERE earlier.incident_id = alerts.incident_id AND earlier.id < alerts.id
                    AND earlier.sent_at IS NULL AND earlier.withdrawn_at IS NULL
            )
        ORDER BY alerts.id
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ),

    claimed AS (
        UPDATE alerts
        SET claim_token = gen_random_uuid(), due_at = now() + p_lease, attempts = alerts.attempts + 1
        FROM due
        WHERE alerts.id = due.id
        RETURNING alerts.*
    )

    SELECT
        claimed.id, claimed.key, claimed.kind, claimed.severity, claimed.facts, claimed.claim_token,
        claimed.incident_id, incidents.opened_at, incidents.closed_at, incidents.times_seen,
        EXISTS (SELECT FROM alerts AS sent WHERE sent.incident_id = claimed.incident_id AND sent.sent_at IS NOT NULL)
    FROM claimed
    LEFT JOIN incidents ON incidents.id = claimed.incident_id
    ORDER BY claimed.id
$$;

-- note_run_alert: what came of telling people of a night, on its run; that they could not be told is a finding, one per
-- run. The outbox knows better than the run itself, which therefore notes only what is not noted yet. Answers with what
-- is noted in the end.
CREATE OR REPLACE FUNCTION note_run_alert(p_run_id uuid, p_outcome text, p_overrule boolean DEFAULT false)
RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE reconciliation_runs SET alert = p_outcome WHERE id = p_run_id AND (p_overrule OR alert IS NULL);

    INSERT INTO findings (run_id, kind, outcome, detail)
    SELECT id, 'alert', 'noted', jsonb_build_object('problem', alert) FROM reconciliation_runs
    WHERE id = p_run_id AND starts_with(alert, 'could not alert')
        AND NOT EXISTS (SELECT FROM findings WHERE run_id = p_run_id AND kind = 'alert');

    SELECT alert FROM reconciliation_runs WHERE id = p_run_id
$$;

-- note_alert_outcome: what came of sending a claimed message, on it and on the night that it is about. Sent ends it;
-- otherwise it is due again after a minute, then two, four, up to an hour. Who lost the claim meanwhile can still say
-- that it was sent.
CREATE OR REPLACE FUNCTION note_alert_outcome(p_id bigint, p_claim_token uuid, p_outcome text, p_sent boolean)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH noted AS (
        UPDATE alerts
        SET outcome = p_outcome,
            sent_at = CASE WHEN p_sent THEN clock_timestamp() END,
            due_at = now() + least(interval '1 hour', interval '1 minute' * 2 ^ (least(attempts, 10) - 1)),
            claim_token = NULL
        WHERE id = p_id AND sent_at IS NULL AND (p_sent OR claim_token = p_claim_token)
        RETURNING facts ->> 'run_id' AS run_id
    )

    SELECT note_run_alert(run_id::uuid, p_outcome, true) FROM noted WHERE run_id IS NOT NULL
$$;

-- note_alert_in_doubt: Slack took a claimed message and gave no answer, so it may have posted it. It counts as sent and
-- is not repeated, unless another one ended like that within the hour: then it is the channel, and no message may be
-- lost in it. Answers with what is noted.
CREATE OR REPLACE FUNCTION note_alert_in_doubt(p_id bigint, p_claim_token uuid, p_reason text)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    again boolean := EXISTS (
        SELECT FROM alerts WHERE starts_with(outcome, 'possibly sent') AND sent_at > now() - interval '1 hour'
    );
    noted text := CASE
        WHEN again THEN 'could not alert: ' || p_reason || ', as with the message before'
        ELSE 'possibly sent: Slack gave no answer (' || p_reason || ')'
    END;
BEGIN
    PERFORM note_alert_outcome(p_id, p_claim_token, noted, NOT again);
    RETURN noted;
END;
$$;

-- hold_alerts: notes on every waiting message, and on the nights that they are about, why none can be sent now, and
-- answers with them. Costs nothing when the reason is noted already. What a sender holds is left alone; so are critical
-- ones, if asked so.
CREATE OR REPLACE FUNCTION hold_alerts(p_outcome text, p_except_critical boolean DEFAULT false)
RETURNS TABLE (id bigint, key text, kind text)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH noted AS (
        UPDATE alerts SET outcome = p_outcome
        WHERE sent_at IS NULL AND withdrawn_at IS NULL AND (claim_token IS NULL OR due_at <= now())
            AND NOT (p_except_critical AND alerts.severity = 'critical') AND outcome IS DISTINCT FROM p_outcome
        RETURNING facts ->> 'run_id' AS run_id
    )

    SELECT note_run_alert(run_id::uuid, p_outcome, true) FROM noted WHERE run_id IS NOT NULL;

    SELECT alerts.id, alerts.key, alerts.kind FROM alerts
    WHERE sent_at IS NULL AND withdrawn_at IS NULL AND (claim_token IS NULL OR due_at <= now())
        AND NOT (p_except_critical AND alerts.severity = 'critical')
    ORDER BY alerts.id
$$;

-- enqueue_message: a message of its own, such as a weekly summary; once per key, however often it is asked for.
-- Answers with its id, or null if that key had its message.
CREATE OR REPLACE FUNCTION enqueue_message(p_kind text, p_key text, p_facts jsonb)
RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO alerts (kind, key, facts, severity) VALUES (p_kind, p_key, p_facts, 'info')
    ON CONFLICT (key) WHERE kind IN ('summary', 'heartbeat') DO NOTHING
    RETURNING id
$$;
