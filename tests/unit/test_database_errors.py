"""What goes wrong in a real PostgreSQL, and what it means to us."""

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg import sql
from sqlalchemy import Connection, Engine, create_engine, make_url, text

from billing.database import PROGRAM_TIMEOUTS, open_engine, transaction, value
from billing.errors import (
    BY_SQLSTATE,
    BillingError,
    ConstraintBroken,
    DatabaseUnavailable,
    InstallationBroken,
    TransactionConflict,
    UnknownOrganization,
)
from tests.books import Books
from tests.databases import new_database


@pytest.fixture(scope="module")
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database without the schema, for all tests of this file that can do without."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture
def owner(empty_url: str) -> Iterator[Engine]:
    """Connections that may do everything there."""
    engine = open_engine(empty_url, role=None)
    yield engine
    engine.dispose()


@pytest.fixture
def victim(empty_url: str) -> Iterator[Engine]:
    """Connections to which things happen."""
    engine = open_engine(empty_url, role=None)
    yield engine
    engine.dispose()


def raised_by(engine: Engine, statement: str) -> BillingError:
    """What a statement's failure becomes."""
    with pytest.raises(BillingError) as caught, transaction(engine) as connection:
        connection.execute(text(statement))
    return caught.value


def end_session(owner: Engine, pid: int) -> None:
    """As an operator or a restart does it; returns when the server has let go of it."""
    with transaction(owner) as other:
        assert value(other, "SELECT pg_terminate_backend(:pid, 5000)", pid=pid)


def process_id(connection: Connection) -> int:
    """The server's process of this session."""
    return int(value(connection, "SELECT pg_backend_pid()"))


@pytest.mark.parametrize("state", sorted(BY_SQLSTATE))
def test_error_of_ours_becomes_its_class_with_facts_and_advice(owner: Engine, state: str) -> None:
    """DETAIL holds the facts as JSON, HINT what to do."""
    raise_it = sql.SQL(
        "DO $$ BEGIN RAISE 'no such thing' USING ERRCODE = {}, DETAIL = {}, HINT = 'Look elsewhere.'; END $$"
    ).format(state, '{"wallet": 5}')

    error = raised_by(owner, raise_it.as_string().replace(":", r"\:"))

    assert type(error) is BY_SQLSTATE[state]
    assert (str(error), error.facts) == ("no such thing. Look elsewhere.", {"wallet": 5})


def test_error_of_ours_without_detail_has_no_facts(owner: Engine) -> None:
    """A bare RAISE is enough."""
    error = raised_by(owner, "DO $$ BEGIN RAISE 'no such thing' USING ERRCODE = 'TY003'; END $$")

    assert isinstance(error, UnknownOrganization)
    assert (str(error), error.facts) == ("no such thing", {})


def test_killed_connection_means_that_the_database_is_away(victim: Engine, owner: Engine) -> None:
    """It may pass, and whatever else is tried now fails as well."""

    def be_killed() -> None:
        with transaction(victim) as connection:
            end_session(owner, process_id(connection))
            value(connection, "SELECT 1")

    with pytest.raises(DatabaseUnavailable) as caught:
        be_killed()

    assert caught.value.affects_everything
    assert caught.value.__cause__ is not None


def test_connection_killed_while_idle_costs_one_transaction_and_then_all_is_well(
    victim: Engine, owner: Engine
) -> None:
    """The pool drops what is dead."""
    with transaction(victim) as connection:
        pid = process_id(connection)
    end_session(owner, pid)

    assert isinstance(raised_by(victim, "SELECT 1"), DatabaseUnavailable)

    with transaction(victim) as connection:
        assert process_id(connection) != pid


