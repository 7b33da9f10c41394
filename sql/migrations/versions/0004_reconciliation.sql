CREATE TABLE reconciliation_runs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed', 'failed')),
    window_from timestamptz NOT NULL,
    window_to timestamptz NOT NULL CHECK (window_to > window_from),
    organization_id uuid REFERENCES organizations (id),
    dry_run boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    provider_calls integer,
    known_calls integer,
    counts jsonb NOT NULL DEFAULT '{}',
    ended_calls integer,
    ended_by_webhook integer,
    reliability_ratio numeric(9, 8),
    recovered_calls integer,
    recovered_micros bigint,
    outstanding_micros bigint,
    alert text,
    error text,
    report_path text,
    flow_run_id uuid
);
CREATE INDEX reconciliation_runs_started ON reconciliation_runs (started_at DESC);
COMMENT ON TABLE reconciliation_runs IS 'One comparison of our books with the provider''s list.';
COMMENT ON COLUMN reconciliation_runs.counts IS 'How many calls of each kind of finding, and how many matched.';
COMMENT ON COLUMN reconciliation_runs.reliability_ratio IS
'ended_by_webhook / ended_calls of the window; null for no calls.';
COMMENT ON COLUMN reconciliation_runs.alert IS 'sent, not_needed, or why Slack could not be told.';

CREATE TABLE findings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES reconciliation_runs (id) ON DELETE CASCADE,
    kind text NOT NULL,
    call_id text,
    organization_id uuid REFERENCES organizations (id),
    amount_micros bigint,
    outcome text,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX findings_run ON findings (run_id, kind);
CREATE INDEX findings_call ON findings (call_id);
COMMENT ON TABLE findings IS 'One difference that a run found, and what was done about it.';
