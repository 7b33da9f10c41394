-- Who owns what, and who may do what. Written over the catalogue: everything is closed first, then opened as access.sql
-- says, so that a new function or table is closed until it has a line there.
GRANT USAGE, CREATE ON SCHEMA public, checks, reporting, parts TO calltally_owner; -- parts are nobody else's
GRANT CREATE ON SCHEMA public TO calltally_books; -- owning functions asks for it
GRANT USAGE ON SCHEMA public
TO calltally_books, calltally_app, calltally_receiver, calltally_worker, calltally_nights, calltally_operators,
calltally_tenant, calltally_analyst;
GRANT USAGE ON SCHEMA checks TO calltally_books, calltally_app;
GRANT USAGE ON SCHEMA reporting TO calltally_app, calltally_receiver, calltally_analyst;

DO $$
DECLARE
    programs CONSTANT text := 'calltally_app, calltally_receiver, calltally_worker, calltally_nights, calltally_operators';
    readers CONSTANT text := 'calltally_tenant, calltally_analyst';
    relation record;
    routine record;
    opened record;
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
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, calltally_books, %s, %s', relation.name, programs, readers);
        EXECUTE format('GRANT SELECT ON %s TO calltally_app', relation.name);
        CONTINUE WHEN relation.relkind = 'v' OR relation.name = 'schema_revision'::regclass;

        EXECUTE format('GRANT SELECT, INSERT ON %s TO calltally_books', relation.name);
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation.name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation.name);
        -- Programs see every row of what the grants open to them.
        EXECUTE format('DROP POLICY IF EXISTS every_row ON %s', relation.name);
        EXECUTE format(
            'CREATE POLICY every_row ON %s TO calltally_owner, calltally_books, %s USING (true) WITH CHECK (true)',
            relation.name, programs
        );
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
        SELECT p.oid::regprocedure AS name
        FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO calltally_books', routine.name);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, calltally_owner, %s, %s', routine.name, programs, readers);
    END LOOP;

    -- Months of bodies are made and dropped by those who own the tables; the functions that do it, and nothing else.
    ALTER TABLE parts.event_bodies_other OWNER TO calltally_owner;
    ALTER FUNCTION ensure_partitions(timestamptz, integer) OWNER TO calltally_owner;
    ALTER FUNCTION forget_bodies(interval, integer) OWNER TO calltally_owner;
    ALTER FUNCTION unfinished_events() OWNER TO calltally_owner;

    FOR opened IN
        SELECT
            access.what, access.privileges, named.object,
            (
                SELECT string_agg('calltally_' || CASE role WHEN 'people' THEN 'app' ELSE role END, ', ')
                FROM unnest(string_to_array(access.roles, ', ')) AS role
            ) AS roles
        FROM access
        LEFT JOIN LATERAL (
            SELECT 'FUNCTION ' || oid::regprocedure::text AS object FROM pg_proc
            WHERE access.privileges = 'EXECUTE' AND pronamespace = 'public'::regnamespace AND proname = access.what
            UNION ALL
            SELECT to_regclass(access.what)::text WHERE access.privileges <> 'EXECUTE'
        ) AS named ON true
    LOOP
        IF opened.object IS NULL THEN
            RAISE EXCEPTION 'access.sql names %, which does not exist', opened.what;
        END IF;
        EXECUTE format('GRANT %s ON %s TO %s', opened.privileges, opened.object, opened.roles);
    END LOOP;
END;
$$;

-- What the books' functions may change. History is not among it.
GRANT UPDATE ON
organizations, wallets, prices, routes, calls, events, workers, alerts, incidents, key_locks, sms_messages, sms_prices,
payments, assigned_payments, movements, seen_payments
TO calltally_books;
GRANT UPDATE (state, settled_by_transfer_id) ON charges TO calltally_books;
GRANT UPDATE (alert) ON reconciliation_runs TO calltally_books; -- the outbox knows what came of it
GRANT DELETE ON routes, events TO calltally_books;
GRANT SELECT ON payment_reversals TO calltally_books;
GRANT SELECT ON ALL TABLES IN SCHEMA checks TO calltally_books;
REVOKE CREATE ON SCHEMA public FROM calltally_books; -- it owns its functions now

-- The analyst reads views that act as their owner, and no table.
GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO calltally_analyst;

-- Of the ledger, a tenant sees the movements of its wallet, not what the reseller moves on its behalf.
DROP POLICY IF EXISTS wallets_alone ON transfers;
CREATE POLICY wallets_alone ON transfers AS RESTRICTIVE FOR SELECT TO calltally_tenant
USING (wallet_sequence IS NOT NULL);

-- Whoever only reads must not hold up others by a question or a transaction that is forgotten. PostgreSQL applies what
-- a role has set when somebody logs in as that very role, so every login of theirs gets it, unless it has its own.
DO $$
DECLARE
    reader record;
BEGIN
    FOR reader IN
        SELECT rolname, setting.name, setting.content FROM pg_roles
        CROSS JOIN (
            VALUES ('idle_in_transaction_session_timeout', '1min'), ('statement_timeout', '5min'), ('lock_timeout', '10s')
        ) AS setting (name, content)
        WHERE NOT rolsuper AND NOT pg_has_role(oid, 'calltally_receiver', 'MEMBER')
            AND NOT pg_has_role(oid, 'calltally_owner', 'MEMBER')
            AND (pg_has_role(oid, 'calltally_analyst', 'MEMBER') OR pg_has_role(oid, 'calltally_tenant', 'MEMBER'))
            AND NOT EXISTS (SELECT FROM unnest(rolconfig) AS own WHERE starts_with(own, setting.name || '='))
    LOOP
        EXECUTE format('ALTER ROLE %I SET %I = %L', reader.rolname, reader.name, reader.content);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING '% may not set the time-outs of %: let a superuser run calltally migrate once',
        current_user, reader.rolname;
END;
$$;