def test_session_that_is_frozen_in_a_transaction_is_ended_which_is_an_outage(victim: Engine, owner: Engine) -> None:
    """Its locks go with it; the same again may succeed."""

    def freeze() -> None:
        with transaction(victim) as connection:
            pid = process_id(connection)
            value(connection, "SELECT set_config('idle_in_transaction_session_timeout', '1ms', true)")
            with transaction(owner) as other:
                while value(other, "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid", pid=pid):
                    other.execute(text("SELECT pg_stat_clear_snapshot()"))
            value(connection, "SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        freeze()


def test_sessions_of_the_application_let_go_in_the_end_and_those_of_the_owner_wait(
    books: Books, owner: Engine
) -> None:
    """A migration has to wait for whatever holds its tables."""
    ours = {name: books.value(f"SHOW {name}") for name in PROGRAM_TIMEOUTS}
    with transaction(owner) as connection:
        of_owner = {name: value(connection, f"SHOW {name}") for name in PROGRAM_TIMEOUTS}

    assert ours == PROGRAM_TIMEOUTS
    assert set(of_owner.values()) == {"0"}


def test_nobody_listening_means_that_the_database_is_away() -> None:
    """Before the first byte."""
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/nothing")

    assert isinstance(raised_by(nowhere, "SELECT 1"), DatabaseUnavailable)


def test_database_that_does_not_exist_is_no_outage(empty_url: str) -> None:
    """A typing mistake does not pass by waiting, but a restore in progress does; it is reported as away."""
    url = make_url(empty_url).set(database=f"missing_{uuid4().hex[:8]}").render_as_string(hide_password=False)

    assert isinstance(raised_by(open_engine(url), "SELECT 1"), DatabaseUnavailable)


def test_deadlock_becomes_a_conflict_for_one_and_success_for_the_other(owner: Engine) -> None:
    """Postgres picks a victim; the same again may succeed."""
    with transaction(owner) as connection:
        connection.execute(text("CREATE TABLE pair (id integer PRIMARY KEY, n integer)"))
        connection.execute(text("INSERT INTO pair VALUES (1, 0), (2, 0)"))
    both_hold_one = threading.Barrier(2, timeout=20)
    outcomes: list[BillingError | None] = []

    def cross(first: int, second: int) -> None:
        try:
            with transaction(owner) as connection:
                connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
                connection.execute(text("UPDATE pair SET n = n + 1 WHERE id = :id"), {"id": first})
                both_hold_one.wait()
                connection.execute(text("UPDATE pair SET n = n + 1 WHERE id = :id"), {"id": second})
            outcomes.append(None)
        except BillingError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=cross, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    (loser,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(loser, TransactionConflict)
    assert loser.facts == {"sqlstate": "40P01"}
    assert not loser.affects_everything


def test_serialization_failure_becomes_a_conflict(owner: Engine, empty_url: str) -> None:
    """Two transactions that each saw the past of the other."""
    strict = create_engine(make_url(empty_url).set(drivername="postgresql+psycopg"), isolation_level="SERIALIZABLE")
    with transaction(owner) as connection:
        connection.execute(text("CREATE TABLE tally (n integer)"))
        connection.execute(text("INSERT INTO tally VALUES (0)"))

    def overtaken() -> None:
        with transaction(strict) as slow:
            value(slow, "SELECT n FROM tally")
            with transaction(strict) as fast:
                fast.execute(text("UPDATE tally SET n = n + 1"))
            slow.execute(text("UPDATE tally SET n = n + 1"))

    with pytest.raises(TransactionConflict) as caught:
        overtaken()

    assert caught.value.facts == {"sqlstate": "40001"}
    strict.dispose()


def test_lock_that_is_not_to_be_had_is_an_outage(owner: Engine) -> None:
    """NOWAIT and lock timeouts: somebody has held it for longer than we wait for one."""
    with transaction(owner) as holder:
        holder.execute(text("LOCK TABLE pg_depend"))

        assert isinstance(raised_by(owner, "LOCK TABLE pg_depend NOWAIT"), DatabaseUnavailable)


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("CREATE TEMP TABLE t (n int UNIQUE); INSERT INTO t VALUES (1), (1)", "23505"),
        ("CREATE TEMP TABLE t (n int NOT NULL); INSERT INTO t VALUES (NULL)", "23502"),
        ("SELECT 'x'::integer", "22P02"),
        ("SELECT (10::numeric ^ 30)::bigint", "22003"),
        ("SELECT '\"\\u0000\"'::jsonb #>> '{}'", "22P05"),
        ("SELECT repeat('[', 100000)::json", "54001"),
    ],
)
def test_refused_value_is_permanent(owner: Engine, statement: str, state: str) -> None:
    """The same again would fail again."""
    error = raised_by(owner, statement.replace("::", r"\:\:"))

    assert isinstance(error, ConstraintBroken)
    assert error.facts == {"sqlstate": state}


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELECT * FROM no_such_table", "42P01"),
        ("SELECT no_such_column FROM pg_class", "42703"),
        ("SELECT no_such_function()", "42883"),
        ("SELEKT", "42601"),
        ("SET LOCAL ROLE calltally_tenant; SELECT * FROM pg_authid", "42501"),
        ("SET TRANSACTION READ ONLY; CREATE TABLE t (n int)", "25006"),
        *(
            (f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$", state)
            for state in ("0A000", "21000", "2F003", "55000", "P0001", "XX000", "XX001", "XX002")
        ),
    ],
)
def test_statement_that_is_right_and_refused_is_no_fault_of_the_data(
    owner: Engine, statement: str, state: str
) -> None:
    """Something of ours is missing, may not be used, or cannot be written; once it is mended the same is right."""
    error = raised_by(owner, statement)

    assert isinstance(error, InstallationBroken)
    assert error.affects_everything
    assert error.facts == {"sqlstate": state}


def test_text_that_psycopg_does_not_send_is_permanent(owner: Engine) -> None:
    """It has no SQLSTATE, and must not pass for a database that is away."""
    with pytest.raises(ConstraintBroken), transaction(owner) as connection:
        connection.execute(text("SELECT CAST(:given AS text)"), {"given": "a\0b"})


@pytest.mark.parametrize("state", ["53100", "53200", "53300", "57014", "57P01", "57P03", "58030", "08006"])
def test_server_in_trouble_is_away(owner: Engine, state: str) -> None:
    """Disk full, out of memory, too many connections, cancelled, shutting down, I/O error."""
    error = raised_by(owner, f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$")

    assert isinstance(error, DatabaseUnavailable)
    assert error.facts == {"sqlstate": state}


def test_refusal_of_the_books_reaches_python_whole(books: Books) -> None:
    """A function of `sql/` that refuses, called as the application."""
    with pytest.raises(UnknownOrganization, match=r"\.") as caught:
        books.credit(uuid4(), 5_000_000, "topup:pi_1")

    assert caught.value.facts


def test_role_of_the_application_may_not_write_tables(engine: Engine) -> None:
    """Whatever the code does, the books are written by their functions."""
    error = raised_by(engine, "INSERT INTO workers (name) VALUES ('a')")

    assert error.facts == {"sqlstate": "42501"}
