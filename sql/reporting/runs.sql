-- One row per reconciliation.
CREATE VIEW reporting.runs AS
SELECT
    runs.id AS run_id,
    runs.kind,
    runs.state,
    runs.dry_run,
    runs.window_from,
    runs.window_to,
    runs.as_of,
    organizations.name AS organization,
    runs.started_at,
    runs.finished_at,
    runs.provider_calls,
    runs.known_calls,
    runs.counts,
    runs.ended_calls,
    runs.ended_by_webhook,
    runs.reliability_ratio,
    runs.reliability_low,
    runs.reliability_high,
    runs.recovered_calls,
    runs.recovered_micros,
    runs.outstanding_micros,
    runs.money,
    runs.completeness,
    runs.cause,
    runs.alert,
    runs.error,
    runs.report_path
FROM reconciliation_runs AS runs
LEFT JOIN organizations ON runs.organization_id = organizations.id;
COMMENT ON VIEW reporting.runs IS
'Reconciliations with their figures; organization is null for those of all. A dry run booked nothing.';
COMMENT ON COLUMN reporting.runs.reliability_low IS 'Of the 95 % Wilson interval of reliability_ratio.';
COMMENT ON COLUMN reporting.runs.money IS
'By currency, in micros: recovered, outstanding, at risk, corrected, projected monthly loss.';
