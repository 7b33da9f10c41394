-- A row: an accepted event is in no state of its life, ended without a reason, or its worker lost the lease long ago
-- and nobody took it up.
CREATE VIEW checks.every_event_in_a_known_state WITH (security_invoker = true) AS
SELECT
    NULL::uuid AS organization_id,
    jsonb_build_object('event_id', id, 'state', state, 'lease_until', lease_until) AS detail
FROM events
WHERE
    state NOT IN ('waiting', 'active', 'delayed', 'done', 'skipped', 'parked', 'dead')
    OR (state IN ('skipped', 'parked', 'dead') AND reason IS NULL)
    OR (state IN ('active', 'delayed') AND lease_until < now() - interval '10 minutes');
