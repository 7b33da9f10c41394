"""Calls that cannot be as they were told, and what people decide of single ones."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.books import open_books
from billing.rules.held_calls import RULE
from billing.status import Limits, read_status
from tests.books import Books
from tests.rules.looking import all_clear, looked, written

from .conftest import Calltally
from .listed_calls import AS_OF, CREATED, Row, as_report, listed, organization_named, outcomes, reconcile, stamp, tell

A_MINUTE = 700_000
HOUR = timedelta(hours=1)
YEAR_1970: Row = {"startedAt": "1970-01-01T00:00:00.000Z"}
YEAR_1: Row = {"startedAt": "0001-01-01T00:00:00.000Z"}
CANNOT_BE: list[tuple[str, Row]] = [
    ("it is older than Vapi", YEAR_1970),
    ("it is older than Vapi", YEAR_1),
    ("it is older than Vapi", {"createdAt": "2019-05-01T00:00:00Z", "startedAt": "2019-05-01T00:00:00Z"}),
    ("it lies in the future", {"endedAt": "9999-12-31T23:59:59.999Z"}),
    ("it lies in the future", {"startedAt": "2031-01-01T00:00:00Z", "endedAt": "2031-01-01T00:01:00Z"}),
    ("it ended before it started", {"endedAt": stamp(CREATED - timedelta(seconds=5))}),
    ("it started and is over, but has no end", {"endedAt": None}),
    ("it cost money, but has no start", {"startedAt": None}),
    ("it cost money, but has no start", {"startedAt": None, "endedAt": None}),
    ("it ended, but has no start", {"startedAt": None, "cost": None}),
    ("it ended as it started, but cost money", {"endedAt": stamp(CREATED + timedelta(seconds=2))}),
    (
        "it started before it was created",
        {"startedAt": stamp(CREATED - 50 * HOUR), "endedAt": stamp(CREATED - 49 * HOUR)},
    ),
    ("it lasted longer than it could", {"endedAt": stamp(CREATED + 13 * HOUR)}),
    ("it lasted longer than it could", {"endedAt": stamp(CREATED + HOUR), "assistant": {"maxDurationSeconds": 60}}),
    ("its cost is negative", {"cost": -1}),
    ("its cost is more than a call can cost", {"cost": 100000}),
    ("its cost is no amount of money", {"cost": 1e300}),
]  # fmt: skip


def acme(books: Books) -> Any:
    """An organization whose assistant is `asst`."""
    organization_id = books.organization("Acme")
    books.route(organization_id, "asst")
    return organization_id


@pytest.mark.parametrize(("why", "changes"), CANNOT_BE)
def test_call_that_cannot_be_is_held_by_webhook_and_by_night_alike(books: Books, why: str, changes: Row) -> None:
    """Nothing is charged, nothing is lost, and the good ones beside it are billed."""
    organization_id = acme(books)
    told, found = listed("told", **changes), listed("found", **changes)
    ended = tell(books.engine, as_report(told), as_report(listed("good")))
    by_night = outcomes(reconcile(books.engine, [told, found, listed("good"), listed("lost")]))

    assert ended == {"done": 2}
    assert by_night == {"told": ("held", "held"), "found": ("missing", "held"), "lost": ("missing", "settled")} or (
        why == "its cost is no amount of money" and by_night["found"] == ("missing", "held")
    )
    assert books.rows("SELECT id, held FROM calls WHERE held IS NOT NULL ORDER BY id") == [
        {"id": "found", "held": why}, {"id": "told", "held": why},
    ]  # fmt: skip
    assert books.balance(organization_id) == -2 * A_MINUTE
    assert books.broken() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"endedAt": stamp(CREATED + 12 * HOUR + timedelta(minutes=5))},
        {"endedAt": stamp(CREATED + timedelta(minutes=5)), "assistantOverrides": {"maxDurationSeconds": 60}},
        {"endedAt": stamp(CREATED + HOUR), "assistantOverrides": {"maxDurationSeconds": "long"}, "cost": 0},
        {"createdAt": stamp(CREATED - timedelta(days=9))},
        {"updatedAt": "9999-01-01T00:00:00Z"},
        {"cost": 999.9999},
    ],
)
def test_call_that_is_only_unusual_is_billed(books: Books, changes: Row) -> None:
    """Long but possible, scheduled days ahead, or with a time of change that says nothing."""
    organization_id = acme(books)
    reconcile(books.engine, [listed("found", **changes)])

    assert books.value("SELECT count(*) FROM calls WHERE held IS NOT NULL") == 0
    assert books.balance(organization_id) < 0 or books.wallet(organization_id)["outstanding_micros"] > 0


def test_better_facts_end_what_was_held(books: Books) -> None:
    """A webhook's by the list, a night's by the webhook, and what is charged keeps its price whatever follows."""
    organization_id = acme(books)
    tell(books.engine, as_report(listed("told", **YEAR_1970)))
    reconcile(books.engine, [listed("found", **YEAR_1)])
    [mended] = reconcile(books.engine, [listed("told")])
    tell(books.engine, as_report(listed("found")))
    [nonsense] = reconcile(books.engine, [listed("told", **YEAR_1970)])

    assert (mended.outcome, mended.amount_micros) == ("corrected", A_MINUTE)
    assert (nonsense.kind, nonsense.outcome, nonsense.amount_micros) == ("drift", "held", None)
    assert books.balance(organization_id) == -2 * A_MINUTE
    assert books.value("SELECT count(*) FROM calls WHERE held IS NOT NULL") == 0
    assert books.broken() == []


def test_released_call_is_left_alone_until_the_provider_tells_better(calltally: Calltally, books: Books) -> None:
    """The same nonsense each night says nothing more; a duration that can be corrects what the person said."""
    organization_id = acme(books)
    reconcile(books.engine, [listed("found", **YEAR_1)])
    calltally("call", "release", "found", "--duration", "30")
    charge = books.charges(organization_id)[0]
    again = reconcile(books.engine, [listed("found", **YEAR_1)])
    after_nonsense = books.balance(organization_id)
    reconcile(books.engine, [listed("found", seconds=60)])

    assert charge["event_at"].year == 2026
    assert all(found.outcome == "noted" for found in again)
    assert (after_nonsense, books.balance(organization_id)) == (-A_MINUTE // 2, -A_MINUTE)
    assert not looked(books, RULE)["held_calls"].failing
    assert books.broken() == []


def test_release_asks_for_what_it_needs(calltally: Calltally, books: Books) -> None:
    """What was told may be right after all; else the duration is said, once."""
    organization_id = acme(books)
    reconcile(books.engine, [listed("long", seconds=13 * 3600), listed("gone", start=None, endedAt=stamp(CREATED))])
    refused = [
        calltally("call", "release", *arguments)
        for arguments in (
            ["nobody's"], ["gone"], ["gone", "--duration", "-1"], ["gone", "--duration", "soon"],
            ["gone", "--duration", "1e9"], ["gone", "--duration", "0.0005"],
        )
    ]  # fmt: skip
    as_told = calltally("call", "release", "long", "--json").json
    for_nothing = calltally("call", "release", "gone", "--duration", "0", "--json").json
    other = calltally("call", "release", "gone", "--duration", "5")

    assert [answer.exit_code for answer in refused] == [1] * 6
    assert "Say how long it lasted, in seconds: --duration 61.5" in str(refused[1].error)
    assert (as_told["outcome"], for_nothing["outcome"]) == ("outstanding", "free")
    assert "was released with another duration" in str(other.error)
    assert {row["duration_ms"] for row in books.charges(organization_id)} == {13 * 3_600_000, 0}
    assert books.broken() == []


def test_call_is_assigned_once_and_to_one(calltally: Calltally, books: Books) -> None:
    """What nothing names a person names; what was charged stays, and the refusal says how to move it."""
    first, second = books.organization("First"), books.organization("Second")
    bare = listed("bare", assistantId=...)
    tell(books.engine, as_report(bare))
    [stray] = calltally("call", "held", "--json").json
    answers = [calltally("call", "assign", "bare", "First", "--json").json for _ in range(2)]
    other = calltally("call", "assign", "bare", "Second")

    assert stray["next"] == "calltally call assign bare ORG"
    assert [(answer["outcome"], answer["duplicate"]) for answer in answers] == [("settled", False), ("settled", True)]
    assert f"calltally wallet credit {first} AMOUNT --key moved-from:bare" in str(other.error)
    assert (books.balance(first), books.balance(second)) == (-A_MINUTE, 0)
    assert books.rows("SELECT state FROM events") == [{"state": "waiting"}]
    assert reconcile(books.engine, [bare]) == []
    assert calltally("explain", "bare").exit_code == 0
    assert books.broken() == []


def test_metadata_names_nobody_unless_a_route_trusts_it(calltally: Calltally, books: Books) -> None:
    """Whoever starts a web call can write there what he likes; what names two is held until a person decides."""
    organization_id = acme(books)
    other = books.organization("Other")
    claims = listed("claims", assistantId=..., **organization_named(organization_id))
    two = listed("two", **organization_named(other))
    reconcile(books.engine, [claims, two])
    before = books.rows("SELECT id, organization_id, held IS NOT NULL AS held FROM calls ORDER BY id")
    calltally("route", "add", "Acme", "--metadata", f"org_id={organization_id}")
    assigned = calltally("call", "assign", "two", "Acme", "--json").json
    wrong = calltally("route", "add", "Acme", "--metadata", "customer=5")

    assert before == [
        {"id": "claims", "organization_id": None, "held": False},
        {"id": "two", "organization_id": None, "held": True},
    ]
    assert (assigned["outcome"], wrong.exit_code) == ("settled", 1)
    assert (books.balance(organization_id), books.balance(other)) == (-2 * A_MINUTE, 0)
    assert books.broken() == []


def test_held_calls_are_seen_by_status_slack_and_the_table_of_rules(
    calltally: Calltally, books: Books, database_url: str
) -> None:
    """With their reasons, the first of them, and what decides."""
    acme(books)
    reconcile(books.engine, [listed("found", **YEAR_1970), {"id": "torn", "createdAt": 5}, listed("good")])
    condition = looked(books, RULE, AS_OF + HOUR)["held_calls"]
    with open_books(database_url) as screen:
        money = read_status(screen, Limits(timedelta(minutes=5), 0.95))["money"]  # type: ignore[arg-type]

    assert condition.failing
    assert condition.facts["reasons"] == [{"reason": "it is older than Vapi", "calls": 1}]
    assert condition.facts["unkept"] == 1
    assert "calltally call release CALL --duration SECONDS" in written(condition)
    assert [(trouble.what, trouble.fix) for trouble in money.troubles] == [
        ("1 held, not billed: it is older than Vapi", "run: calltally call held")
    ]
    calltally("call", "release", "found", "--duration", "0")
    reconcile(books.engine, [listed("good")])
    assert all_clear(looked(books, RULE, AS_OF + HOUR)["held_calls"]) == "No call is held any more"


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
MOMENTS = st.sampled_from(
    [
        "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59.999999Z", stamp(CREATED), stamp(CREATED + HOUR), "2026-11-30", "", "soon",
    ]
)  # fmt: skip
COSTS = st.sampled_from([-1, 0, 0.01, 1e12, -1e12, 1e15, 1e300, "1", "NaN", True, 10**40])
KEYS = ("createdAt", "updatedAt", "startedAt", "endedAt", "cost", "status", "assistantId", "metadata", "assistant",
        "assistantOverrides", "endedReason", "type", "phoneNumberId", "workflowId", "squadId", "id")  # fmt: skip
ABSURD = st.dictionaries(
    st.sampled_from(KEYS),
    MOMENTS | COSTS | ANYTHING | st.just("x" * 5000) | st.just("nu\x00l"),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(absurd=st.lists(ABSURD | ANYTHING, min_size=1, max_size=4), number=st.integers(0, 2**62))
def test_no_row_however_absurd_keeps_a_night_from_billing_the_others(
    books: Books, absurd: list[Any], number: int
) -> None:
    """It completes, each time that it is run; every good call is charged, no bad one beyond what can be."""
    if not books.rows("SELECT FROM organizations"):
        acme(books)
    good = [listed(f"good-{number}-{place}") for place in range(len(absurd) + 1)]
    bad = [
        listed(f"bad-{number}-{place}") | row if isinstance(row, dict) else row for place, row in enumerate(absurd)
    ]
    mixed = [row for pair in zip(good, bad, strict=False) for row in pair] + good[len(bad) :]
    reconcile(books.engine, mixed)
    reconcile(books.engine, mixed)
    charged = books.rows(
        "SELECT charges.billed_seconds FROM calls JOIN charges ON idempotency_key = 'call:' || id"
        " WHERE id = ANY(:ids)", ids=[row["id"] for row in good],
    )  # fmt: skip

    assert [row["billed_seconds"] for row in charged] == [60] * len(good)
    assert books.value("SELECT coalesce(max(billed_seconds), 0) FROM charges") <= 12 * 3600 + 600
