-- What Stripe takes back and gives back, one row for each time that money moves, in whatever order it is told.
CREATE TABLE movements (
    id text PRIMARY KEY CHECK (id <> ''),
    kind text NOT NULL CHECK (kind IN ('refund', 'dispute')),
    source_id text NOT NULL CHECK (source_id <> ''),
    payment_id text NOT NULL CHECK (payment_id <> ''),
    amount_micros bigint NOT NULL CHECK (amount_micros <> 0),
    currency char(3) NOT NULL,
    disputed_micros bigint CHECK (disputed_micros > 0),
    disputed_currency char(3),
    event_at timestamptz,
    booked_at timestamptz,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((disputed_micros IS NULL) = (disputed_currency IS NULL)),
    CHECK (event_at IS NOT NULL OR (kind = 'refund' AND booked_at IS NULL))
);
CREATE INDEX movements_payment ON movements (payment_id);
COMMENT ON TABLE movements IS
'What refunds and disputes move, as Stripe or a person told it; the view payment_reversals says what that comes to.';
COMMENT ON COLUMN movements.id IS
'txn_… of a dispute''s balance transaction, re_… of a refund, re_…:returned when that failed; dp_…:withdrawn and '
'dp_…:reinstated for a dispute whose balance transactions are not told. Transfers bear it behind their kind.';
COMMENT ON COLUMN movements.payment_id IS 'Its payment; the charge while no event has told whose it is.';
COMMENT ON COLUMN movements.source_id IS 'The refund or dispute that it belongs to.';
COMMENT ON COLUMN movements.amount_micros IS 'Negative: Stripe took it. As Stripe booked it, before any share.';
COMMENT ON COLUMN movements.currency IS 'Of a dispute, that in which the Stripe account is settled.';
COMMENT ON COLUMN movements.disputed_micros IS 'What the dispute is about: its first withdrawal is worth so much.';
COMMENT ON COLUMN movements.event_at IS 'When it moved, by Stripe''s clock; null for a refund that is only announced.';
COMMENT ON COLUMN movements.booked_at IS 'Since when the books take it into account; null: it waits.';

-- Which payments there are at Stripe, ours or not: refunds and disputes may name only the charge.
CREATE TABLE seen_payments (
    payment_id text PRIMARY KEY CHECK (payment_id <> ''),
    charge_id text,
    skipped_because text,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX seen_payments_charge ON seen_payments (charge_id) WHERE charge_id IS NOT NULL;
COMMENT ON TABLE seen_payments IS 'What Stripe''s events told of payments beside their money.';
COMMENT ON COLUMN seen_payments.skipped_because IS 'Why its money is none of ours; null: nobody said so.';

-- What is booked is the truth of its movement; keys stay as they were, so that nothing is booked again.
INSERT INTO movements (
    id, kind, source_id, payment_id, amount_micros, currency, disputed_micros, disputed_currency, event_at, booked_at
)
SELECT
    substr(idempotency_key, strpos(idempotency_key, ':') + 1),
    split_part(idempotency_key, ':', 1),
    split_part(idempotency_key, ':', 2),
    payment_id,
    CASE WHEN to_account = organization_id THEN amount_micros ELSE -amount_micros END,
    currency,
    CASE WHEN starts_with(idempotency_key, 'dispute:') THEN amount_micros END,
    CASE WHEN starts_with(idempotency_key, 'dispute:') THEN currency END,
    event_at,
    booked_at
FROM transfers
WHERE kind IN ('refund', 'dispute', 'reinstatement');

INSERT INTO movements (
    id, kind, source_id, payment_id, amount_micros, currency, disputed_micros, disputed_currency, event_at,
    first_seen_at
)
SELECT
    reversals.id || step.name,
    reversals.kind,
    reversals.id,
    reversals.payment_id,
    step.amount_micros,
    reversals.currency,
    CASE reversals.kind WHEN 'dispute' THEN abs(step.amount_micros) END,
    CASE reversals.kind WHEN 'dispute' THEN reversals.currency END,
    step.event_at,
    reversals.first_seen_at
FROM reversals
CROSS JOIN
    LATERAL (
        SELECT
            CASE kind WHEN 'refund' THEN '' ELSE ':withdrawn' END AS name,
            -taken_micros AS amount_micros,
            taken_at AS event_at
        UNION ALL
        SELECT
            CASE kind WHEN 'refund' THEN ':returned' ELSE ':reinstated' END,
            returned_micros,
            returned_at
    ) AS step
WHERE step.event_at IS NOT NULL
ON CONFLICT DO NOTHING;

-- What waited for room is booked now, up to what is left.
UPDATE events SET
    state = 'waiting',
    reason = NULL
WHERE
    state = 'parked' AND provider = 'stripe' AND type ~ '^(refund|charge\.dispute)\.'
    AND (starts_with(reason, 'exceeds_payment:') OR reason = 'currency_mismatch');

DROP FUNCTION IF EXISTS record_reversals(jsonb), check_booked_as_told(text[]);
DROP FUNCTION IF EXISTS note_reversal(reversals);
DROP FUNCTION IF EXISTS book_reversals(text), left_of_payment(text);
DROP FUNCTION IF EXISTS refund_payment(text, text, bigint, timestamptz);
DROP FUNCTION IF EXISTS withdraw_dispute(text, text, bigint, timestamptz);
DROP FUNCTION IF EXISTS return_refund(text, bigint, timestamptz);
DROP FUNCTION IF EXISTS reinstate_dispute(text, bigint, timestamptz);
DROP FUNCTION IF EXISTS give_back(text, text, bigint, timestamptz);
DROP FUNCTION IF EXISTS take_back(text, text, text, bigint, timestamptz, bigint);
DROP VIEW IF EXISTS reversal_states CASCADE;
DROP TABLE reversals;
