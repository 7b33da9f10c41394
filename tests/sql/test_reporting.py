"""The reporting views: what they say adds up, and they say nothing about persons."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from billing.database import open_engine
from tests.books import Books, Row, told_call

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def call(call_id: str, assistant: str, seconds: float | None = 60, cost: int = 50_000, hours: int = 0) -> Row:
    """A call of July 1st as record_calls is told of it."""
    told = told_call(call_id, assistant, seconds, NOON + timedelta(hours=hours))
    return {**told, "provider_cost_micros": cost, "ended_reason": "customer-ended-call"}


@pytest.fixture
def acme(books: Books) -> UUID:
    """Acme: 4 calls told by webhook, 1 recovered, 1 that never connected, 1 corrected; 1 call is nobody's."""
    acme = books.organization("Acme")
    books.credit(acme, 100_000_000, "topup:acme")
    books.route(acme, "a-1")
    books.route(acme, "a-2")
    books.record(*(call(f"told-{number}", "a-1", hours=number) for number in range(4)))
    books.record(call("lost", "a-2"), call("silent", "a-2", None, 0), reconciled=True)
    books.record(call("stray", "a-3", cost=70_000))
    books.correct("told-0", 120)
    return acme


@pytest.fixture
def analyst(books: Books, database_url: str) -> Iterator[Books]:
    """The same books as the analyst sees them."""
    engine = open_engine(database_url, role="calltally_analyst")
    yield Books(engine)
    engine.dispose()


def night(books: Books, *, dry_run: bool = False) -> UUID:
    """A completed run with one drift and one phantom."""
    run_id: UUID = books.value(
        "INSERT INTO reconciliation_runs (window_from, window_to, state, dry_run)"
        " VALUES ('2026-07-01', '2026-07-02', 'completed', :dry_run) RETURNING id",
        dry_run=dry_run,
    )
    books.value(
        "INSERT INTO findings (run_id, kind, call_id, organization_id, amount_micros, outcome, detail) VALUES"
        " (:run_id, 'drift', 'told-0', (SELECT id FROM organizations), 700000, 'corrected',"
        """ '{"duration": [60000, 120000], "cost": [50000, null]}'),"""
        " (:run_id, 'drift', 'told-1', (SELECT id FROM organizations), NULL, 'noted',"
        """ '{"organization": ["a", "b"]}'),"""
        " (:run_id, 'phantom', 'told-2', NULL, NULL, 'noted', '{}') RETURNING 1",
        run_id=run_id,
    )
    return run_id


def test_every_view_is_the_owners_closed_to_tenants_and_explained(owner: Books) -> None:
    """A view that acts as its reader would fail for the analyst; one without comment explains itself to nobody."""
    views = owner.rows(
        "SELECT relname, relowner::regrole::text AS owner, reloptions, obj_description(oid) AS comment,"
        " has_table_privilege('calltally_tenant', oid, 'SELECT') AS open FROM pg_class"
        " WHERE relnamespace = 'reporting'::regnamespace"
    )

    assert len(views) >= 12
    assert {(view["owner"], view["reloptions"], view["open"]) for view in views} == {("calltally_owner", None, False)}
    assert [view["relname"] for view in views if not view["comment"]] == []


def test_no_view_shows_anything_about_persons(owner: Books) -> None:
    """Ids and figures, no addresses, numbers or texts."""
    columns = owner.rows(
        "SELECT DISTINCT column_name AS name FROM information_schema.columns WHERE table_schema = 'reporting'"
    )
    telling = {"email", "stripe_customer_id", "body", "phone_number", "number", "customer", "text", "transcript"}

    assert {column["name"] for column in columns} & telling == set()


def test_reliability_is_the_same_by_day_assistant_hour_and_contract(acme: UUID, analyst: Books) -> None:
    """All of them count the calls that connected and ended, and those that a webhook told of."""
    sums = {
        name: analyst.rows(f"SELECT sum(ended)::int AS ended, sum({lost})::int AS lost FROM {name}")[0]
        for name, lost in {
            "reporting.reliability_by_day": "lost",
            "reporting.reliability_by_assistant": "lost",
            "reporting.missing_calls": "missing",
            "vapi_webhook_reliability": "reconciled",
        }.items()
    }
    days = analyst.rows("SELECT * FROM reporting.reliability_by_day")

    assert list(sums.values()) == [{"ended": 6, "lost": 1}] * 4
    assert [(day["day"], day["ended"], day["by_webhook"], day["lost"]) for day in days] == [
        (date(2026, 7, 1), 6, 5, 1)
    ]
    assert analyst.value("SELECT array_agg(assistant_id) FROM reporting.missing_calls WHERE missing > 0") == ["a-2"]


