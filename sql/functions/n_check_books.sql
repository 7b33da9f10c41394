-- check_books: one row per broken invariant; no row means healthy. The invariants are the views of schema checks, each
-- in its own file of sql/checks/, whose first line says what a row would mean. Acts as the books, so that whoever may
-- ask sees all.
CREATE OR REPLACE FUNCTION check_books()
RETURNS TABLE (name text, organization_id uuid, detail jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    check_name text;
BEGIN
    FOR check_name IN SELECT viewname FROM pg_views WHERE schemaname = 'checks' ORDER BY viewname LOOP
        RETURN QUERY EXECUTE format('SELECT %L, organization_id, detail FROM checks.%I', check_name, check_name);
    END LOOP;
END;
$$;
