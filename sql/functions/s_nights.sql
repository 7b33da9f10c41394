-- told_at_first_sight: whether the end-of-call report of each of these calls had arrived in the inbox, applied or not,
-- when a night first saw the call; for one that no night has seen, whether it has by now.
CREATE OR REPLACE FUNCTION told_at_first_sight(p_call_ids text[])
RETURNS TABLE (call_id text, told boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
    SELECT asked.id, coalesce(sight.told, report.arrived, false)
    FROM unnest(p_call_ids) AS asked (id)
    LEFT JOIN LATERAL (
        SELECT first_sights.told FROM first_sights WHERE first_sights.call_id = asked.id LIMIT 1
    ) AS sight ON true
    LEFT JOIN LATERAL (
        SELECT true AS arrived FROM events
        WHERE provider = 'vapi' AND delivery_key = asked.id || ':end-of-call-report'
        LIMIT 1
    ) AS report ON true
$$;

-- correct_calls: correct_call for many, in the order of their ids, so that crossing batches cannot deadlock.
--
-- p_calls: array of {id, started_at, ended_at, provider_cost_micros}. Answers as correct_call, once per call; of a run,
-- with all that it has booked for the call, so that whoever asks again gets the same answer. Facts that cannot be are
-- held: nothing is booked, and problem says why, unless a person has decided of that call.
-- Errors: TY004; one refuses the whole batch.
CREATE OR REPLACE FUNCTION correct_calls(p_calls jsonb, p_run_id uuid DEFAULT NULL)
RETURNS TABLE (call_id text, organization_id uuid, difference_micros bigint, problem text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    told record;
    old_duration_ms bigint;
    booked_micros bigint; -- by this run for this call, in whichever try
BEGIN
    FOR told IN
        SELECT DISTINCT ON (changed.id) changed.*
        FROM jsonb_to_recordset(p_calls) AS changed (
            id text, started_at timestamptz, ended_at timestamptz, provider_cost_micros bigint
        )
        ORDER BY changed.id
    LOOP
        call_id := told.id;
        SELECT
            calls.organization_id, calls.duration_ms,
            call_problem(
                calls.created_at, told.started_at, told.ended_at, told.provider_cost_micros, calls.max_duration_seconds
            )
        INTO organization_id, old_duration_ms, problem
        FROM calls WHERE calls.id = told.id;
        difference_micros := CASE
            WHEN problem IS NULL
                THEN correct_call(told.id, told.started_at, told.ended_at, told.provider_cost_micros)
        END;
        SELECT coalesce(calls.held, CASE
            WHEN NOT EXISTS (
                SELECT FROM call_decisions WHERE call_decisions.call_id = told.id AND decision = 'released'
            ) THEN problem
        END) INTO problem
        FROM calls WHERE calls.id = told.id;
        IF p_run_id IS NOT NULL THEN
            INSERT INTO run_corrections (run_id, call_id, difference_micros, duration_before_ms, duration_after_ms)
            SELECT
                p_run_id, told.id, difference_micros, old_duration_ms, call_duration_ms(told.started_at, told.ended_at)
            WHERE difference_micros <> 0;
            SELECT sum(booked.difference_micros) INTO booked_micros
            FROM run_corrections AS booked WHERE booked.run_id = p_run_id AND booked.call_id = told.id;
            difference_micros := coalesce(booked_micros, difference_micros);
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- lock_plan: what a plan is going to touch, locked at once in the order that everybody keeps: routes and prices, calls,
-- wallets. Batch by batch its wallets would be locked in an order of their own, and two who cross each other wait for
-- ever.
--
-- p_missing: calls to be recorded, as record_calls takes them. p_changed: ids of calls to be corrected.
CREATE OR REPLACE FUNCTION lock_plan(p_missing jsonb, p_changed text[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
BEGIN
    LOCK TABLE routes, prices IN ROW EXCLUSIVE MODE;
    PERFORM FROM calls WHERE id = ANY (p_changed) ORDER BY id FOR UPDATE;
    PERFORM FROM wallets
    WHERE organization_id IN (
        SELECT calls.organization_id FROM calls WHERE calls.id = ANY (p_changed)
        UNION ALL
        SELECT route.organization_id
        FROM jsonb_to_recordset(p_missing) AS told (
            assistant_id text, squad_id text, workflow_id text, phone_number_id text, metadata text,
            created_at timestamptz
        )
        CROSS JOIN LATERAL find_route(
            assistant_id, squad_id, workflow_id, phone_number_id, metadata, created_at
        ) AS route
    )
    ORDER BY organization_id
    FOR UPDATE;
END;
$$;

-- value_calls: what these calls cost their organizations, by currency, corrections included; and what those of them
-- that are not charged would cost at the price in force when they began: their organization's, else the default (USD
-- first). Nobody knows what one is worth that cannot be as it was told.
--
-- p_calls: as record_calls takes them; what is stored of a call holds before that.
CREATE OR REPLACE FUNCTION value_calls(p_calls jsonb)
RETURNS TABLE (currency text, charged_micros bigint, at_risk_micros bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
    WITH valued AS (
        SELECT
            coalesce(wallet.currency, price.currency)::text AS currency,
            charged.amount_micros AS charged_micros,
            CASE
                WHEN
                    charged.amount_micros IS NULL AND call.held IS NULL
                    AND call_problem(told.created_at, told.started_at, told.ended_at, NULL, NULL) IS NULL
                    THEN billed_amount_micros(billed_seconds(
                    coalesce(call.duration_ms, call_duration_ms(told.started_at, told.ended_at)),
                    price.increment_seconds, price.minimum_seconds, price.free_seconds
                ), price.per_minute_micros)
            END AS at_risk_micros
        FROM jsonb_to_recordset(p_calls) AS told (
            id text, assistant_id text, squad_id text, workflow_id text, phone_number_id text, metadata text,
            created_at timestamptz, started_at timestamptz, ended_at timestamptz
        )
        LEFT JOIN LATERAL (SELECT * FROM calls WHERE calls.id = told.id LIMIT 1) AS call ON true
        LEFT JOIN LATERAL find_route(
            told.assistant_id, told.squad_id, told.workflow_id, told.phone_number_id, told.metadata, told.created_at
        ) AS route ON true
        LEFT JOIN LATERAL (
            SELECT wallets.organization_id, wallets.currency FROM wallets
            WHERE wallets.organization_id = coalesce(call.organization_id, route.organization_id)
            LIMIT 1
        ) AS wallet ON true
        LEFT JOIN LATERAL (
            SELECT sum(charges.amount_micros)::bigint AS amount_micros FROM charges
            WHERE (charges.idempotency_key = 'call:' || told.id OR charges.corrects = 'call:' || told.id)
                AND charges.state <> 'cancelled'
        ) AS charged ON true
        LEFT JOIN LATERAL (
            SELECT prices.* FROM prices
            WHERE (prices.organization_id = wallet.organization_id OR prices.organization_id IS NULL)
                AND prices.valid @> coalesce(call.started_at, call.created_at, told.started_at, told.created_at)
                AND (wallet.currency IS NULL OR prices.currency = wallet.currency)
            ORDER BY prices.organization_id NULLS LAST, prices.currency <> 'USD'
            LIMIT 1
        ) AS price ON true
    )

    SELECT
        valued.currency,
        coalesce(sum(valued.charged_micros), 0)::bigint,
        coalesce(sum(valued.at_risk_micros), 0)::bigint
    FROM valued
    WHERE valued.currency IS NOT NULL
    GROUP BY valued.currency
    ORDER BY valued.currency
$$;
