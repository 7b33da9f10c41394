ALTER TABLE reconciliation_runs
ADD COLUMN kind text NOT NULL DEFAULT 'night' CHECK (kind IN ('night', 'recent', 'backfill')),
ADD COLUMN as_of timestamptz,
ADD COLUMN listed_from timestamptz,
ADD COLUMN reliability_low numeric(9, 8),
ADD COLUMN reliability_high numeric(9, 8),
ADD COLUMN money jsonb NOT NULL DEFAULT '[]',
ADD COLUMN groups jsonb NOT NULL DEFAULT '{}',
ADD COLUMN completeness jsonb NOT NULL DEFAULT '[]',
ADD COLUMN cause text,
ADD COLUMN plan_digest text,
ADD COLUMN plan jsonb,
ADD COLUMN applies_run_id uuid REFERENCES reconciliation_runs (id);
CREATE INDEX reconciliation_runs_window ON reconciliation_runs (window_from, window_to) WHERE state = 'completed';
COMMENT ON COLUMN reconciliation_runs.kind IS
'night: the daily run or one by hand. recent: the light pass over the last hours. backfill: one day of the past.';
COMMENT ON COLUMN reconciliation_runs.as_of IS
'When the provider''s list was read: what changed there less than 15 minutes earlier is not settled yet.';
COMMENT ON COLUMN reconciliation_runs.reliability_low IS 'Lower end of the 95 % Wilson interval of the ratio.';
COMMENT ON COLUMN reconciliation_runs.money IS
'By currency, in micros: recovered, outstanding, at_risk, corrected, projected_monthly_loss.';
COMMENT ON COLUMN reconciliation_runs.groups IS 'Reliability by organization and by assistant: ended and by_webhook.';
COMMENT ON COLUMN reconciliation_runs.completeness IS
'Per part of the list: what was listed beside the totals that the provider gives for the same range.';
COMMENT ON COLUMN reconciliation_runs.plan IS 'Of a rehearsal: the transfers that it would book.';
COMMENT ON COLUMN reconciliation_runs.plan_digest IS
'Of a rehearsal: the same only for the same charges and transfers; applying it refuses another one.';
COMMENT ON COLUMN reconciliation_runs.applies_run_id IS 'The rehearsal that this run carried out.';
