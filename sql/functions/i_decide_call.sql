-- assign_call: a person says whose a call is that no route can name, or whose metadata contradicts its route; it is
-- charged as a webhook would charge it. Noted in call_decisions.
--
-- Idempotent: the same organization again changes nothing. A call that another organization was charged for stays
-- theirs: TY002 says how to put it right. What else holds the call stays until that is released.
-- Waits for changes of routes and prices; locks the call, then the wallet. Answers as record_calls, and with duplicate.
-- Errors: TY002, TY003, TY004 no such call.
CREATE OR REPLACE FUNCTION assign_call(p_call_id text, p_organization_id uuid, p_reason text DEFAULT NULL)
RETURNS TABLE (organization_id uuid, outcome text, amount_micros bigint, problem text, duplicate boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    call calls := lock_call(p_call_id);
    charged_to uuid;
BEGIN
    PERFORM lock_wallet(p_organization_id);
    SELECT charges.organization_id INTO charged_to FROM charges WHERE idempotency_key = 'call:' || p_call_id;
    IF charged_to <> p_organization_id THEN
        PERFORM refuse(
            'TY002', format('call %s is charged to another organization', p_call_id),
            jsonb_build_object('call_id', p_call_id, 'charged_to', charged_to, 'told', p_organization_id),
            format(
                'Nothing was moved. Give it back and take it where it belongs: calltally wallet credit %s AMOUNT'
                ' --key moved-from:%s --reason ..., then calltally wallet debit %s AMOUNT --key moved-to:%s'
                ' --reason ...; calltally explain %s says the amount.',
                charged_to, p_call_id, p_organization_id, p_call_id, p_call_id
            )
        );
    END IF;
    duplicate := call.organization_id = p_organization_id AND call.held IS DISTINCT FROM held_by_metadata();
    IF NOT coalesce(duplicate, false) THEN
        duplicate := false;
        INSERT INTO call_decisions (call_id, decision, organization_id, held, reason)
        VALUES (p_call_id, 'assigned', p_organization_id, call.held, p_reason);
        UPDATE calls SET
            organization_id = p_organization_id, held = CASE WHEN held <> held_by_metadata() THEN held END
        WHERE id = p_call_id;
        PERFORM charge_calls(ARRAY[p_call_id]);
        PERFORM wake_report(p_call_id);
    END IF;
    RETURN QUERY SELECT state.*, duplicate FROM state_of_call(p_call_id) AS state;
END;
$$;

-- release_call: a person says how long a held call lasted, or without that that it lasted as told; it is charged as a
-- webhook would charge it, at the price of its time. Times that cannot be are replaced by the nearest that can. Noted
-- in call_decisions; the provider's own better facts still correct it, others do not.
--
-- Idempotent: the same duration again changes nothing. Waits for changes of routes and prices; locks the call, then the
-- wallet. Answers as assign_call. Errors: TY002 released with another duration; TY004 no such call, not held, held for
-- whose it is, or no duration that can be.
CREATE OR REPLACE FUNCTION release_call(p_call_id text, p_duration_ms bigint DEFAULT NULL, p_reason text DEFAULT NULL)
RETURNS TABLE (organization_id uuid, outcome text, amount_micros bigint, problem text, duplicate boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    call calls := lock_call(p_call_id);
    released_ms bigint;
    new_duration_ms bigint := coalesce(p_duration_ms, nullif(call.duration_ms, 0));
    new_started_at timestamptz;
BEGIN
    SELECT decided.duration_ms INTO released_ms FROM call_decisions AS decided
    WHERE decided.call_id = p_call_id AND decision = 'released' ORDER BY id DESC LIMIT 1;
    IF call.held IS NULL AND released_ms = coalesce(p_duration_ms, released_ms) THEN
        RETURN QUERY SELECT state.*, true FROM state_of_call(p_call_id) AS state;
        RETURN;
    END IF;
    PERFORM refuse(
        code, format('call %s %s', p_call_id, why),
        jsonb_build_object('call_id', p_call_id, 'held', call.held, 'duration_ms', p_duration_ms), hint
    )
    FROM (VALUES
        (
            call.held IS NULL AND released_ms IS NOT NULL, 'TY002', 'was released with another duration',
            'Nothing was moved. calltally wallet credit or debit puts right what it cost.'
        ),
        (
            call.held IS NULL, 'TY004', 'is not held',
            'Nothing was moved. calltally explain says what became of it.'
        ),
        (
            call.held = held_by_metadata(), 'TY004', 'is held until somebody says whose it is',
            'Say it: calltally call assign CALL ORG.'
        ),
        (
            new_duration_ms IS NULL, 'TY004', 'has no duration that is known',
            'Say how long it lasted, in seconds: --duration 61.5, or 0 if it costs nothing.'
        ),
        (
            new_duration_ms NOT BETWEEN 0 AND 86400000, 'TY004', 'cannot have lasted so long',
            'Say how long it lasted, in seconds and up to a day: --duration 61.5, or 0 if it costs nothing.'
        )
    ) AS checked (is_wrong, code, why, hint)
    WHERE is_wrong;
    SELECT told.at INTO new_started_at
    FROM (VALUES
        (1, call.started_at), (2, call.ended_at - new_duration_ms * interval '1 millisecond'), (3, call.created_at),
        (4, call.first_seen_at)
    ) AS told (rank, at)
    WHERE call_problem(told.at, NULL, NULL, 0, NULL) IS NULL AND told.at IS NOT NULL
    ORDER BY told.rank
    LIMIT 1;
    INSERT INTO call_decisions (call_id, decision, organization_id, duration_ms, held, reason)
    VALUES (p_call_id, 'released', call.organization_id, new_duration_ms, call.held, p_reason);
    UPDATE calls SET
        started_at = new_started_at, ended_at = new_started_at + new_duration_ms * interval '1 millisecond',
        duration_ms = new_duration_ms, held = contradiction_of(calls)
    WHERE id = p_call_id;
    PERFORM charge_calls(ARRAY[p_call_id]);
    RETURN QUERY SELECT state.*, false FROM state_of_call(p_call_id) AS state;
END;
$$;

-- lock_call: a call that somebody is about to decide of; routes and prices stay as they are meanwhile. Internal.
-- Errors: TY004.
CREATE OR REPLACE FUNCTION lock_call(p_call_id text)
RETURNS calls LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    call calls;
BEGIN
    LOCK TABLE routes, prices IN ROW EXCLUSIVE MODE;
    SELECT * INTO call FROM calls WHERE id = p_call_id FOR UPDATE;
    IF NOT found THEN
        PERFORM refuse(
            'TY004', format('there is no call %s in the books', p_call_id), jsonb_build_object('call_id', p_call_id),
            'Copy its id from the message or from Vapi; calltally reconcile brings in what no webhook told us of.'
        );
    END IF;
    RETURN call;
END;
$$;

-- state_of_call: what record_calls answers of a call. Internal.
CREATE OR REPLACE FUNCTION state_of_call(p_call_id text)
RETURNS TABLE (organization_id uuid, outcome text, amount_micros bigint, problem text)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT
        calls.organization_id,
        CASE
            WHEN calls.held IS NOT NULL THEN 'held'
            WHEN calls.organization_id IS NULL THEN 'unattributed'
            ELSE coalesce(charges.state, 'unpriced')
        END,
        charges.amount_micros,
        calls.held
    FROM calls
    LEFT JOIN charges ON charges.idempotency_key = 'call:' || calls.id
    WHERE calls.id = p_call_id
$$;
