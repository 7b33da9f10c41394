"""Who may do what to which row: every table and view, verb, role and tenant, read from the catalogue."""

from collections.abc import Iterator
from itertools import product
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, errors, sql

from tests import messages
from tests.books import Books, told_call
from tests.messages import looked_up

ROLES = ["calltally_owner", "calltally_books", "calltally_app", "calltally_tenant", "calltally_analyst"]
VERBS = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"]

# What each role may do. Whatever is not named here is refused.
TENANT_READS = {
    *("wallets", "transfers", "charges", "calls", "wallet_balances", "wallet_statement", "vapi_webhook_reliability"),
    *("organizations", "prices", "sms_messages", "sms_prices"),
}
ANALYST_READS = {"wallet_balances", "vapi_webhook_reliability"}  # and the views of schema reporting
BOOKS_UPDATES = {
    *("organizations", "wallets", "prices", "routes", "calls", "charges", "events", "workers", "alerts", "incidents"),
}
BOOKS_DELETES = {"routes", "events"}
OWNERS_FUNCTIONS = {"ensure_partitions", "forget_bodies"}
"""Definer functions that make and drop tables."""
BOOKS_UPDATES |= {"sms_messages", "sms_prices", "reversals", "payments", "reconciliation_runs"}
BOOKS_READ_VIEWS = {"reversal_states"}
APP_INSERTS = {"reconciliation_runs", "findings", "first_sights"}
APP_UPDATES = {"reconciliation_runs"}
READABLE_COLUMNS = {  # for tenant and analyst
    "organizations": "id, name, currency",
    "events": "id, provider, state",
}
WRITTEN_COLUMNS = {"charges": "state", "calls": "id", "prices": "currency"}
NOT_ORGANIZATION_DATA = {"schema_revision"}


def expected(role: str, verb: str, relation: str, kind: str) -> bool:
    """Whether the privilege is granted, by the small tables above."""
    reads, is_table = verb == "SELECT", kind in {"r", "p"}
    match role:
        case "calltally_owner":
            return True
        case "calltally_books":
            granted = {"UPDATE": BOOKS_UPDATES, "DELETE": BOOKS_DELETES}.get(verb, set())
            every = is_table and relation not in NOT_ORGANIZATION_DATA
            checks = reads and (relation.startswith("checks.") or relation in BOOKS_READ_VIEWS)
            return (every and verb in {"SELECT", "INSERT"}) or relation in granted or checks
        case "calltally_app":
            return reads or relation in {"INSERT": APP_INSERTS, "UPDATE": APP_UPDATES}.get(verb, set())
        case "calltally_tenant":
            return reads and relation in TENANT_READS
        case _:
            return reads and (relation in ANALYST_READS or relation.startswith("reporting."))


def relations(connection: Connection) -> list[tuple[str, str]]:
    """Every table (r) and view (v) of ours, by name."""
    return connection.execute(
        "SELECT CASE nspname WHEN 'public' THEN relname ELSE nspname || '.' || relname END, relkind::text "
        "FROM pg_class INNER JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE nspname IN ('public', 'checks', 'reporting') AND relkind IN ('r', 'p', 'v', 'm') ORDER BY 1"
    ).fetchall()


def columns(connection: Connection, relation: str) -> set[str]:
    """The names of a relation's columns."""
    cursor = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(*relation.split("."))))
    return {column.name for column in cursor.description or ()}


@pytest.fixture
def connection(shared: Books, shared_url: str) -> Iterator[Connection]:
    """A superuser's session whose work is thrown away."""
    with psycopg.connect(shared_url) as connection:
        yield connection
        connection.rollback()


def attempt(connection: Connection, role: str, verb: str, relation: str) -> str:
    """`allowed` or `refused`: what the role meets when it tries; `other` for objections that are not privileges."""
    name = sql.Identifier(*relation.split("."))
    names = sorted(columns(connection, relation))
    written = sql.Identifier(WRITTEN_COLUMNS.get(relation, names[0]))
    read = sql.SQL(READABLE_COLUMNS[relation] if relation in READABLE_COLUMNS and role in ROLES[3:] else "*")
    statement = {
        "SELECT": sql.SQL("SELECT {} FROM {} LIMIT 1").format(read, name),
        "INSERT": sql.SQL("INSERT INTO {} ({}) SELECT NULL WHERE false").format(name, written),
        "UPDATE": sql.SQL("UPDATE {} SET {} = NULL WHERE false").format(name, written),
        "DELETE": sql.SQL("DELETE FROM {} WHERE false").format(name),
        "TRUNCATE": sql.SQL("TRUNCATE {}").format(name),
    }[verb]
    connection.execute("SAVEPOINT before")
    try:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        connection.execute(statement)
    except errors.InsufficientPrivilege:
        return "refused"
    except errors.Error:
        return "other"  # a foreign key, the append-only trigger, a view that nobody can write
    else:
        return "allowed"
    finally:
        connection.execute("ROLLBACK TO before")


@pytest.mark.parametrize("role", ROLES)
def test_privileges_of_role_are_those_of_the_table_and_no_others(connection: Connection, role: str) -> None:
    """Every verb on every table and view is tried, and refused unless the small table above allows it."""
    surprises = []
    for (relation, kind), verb in product(relations(connection), VERBS):
        if kind == "v" and verb != "SELECT" and role == "calltally_owner":
            continue  # owners of views may do what the view cannot
        outcome = attempt(connection, role, verb, relation)
        granted = outcome == "allowed" or (outcome == "other" and kind in {"r", "p"})
        if granted != expected(role, verb, relation, kind):
            surprises.append((relation, verb, outcome))

    assert surprises == []


