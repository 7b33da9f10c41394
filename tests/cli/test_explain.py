"""`calltally explain`: every kind of charge, from its times to its transfers, and a loud mismatch."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from billing import inbox
from billing.deliveries import Delivery
from billing.explain import UnknownCall
from tests.books import Books, told_call

from .conftest import Calltally


@pytest.fixture
def acme(books: Books) -> UUID:
    """An organization with $10.00, whose calls are those of assistant `a`."""
    organization_id = books.organization("Acme")
    books.credit(organization_id, 10_000_000, "topup:pi_1")
    books.route(organization_id, "a")
    return organization_id


def told(calltally: Calltally, call_id: str, exit_code: int = 0) -> tuple[dict[str, Any], str]:
    """The story as JSON, and as a person reads it."""
    answer = calltally("explain", call_id, "--json")
    text = calltally("explain", call_id)
    assert (answer.exit_code, text.exit_code) == (exit_code, exit_code), text.output
    return answer.json, " ".join(text.output.split())


def test_settled_call_is_explained_step_by_step(calltally: Calltally, books: Books, acme: UUID) -> None:
    """A minute and a half at the default price: each step, the transfer, and the same sum again."""
    books.record(told_call("c", "a", 90.5))
    story, text = told(calltally, "c")

    assert [(step["step"], step["value"]) for step in story["arithmetic"]] == [
        ("duration", 90_500),
        ("beyond free", 90_500),
        ("increments", 91),
        ("billed", 91),
        ("amount", 1_061_667),
    ]
    assert story["verdict"] == {
        "matches": True,
        "computed_micros": 1_061_667,
        "charged_micros": 1_061_667,
        "settled_micros": 1_061_667,
        "moved_micros": 1_061_667,
        "outstanding_micros": 0,
        "mismatches": [],
    }
    assert "Acme" in text
    assert "by the route of assistant a, valid from ever to now on" in text
    assert "$0.70 a minute, the default in USD" in text
    assert "the balance went from $10.00 to $8.938333" in text
    assert "The arithmetic done again gives $1.061667, which is what is charged" in text


def test_terms_of_a_price_show_in_the_steps(calltally: Calltally, books: Books) -> None:
    """Increments round up, the minimum counts once something exceeds the free seconds."""
    kinds: list[tuple[float, dict[str, Any], int, int]] = [
        (61.0, {"increment": 60}, 120, 1_200_000),
        (1.0, {"increment": 6, "minimum": 30}, 30, 300_000),
        (65.2, {"increment": 6, "free": 5}, 66, 660_000),
        (31.0, {"minimum": 10, "free": 30}, 10, 100_000),
    ]
    for number, (seconds, terms, billed, micros) in enumerate(kinds):
        organization_id = books.organization()
        books.route(organization_id, f"a{number}")
        books.price(organization_id, 600_000, **terms)
        books.record(told_call(f"c{number}", f"a{number}", seconds))
        story = calltally("explain", f"c{number}", "--json").json

        assert [step["value"] for step in story["arithmetic"][-2:]] == [billed, micros]
        assert (story["price"]["own"], story["verdict"]["matches"]) == (True, True)


def test_free_call_says_why(calltally: Calltally, books: Books, acme: UUID) -> None:
    """Never connected, or within the free seconds; nothing moves."""
    books.price(acme, 600_000, free=5, minimum=30)
    books.record(told_call("unconnected", "a", None), told_call("short", "a", 4))
    story, text = told(calltally, "short")

    assert "within the 5 free seconds" in text
    assert "it never connected" in calltally("explain", "unconnected").output
    assert (story["transfers"], story["verdict"]["charged_micros"]) == ([], 0)


def test_outstanding_call_names_the_limit_and_then_what_paid_it(
    calltally: Calltally, books: Books, acme: UUID
) -> None:
    """$14.00 do not fit above -$5.00 after $7.00; the next top-up pays, and is named."""
    books.record(told_call("first", "a", 600), told_call("second", "a", 1200))
    before, refused = told(calltally, "second")
    books.credit(acme, 20_000_000, "topup:pi_2")
    after, paid = told(calltally, "second")

    assert before["verdict"]["outstanding_micros"] == 14_000_000
    assert "$14.00 would have taken the balance from $3.00 to -$11.00, past the debt limit of -$5.00" in refused
    assert "$0.00 moved, $14.00 owed" in refused
    assert (after["verdict"]["outstanding_micros"], after["verdict"]["moved_micros"]) == (0, 14_000_000)
    assert "paid by topup:pi_2 of $20.00" in paid


def test_call_past_the_limit_by_policy_says_so(calltally: Calltally, books: Books, acme: UUID) -> None:
    """The organization's policy let it through."""
    books.policy(acme, "allow_overrun")
    books.record(told_call("c", "a", 3600))

    assert "the organization's policy allows it" in told(calltally, "c")[1]


def test_corrected_call_shows_both_charges(calltally: Calltally, books: Books, acme: UUID) -> None:
    """The provider shortened it: the difference goes back, and the sum is what the new times cost."""
    books.record(told_call("c", "a", 600))
    books.correct("c", 60)
    story, text = told(calltally, "c")

    assert [charge["amount_micros"] for charge in story["charges"]] == [7_000_000, -6_300_000]
    assert story["verdict"]["charged_micros"] == 700_000
    assert "because the call lasted 60000 ms, not 600000 ms" in text
    assert "given back to the wallet" in text


