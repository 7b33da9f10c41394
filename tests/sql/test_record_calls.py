"""Calls, told by a webhook or found by the night, charged once."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import known_calls
from tests.books import Books, Row, told_call

EARLIER = datetime(2026, 6, 1, tzinfo=UTC)


def stored(books: Books, call_id: str) -> Row:
    """The row of a call."""
    return books.rows("SELECT * FROM calls WHERE id = :id", id=call_id)[0]


def accept(books: Books, delivery_key: str) -> None:
    """Put a delivery into the inbox."""
    books.value(
        "SELECT accept_events(ARRAY['vapi'], ARRAY[:key], ARRAY['end-of-call-report'], ARRAY[CAST('{}' AS bytea)])",
        key=delivery_key,
    )


def test_record_by_webhook_charges_and_counts_as_webhook(shared: Books, tag: str) -> None:
    """A call told by its webhook is stored, charged with its price, and not reconciled."""
    organization_id = shared.organization()
    shared.route(organization_id, f"a-{tag}")

    answer = shared.record(told_call(tag, f"a-{tag}", 90))

    assert answer == [
        {
            "call_id": tag,
            "organization_id": organization_id,
            "outcome": "settled",
            "amount_micros": 1_050_000,
            "known": False,
            "problem": None,
        }
    ]
    charge = shared.charges(organization_id)[0]
    assert (charge["duration_ms"], charge["billed_seconds"], charge["per_minute_micros"]) == (90_000, 90, 700_000)
    call = stored(shared, tag)
    assert (call["reconciled"], call["webhook_at"] is None) == (False, False)


def test_record_by_night_then_webhook_stays_reconciled(shared: Books, tag: str) -> None:
    """A late webhook changes nothing but notes its arrival."""
    organization_id = shared.organization()
    shared.route(organization_id, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", 60), reconciled=True)
    assert (stored(shared, tag)["reconciled"], stored(shared, tag)["webhook_at"]) == (True, None)

    answer = shared.record(told_call(tag, f"a-{tag}", 999))

    assert (answer[0]["known"], answer[0]["amount_micros"]) == (True, 700_000)
    assert shared.balance(organization_id) == -700_000
    call = stored(shared, tag)
    assert (call["reconciled"], call["webhook_at"] is None, call["duration_ms"]) == (True, False, 60_000)


def test_record_by_webhook_then_night_stays_unreconciled(shared: Books, tag: str) -> None:
    """The night finds the call known and leaves it as it is."""
    organization_id = shared.organization()
    shared.route(organization_id, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", 60))

    answer = shared.record(told_call(tag, f"a-{tag}", 60), reconciled=True)

    assert (answer[0]["known"], stored(shared, tag)["reconciled"]) == (True, False)
    assert shared.balance(organization_id) == -700_000


def test_record_by_night_with_report_in_inbox_is_not_reconciled(shared: Books, tag: str) -> None:
    """The webhook did arrive, so the night only overtook its application: it counts as webhook, since it came."""
    shared.route(shared.organization(), f"a-{tag}")
    accept(shared, f"{tag}:end-of-call-report")
    received_at = shared.value(
        "SELECT received_at FROM events WHERE delivery_key = :key", key=f"{tag}:end-of-call-report"
    )

    shared.record(told_call(tag, f"a-{tag}", 60), reconciled=True)

    call = stored(shared, tag)
    assert (call["reconciled"], call["webhook_at"]) == (False, received_at)


def test_record_by_night_with_other_delivery_is_reconciled(shared: Books, tag: str) -> None:
    """A status update of the same call is not its end-of-call report."""
    shared.route(shared.organization(), f"a-{tag}")
    accept(shared, f"{tag}:status-update")

    shared.record(told_call(tag, f"a-{tag}", 60), reconciled=True)

    assert stored(shared, tag)["reconciled"]


def test_record_of_call_that_never_connected_is_free(shared: Books, tag: str) -> None:
    """No duration costs nothing, whatever the minimum; the charge row is there all the same."""
    organization_id = shared.organization(debt_limit_micros=0)
    shared.price(organization_id, 700_000, minimum=30)
    shared.route(organization_id, f"a-{tag}")

    answer = shared.record(told_call(tag, f"a-{tag}", None))

    assert (answer[0]["outcome"], answer[0]["amount_micros"]) == ("free", 0)


def test_record_beyond_limit_is_outstanding(shared: Books, tag: str) -> None:
    """Never a call without a charge row: one that does not fit is owed."""
    organization_id = shared.organization(debt_limit_micros=0)
    shared.route(organization_id, f"a-{tag}")

    assert shared.record(told_call(tag, f"a-{tag}", 60))[0]["outcome"] == "outstanding"
    assert shared.wallet(organization_id)["outstanding_micros"] == 700_000


def test_record_charges_oldest_first(shared: Books, tag: str) -> None:
    """Within a batch, the call that ended first gets the room below the limit."""
    organization_id = shared.organization(debt_limit_micros=700_000)
    shared.route(organization_id, f"a-{tag}")

    answer = shared.record(
        told_call(f"{tag}-1", f"a-{tag}", 60), told_call(f"{tag}-2", f"a-{tag}", 60, created_at=EARLIER)
    )

    assert [row["outcome"] for row in answer] == ["outstanding", "settled"]


def test_record_charges_by_the_ends_of_calls(shared: Books, tag: str) -> None:
    """What ended first takes the room below the limit, though it began later; a charge is as old as that end."""
    organization_id = shared.organization(debt_limit_micros=1_400_000)
    shared.route(organization_id, f"a-{tag}")
    long = told_call(f"1-{tag}", f"a-{tag}", 120, EARLIER)
    short = told_call(f"2-{tag}", f"a-{tag}", 60, EARLIER + timedelta(seconds=30))
    shared.record(long, short)

    assert shared.states(organization_id) == {f"call:1-{tag}": "outstanding", f"call:2-{tag}": "settled"}
    assert [charge["event_at"] for charge in shared.charges(organization_id)] == [
        datetime.fromisoformat(call["ended_at"]) for call in (long, short)
    ]


def test_record_keeps_when_the_webhook_first_came(shared: Books, tag: str) -> None:
    """A repetition came later, and says nothing of how long the first took."""
    shared.record(told_call(tag, None, 60))
    first = stored(shared, tag)["webhook_at"]
    shared.record(told_call(tag, None, 60))

    assert stored(shared, tag)["webhook_at"] == first


def test_record_twice_in_one_batch_charges_once(shared: Books, tag: str) -> None:
    """A call that a list names twice is answered and charged once."""
    organization_id = shared.organization()
    shared.route(organization_id, f"a-{tag}")
    call = told_call(tag, f"a-{tag}", 60)

    assert len(shared.record(call, call)) == 1
    assert shared.balance(organization_id) == -700_000


def test_record_of_nothing_answers_nothing(shared: Books) -> None:
    """An empty batch is no error."""
    assert shared.record() == []


def test_record_without_route_goes_to_quarantine_until_one_appears(shared: Books, tag: str) -> None:
    """A call that nobody is known to pay for is stored, and charged once a route explains it."""
    answer = shared.record(told_call(tag, f"a-{tag}", 60))
    assert (answer[0]["outcome"], answer[0]["organization_id"]) == ("unattributed", None)

    organization_id = shared.organization()
    routed = shared.route(organization_id, f"a-{tag}")

    assert routed["charged_calls"] == 1
    assert shared.states(organization_id) == {f"call:{tag}": "settled"}
    assert shared.route(organization_id, f"a-{tag}", since="2020-01-01Z")["charged_calls"] == 0


def test_route_from_a_time_on_leaves_earlier_calls_alone(shared: Books, tag: str) -> None:
    """A route that begins after the call does not explain it."""
    shared.record(told_call(tag, f"a-{tag}", 60, created_at=EARLIER))

    organization_id = shared.organization()

    assert shared.route(organization_id, f"a-{tag}", since="2026-06-15Z")["charged_calls"] == 0
    assert shared.route(organization_id, f"a-{tag}", since="2026-05-15Z")["charged_calls"] == 1


def test_route_moved_to_another_organization_charges_by_date(shared: Books, tag: str) -> None:
    """Each call belongs to whoever had the assistant when the call was made."""
    first, second = shared.organization(), shared.organization()
    shared.route(first, f"a-{tag}")
    shared.route(second, f"a-{tag}", since="2026-06-15Z")

    answer = shared.record(
        told_call(f"{tag}-1", f"a-{tag}", 60, created_at=EARLIER), told_call(f"{tag}-2", f"a-{tag}", 60)
    )

    assert [row["organization_id"] for row in answer] == [first, second]


@pytest.mark.parametrize(
    ("fields", "payer"),
    [
        ({"assistant_id": "x", "squad_id": "x", "phone_number_id": "x"}, "assistant"),
        ({"assistant_id": "?", "squad_id": "x", "phone_number_id": "x"}, "squad"),
        ({"phone_number_id": "x"}, "phone_number"),
    ],
)
def test_route_of_assistant_precedes_squad_and_number(
    shared: Books, tag: str, fields: dict[str, str], payer: str
) -> None:
    """The most particular mapping decides."""
    payers = {}
    for kind in ("phone_number", "squad", "assistant"):
        payers[kind] = shared.organization()
        shared.rows("SELECT * FROM add_route(:id, :kind, :tag)", id=payers[kind], kind=kind, tag=f"x-{tag}")

    call = told_call(tag, None, 60) | {name: f"{value}-{tag}" for name, value in fields.items()}

    assert shared.record(call)[0]["organization_id"] == payers[payer]


def test_record_without_price_waits_for_one(shared: Books, tag: str) -> None:
    """A currency without a price leaves the call unpriced; the price charges it."""
    organization_id = shared.value(
        "SELECT create_organization(:name, 'a@example.com', 'SEK')", name=f"Unpriced {tag}"
    )
    shared.route(organization_id, f"a-{tag}")
    assert shared.record(told_call(tag, f"a-{tag}", 60))[0]["outcome"] == "unpriced"
    assert [row["name"] for row in shared.broken()] == ["every_ended_call_is_charged"]

    shared.price(organization_id, 100_000, since="2026-06-01Z")

    assert shared.states(organization_id) == {f"call:{tag}": "settled"}
    assert shared.balance(organization_id) == -100_000


@pytest.mark.parametrize("reconciled", [False, True])
def test_record_again_after_the_route_moved_keeps_who_paid(shared: Books, tag: str, reconciled: bool) -> None:
    """The call is its charge's organization's, whoever has the assistant now."""
    first, second = shared.organization(), shared.organization()
    shared.route(first, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", 60))
    shared.route(second, f"a-{tag}", since="2026-01-01Z")

    answer = shared.record(told_call(tag, f"a-{tag}", 60), reconciled=reconciled)

    assert answer[0]["organization_id"] == stored(shared, tag)["organization_id"] == first
    assert (shared.balance(first), shared.balance(second)) == (-700_000, 0)


def test_report_that_came_after_a_night_first_saw_its_call_was_not_there_in_time(books: Books) -> None:
    """It improves no rerun; what came before that sight counts, and so does what no night has seen."""
    accept(books, "before:end-of-call-report")
    known_calls.keep_first_sights(books.engine, ["before", "late"])
    accept(books, "late:end-of-call-report")
    accept(books, "unseen:end-of-call-report")
    accept(books, "never:hang")
    known_calls.keep_first_sights(books.engine, ["late"])

    assert known_calls.load_reported(books.engine, ["before", "late", "unseen", "never"]) == {"before", "unseen"}
    books.record(told_call("late", None, 60))
    assert stored(books, "late")["reconciled"] is True
