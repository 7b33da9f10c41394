-- book_transfer: moves money between one wallet and one of the reseller's accounts.
--
-- Internal; the caller holds the wallet's row lock, has refused duplicates and has decided that the amount may move.
-- Positive amounts go into the wallet, negative ones out of it. Answers with the new ledger row.
-- Errors: unique_violation if the caller forgot to look for the key under the lock.
CREATE OR REPLACE FUNCTION book_transfer(
    p_organization_id uuid,
    p_into_wallet_micros bigint,
    p_counter_kind text,
    p_kind text,
    p_idempotency_key text,
    p_event_at timestamptz,
    p_overrun boolean DEFAULT false,
    p_payment_id text DEFAULT NULL,
    p_corrects_transfer_id bigint DEFAULT NULL,
    p_reason text DEFAULT NULL
)
RETURNS transfers LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    booked transfers;
BEGIN
    WITH moved AS (
        UPDATE wallets
        SET balance_micros = balance_micros + p_into_wallet_micros, last_sequence = last_sequence + 1
        WHERE organization_id = p_organization_id
        RETURNING *, own_account(p_counter_kind, currency) AS counter
    )

    INSERT INTO transfers (
        from_account, to_account, amount_micros, currency, idempotency_key, kind, organization_id, wallet_sequence,
        balance_after_micros, debt_limit_micros, overrun, payment_id, corrects_transfer_id, reason, event_at
    )
    SELECT
        CASE WHEN p_into_wallet_micros > 0 THEN counter ELSE organization_id END,
        CASE WHEN p_into_wallet_micros > 0 THEN organization_id ELSE counter END,
        abs(p_into_wallet_micros), currency, p_idempotency_key, p_kind, organization_id, last_sequence,
        balance_micros, debt_limit_micros, p_overrun, p_payment_id, p_corrects_transfer_id, p_reason, p_event_at
    FROM moved
    RETURNING * INTO STRICT booked;
    RETURN booked;
END;
$$;

-- book_own_transfer: moves money between two of the reseller's accounts, named by their kinds, on behalf of an
-- organization; no wallet changes.
--
-- Internal; idempotent by its key. Answers with the ledger row, the first one if it was booked before.
-- Errors: TY002 key used with other facts, TY004 amount, key or time not acceptable.
CREATE OR REPLACE FUNCTION book_own_transfer(
    p_organization_id uuid,
    p_from_kind text,
    p_to_kind text,
    p_amount_micros bigint,
    p_currency text,
    p_kind text,
    p_idempotency_key text,
    p_event_at timestamptz,
    p_payment_id text,
    p_corrects_transfer_id bigint DEFAULT NULL,
    p_reason text DEFAULT NULL
)
RETURNS transfers LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    booked transfers;
BEGIN
    IF coalesce(p_amount_micros, 0) <= 0 OR coalesce(p_idempotency_key, '') = '' OR p_event_at IS NULL THEN
        PERFORM refuse(
            'TY004', 'a transfer needs a positive amount, a key and a time',
            jsonb_build_object('amount_micros', p_amount_micros, 'idempotency_key', p_idempotency_key),
            'Correct the call; nothing was moved.'
        );
    END IF;
    INSERT INTO transfers (
        from_account, to_account, amount_micros, currency, idempotency_key, kind, organization_id,
        payment_id, corrects_transfer_id, reason, event_at
    ) VALUES (
        own_account(p_from_kind, p_currency), own_account(p_to_kind, p_currency), p_amount_micros, p_currency,
        p_idempotency_key, p_kind, p_organization_id, p_payment_id, p_corrects_transfer_id, p_reason, p_event_at
    )
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING * INTO booked;
    IF NOT found THEN
        SELECT * INTO STRICT booked FROM transfers WHERE idempotency_key = p_idempotency_key;
        PERFORM check_same_facts(
            p_idempotency_key,
            jsonb_build_object(
                'from_account', booked.from_account, 'to_account', booked.to_account,
                'amount_micros', booked.amount_micros, 'kind', booked.kind, 'organization_id', booked.organization_id,
                'payment_id', booked.payment_id
            ),
            jsonb_build_object(
                'from_account', own_account(p_from_kind, p_currency),
                'to_account', own_account(p_to_kind, p_currency),
                'amount_micros', p_amount_micros, 'kind', p_kind, 'organization_id', p_organization_id,
                'payment_id', p_payment_id
            ),
            'Use another key for another transfer.'
        );
    END IF;
    RETURN booked;
END;
$$;

-- lock_wallet: the wallet of an organization, locked until the transaction ends.
-- Errors: TY003 unknown organization.
CREATE OR REPLACE FUNCTION lock_wallet(p_organization_id uuid)
RETURNS wallets LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    wallet wallets;
BEGIN
    SELECT * INTO wallet FROM wallets WHERE organization_id = p_organization_id FOR UPDATE;
    IF NOT found THEN
        PERFORM refuse_unknown(p_organization_id);
    END IF;
    RETURN wallet;
END;
$$;

-- refuse_unknown: TY003. Internal.
CREATE OR REPLACE FUNCTION refuse_unknown(p_organization_id uuid)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM refuse(
        'TY003', format('there is no organization %s', coalesce(p_organization_id::text, 'without an id')),
        jsonb_build_object('organization_id', p_organization_id),
        'Create it with: calltally org create --name NAME --email EMAIL'
    );
END;
$$;

-- check_same_facts: whether what is asked for under a key is what was booked under it; objects with the same names.
-- Internal. Errors: TY002, with both.
CREATE OR REPLACE FUNCTION check_same_facts(p_idempotency_key text, p_booked jsonb, p_asked jsonb, p_advice text)
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF p_booked IS DISTINCT FROM p_asked THEN
        PERFORM refuse(
            'TY002', format('%s is already booked with other facts', p_idempotency_key),
            jsonb_build_object('idempotency_key', p_idempotency_key) || p_booked
            || (SELECT jsonb_object_agg('other_' || fact.key, fact.value) FROM jsonb_each(p_asked) AS fact),
            'Nothing was moved. ' || p_advice
        );
    END IF;
END;
$$;
