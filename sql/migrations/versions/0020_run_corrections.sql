DROP FUNCTION IF EXISTS correct_calls(jsonb); -- it takes the run as well now

CREATE TABLE run_corrections (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES reconciliation_runs (id) ON DELETE CASCADE,
    call_id text NOT NULL,
    difference_micros bigint NOT NULL CHECK (difference_micros <> 0),
    duration_before_ms bigint,
    duration_after_ms bigint
);
CREATE INDEX run_corrections_run ON run_corrections (run_id, call_id);
COMMENT ON TABLE run_corrections IS
'What a run has booked for a call that the provider changed, noted in the same transaction, so that a task that is '
'repeated, or the run after one that failed, still tells of it.';
COMMENT ON COLUMN run_corrections.difference_micros IS
'What the call costs its organization more than before; negative: less.';
