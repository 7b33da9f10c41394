-- The last night of the whole reseller that was completed, for monitoring.
CREATE VIEW reporting.night_figures AS
SELECT
    finished_at,
    reliability_ratio,
    ended_calls,
    recovered_calls,
    counts,
    money
FROM reconciliation_runs
WHERE state = 'completed' AND kind = 'night' AND NOT dry_run AND organization_id IS NULL
ORDER BY started_at DESC
LIMIT 1;
COMMENT ON VIEW reporting.night_figures IS
'The last completed night of the whole reseller, or no row; money in micros.';
