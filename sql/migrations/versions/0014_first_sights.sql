CREATE TABLE first_sights (
    call_id text PRIMARY KEY,
    told boolean NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE first_sights IS
'Calls that a night saw in the provider''s list before the books knew them, whether or not it could record them.';
COMMENT ON COLUMN first_sights.told IS
'Whether the end-of-call report had arrived by then. Never changes, so no later webhook and no rerun improves a ratio.';

ALTER TABLE reconciliation_runs ADD COLUMN reported_by uuid REFERENCES reconciliation_runs (id);
COMMENT ON COLUMN reconciliation_runs.reported_by IS
'Of a failed run: the later run whose figures and findings hold what this one had recorded.';
CREATE INDEX calls_of_run ON calls (reconciliation_run_id) WHERE reconciliation_run_id IS NOT NULL;
