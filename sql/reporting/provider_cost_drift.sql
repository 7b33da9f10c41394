-- Calls whose cost or duration the provider changed after we had recorded them, and what that was worth.
CREATE VIEW reporting.provider_cost_drift AS
SELECT
    findings.run_id,
    runs.window_to,
    findings.call_id,
    findings.organization_id,
    organizations.name AS organization,
    (findings.detail -> 'cost' ->> 0)::bigint AS cost_before_micros,
    (findings.detail -> 'cost' ->> 1)::bigint AS cost_after_micros,
    (findings.detail -> 'duration' ->> 0)::bigint AS duration_before_ms,
    (findings.detail -> 'duration' ->> 1)::bigint AS duration_after_ms,
    findings.amount_micros AS corrected_micros,
    organizations.currency,
    findings.outcome
FROM findings
INNER JOIN reconciliation_runs AS runs ON findings.run_id = runs.id AND NOT runs.dry_run
LEFT JOIN organizations ON findings.organization_id = organizations.id
WHERE findings.kind = 'drift' AND findings.detail ?| ARRAY['cost', 'duration'];
COMMENT ON VIEW reporting.provider_cost_drift IS
'One row per changed call and run. Costs are the provider''s, in USD; null where that side did not change.';
COMMENT ON COLUMN reporting.provider_cost_drift.corrected_micros IS
'Booked on the wallet, in its currency; null if no money follows from the change.';
