-- What each call or message costs its organization, and whether that is paid.
CREATE VIEW reporting.charges AS
SELECT
    charges.organization_id,
    organizations.name AS organization,
    charges.kind,
    charges.state,
    split_part(coalesce(charges.corrects, charges.idempotency_key), ':', 2) AS reference,
    charges.amount_micros,
    organizations.currency,
    charges.event_at,
    charges.charged_at,
    charges.duration_ms,
    charges.billed_seconds,
    charges.per_minute_micros,
    charges.increment_seconds
FROM charges
INNER JOIN organizations ON charges.organization_id = organizations.id;
COMMENT ON VIEW reporting.charges IS
'kind: call, sms or correction. state: settled (paid), outstanding (owed), free, cancelled (replaced by a correction).';
COMMENT ON COLUMN reporting.charges.reference IS 'Id of the call or message.';
