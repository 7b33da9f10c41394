-- Roles are shared by all databases of a cluster, so they are made once and never dropped here.
--   calltally_owner    owns tables and views; migrations act as it
--   calltally_books    owns the definer functions; the only one that may write the books, and never change history
--   calltally_app      receiver, worker, flows and command line: calls functions, reads everything
--   calltally_tenant   one organization's own data, chosen by SET LOCAL app.org_id
--   calltally_analyst  reads the reporting views
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'calltally_owner', 'calltally_books', 'calltally_app', 'calltally_tenant', 'calltally_analyst'
    ] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster made it first
        END;
        -- Membership lets the migrating user hand over ownership, and lets a process drop to calltally_app.
        IF NOT pg_has_role(current_user, role_name, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
        END IF;
    END LOOP;
END;
$$;
