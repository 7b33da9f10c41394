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
from tests.books import moved
from tests.databases import Scratch
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


BEFORE_MOVEMENTS = """
SELECT create_organization('Acme', 'a@example.com');
SELECT credit_wallet(organizations.id, 100000000, 'topup:pi_' || number)
FROM organizations, generate_series(1, 4) AS number;
SELECT book_transfer(organizations.id, told.micros, told.account, told.kind, told.key, now(), p_payment_id => told.pi)
FROM organizations, (VALUES
    ('pi_1', -100000000, 'disputes', 'dispute', 'dispute:dp_1:withdrawn'),
    ('pi_1', 100000000, 'disputes', 'reinstatement', 'dispute:dp_1:reinstated'),
    ('pi_2', -40000000, 'refunds', 'refund', 'refund:re_2'),
    ('pi_2', 40000000, 'refunds', 'reinstatement', 'refund:re_2:returned'),
    ('pi_3', -30000000, 'refunds', 'refund', 'refund:re_3')
) AS told (pi, micros, account, kind, key);
DROP TABLE movements, seen_payments CASCADE;
"""
REVERSALS_OF_BEFORE = """
INSERT INTO reversals (id, kind, payment_id, currency, taken_micros, taken_at, returned_micros, returned_at) VALUES
('dp_1', 'dispute', 'pi_1', 'USD', 100000000, now(), 100000000, now()),
('re_2', 'refund', 'pi_2', 'USD', 40000000, now(), 40000000, now()),
('re_3', 'refund', 'pi_3', 'EUR', 27000000, now(), NULL, NULL),
('dp_4', 'dispute', 'pi_4', 'USD', 101240000, now(), NULL, NULL),
('re_5', 'refund', 'pi_5', 'USD', 1000000, now(), NULL, NULL);
INSERT INTO events (provider, delivery_key, type, state, reason) VALUES
('stripe', 'evt_4', 'charge.dispute.funds_withdrawn', 'parked', 'exceeds_payment:pi_4'),
('stripe', 'evt_5', 'refund.created', 'parked', 'payment_not_credited:pi_5');
"""


def test_refunds_and_disputes_of_before_are_not_booked_again(own_tables: Scratch) -> None:
    """Transfers keep their keys; balance transactions that Stripe tells now take the place of what stood for them."""
    folder, books = SOURCE / "migrations" / "versions", own_tables.books
    with psycopg.connect(own_tables.url) as connection:
        connection.execute(BEFORE_MOVEMENTS.encode())
        connection.execute((folder / "0011_reversals.sql").read_bytes())
        connection.execute(REVERSALS_OF_BEFORE.encode())
        connection.execute((folder / "0025_movements.sql").read_bytes())
    migrate(own_tables.url)
    before = books.rows("SELECT count(*), sum(balance_micros) AS micros FROM transfers, wallets GROUP BY wallets")

    assert books.rows("SELECT state FROM events ORDER BY id") == [{"state": "waiting"}, {"state": "parked"}]
    told = [
        moved("pi_1", "txn_1", -100_000_000, "dp_1"),
        moved("pi_1", "txn_2", 100_000_000, "dp_1"),
        moved("pi_2", "re_2", -40_000_000),
        moved("pi_2", "re_2:returned", 40_000_000),
        moved("pi_3", "re_3", -27_000_000, currency="EUR"),
    ]
    assert set(books.tell(*told).values()) == {("booked", None)}
    assert (
        books.rows("SELECT count(*), sum(balance_micros) AS micros FROM transfers, wallets GROUP BY wallets")
        == before
    )

    books.tell(moved("pi_4", "txn_4", -101_240_000, "dp_4"))
    (organization_id,) = [row["id"] for row in books.rows("SELECT id FROM organizations")]
    assert books.balance(organization_id) == 270_000_000
    assert books.broken() == []
