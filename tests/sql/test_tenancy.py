"""Who may do what to which row: every table and view, verb, role and tenant, read from the catalogue."""

from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, errors, sql

from tests import messages
from tests.books import Books, told_call
from tests.messages import looked_up

TENANT_READS = {
    *("wallets", "transfers", "charges", "calls", "wallet_balances", "wallet_statement", "vapi_webhook_reliability"),
    *("organizations", "prices", "sms_messages", "sms_prices"),
}
COLUMNS = """
SELECT c.relname::text, a.attname::text FROM pg_class AS c
INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
"""
NOT_ORGANIZATION_DATA = {"schema_revision"}


@pytest.fixture
def connection(shared: Books, shared_url: str) -> Iterator[Connection]:
    """A superuser's session whose work is thrown away."""
    with psycopg.connect(shared_url) as connection:
        yield connection
        connection.rollback()


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


def test_tenant_is_refused_every_column_that_it_need_not_read(connection: Connection) -> None:
    """Addresses, customers, events, payments: tried column by column, whatever the grants say they mean."""
    columns = connection.execute(COLUMNS).fetchall()
    connection.execute("SET LOCAL ROLE calltally_tenant")
    read = set()
    for relation, column in columns:
        with suppress(errors.InsufficientPrivilege), connection.transaction():
            connection.execute(
                sql.SQL("SELECT {} FROM {} LIMIT 0").format(sql.Identifier(column), sql.Identifier(relation))
            )
            read.add((relation, column))
    of_organizations = {column for relation, column in read if relation == "organizations"}

    assert {relation for relation, _ in read} == TENANT_READS
    assert of_organizations == {"id", "name", "currency", "charge_policy", "created_at"}


def test_tenant_with_malformed_id_gets_an_error(connection: Connection, tenants: dict[str, str]) -> None:
    """What is not an id opens nothing."""
    for relation in sorted(TENANT_READS):
        with pytest.raises(errors.InvalidTextRepresentation), connection.transaction():
            seen_as_tenant(connection, relation, "' OR true --")


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
