-- Who pays, without addresses.
CREATE VIEW reporting.organizations AS
SELECT
    id AS organization_id,
    name AS organization,
    currency,
    charge_policy,
    created_at
FROM organizations;
COMMENT ON VIEW reporting.organizations IS 'Tenants by name; no e-mail address, no account at Stripe.';
