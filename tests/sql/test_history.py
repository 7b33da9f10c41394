"""History cannot be edited, and every refusal has a name."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from billing.errors import BY_SQLSTATE, HistoryIsAppendOnly
from tests.books import Books

SQL = Path(__file__).parents[2] / "sql"
CHANGES = ["UPDATE transfers SET amount_micros = 1", "DELETE FROM transfers", "TRUNCATE transfers CASCADE"]


@pytest.mark.parametrize("change", CHANGES)
def test_history_refuses_its_superuser(owner: Books, change: str) -> None:
    """Triggers stop even those whom no grant stops."""
    owner.credit(owner.organization(), 5, "topup:pi_1")

    with pytest.raises(HistoryIsAppendOnly):
        owner.value(change)

    assert owner.value("SELECT sum(amount_micros) FROM transfers") == 5


@pytest.mark.parametrize(
    ("role", "refusal"),
    [
        ("calltally_owner", "TY008"),
        ("calltally_books", "42501"),
        ("calltally_app", "42501"),
        ("calltally_tenant", "42501"),
        ("calltally_analyst", "42501"),
    ],
)
@pytest.mark.parametrize("change", CHANGES)
def test_history_refuses_every_role(shared: Books, shared_url: str, role: str, refusal: str, change: str) -> None:
    """The tables' owner meets the trigger, everybody else lacks the privilege."""
    shared.credit(shared.organization(), 5, f"topup:{role}:{change}")

    with psycopg.connect(shared_url) as connection:
        connection.execute(f"SET ROLE {role}".encode())
        with pytest.raises(errors.Error) as refused:
            connection.execute(change.encode())

    assert refused.value.sqlstate == refusal


@pytest.mark.parametrize("change", ["amount_micros = 0", "event_at = now()", "organization_id = NULL"])
def test_charge_keeps_its_facts_from_the_functions(shared_url: str, change: str) -> None:
    """The functions' own role can change a charge's state and nothing else of it."""
    with psycopg.connect(shared_url) as connection:
        connection.execute("SET ROLE calltally_books")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"UPDATE charges SET {change}".encode())


def test_error_codes_in_sql_and_python_are_the_same() -> None:
    """Every code that SQL raises has a Python class, and no class waits for a code that nobody raises."""
    raised = set()
    for file in SQL.rglob("*.sql"):
        if file.name != "schema.sql":
            statements = re.sub(r"--.*", "", file.read_text())
            raised |= set(re.findall(r"'(TY\d{3})'", statements))

    assert raised == set(BY_SQLSTATE)


def test_error_codes_are_promised_where_they_are_raised() -> None:
    """A file that raises a code names it in a comment, or is called by one that does."""
    for file in (SQL / "functions").glob("*.sql"):
        text = file.read_text()
        comments = " ".join(re.findall(r"--.*", text))
        for code in set(re.findall(r"'(TY\d{3})'", text)):
            assert code in comments, f"{file.name} raises {code} without a word"
