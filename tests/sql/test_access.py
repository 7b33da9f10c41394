"""Who may use what: every function, table, view and column, for every role, is what sql/access.sql says."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection, errors

from billing.migrate import migrate
from tests.books import Books

ACCESS = Path(__file__).parents[2] / "sql" / "access.sql"
PROCESSES = ("receiver", "worker", "nights", "operators")
ROLES = (*PROCESSES, "app", "tenant", "analyst")
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
BOOKS_UPDATES = {
    *("organizations", "wallets", "prices", "routes", "calls", "events", "workers", "alerts", "incidents"),
    *("key_locks", "sms_messages", "sms_prices", "payments", "assigned_payments", "movements", "seen_payments"),
}
"""Whole rows. Of charges and runs they update the columns below."""
BOOKS_UPDATE_COLUMNS = {"charges": {"state", "settled_by_transfer_id"}, "reconciliation_runs": {"alert"}}
BOOKS_DELETE = {"routes", "events"}

FUNCTIONS = """
SELECT p.oid::regprocedure::text, p.proname::text, p.prosecdef,
    array(SELECT role FROM unnest(%(roles)s::text[]) AS role
        WHERE has_function_privilege('calltally_' || role, p.oid, 'EXECUTE'))
FROM pg_proc AS p
WHERE p.pronamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
"""
COLUMNS = """
SELECT CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END, a.attname::text,
    array(SELECT verb FROM unnest(%(verbs)s::text[]) AS verb WHERE
        CASE WHEN verb IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
            THEN has_column_privilege('calltally_' || %(role)s, c.oid, a.attnum, verb)
            ELSE has_table_privilege('calltally_' || %(role)s, c.oid, verb) END
        AND has_schema_privilege('calltally_' || %(role)s, n.oid, 'USAGE')),
    c.relkind IN ('r', 'p')
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON n.oid = c.relnamespace
INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname IN ('public', 'checks', 'reporting', 'parts') AND c.relkind IN ('r', 'p', 'v', 'm')
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Access:
    """The lines of sql/access.sql, with what people have beside theirs."""

    functions: dict[str, set[str]]
    """Roles by function."""
    relations: dict[tuple[str, str], dict[str, set[str] | None]]
    """By role and relation: verbs, each with its columns, or None for all."""

    def executes(self, role: str, function: str) -> bool:
        """Whether the role may call it."""
        named = self.functions.get(function, set())
        return role in named or (role == "app" and bool(named & {"people", *PROCESSES}))

    def has(self, role: str, relation: str, column: str, verb: str) -> bool:
        """Whether the role may do that with the column."""
        if role == "app":
            reads = verb == "SELECT" and not relation.startswith("parts.")
            return reads or any(self.has(process, relation, column, verb) for process in PROCESSES)
        if role == "analyst" and verb == "SELECT" and relation.startswith("reporting."):
            return True
        columns = self.relations.get((role, relation), {}).get(verb, set())
        return columns is None or column in columns


