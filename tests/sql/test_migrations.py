"""Migrations: all or nothing, once, and the result is on record."""

import subprocess
import sys
import warnings
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from billing import migrate as migrate_module
from billing.migrate import migrate
from tests.sql.schema import SCHEMA_FILE, dump_schema

SOURCE = Path(__file__).parents[2] / "sql"
NEWEST = max(file.name[:4] for file in (SOURCE / "migrations" / "versions").glob("*.sql"))
SNAPSHOT = """
    SELECT 'relation', c.oid::text, c.relname, c.relfilenode::text FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i', 'S')
    UNION ALL
    SELECT 'function', oid::text, proname, md5(prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'revision', '', version_num, '' FROM schema_revision
    ORDER BY 1, 2
"""


def snapshot(url: str) -> list[tuple[str, ...]]:
    """Tables, indexes, functions and the revision, as the catalogue has them."""
    with psycopg.connect(url) as connection:
        return connection.execute(SNAPSHOT).fetchall()


def test_migrate_twice_changes_nothing(database_url: str) -> None:
    """The second run finds every table where it is, and every function the same."""
    before = snapshot(database_url)

    migrate(database_url)

    assert snapshot(database_url) == before


def test_migrate_by_two_at_once_serves_both(empty_url: str) -> None:
    """Two starters are kept apart; the later one finds nothing to do."""
    command = [
        sys.executable,
        "-c",
        "import sys; from billing.migrate import migrate; migrate(sys.argv[1])",
        empty_url,
    ]
    starters = [subprocess.Popen(command, cwd=SOURCE.parent) for _ in range(2)]

    assert [starter.wait() for starter in starters] == [0, 0]
    assert (NEWEST,) in [row[2:3] for row in snapshot(empty_url) if row[0] == "revision"]


def test_migrate_that_fails_leaves_nothing(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad statement, even in the last file, takes everything back."""
    copy = copy_of_sql(tmp_path)
    (copy / "functions" / "z_bad.sql").write_text("SELECT 1 / 0;")
    monkeypatch.setattr(migrate_module, "files", lambda package: copy)

    with pytest.raises(DBAPIError, match="division by zero"):
        migrate(empty_url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)

    with psycopg.connect(empty_url) as connection:
        tables = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        assert tables.fetchall() == []


def copy_of_sql(folder: Path) -> Path:
    """The files of `sql/`, to be spoilt."""
    target = folder / "sql"
    for file in SOURCE.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            place = target / file.relative_to(SOURCE)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    return target


BODIES_WITHIN_EVENTS = """
DROP TABLE event_bodies;
DROP SCHEMA parts CASCADE;
ALTER TABLE events ADD COLUMN body bytea;
INSERT INTO events (provider, delivery_key, type, received_at, body) VALUES
('vapi', 'now', 'hang', now(), 'now'),
('vapi', 'before', 'hang', now() - interval '1 year', 'before'),
('vapi', 'forgotten', 'hang', now(), NULL);
"""


def test_bodies_that_lay_within_events_are_kept_and_take_no_room_there(database_url: str) -> None:
    """Those of months that are made lie there, older ones outside of months; the events are as they were."""
    with psycopg.connect(database_url) as connection:
        connection.execute(BODIES_WITHIN_EVENTS)
        connection.execute((SOURCE / "migrations" / "versions" / "0010_event_bodies.sql").read_bytes())
    migrate(database_url)

    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT delivery_key, convert_from(body, 'UTF8'), event_bodies.tableoid::regclass::text FROM events"
            " JOIN event_bodies ON event_id = id AND event_bodies.received_at = events.received_at ORDER BY id"
        ).fetchall()
        kept = connection.execute("SELECT count(*), count(DISTINCT id) FROM events WHERE attempts = 0").fetchone()
        month = connection.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").fetchone()

    assert month is not None
    assert found == [
        ("now", "now", f"parts.event_bodies_{month[0]}"),
        ("before", "before", "parts.event_bodies_other"),
    ]
    assert kept == (3, 3)


def test_schema_equals_its_committed_dump(database_url: str) -> None:
    """`sql/schema.sql` shows reviewers what all migrations and functions add up to."""
    expected = SCHEMA_FILE.read_text()

    assert dump_schema(database_url) == expected, "run: .venv/bin/python -m tests.sql.schema"


BEFORE_PAYMENTS = """
INSERT INTO organizations (id, name, email, currency) VALUES ('{id}', 'Acme', 'a@example.com', 'USD');
INSERT INTO accounts (id, kind, currency, organization_id) VALUES ('{id}', 'wallet', 'USD', '{id}');
INSERT INTO accounts (id, kind, currency) SELECT own_account(kind, 'USD'), kind, 'USD'
FROM unnest(ARRAY['stripe', 'adjustments']) AS kind;
INSERT INTO wallets (organization_id, currency, debt_limit_micros) VALUES ('{id}', 'USD', 0);
SELECT credit_wallet('{id}', 7, 'topup:pi_1'), credit_wallet('{id}', 5, 'gift', 'adjustment');
"""


@pytest.mark.usefixtures("own_tables")
def test_payments_of_before_are_known_as_credited_whole(database_url: str) -> None:
    """Each top-up that is booked gets its row, and the currencies in use get the accounts that came later."""
    acme = "11111111-1111-1111-1111-111111111111"
    with psycopg.connect(database_url) as connection:
        connection.execute(BEFORE_PAYMENTS.format(id=acme).encode())
        connection.execute("DROP TABLE payments, assigned_payments CASCADE; DROP TYPE told_payment CASCADE")
        connection.execute((SOURCE / "migrations" / "versions" / "0022_payments.sql").read_bytes())
    migrate(database_url)

    with psycopg.connect(database_url) as connection:
        paid = connection.execute(
            "SELECT payment_id, organization_id::text, charged_micros, credited_micros FROM payments"
        )
        own = connection.execute("SELECT kind FROM accounts WHERE id = own_account(kind, 'USD') ORDER BY kind")

        assert paid.fetchall() == [("pi_1", acme, 7, 7)]
        assert [kind for (kind,) in own.fetchall()] == ["adjustments", "fees", "stripe", "tax"]