@pytest.fixture
def tenants(shared: Books, tag: str) -> dict[str, str]:
    """What app.org_id says for an organization with data of its own, another one, and nobody."""
    ids = {}
    for name in ("own", "foreign"):
        organization_id = shared.organization()
        messages.price(shared, organization_id, 20_000)
        messages.route(shared, organization_id, "messaging_service", f"MG-{name}-{tag}")
        messages.record(shared, looked_up(f"SM-{name}-{tag}", "delivered", messaging_service_sid=f"MG-{name}-{tag}"))
        shared.route(organization_id, f"a-{name}-{tag}")
        shared.price(organization_id, 600_000)
        shared.credit(organization_id, 5_000_000, f"topup:{name}-{tag}")
        shared.record(told_call(f"{name}-{tag}", f"a-{name}-{tag}", 60))
        ids[name] = str(organization_id)
    return {**ids, "empty": "", "unknown": str(uuid4())}


def seen_as_tenant(connection: Connection, relation: str, organization_id: str | None) -> set[str]:
    """The organizations whose rows a tenant sees."""
    connection.execute("SAVEPOINT before")
    connection.execute("SET LOCAL ROLE calltally_tenant")
    if organization_id is not None:
        connection.execute("SELECT set_config('app.org_id', %s, true)", [organization_id])
    column = "id" if relation == "organizations" else "organization_id"
    seen = connection.execute(
        sql.SQL("SELECT DISTINCT {}::text FROM {}").format(sql.Identifier(column), sql.Identifier(relation))
    ).fetchall()
    connection.execute("ROLLBACK TO before")
    return {row[0] for row in seen}


@pytest.mark.parametrize("who", ["own", "foreign", "unknown", "empty", None])
def test_tenant_sees_its_own_rows_alone(connection: Connection, tenants: dict[str, str], who: str | None) -> None:
    """In every table and view that a tenant may read: its own organization's rows, and for nobody none."""
    organization_id = tenants[who] if who else None
    expected_rows = {organization_id} if who in {"own", "foreign"} else set()

    for relation in sorted(TENANT_READS):
        assert seen_as_tenant(connection, relation, organization_id) == expected_rows, relation


def test_tenant_with_malformed_id_gets_an_error(connection: Connection, tenants: dict[str, str]) -> None:
    """What is not an id opens nothing."""
    for relation in sorted(TENANT_READS):
        with pytest.raises(errors.InvalidTextRepresentation), connection.transaction():
            seen_as_tenant(connection, relation, "' OR true --")


def test_tenant_executes_none_of_our_functions(connection: Connection) -> None:
    """A tenant reads; it does not act, and neither does everybody (PUBLIC)."""
    open_to = connection.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p "
        "WHERE pronamespace = 'public'::regnamespace "
        "AND has_function_privilege('calltally_tenant', p.oid, 'EXECUTE') "
        "AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')"
    ).fetchall()

    assert open_to == []


def test_definer_functions_are_pinned_and_narrow(connection: Connection) -> None:
    """Functions that act as their owner pin search_path, belong to the books but for two, and are the app's alone."""
    functions = connection.execute(
        "SELECT p.oid::regprocedure::text, proowner::regrole::text, "
        "EXISTS (SELECT FROM unnest(proconfig) AS c WHERE c = 'search_path=public, pg_temp'), "
        "(SELECT array_agg(grantee::regrole::text ORDER BY grantee::regrole::text) FROM aclexplode(proacl) "
        "WHERE grantee <> proowner) "
        "FROM pg_proc AS p WHERE pronamespace = 'public'::regnamespace AND prosecdef"
    ).fetchall()

    assert len(functions) > 20
    assert {pinned for *_, pinned, _ in functions} == {True}
    owned = {name.partition("(")[0]: owner for name, owner, *_ in functions if owner != "calltally_books"}
    assert owned == dict.fromkeys(OWNERS_FUNCTIONS, "calltally_owner")
    assert {name: tuple(grantees) for name, *_, grantees in functions if grantees != ["calltally_app"]} == {
        "check_books()": ("calltally_analyst", "calltally_app", "calltally_owner"),
        "forget_bodies(interval,integer)": ("calltally_books",),
    }


def test_books_role_is_narrow(connection: Connection) -> None:
    """The role behind the functions is no superuser, cannot log in, bypass policies, or make anything."""
    role = connection.execute(
        "SELECT rolsuper, rolcanlogin, rolbypassrls, rolcreatedb, rolcreaterole, "
        "has_schema_privilege('calltally_books', 'public', 'CREATE') FROM pg_roles WHERE rolname = 'calltally_books'"
    ).fetchone()

    assert role == (False,) * 6


def test_row_security_is_enabled_and_forced_on_all_tables(connection: Connection) -> None:
    """No table with an organization's data relies on its grants alone, not even against its owner."""
    open_tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT (relrowsecurity AND relforcerowsecurity)"
    ).fetchall()

    assert {name for (name,) in open_tables} == NOT_ORGANIZATION_DATA


def test_views_run_as_their_reader(connection: Connection) -> None:
    """Every view but two is security_invoker, so that row security reaches through it.

    The two serve the analyst as well, who reads no table; what a tenant sees of them is tested above.
    """
    trusting = connection.execute(
        "SELECT relname, reloptions FROM pg_class WHERE relkind = 'v' AND relnamespace IN ('public'::regnamespace, "
        "'checks'::regnamespace) AND NOT coalesce('security_invoker=true' = ANY (reloptions), false) ORDER BY relname"
    ).fetchall()

    assert trusting == [(name, ["security_barrier=true"]) for name in ("vapi_webhook_reliability", "wallet_balances")]
