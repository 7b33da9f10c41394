"""`calltally events` and `books check`: what arrived, what became of it, and whether it adds up."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from billing import applying, inbox
from billing.deliveries import Delivery
from billing.errors import PermanentError, TransactionConflict
from tests.books import Books

from .conftest import Calltally


@pytest.fixture
def events(books: Books) -> dict[str, int]:
    """A skipped, a dead and a waiting event, and one that failed once; their ids."""
    kinds = {"skipped": "status-update", "dead": "end-of-call-report", "delayed": "hang", "waiting": "transcript"}
    for state, kind in kinds.items():
        inbox.accept(books.engine, [Delivery("vapi", state, kind, b'{"secret": "body"}')])
    claimed = inbox.claim(books.engine, "w", 3)
    applying.apply(books.engine, claimed[:2])
    inbox.fail(books.engine, inbox.Failure(claimed[2], TransactionConflict("busy")), dead=False)
    return {row["delivery_key"]: row["id"] for row in books.rows("SELECT id, delivery_key FROM events")}


def test_events_are_listed_newest_first(calltally: Calltally, events: dict[str, int]) -> None:
    """Each with its state, and without its body."""
    listed = calltally("events", "list", "--json").json

    assert [row["state"] for row in listed] == ["waiting", "delayed", "dead", "skipped"]
    assert "secret" not in str(listed)
    assert len(calltally("events", "list", "--limit", 2, "--json").json) == 2


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        (("--state", "dead"), ["dead"]),
        (("--type", "status-update"), ["skipped"]),
        (("--provider", "stripe"), []),
        (("--state", "dead", "--type", "status-update"), []),
    ],
)
def test_events_are_filtered(
    calltally: Calltally, events: dict[str, int], options: tuple[str, ...], keys: list[str]
) -> None:
    """By state, type and provider, together."""
    listed = calltally("events", "list", *options, "--json").json

    assert [row["delivery_key"] for row in listed] == keys


def test_list_of_no_events_says_so(calltally: Calltally) -> None:
    """An empty table would look like a mistake."""
    assert calltally("events", "list").output.strip() == "Events: none"
    assert calltally("events", "list", "--json").json == []


def test_event_is_shown_with_its_failed_attempts(calltally: Calltally, events: dict[str, int]) -> None:
    """State, deliveries and each error, but never the body: it holds personal data."""
    answer = calltally("events", "show", events["delayed"], "--json")
    shown = answer.json

    assert (shown["state"], shown["attempts"], shown["deliveries"]) == ("delayed", 1, 1)
    assert [(row["attempt"], row["error_class"], row["message"]) for row in shown["failed_attempts"]] == [
        (1, "TransactionConflict", "busy")
    ]
    assert "secret" not in answer.output
    assert "TransactionConflict" in calltally("events", "show", events["delayed"]).output


def test_unknown_event_is_answered_with_what_to_do(calltally: Calltally) -> None:
    """The error names the command that lists them."""
    answer = calltally("events", "show", 99)

    assert isinstance(answer.error, PermanentError)
    assert "calltally events list" in str(answer.error)


def test_events_are_replayed_by_id(calltally: Calltally, events: dict[str, int]) -> None:
    """Ended ones go back in line; those that are claimed or waiting anyway are left alone."""
    answer = calltally("events", "replay", *events.values(), "--json").json

    assert answer["replayed"] == 2
    assert sorted(answer["ids"]) == sorted([events["skipped"], events["dead"]])
    assert len(calltally("events", "list", "--state", "waiting", "--json").json) == 3


@pytest.mark.parametrize(("days", "replayed"), [(-1, 1), (1, 0)])
def test_dead_events_are_replayed_by_state_and_time(
    calltally: Calltally, events: dict[str, int], days: int, replayed: int
) -> None:
    """Only those received since then."""
    since = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    answer = calltally("events", "replay", "--state", "dead", "--since", since, "--json").json

    assert answer["replayed"] == replayed


def test_many_events_are_replayed_in_parts(
    calltally: Calltally, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is a transaction of its own, so that a person sees how far it is; none is left out."""
    monkeypatch.setattr("calltally.cli.events.CHUNK", 3)
    inbox.accept(books.engine, [Delivery("vapi", f"k{number}", "hang", b"{}") for number in range(8)])
    applying.apply(books.engine, inbox.claim(books.engine, "w", 8))
    answer = calltally("events", "replay", "--state", "skipped", "--json").json

    assert answer["replayed"] == 8
    assert len(calltally("events", "list", "--state", "waiting", "--json").json) == 8


def test_dismissed_event_is_over_with_its_reason_and_can_be_replayed(
    calltally: Calltally, events: dict[str, int], books: Books
) -> None:
    """Somebody looked at it; those that are in line or done are left alone, and said to be."""
    one = events["dead"]
    answer = calltally("events", "dismiss", one, "--reason", "another shop's", "--json")
    state = books.rows("SELECT state, reason FROM events WHERE id = :id", id=one)[0]
    others = calltally("events", "dismiss", events["waiting"], events["skipped"], "--reason", "no", "--json")

    assert answer.json == {"dismissed": 1, "ids": [one]}
    assert state == {"state": "skipped", "reason": "dismissed: another shop's"}
    assert others.exit_code == 1
    assert calltally("events", "replay", one, "--json").json["replayed"] == 1


def test_replay_of_everything_must_be_asked_for(calltally: Calltally, events: dict[str, int]) -> None:
    """Without a choice nothing happens."""
    answer = calltally("events", "replay")

    assert isinstance(answer.error, PermanentError)
    assert "--state dead" in str(answer.error)


def test_books_that_are_right_are_said_to_be(calltally: Calltally, books: Books) -> None:
    """Exit code 0, and an empty list in JSON."""
    books.credit(books.organization("Acme"), 1_000_000, "topup:pi_1")

    assert "every invariant holds" in calltally("books", "check").output
    assert (calltally("books", "check", "--json").json, calltally("books", "check").exit_code) == ([], 0)


def test_books_that_are_wrong_exit_with_1(calltally: Calltally, books: Books, database_url: str) -> None:
    """The broken invariant is named, with the organization concerned."""
    organization_id = books.organization("Acme")
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE wallets SET balance_micros = 1")
    answer = calltally("books", "check", "--json")

    assert answer.exit_code == 1
    assert {"stored_balance_equals_transfers"} <= {row["name"] for row in answer.json}
    assert {row["organization_id"] for row in answer.json} >= {str(organization_id)}
    assert calltally("books", "check").exit_code == 1
