"""`calltally org`, `route` and `wallet`: names and ids, currency units in, micros out."""

from typing import Any
from uuid import UUID

import pytest

from billing.errors import BillingError, IdempotencyConflict, InvalidAmount, NameTaken, UnknownOrganization
from tests.books import Books, told_call

from .conftest import Calltally


def create(calltally: Calltally, name: str = "Acme", *options: str) -> str:
    """The id of a new organization."""
    answer = calltally("org", "create", "--name", name, "--email", "billing@example.com", *options, "--json").json
    return str(answer["organization_id"])


def prices(books: Books) -> list[dict[str, Any]]:
    """The prices of organizations' own."""
    return books.rows(
        "SELECT per_minute_micros, increment_seconds, minimum_seconds, free_seconds FROM prices"
        " WHERE organization_id IS NOT NULL"
    )


def test_created_organization_has_an_empty_wallet(calltally: Calltally, books: Books) -> None:
    """The answer names the id, the wallet has the default limit, and no price of its own is set."""
    organization_id = create(calltally)
    shown = calltally("wallet", "show", "Acme", "--json").json

    assert shown == {
        "organization_id": str(UUID(organization_id)),
        "currency": "USD",
        "balance_micros": 0,
        "debt_limit_micros": 5_000_000,
        "outstanding_micros": 0,
        "needs_recharge": shown["needs_recharge"],
        "state": shown["state"],
        "movements": [],
    }
    assert prices(books) == []


def test_created_organization_with_terms_of_its_own(calltally: Calltally, books: Books) -> None:
    """Amounts are in currency units, exact to the micro."""
    options = ("--debt-limit", "12.34", "--price-per-minute", "0.0079", "--increment", "6")
    create(calltally, "Acme", *options, "--minimum", "30", "--free", "5")

    assert calltally("wallet", "show", "Acme", "--json").json["debt_limit_micros"] == 12_340_000
    assert prices(books) == [
        {"per_minute_micros": 7_900, "increment_seconds": 6, "minimum_seconds": 30, "free_seconds": 5}
    ]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (("--debt-limit", "five"), InvalidAmount, "for example 5.00"),
        (("--debt-limit", "0.0000001"), InvalidAmount, "finer than a millionth"),
        (("--debt-limit", "-1"), InvalidAmount, "is negative"),
        (("--price-per-minute", "1e3"), InvalidAmount, "for example 5.00"),
        (("--increment", "7"), InvalidAmount, "1, 6 or 60"),
    ],
)
def test_terms_that_make_no_sense_are_refused(
    calltally: Calltally, books: Books, options: tuple[str, str], error: type[BillingError], says: str
) -> None:
    """The error says how to write it, and nothing is created."""
    answer = calltally("org", "create", "--name", "Acme", "--email", "a@example.com", *options)

    assert answer.exit_code == 1
    assert isinstance(answer.error, error)
    assert says in str(answer.error)
    assert books.value("SELECT count(*) FROM organizations") == 0


def test_name_that_is_taken_is_refused(calltally: Calltally) -> None:
    """Commands accept names in place of ids, so a name means one organization."""
    create(calltally)
    answer = calltally("org", "create", "--name", "Acme", "--email", "b@example.com")

    assert isinstance(answer.error, NameTaken)
    assert "Choose another name" in str(answer.error)


def test_organizations_are_listed_by_name(calltally: Calltally) -> None:
    """In JSON with micros, for people with amounts."""
    create(calltally, "Zeta")
    create(calltally, "Acme")
    calltally("wallet", "credit", "Acme", "7.50", "--key", "gift", "--reason", "welcome")
    listed = calltally("org", "list", "--json").json

    assert [(row["name"], row["balance_micros"]) for row in listed] == [("Acme", 7_500_000), ("Zeta", 0)]
    assert "$7.50" in calltally("org", "list").output


def test_credit_counts_once_per_key(calltally: Calltally) -> None:
    """The same command again is a duplicate, by name or by id; another amount under the same key is an error."""
    organization_id = create(calltally)
    arguments = ("25.00", "--key", "ticket-7", "--reason", "goodwill")
    first = calltally("wallet", "credit", "Acme", *arguments, "--json").json
    second = calltally("wallet", "credit", organization_id, *arguments, "--json").json
    third = calltally("wallet", "credit", "Acme", "26.00", *arguments[1:])
    shown = calltally("wallet", "show", organization_id, "--json").json

    assert (first["success"], first["duplicate"], first["balance_after_micros"]) == (True, False, 25_000_000)
    assert (second["duplicate"], second["balance_after_micros"]) == (True, 25_000_000)
    assert isinstance(third.error, IdempotencyConflict)
    assert [(row["kind"], row["amount_micros"], row["idempotency_key"]) for row in shown["movements"]] == [
        ("adjustment", 25_000_000, "adjustment:ticket-7")
    ]