@pytest.fixture
def connection(shared: Books, shared_url: str) -> Iterator[Connection]:
    """A superuser's session whose work is thrown away."""
    with psycopg.connect(shared_url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def access(connection: Connection) -> Access:
    """What the file says."""
    connection.execute(ACCESS.read_bytes())
    functions: dict[str, set[str]] = defaultdict(set)
    relations: dict[tuple[str, str], dict[str, set[str] | None]] = defaultdict(dict)
    for what, privileges, roles in connection.execute("SELECT what, privileges, roles FROM access").fetchall():
        for role in roles.split(", "):
            if privileges == "EXECUTE":
                functions[what].add(role)
                continue
            verb, _, columns = privileges.partition(" (")
            relations[role, what][verb] = set(columns.rstrip(")").split(", ")) if columns else None
    return Access(functions, relations)


def test_functions_are_open_to_whom_the_file_names_and_nobody_else(connection: Connection, access: Access) -> None:
    """A function that is new is closed; one that acts as its owner, and so is a way in, has a line there."""
    found = connection.execute(FUNCTIONS, {"roles": list(ROLES)}).fetchall()
    unnamed = [
        f"add to sql/access.sql: ('{name}', 'EXECUTE', '…'),  -- roles: receiver, worker, nights, operators, people"
        for _, name, is_way_in, _ in found
        if is_way_in and name not in access.functions
    ]
    surprises = [
        f"{signature}: open to {sorted(open_to)}, and the line ('{name}', 'EXECUTE', …) in sql/access.sql says "
        f"{sorted(access.functions.get(name, ()))}"
        for signature, name, _, open_to in found
        if set(open_to) != {role for role in ROLES if access.executes(role, name)}
    ]

    assert unnamed == []
    assert surprises == []


@pytest.mark.parametrize("role", ROLES)
def test_columns_are_open_as_the_file_says_and_no_further(connection: Connection, access: Access, role: str) -> None:
    """Every verb on every column of every table and view."""
    surprises = [
        f"{role} {'may' if verb in granted else 'may not'} {verb} {relation}.{column}: "
        f"the line ('{relation}', '{verb}', '… {role} …') of sql/access.sql says otherwise"
        for relation, column, granted, _ in connection.execute(COLUMNS, {"role": role, "verbs": list(VERBS)})
        for verb in VERBS
        if (verb in granted) != access.has(role, relation, column, verb)
    ]

    assert surprises == []


def test_books_write_what_functions_change_and_never_history(connection: Connection) -> None:
    """They insert everywhere and read all tables; what they update and delete is named above."""
    surprises = []
    for relation, column, granted, is_table in connection.execute(COLUMNS, {"role": "books", "verbs": list(VERBS)}):
        if relation.startswith("parts."):
            wanted = set()
        elif is_table and relation != "schema_revision":
            updates = relation in BOOKS_UPDATES or column in BOOKS_UPDATE_COLUMNS.get(relation, ())
            wanted = {"SELECT", "INSERT", *(["UPDATE"] * updates), *(["DELETE"] * (relation in BOOKS_DELETE))}
        else:
            wanted = {"SELECT"} if relation.startswith("checks.") or relation == "payment_reversals" else set()
        if set(granted) != wanted:
            surprises.append((relation, column, granted, wanted))

    assert surprises == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT credit_wallet(gen_random_uuid(), 1, 'gift', 'adjustment')",
        "SELECT set_debt_limit(gen_random_uuid(), 1)",
        "SELECT prune_events('1 day', '1 day')",
        "SELECT * FROM claim_events('me', 1, '1 minute')",
        "SELECT body FROM event_bodies",
        "SELECT balance_micros FROM wallets",
        "SELECT * FROM wallet_balances",
        "SELECT * FROM organizations",
        "SELECT id FROM calls",
        "SELECT reason FROM events",
        "SELECT * FROM reconciliation_runs",
        "SET ROLE calltally_operators",
        "SET ROLE calltally_worker",
        "SET ROLE calltally_app",
        "SET ROLE calltally_books",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
def test_receiver_cannot(shared_url: str, connection: Connection, statement: str) -> None:
    """What faces the internet stores webhooks and counts; with a login of its own there is no way back to more."""
    connection.execute("CREATE ROLE calltally_test_receiver IN ROLE calltally_receiver")
    connection.execute("SET SESSION AUTHORIZATION calltally_test_receiver")

    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_receiver_stores_webhooks(connection: Connection, tag: str) -> None:
    """The one thing that it changes."""
    connection.execute("SET LOCAL ROLE calltally_receiver")
    connection.execute("SELECT accept_events(%s, %s, %s, %s)", [["vapi"], [tag], ["end-of-call-report"], [b"{}"]])

    assert connection.execute("SELECT waiting > 0 FROM queue_metrics()").fetchone() == (True,)


def test_definer_functions_are_pinned_and_belong_to_the_books(connection: Connection) -> None:
    """Functions that act as their owner pin search_path, and belong to the books but for two, which make tables."""
    functions = connection.execute(
        "SELECT proname::text, proowner::regrole::text, "
        "EXISTS (SELECT FROM unnest(proconfig) AS c WHERE c = 'search_path=public, pg_temp') "
        "FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
    ).fetchall()

    assert len(functions) > 20
    assert {is_pinned for *_, is_pinned in functions} == {True}
    others = {name: owner for name, owner, _ in functions if owner != "calltally_books"}
    assert others == dict.fromkeys(("ensure_partitions", "forget_bodies"), "calltally_owner")


def test_what_older_versions_opened_is_closed(own_tables: object, database_url: str) -> None:
    """Migrating takes back whatever was granted, whenever and by whomever, to our roles and to everybody."""
    with psycopg.connect(database_url) as connection:
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO calltally_receiver, calltally_tenant, PUBLIC")
        connection.execute("GRANT UPDATE (balance_micros) ON wallets TO calltally_worker")
        connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO calltally_app, PUBLIC")
    migrate(database_url)

    with psycopg.connect(database_url) as connection:
        allowed = connection.execute(
            "SELECT has_table_privilege('calltally_receiver', 'wallets', 'SELECT'),"
            " has_table_privilege('calltally_tenant', 'events', 'SELECT'),"
            " has_column_privilege('calltally_worker', 'wallets', 'balance_micros', 'UPDATE'),"
            " has_function_privilege('calltally_app', 'book_reversals(text)', 'EXECUTE')"
        ).fetchone()
    assert allowed == (False,) * 4
