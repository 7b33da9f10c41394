-- What each reconciliation found, and what was done about it.
CREATE VIEW reporting.findings AS
SELECT
    findings.id AS finding_id,
    findings.run_id,
    runs.window_to,
    runs.dry_run,
    findings.kind,
    findings.call_id,
    findings.organization_id,
    organizations.name AS organization,
    findings.amount_micros,
    organizations.currency,
    findings.outcome,
    findings.detail
FROM findings
INNER JOIN reconciliation_runs AS runs ON findings.run_id = runs.id
LEFT JOIN organizations ON findings.organization_id = organizations.id;
COMMENT ON VIEW reporting.findings IS 'One row per difference between the provider''s list and the books.';
COMMENT ON COLUMN reporting.findings.dry_run IS 'Then outcome is what would have been done.';
