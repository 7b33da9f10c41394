ALTER TABLE events ADD COLUMN suspected boolean NOT NULL DEFAULT false;
ALTER TABLE events ADD COLUMN expired_claims integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN events.suspected IS
'Whether its worker ended or hung while it was being applied, since it was last ended: then it is claimed alone.';
COMMENT ON COLUMN events.expired_claims IS
'How often that happened while the worker had nothing else of that claim in hand. The third time ends it as dead.';
CREATE INDEX events_suspected ON events (expired_claims, id) WHERE state = 'waiting' AND suspected;

-- Both answer with the time of arrival too; the former can be asked for suspects.
DROP FUNCTION IF EXISTS claim_events(text, integer, interval, uuid, bigint);
DROP FUNCTION IF EXISTS claim_these_events(bigint[], text, interval, integer, bigint);