def test_debit_counts_once_per_key_and_goes_past_the_limit(calltally: Calltally) -> None:
    """What an operator takes is an adjustment, whatever the wallet holds."""
    create(calltally)
    arguments = ("Acme", "25.00", "--key", "mistake-7", "--reason", "credited twice")
    first = calltally("wallet", "debit", *arguments, "--json").json
    second = calltally("wallet", "debit", *arguments, "--json").json
    credited = calltally("wallet", "credit", *arguments)
    shown = calltally("wallet", "show", "Acme", "--json").json

    assert (first["success"], first["duplicate"], first["balance_after_micros"]) == (True, False, -25_000_000)
    assert (second["duplicate"], second["balance_after_micros"]) == (True, -25_000_000)
    assert isinstance(credited.error, IdempotencyConflict)
    assert [(row["kind"], row["amount_micros"], row["idempotency_key"]) for row in shown["movements"]] == [
        ("adjustment", -25_000_000, "adjustment:mistake-7")
    ]


@pytest.mark.parametrize("key", ["topup:pi_1", "call:1", "sms:1", "refund:re_1", "dispute:dp_1:withdrawn"])
def test_debit_under_the_key_of_another_movement_is_refused(calltally: Calltally, key: str) -> None:
    """It would block that movement for ever."""
    create(calltally)
    answer = calltally("wallet", "debit", "Acme", "1", "--key", key, "--reason", "r")

    assert isinstance(answer.error, InvalidAmount)


def test_credit_under_the_key_of_a_payment_is_that_payment(calltally: Calltally, books: Books) -> None:
    """Its webhook may still come, and so may its refund."""
    organization_id = UUID(create(calltally))
    calltally("wallet", "credit", "Acme", "10", "--key", "topup:pi_1", "--reason", "restored")

    assert books.credit(organization_id, 10_000_000, "topup:pi_1")["duplicate"]
    books.refund("pi_1", "re_1", 10_000_000)
    assert books.balance(organization_id) == 0


@pytest.mark.parametrize("verb", ["credit", "debit"])
@pytest.mark.parametrize("amount", ["0", "-5", "ten", "", "1,000"])
def test_movement_of_no_amount_is_refused(calltally: Calltally, verb: str, amount: str) -> None:
    """Nothing but a positive number of currency units is booked."""
    create(calltally)
    answer = calltally("wallet", verb, "--key", "k", "--reason", "r", "--", "Acme", amount)

    assert isinstance(answer.error, InvalidAmount)
    assert calltally("wallet", "show", "Acme", "--json").json["balance_micros"] == 0


@pytest.mark.parametrize(
    "command",
    [
        ("wallet", "show", "Acne"),
        ("wallet", "credit", "Acne", "1", "--key", "k", "--reason", "r"),
        ("route", "add", "Acne", "--assistant", "a"),
    ],
)
def test_unknown_organization_is_answered_with_the_known_ones(calltally: Calltally, command: tuple[str, ...]) -> None:
    """Or, where there is none, with how to create one."""
    before = calltally(*command)
    create(calltally)
    after = calltally(*command)

    assert isinstance(before.error, UnknownOrganization)
    assert "calltally org create" in str(before.error)
    assert isinstance(after.error, UnknownOrganization)
    assert "There are: Acme" in str(after.error)


@pytest.mark.parametrize("kind", ["assistant", "squad", "phone-number"])
def test_route_charges_the_calls_that_waited_for_it(calltally: Calltally, books: Books, kind: str) -> None:
    """The answer says how many; the same route again finds none."""
    create(calltally)
    column = f"{kind.replace('-', '_')}_id"
    books.record({**told_call("c", None, 60), column: "ext-1"})
    added = calltally("route", "add", "Acme", f"--{kind}", "ext-1", "--json").json
    again = calltally("route", "add", "Acme", f"--{kind}", "ext-1", "--json").json

    assert (added["charged_calls"], added[kind.replace("-", "_")]) == (1, "ext-1")
    assert again["charged_calls"] == 0
    assert calltally("wallet", "show", "Acme", "--json").json["balance_micros"] == -700_000


@pytest.mark.parametrize("options", [(), ("--assistant", "a", "--squad", "s"), ("--assistant", "")])
def test_route_of_nothing_or_of_two_things_is_refused(calltally: Calltally, options: tuple[str, ...]) -> None:
    """The error names the three choices."""
    create(calltally)
    answer = calltally("route", "add", "Acme", *options)

    assert isinstance(answer.error, InvalidAmount)
    assert "--assistant, --squad, --workflow, --phone-number, --metadata" in str(answer.error)


def test_route_from_a_time_on_is_in_utc(calltally: Calltally, books: Books) -> None:
    """A time without a zone is UTC, whatever the machine thinks."""
    create(calltally)
    calltally("route", "add", "Acme", "--assistant", "a", "--from", "2026-07-01T00:00:00")

    assert books.value("SELECT lower(valid)::text FROM routes") == "2026-07-01 00:00:00+00"
