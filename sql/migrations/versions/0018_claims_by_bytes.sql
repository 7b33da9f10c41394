-- Both are bounded by the bytes of bodies now, by a further parameter.
DROP FUNCTION IF EXISTS claim_events(text, integer, interval, uuid);
DROP FUNCTION IF EXISTS claim_these_events(bigint[], text, interval);
