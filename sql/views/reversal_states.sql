-- Each refund and dispute, with what is booked of it and what can be: the outcome as record_reversals answers it.
CREATE VIEW reversal_states WITH (security_invoker = true) AS
WITH keyed AS (
    SELECT
        reversals.*,
        kind || ':' || id || CASE kind WHEN 'refund' THEN '' ELSE ':withdrawn' END AS taken_key,
        kind || ':' || id || CASE kind WHEN 'refund' THEN ':returned' ELSE ':reinstated' END AS returned_key,
        -- What comes back is at most what was taken.
        CASE WHEN returned_micros <= taken_micros THEN returned_micros ELSE 0 END AS given_back_micros
    FROM reversals
),

known AS (
    SELECT
        keyed.*,
        credits.currency AS credit_currency,
        taken.id IS NOT NULL AS is_taken,
        returned.id IS NOT NULL AS is_returned,
        -- Somebody booked it by hand as it is not. What Stripe tells in another currency is booked exchanged.
        coalesce(
            taken.payment_id <> keyed.payment_id
            OR (taken.currency = keyed.currency AND taken.amount_micros <> keyed.taken_micros)
            OR (returned.currency = keyed.currency AND returned.amount_micros <> keyed.returned_micros),
            false
        ) AS is_contradicted
    FROM keyed
    LEFT JOIN transfers AS credits ON keyed.payment_id = credits.payment_id AND credits.kind = 'topup'
    LEFT JOIN transfers AS taken ON keyed.taken_key = taken.idempotency_key
    LEFT JOIN transfers AS returned ON keyed.returned_key = returned.idempotency_key
)

SELECT
    known.*,
    CASE
        WHEN taken_at IS NULL OR is_contradicted THEN false
        WHEN is_taken THEN given_back_micros > 0 AND NOT is_returned
        ELSE
            coalesce(
                credit_currency = currency AND taken_micros - given_back_micros <= left_of_payment(payment_id), false
            )
    END AS is_bookable,
    CASE
        WHEN is_contradicted THEN 'parked'
        WHEN taken_at IS NULL THEN 'noted'
        WHEN is_taken AND (returned_at IS NULL OR is_returned) THEN 'booked'
        ELSE 'parked'
    END AS outcome,
    CASE
        WHEN is_contradicted THEN 'booked_with_other_facts'
        WHEN taken_at IS NULL OR (is_taken AND (returned_at IS NULL OR is_returned)) THEN NULL
        WHEN credit_currency IS NULL THEN 'payment_not_credited:' || payment_id
        WHEN credit_currency <> currency THEN 'currency_mismatch'
        ELSE 'exceeds_payment:' || payment_id
    END AS reason
FROM known;
