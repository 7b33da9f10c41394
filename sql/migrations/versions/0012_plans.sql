DROP FUNCTION IF EXISTS value_calls(text[]);

ALTER TABLE reconciliation_runs
ADD COLUMN applied_at timestamptz,
ADD COLUMN applied_by_run_id uuid REFERENCES reconciliation_runs (id);
COMMENT ON COLUMN reconciliation_runs.applied_at IS
'Of a rehearsal: when it was booked, noted in the same transaction; whatever came after it can be made up for.';
COMMENT ON COLUMN reconciliation_runs.applied_by_run_id IS 'Of a rehearsal: the run that booked it.';
COMMENT ON COLUMN reconciliation_runs.plan IS
'Of a rehearsal: the calls that it would bill with their outcomes, the corrections, and the transfers of both.';

UPDATE reconciliation_runs
SET plan = jsonb_build_object('calls', '[]'::jsonb, 'corrections', '[]'::jsonb, 'transfers', plan)
WHERE jsonb_typeof(plan) = 'array';
UPDATE reconciliation_runs AS rehearsal
SET applied_at = done.finished_at, applied_by_run_id = done.id
FROM reconciliation_runs AS done
WHERE done.applies_run_id = rehearsal.id AND done.state = 'completed';

-- Incidents of one organization go by its id, whatever it was called when they began.
UPDATE incidents
SET key = 'webhook_reliability:' || organizations.id
FROM organizations
WHERE
    incidents.key = 'webhook_reliability:' || organizations.name AND incidents.closed_at IS NULL
    AND 'webhook_reliability:' || organizations.id NOT IN (SELECT key FROM incidents WHERE closed_at IS NULL);