def test_recovered_call_shows_its_charge_and_its_late_webhook(acme: UUID, books: Books, analyst: Books) -> None:
    """A call that never connected is none: no webhook was due."""
    books.record(call("lost", "a-2"))
    recovered = analyst.rows("SELECT * FROM reporting.recovered_calls")

    assert [
        (row["call_id"], row["organization"], row["charge_state"], row["amount_micros"]) for row in recovered
    ] == [("lost", "Acme", "settled", 700_000)]
    assert recovered[0]["webhook_at"] is not None


def test_margin_is_what_calls_earned_less_what_they_cost(acme: UUID, analyst: Books) -> None:
    """Corrections count; what nobody pays for yet stands in a row of its own."""
    margins = analyst.rows("SELECT * FROM reporting.organization_margins ORDER BY organization NULLS LAST")

    assert [
        (row["organization"], row["calls"], row["revenue_micros"], row["provider_cost_micros"], row["margin_micros"])
        for row in margins
    ] == [("Acme", 6, 4_200_000, 250_000, 3_950_000), (None, 1, 0, 70_000, -70_000)]
    assert {row["month"] for row in margins} == {date(2026, 7, 1)}


def test_charge_without_a_stored_call_is_revenue_too(books: Books, analyst: Books) -> None:
    """Whatever the earlier system charged by amount alone."""
    organization_id = books.organization("Direct")
    books.credit(organization_id, 5_000_000, "topup:direct")
    books.deduct(organization_id, "by-amount", 300_000)

    assert analyst.value("SELECT revenue_micros FROM reporting.organization_margins") == 300_000


def test_cancelled_charge_is_no_revenue(books: Books, analyst: Books) -> None:
    """An outstanding charge that a correction replaced counts once."""
    poor = books.organization("Poor", debt_limit_micros=0)
    books.route(poor, "a-9")
    books.record(call("owed", "a-9"))
    books.correct("owed", 30)
    margin = analyst.rows("SELECT * FROM reporting.organization_margins")[0]
    wallet = analyst.rows("SELECT * FROM reporting.wallets")[0]

    assert (margin["revenue_micros"], margin["outstanding_micros"]) == (350_000, 350_000)
    assert (wallet["outstanding_micros"], wallet["outstanding_charges"]) == (350_000, 1)


def test_provider_drift_shows_both_sides_and_no_rehearsal(acme: UUID, books: Books, analyst: Books) -> None:
    """One row per call whose cost or duration changed."""
    run_id = night(books)
    night(books, dry_run=True)
    drift = analyst.rows("SELECT * FROM reporting.provider_cost_drift")

    assert len(drift) == 1
    assert (
        drift[0].items()
        >= {
            "run_id": run_id,
            "call_id": "told-0",
            "organization": "Acme",
            "cost_before_micros": 50_000,
            "cost_after_micros": None,
            "duration_before_ms": 60_000,
            "duration_after_ms": 120_000,
            "corrected_micros": 700_000,
        }.items()
    )
    assert analyst.value("SELECT count(*) FROM reporting.findings WHERE NOT dry_run") == 3
    assert analyst.value("SELECT count(*) FROM reporting.runs") == 2


def test_analyst_reads_every_view(acme: UUID, analyst: Books) -> None:
    """Each of them, by its name alone."""
    names = analyst.rows("SELECT viewname AS name FROM pg_views WHERE schemaname = 'reporting'")
    counted = {row["name"]: analyst.value(f"SELECT count(*) FROM reporting.{row['name']}") for row in names}

    assert {name for name, count in counted.items() if count == 0} <= {
        *("runs", "findings", "incidents", "event_queue", "sms_messages", "provider_cost_drift", "night_figures"),
    }
    assert analyst.value("SELECT count(*) FROM wallet_balances") == 1


def test_days_are_found_without_reading_all_calls(owner: Books, database_url: str) -> None:
    """The condition on the day reaches the table, through the view that also guards tenants."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_indexscan = off")  # other tests decide how full the table is
        connection.execute("SET enable_indexonlyscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT day, sum(ended) FROM vapi_webhook_reliability WHERE day > '2026-07-01' GROUP BY day"
        ).fetchall()

    assert any("calls_ended_day" in line for (line,) in plan)
