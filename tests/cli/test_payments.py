"""`calltally payments assign`: a person says whose a payment is."""

from billing.errors import UnknownOrganization
from tests.books import Books

from .conftest import Calltally


def test_payment_is_assigned_with_its_reason(calltally: Calltally, books: Books) -> None:
    """By the organization's name; it says how many events go on."""
    organization_id = books.organization("Acme")

    answer = calltally("payments", "assign", "pi_1", "Acme", "--reason", "by telephone", "--json").json

    assert answer == {"payment_id": "pi_1", "organization_id": str(organization_id), "woken_events": 0}
    (kept,) = books.rows("SELECT * FROM assigned_payments")
    assert (kept["organization_id"], kept["reason"]) == (organization_id, "by telephone")


def test_payment_of_nobody_is_not_assigned(calltally: Calltally, books: Books) -> None:
    """A typing error in the name changes nothing."""
    answer = calltally("payments", "assign", "pi_1", "Nobody", "--reason", "x")

    assert (answer.exit_code, type(answer.error)) == (1, UnknownOrganization)
    assert books.rows("SELECT * FROM assigned_payments") == []
