CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL CHECK (provider IN ('stripe', 'vapi', 'twilio')),
    delivery_key text NOT NULL,
    type text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (
        state IN (
            'waiting',  -- stored, nobody has it
            'active',   -- claimed by a worker, until its lease ends
            'delayed',  -- failed in a way that can pass; a task run of its own will try again
            'done',     -- applied, in the same transaction as this mark
            'skipped',  -- nothing to do, and the reason
            'parked',   -- cannot be applied yet, and the reason; goes on when the obstacle is removed
            'dead'      -- gave up, and the reason; can be replayed
        )
    ),
    reason text,
    body bytea,
    deliveries integer NOT NULL DEFAULT 1,
    received_at timestamptz NOT NULL DEFAULT now(),
    last_received_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    claim_token uuid,
    claimed_by text,
    lease_until timestamptz,
    flow_run_id uuid,
    finished_at timestamptz,
    UNIQUE (provider, delivery_key),
    CHECK ((state IN ('active', 'delayed')) = (claim_token IS NOT NULL AND lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'skipped', 'dead')) = (finished_at IS NOT NULL)),
    CHECK (reason IS NOT NULL OR state NOT IN ('skipped', 'parked', 'dead'))
);
-- Compressing bodies would cost more than storing them, on the path that has to answer; they are forgotten in time.
ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL;
-- Partial, so that claiming costs the same however many finished events the table keeps.
CREATE INDEX events_waiting ON events (provider, id) WHERE state = 'waiting';
CREATE INDEX events_claimed ON events (lease_until) WHERE state IN ('active', 'delayed');
CREATE INDEX events_parked ON events (reason) WHERE state = 'parked';
CREATE INDEX events_dead ON events (finished_at) WHERE state = 'dead';
CREATE INDEX events_finished ON events USING brin (finished_at); -- for pruning: nearly free to maintain
COMMENT ON TABLE events IS 'One row per webhook delivery identity; a repeated delivery only counts up.';
COMMENT ON COLUMN events.claim_token IS
'Whoever finishes the event must hold it: a worker that lost its lease cannot commit.';

CREATE TABLE event_attempts (
    event_id bigint NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    attempt integer NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    error_class text NOT NULL,
    message text NOT NULL,
    flow_run_id uuid,
    PRIMARY KEY (event_id, attempt)
);
COMMENT ON TABLE event_attempts IS 'Every failed attempt at an event, with its error.';

CREATE TABLE workers (
    name text PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE workers IS 'Heartbeats: a worker that has not been seen lately is not there.';
