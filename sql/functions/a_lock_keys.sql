-- lock_keys: until the transaction ends, nobody else locks these keys for that purpose (`payment`, `incident`). Keys
-- share 256 rows for each purpose, taken in order, so that batches of any size neither deadlock nor fill the table of
-- locks. Internal. Rows and no advisory locks: those anybody with a login can take, and keep.
CREATE OR REPLACE FUNCTION lock_keys(p_purpose text, p_keys text[])
RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM place FROM key_locks
    WHERE purpose = p_purpose AND place IN (SELECT hashtext(key) & 255 FROM unnest(p_keys) AS named (key))
    ORDER BY place
    FOR UPDATE;
END;
$$;