def test_correction_of_an_unpaid_call_shows_the_cancelled_charge(
    calltally: Calltally, books: Books, acme: UUID
) -> None:
    """It was owed, so nothing is given back: another charge takes its place."""
    books.record(told_call("c", "a", 3600))
    books.correct("c", 60)
    story, text = told(calltally, "call:c:correction:1")

    assert [charge["state"] for charge in story["charges"]] == ["cancelled", "settled"]
    assert story["verdict"]["charged_micros"] == 700_000
    assert "a correction took its place before it was paid" in text


def test_repriced_call_says_that_the_price_was_set_right(calltally: Calltally, books: Books, acme: UUID) -> None:
    """At the old price first, then the difference to the new one."""
    books.record(told_call("c", "a", 60))
    books.price(acme, 300_000)
    books.value("SELECT reprice_call('c')")
    story, text = told(calltally, "c")

    assert story["verdict"]["charged_micros"] == 300_000
    assert "because the price was set right" in text


def test_repricing_that_moves_nothing_says_so(calltally: Calltally, books: Books, acme: UUID) -> None:
    """A minute costs the same by the minute as by the second."""
    books.record(told_call("c", "a", 60))
    books.price(acme, 700_000, increment=60)
    books.value("SELECT reprice_call('c')")
    story, text = told(calltally, "c")

    assert [charge["state"] for charge in story["charges"]] == ["settled", "free"]
    assert story["verdict"]["charged_micros"] == 700_000
    assert "the new price comes to the same amount" in text


def test_call_in_quarantine_says_which_route_it_lacks(calltally: Calltally, books: Books) -> None:
    """Nobody pays until somebody says whose the assistant is."""
    books.record(told_call("c", "stranger", 60))
    story, text = told(calltally, "c")

    assert story["payer"]["organization_id"] is None
    assert "calltally route add ORG --assistant stranger" in text
    assert "Nothing is charged yet" in text


def test_call_that_a_night_recovered_names_the_run(calltally: Calltally, books: Books, acme: UUID) -> None:
    """Its times are from Vapi's list; the run and its finding are shown."""
    run_id = books.value(
        "INSERT INTO reconciliation_runs (window_from, window_to, state) VALUES ('2026-07-01', '2026-07-02',"
        " 'completed') RETURNING id"
    )
    books.record(told_call("c", "a", 60), reconciled=True)
    books.value(
        "INSERT INTO findings (run_id, kind, call_id, outcome, amount_micros)"
        " VALUES (:run_id, 'missing', 'c', 'settled', 700000) RETURNING 1",
        run_id=run_id,
    )
    _, text = told(calltally, "c")

    assert "it was in the window of 1 night(s)" in text
    assert "Vapi's list: no webhook had told of it, a night found it" in text
    assert f"{run_id} of 2026-07-01 00:00 to 2026-07-02 00:00: missing, settled, $0.70" in text


def test_webhooks_of_a_call_are_shown_with_their_deliveries(calltally: Calltally, books: Books, acme: UUID) -> None:
    """When it arrived, how often, and what became of it."""
    for _ in range(2):
        inbox.accept(books.engine, [Delivery("vapi", "c:end-of-call-report", "end-of-call-report", b"{}")])
    books.record(told_call("c", "a", 60))
    story, text = told(calltally, "c")

    assert [(event["type"], event["deliveries"]) for event in story["events"]] == [("end-of-call-report", 2)]
    assert "delivered 2 times, waiting" in text
    assert "not compared with Vapi's list yet" in text


def test_charge_by_amount_alone_has_nothing_to_reckon(calltally: Calltally, books: Books, acme: UUID) -> None:
    """A program of the reseller's own charged it; the transfer still has to equal it."""
    books.deduct(acme, "c", 1_230_000)
    story, text = told(calltally, "c")

    assert story["arithmetic"] == []
    assert "nothing to compute again: $1.23 charged, $1.23 moved" in text


def test_unknown_call_says_where_to_look(calltally: Calltally, books: Books) -> None:
    """Its event if there is one, else Vapi."""
    nowhere = calltally("explain", "c").error
    inbox.accept(books.engine, [Delivery("vapi", "c:end-of-call-report", "end-of-call-report", b"{}")])
    somewhere = calltally("explain", "c").error

    assert isinstance(nowhere, UnknownCall)
    assert "GET /call/<call id>" in str(nowhere)
    assert isinstance(somewhere, UnknownCall)
    event_id = books.value("SELECT id FROM events")
    assert f"calltally events show {event_id}" in str(somewhere)


def test_mismatch_is_loud(calltally: Calltally, books: Books, acme: UUID, database_url: str) -> None:
    """Somebody with the keys changed a charge: exit code 1, both amounts, and the next step."""
    books.record(told_call("c", "a", 60, created_at=datetime(2026, 7, 1, tzinfo=UTC)))
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE charges SET amount_micros = 1")
    story, text = told(calltally, "c", exit_code=1)

    assert story["verdict"]["matches"] is False
    assert "MISMATCH: computed $0.70, charged $0.000001; settled $0.000001, moved $0.70" in text
    assert "calltally books check" in text
