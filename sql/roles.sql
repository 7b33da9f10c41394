-- Roles are shared by all databases of a cluster, so they are made once and never dropped here. None can log in: a
-- login is a member of one of them (deployments/postgres/logins.sql), and can be no more than that.
--   calltally_owner      owns tables and views; migrations act as it
--   calltally_books      owns the definer functions; the only one that may write the books, and never change history
--   calltally_receiver, calltally_worker, calltally_nights
--                        the processes, each with what it needs (access.sql)
--   calltally_operators  what the operators' HTTP API asks
--   calltally_app        people at the command line: all that the processes may, what is done by hand, and reads all
--   calltally_tenant     one organization's own data, chosen by SET LOCAL app.org_id
--   calltally_analyst    reads the reporting views
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'calltally_owner', 'calltally_books', 'calltally_app', 'calltally_receiver', 'calltally_worker',
        'calltally_nights', 'calltally_operators', 'calltally_tenant', 'calltally_analyst'
    ] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster made it first
        END;
        -- Membership lets the migrating user hand over ownership, and lets a process drop to its role.
        IF NOT pg_has_role(current_user, role_name, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
        END IF;
        IF role_name IN ('calltally_receiver', 'calltally_worker', 'calltally_nights', 'calltally_operators')
            AND NOT pg_has_role('calltally_app', role_name, 'MEMBER')
        THEN
            EXECUTE format('GRANT %I TO calltally_app', role_name);
        END IF;
    END LOOP;
END;
$$;
