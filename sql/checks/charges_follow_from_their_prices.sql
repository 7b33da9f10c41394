-- A row: what a call costs does not follow from the duration and the price that its charge was made at.
CREATE VIEW checks.charges_follow_from_their_prices WITH (security_invoker = true) AS
SELECT
    organization_id,
    jsonb_build_object('call', call_key, 'charged_micros', charged_micros, 'expected_micros', expected_micros) AS detail
FROM (
    SELECT
        organization_id,
        coalesce(corrects, idempotency_key) AS call_key,
        sum(amount_micros) OVER of_call AS charged_micros,
        billed_amount_micros(
            billed_seconds(duration_ms, increment_seconds, minimum_seconds, free_seconds), per_minute_micros
        ) AS expected_micros,
        row_number() OVER of_call = count(*) OVER (PARTITION BY coalesce(corrects, idempotency_key)) AS is_in_force
    FROM charges
    WHERE kind IN ('call', 'correction') AND state <> 'cancelled'
    WINDOW of_call AS (
        PARTITION BY coalesce(corrects, idempotency_key) ORDER BY length(idempotency_key), idempotency_key
    )
) AS priced
WHERE is_in_force AND charged_micros <> expected_micros; -- a charge by amount alone expects nothing
