-- What refunds and disputes come to for each payment: a function of the set of movements, in whatever order they came.
--
-- due: what has to be taken out of the wallet, tax and fees, and what exceeds the payment; booked: what has been.
-- stripe_micros is what Stripe took, less what it gave back; taken_micros as much of it as there was of the payment.
CREATE VIEW payment_reversals WITH (security_invoker = true) AS
WITH told AS (
    SELECT
        movements.*,
        payments,
        payments.charged_micros,
        -- A step without an id of its own stands for its balance transactions until they are told.
        starts_with(movements.id, movements.source_id)
        AND count(*) FILTER (WHERE NOT starts_with(movements.id, movements.source_id)) OVER (
            PARTITION BY movements.payment_id, movements.source_id, movements.amount_micros > 0
        ) > 0 AS is_superseded,
        max(exchange(payments, movements.disputed_micros, movements.disputed_currency)) OVER (
            PARTITION BY movements.payment_id, movements.source_id
        ) AS at_stake_micros
    FROM movements
    INNER JOIN payments ON movements.payment_id = payments.payment_id
    WHERE movements.booked_at IS NOT NULL
),

by_currency AS (
    SELECT
        payment_id,
        source_id,
        coalesce(max(at_stake_micros), charged_micros) AS at_stake_micros,
        CASE
            WHEN kind = 'refund' OR currency = (payments).currency
                THEN exchange(payments, -sum(amount_micros)::bigint, currency)
        END AS exchanged_micros,
        -sum(amount_micros)::bigint AS net_micros,
        (array_agg(-amount_micros ORDER BY event_at, amount_micros, id) FILTER (WHERE amount_micros < 0))[1]
            AS first_micros
    FROM told
    WHERE NOT is_superseded
    GROUP BY payment_id, source_id, kind, currency, payments, charged_micros
),

by_source AS (
    SELECT
        payment_id,
        source_id,
        sum(coalesce(exchanged_micros, share_of(at_stake_micros, net_micros, first_micros)))::bigint AS net_micros
    FROM by_currency
    GROUP BY payment_id, source_id
),

by_payment AS (
    SELECT
        payment_id,
        sum(net_micros)::bigint AS stripe_micros,
        sum(greatest(net_micros, 0))::bigint AS wanted_micros
    FROM by_source
    GROUP BY payment_id
),

due AS (
    SELECT
        payments.*,
        by_payment.stripe_micros,
        taken.micros AS taken_micros,
        share_of(credited_micros, taken.micros, charged_micros) AS wallet_due_micros,
        share_of(credited_micros + tax_micros, taken.micros, charged_micros) AS wallet_and_tax_due_micros
    FROM by_payment
    INNER JOIN payments ON by_payment.payment_id = payments.payment_id
    CROSS JOIN LATERAL (SELECT least(by_payment.wanted_micros, payments.charged_micros)) AS taken (micros)
)

SELECT
    due.payment_id,
    due.organization_id,
    due.currency,
    due.charged_micros,
    due.credited_micros,
    due.stripe_micros,
    due.taken_micros,
    due.wallet_due_micros,
    due.wallet_and_tax_due_micros - due.wallet_due_micros AS tax_due_micros,
    due.taken_micros - due.wallet_and_tax_due_micros AS fee_due_micros,
    due.stripe_micros - due.taken_micros AS excess_due_micros,
    booked.wallet_micros AS wallet_booked_micros,
    due.tax_micros + booked.tax_micros AS tax_booked_micros,
    due.fee_micros + booked.fee_micros AS fee_booked_micros,
    booked.excess_micros AS excess_booked_micros
FROM due
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(-into_wallet_micros) FILTER (WHERE wallet_sequence IS NOT NULL), 0)::bigint AS wallet_micros,
        -- The sale brought them in; what went back of them is the rest.
        coalesce(sum(to_stripe_micros) FILTER (WHERE kind = 'tax'), 0)::bigint AS tax_micros,
        coalesce(sum(to_stripe_micros) FILTER (WHERE kind = 'fee'), 0)::bigint AS fee_micros,
        coalesce(sum(into_disputes_micros) FILTER (WHERE kind = 'excess'), 0)::bigint AS excess_micros
    FROM (
        SELECT
            wallet_sequence,
            kind,
            CASE WHEN to_account = organization_id THEN amount_micros ELSE -amount_micros END AS into_wallet_micros,
            CASE WHEN to_account = own_account('stripe', currency) THEN amount_micros ELSE -amount_micros END
                AS to_stripe_micros,
            CASE WHEN to_account = own_account('disputes', currency) THEN amount_micros ELSE -amount_micros END
                AS into_disputes_micros
        FROM transfers
        WHERE
            transfers.payment_id = due.payment_id
            AND kind IN ('refund', 'dispute', 'reinstatement', 'tax', 'fee', 'excess')
    ) AS moved
) AS booked;
