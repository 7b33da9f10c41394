-- settle_outstanding: books outstanding charges, oldest first, while the debt limit leaves room; stops at the first
-- that does not fit, so that an old debt is never overtaken by a younger, smaller one.
--
-- Called by everything that gives a wallet room: credits, reinstatements, corrections, a raised limit.
-- Takes the wallet's lock. Answers with the sum of what was settled, in micros. Errors: TY003.
CREATE OR REPLACE FUNCTION settle_outstanding(p_organization_id uuid, p_settled_by_transfer_id bigint DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wallet wallets := lock_wallet(p_organization_id);
    room_micros bigint := wallet.balance_micros + wallet.debt_limit_micros;
    settled_micros bigint := 0;
    owed charges;
BEGIN
    FOR owed IN
        SELECT * FROM charges
        WHERE organization_id = p_organization_id AND state = 'outstanding'
        ORDER BY event_at, idempotency_key
    LOOP
        EXIT WHEN owed.amount_micros > room_micros - settled_micros;
        PERFORM book_transfer(
            p_organization_id, -owed.amount_micros,
            revenue_kind(owed.idempotency_key),
            owed.kind, owed.idempotency_key, owed.event_at,
            p_corrects_transfer_id => (SELECT id FROM transfers WHERE idempotency_key = owed.corrects)
        );
        UPDATE charges SET state = 'settled', settled_by_transfer_id = p_settled_by_transfer_id
        WHERE idempotency_key = owed.idempotency_key;
        settled_micros := settled_micros + owed.amount_micros;
    END LOOP;
    RETURN settled_micros;
END;
$$;
