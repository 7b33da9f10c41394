-- A row: a call is in quarantine although a route says whose it is, so nobody pays for it.
CREATE VIEW checks.no_routed_call_in_quarantine WITH (security_invoker = true) AS
SELECT
    route.organization_id,
    jsonb_build_object('call_id', calls.id, 'created_at', calls.created_at) AS detail
FROM calls
CROSS JOIN
    LATERAL find_route(
        calls.assistant_id, calls.squad_id, calls.workflow_id, calls.phone_number_id, calls.metadata, calls.created_at
    ) AS route
WHERE calls.organization_id IS NULL AND calls.held IS NULL;
