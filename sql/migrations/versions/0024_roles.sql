-- Rows to lock by, for what is locked by a key before it has a row of its own (function lock_keys). Advisory locks
-- would do, but any login can take those and keep the books waiting.
CREATE TABLE key_locks (
    purpose text NOT NULL,
    place smallint NOT NULL CHECK (place BETWEEN 0 AND 255),
    PRIMARY KEY (purpose, place)
);
INSERT INTO key_locks
SELECT
    purpose,
    place
FROM unnest(ARRAY['payment', 'incident']) AS purpose CROSS JOIN generate_series(0, 255) AS place;

-- One policy says now what three said.
DO $$
DECLARE
    gone record;
BEGIN
    FOR gone IN
        SELECT policyname, tablename FROM pg_policies
        WHERE schemaname = 'public' AND policyname LIKE 'everything\_for\_%'
    LOOP
        EXECUTE format('DROP POLICY %I ON %I', gone.policyname, gone.tablename);
    END LOOP;
END;
$$;
