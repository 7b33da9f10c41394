-- What Stripe told of refunds and disputes, in whatever order: a refund may come ahead of its payment, and the news
-- that it failed ahead of the refund.
CREATE TABLE reversals (
    id text PRIMARY KEY CHECK (id <> ''),
    kind text NOT NULL CHECK (kind IN ('refund', 'dispute')),
    payment_id text NOT NULL CHECK (payment_id <> ''),
    currency char(3) NOT NULL,
    taken_micros bigint CHECK (taken_micros > 0),
    taken_at timestamptz,
    returned_micros bigint CHECK (returned_micros > 0),
    returned_at timestamptz,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((taken_micros IS NULL) = (taken_at IS NULL)),
    CHECK ((returned_micros IS NULL) = (returned_at IS NULL))
);
CREATE INDEX reversals_payment ON reversals (payment_id);
COMMENT ON TABLE reversals IS
'Refunds and disputes that Stripe told of, booked or not yet: the view reversal_states says which.';
COMMENT ON COLUMN reversals.taken_at IS 'When the money left, by Stripe''s clock; null while only its return is known.';
COMMENT ON COLUMN reversals.returned_at IS 'When it came back: the refund failed, or the dispute was won.';
DROP FUNCTION IF EXISTS take_back(text, text, text, bigint, timestamptz); -- it takes one more argument now
