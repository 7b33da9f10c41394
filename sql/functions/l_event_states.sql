-- The life of an event, as pairs of from>to; the database refuses every other step as a check_violation.
CREATE OR REPLACE FUNCTION is_event_step(p_from text, p_to text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_position(ARRAY[
    'waiting>active',                                                   -- claim_events
    'active>done', 'active>skipped', 'active>parked', 'active>dead',    -- finish_events, fail_event
    'active>delayed', 'delayed>delayed',                                -- fail_event, note_applying
    'delayed>active', 'active>active',                                  -- note_applying
    'delayed>done', 'delayed>skipped', 'delayed>parked', 'delayed>dead',
    'active>waiting', 'delayed>waiting',                                -- sweep_events, release_events
    'parked>waiting',                                                   -- wake_events: the obstacle is gone
    'parked>skipped', 'dead>skipped',                                   -- dismiss_events: somebody looked at it
    'done>waiting', 'skipped>waiting', 'dead>waiting'                   -- replay_events
], p_from || '>' || p_to) IS NOT NULL;

CREATE OR REPLACE FUNCTION refuse_event_step()
RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM refuse(
        '23514', format('an event cannot go from %s to %s', old.state, new.state),
        jsonb_build_object('event_id', old.id, 'from', old.state, 'to', new.state),
        'Replay it, or wait until its claim has ended.'
    );
    RETURN NULL;
END;
$$;
CREATE OR REPLACE TRIGGER events_step BEFORE UPDATE OF state ON events
FOR EACH ROW WHEN (NOT is_event_step(old.state, new.state)) EXECUTE FUNCTION refuse_event_step();
