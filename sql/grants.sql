-- Who owns what and who may do what. Written over the catalogue, so that a new table is closed until it is opened here.
GRANT USAGE, CREATE ON SCHEMA public, checks, reporting, parts TO calltally_owner; -- parts are nobody else's
GRANT USAGE ON SCHEMA public TO calltally_books, calltally_app, calltally_tenant, calltally_analyst;
GRANT CREATE ON SCHEMA public TO calltally_books; -- owning functions asks for it
GRANT USAGE ON SCHEMA checks TO calltally_books, calltally_app;
GRANT USAGE ON SCHEMA reporting TO calltally_app, calltally_analyst;

DO $$
DECLARE
    relation record;
    routine record;
    role_name text;
    column_name text;
BEGIN
    FOR relation IN
        SELECT c.oid, c.oid::regclass AS name, c.relkind
        FROM pg_class AS c
        WHERE c.relnamespace IN ('public'::regnamespace, 'checks'::regnamespace, 'reporting'::regnamespace)
            AND c.relkind IN ('r', 'p', 'v')
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO calltally_owner', relation.name);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, calltally_books, calltally_app, calltally_tenant, calltally_analyst',
            relation.name);
        EXECUTE format('GRANT SELECT ON %s TO calltally_app', relation.name);
        CONTINUE WHEN relation.relkind = 'v' OR relation.name = 'schema_revision'::regclass;

        EXECUTE format('GRANT SELECT, INSERT ON %s TO calltally_books', relation.name);
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation.name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation.name);
        FOREACH role_name IN ARRAY ARRAY['calltally_owner', 'calltally_books', 'calltally_app'] LOOP
            EXECUTE format('DROP POLICY IF EXISTS everything_for_%s ON %s', role_name, relation.name);
            EXECUTE format(
                'CREATE POLICY everything_for_%s ON %s TO %I USING (true) WITH CHECK (true)',
                role_name, relation.name, role_name
            );
        END LOOP;
        -- A tenant sees the rows of its organization: no setting, or an empty one, sees none.
        EXECUTE format('DROP POLICY IF EXISTS own_rows ON %s', relation.name);
        SELECT attname INTO column_name FROM pg_attribute
        WHERE attrelid = relation.oid AND NOT attisdropped
            AND attname = CASE WHEN relation.name = 'organizations'::regclass THEN 'id' ELSE 'organization_id' END;
        CONTINUE WHEN column_name IS NULL;
        EXECUTE format(
            'CREATE POLICY own_rows ON %s FOR SELECT TO calltally_tenant '
            'USING (%I = nullif(current_setting(''app.org_id'', true), '''')::uuid)',
            relation.name, column_name
        );
    END LOOP;

    FOR routine IN
        SELECT p.oid::regprocedure AS name, p.prosecdef
        FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO calltally_books', routine.name);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, calltally_owner, calltally_app, calltally_tenant, calltally_analyst',
            routine.name);
        IF routine.prosecdef THEN -- the ways in; what they use is theirs alone
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO calltally_app', routine.name);
        END IF;
    END LOOP;
END;
$$;

-- Months of bodies are made and dropped by those who own the tables; the functions that do it, and nothing else.
ALTER TABLE parts.event_bodies_other OWNER TO calltally_owner;
ALTER FUNCTION ensure_partitions(timestamptz, integer) OWNER TO calltally_owner;
ALTER FUNCTION forget_bodies(interval, integer) OWNER TO calltally_owner;
ALTER FUNCTION unfinished_events() OWNER TO calltally_owner;
REVOKE ALL ON FUNCTION forget_bodies(interval, integer) FROM calltally_app;
GRANT EXECUTE ON FUNCTION forget_bodies(interval, integer) TO calltally_books;

-- What the books' functions may change. History is not among it.
GRANT UPDATE ON organizations, wallets, prices, routes, calls, events, workers, alerts, incidents TO calltally_books;
GRANT UPDATE (state, settled_by_transfer_id) ON charges TO calltally_books;
GRANT UPDATE (alert) ON reconciliation_runs TO calltally_books; -- the outbox knows what came of it
GRANT DELETE ON routes, events TO calltally_books;
REVOKE CREATE ON SCHEMA public FROM calltally_books; -- it owns its functions now

-- Not money: the night keeps its own records.
GRANT INSERT, UPDATE ON reconciliation_runs TO calltally_app;
GRANT INSERT ON findings, first_sights TO calltally_app;

GRANT EXECUTE ON FUNCTION check_books() TO calltally_owner, calltally_app, calltally_analyst;
GRANT EXECUTE ON FUNCTION
billed_seconds(bigint, integer, integer, integer), billed_amount_micros(integer, bigint), round_to_micros(numeric),
own_account(text, text), revenue_kind(text), call_duration_ms(timestamptz, timestamptz),
find_route(text, text, text, timestamptz), find_organization(text, text, text, timestamptz),
find_price(uuid, text, timestamptz)
TO calltally_owner, calltally_app;

GRANT SELECT ON wallets, transfers, charges, calls, prices, wallet_balances, wallet_statement, vapi_webhook_reliability
TO calltally_tenant;
GRANT SELECT (id, name, currency, charge_policy, created_at) ON organizations TO calltally_tenant;

-- The analyst reads views that act as their owner, and no table.
GRANT SELECT ON wallet_balances, vapi_webhook_reliability TO calltally_analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO calltally_analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA checks TO calltally_books;

-- Messages
GRANT UPDATE ON sms_messages, sms_prices TO calltally_books;
GRANT EXECUTE ON FUNCTION
sms_rank(text), sms_is_final(text), sms_is_billable(text), sms_is_settled(sms_messages),
find_sms_route(text, text, text, timestamptz), sms_sender_may_decide(sms_messages),
find_sms_price(uuid, text, timestamptz)
TO calltally_owner, calltally_app;
GRANT SELECT ON sms_messages, sms_prices TO calltally_tenant;

-- Of the ledger, a tenant sees the movements of its wallet, not what the reseller moves on its behalf.
DROP POLICY IF EXISTS wallets_alone ON transfers;
CREATE POLICY wallets_alone ON transfers AS RESTRICTIVE FOR SELECT TO calltally_tenant
USING (wallet_sequence IS NOT NULL);
GRANT UPDATE ON payments TO calltally_books;

-- Refunds and disputes
GRANT UPDATE ON reversals TO calltally_books;
GRANT SELECT ON reversal_states TO calltally_books;
GRANT EXECUTE ON FUNCTION left_of_payment(text) TO calltally_owner, calltally_app;
