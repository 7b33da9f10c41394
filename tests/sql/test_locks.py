"""What keeps the books waiting is locked by rows and tables, which need a grant: no login can hold them up."""

import json
import re
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import make_url

from billing.database import READER_TIMEOUTS, open_engine
from billing.migrate import migrate
from tests.books import Books, moved

SQL = Path(__file__).parents[2] / "sql"
EVERY_ADVISORY_LOCK = """
SELECT pg_advisory_lock(hashtext('payments'), place) FROM generate_series(0, 255) AS place
UNION ALL SELECT pg_advisory_lock(hashtextextended('incident:' || %(key)s, 0))
UNION ALL SELECT pg_advisory_lock(7411058220613001)
"""


def test_no_login_can_hold_up_payments_and_alerts(shared: Books, shared_url: str, tag: str) -> None:
    """A tenant that takes every advisory lock there is keeps nobody waiting, and cannot lock the rows that count."""
    with psycopg.connect(shared_url, options="-c role=calltally_tenant", autocommit=True) as stranger:
        stranger.execute(EVERY_ADVISORY_LOCK, {"key": tag})

        with shared.engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '20s'")
            connection.exec_driver_sql("SELECT lock_payments(%s)", ([tag],))
            connection.exec_driver_sql("SELECT * FROM note_condition(%s, true, '{}')", (tag,))
            connection.exec_driver_sql("SELECT * FROM note_condition(%s, false, '{}')", (tag,))
        with pytest.raises(errors.InsufficientPrivilege):
            stranger.execute("SELECT * FROM key_locks FOR UPDATE")
        for mode in ("ROW SHARE", "ACCESS EXCLUSIVE"):
            with pytest.raises(errors.InsufficientPrivilege), stranger.transaction():
                stranger.execute(f"LOCK TABLE key_locks IN {mode} MODE".encode())


@pytest.mark.parametrize(("mine", "other", "waits"), [("pi_1", "pi_1", True), ("pi_1", "pi_2", False)])
def test_payments_are_locked_until_the_end_of_the_transaction(
    shared: Books, shared_url: str, mine: str, other: str, waits: bool
) -> None:
    """Whoever names the same payment waits, whoever names another does not."""
    options = "-c role=calltally_worker -c lock_timeout=100ms"
    with shared.engine.begin() as connection, psycopg.connect(shared_url, options=options) as second:
        connection.exec_driver_sql("SELECT lock_payments(%s)", ([mine, mine],))
        if waits:
            with pytest.raises(errors.LockNotAvailable):
                second.execute("SELECT lock_payments(%s)", [[other]])
        else:
            second.execute("SELECT lock_payments(%s)", [[other]])
        connection.rollback()
        second.rollback()
        second.execute("SELECT lock_payments(%s)", [[other]])


@pytest.mark.parametrize("key", ["pi_", "topup:pi_"])
def test_credit_by_hand_waits_for_a_refund_of_its_payment(shared: Books, shared_url: str, tag: str, key: str) -> None:
    """Otherwise neither would see the other, and the refund would be booked by nobody."""
    organization_id = shared.organization()
    refund = json.dumps([moved(f"pi_{tag}", f"re_{tag}", -1_000_000)])
    options = "-c role=calltally_app -c lock_timeout=100ms"
    with shared.engine.begin() as connection, psycopg.connect(shared_url, options=options) as second:
        connection.exec_driver_sql("SELECT * FROM record_movements(%s)", (refund,))
        with pytest.raises(errors.LockNotAvailable):
            second.execute("SELECT * FROM credit_wallet(%s, 5000000, %s)", [organization_id, f"{key}{tag}"])
    shared.credit(organization_id, 5_000_000, f"{key}{tag}")

    assert shared.balance(organization_id) == 4_000_000


def test_sql_takes_no_advisory_lock() -> None:
    """Anybody with a login could take it first."""
    call = re.compile(r"pg_(try_)?advisory_\w*lock\w*\(")
    sources = [*SQL.rglob("*.sql"), *SQL.rglob("*.py")]
    found = [str(file) for file in sources if call.search(file.read_text())]

    assert len(sources) > 80
    assert found == []


@pytest.mark.parametrize("role", ["calltally_tenant", "calltally_analyst"])
def test_readers_that_forget_their_transaction_are_let_go(own_tables: object, database_url: str, role: str) -> None:
    """Their logins have time-outs once the database was migrated, and so have connections that we open for them."""
    login = f"reader_{uuid4().hex}"
    wanted = {"idle_in_transaction_session_timeout": "1min", "statement_timeout": "5min", "lock_timeout": "10s"}
    address = make_url(database_url).set(username=login).render_as_string(hide_password=False)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role}".encode())
        try:
            migrate(database_url)
            with psycopg.connect(address) as connection:
                found = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in wanted}
        finally:
            owner.execute(f"DROP ROLE {login}".encode())
    engine = open_engine(database_url, role=role, pool_size=1)
    with engine.connect() as opened:
        ours = {name: opened.exec_driver_sql(f"SHOW {name}").scalar() for name in wanted}
    engine.dispose()

    assert found == {name: (content,) for name, content in wanted.items()}
    assert ours == wanted == READER_TIMEOUTS
