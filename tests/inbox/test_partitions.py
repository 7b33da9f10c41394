"""Bodies lie in months that are made ahead and dropped whole; a month that nobody made loses nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from billing import inbox
from billing.inbox import Pruned
from billing.replay import Selection, select_events

from .story import Story, payment, report, unreadable, work

MONTHS = """
SELECT relname::text AS name FROM pg_inherits INNER JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'event_bodies'::regclass ORDER BY 1
"""
PLACES = "SELECT event_id, tableoid::regclass::text AS place FROM event_bodies ORDER BY event_id"
NOBODY = "00000000-0000-0000-0000-000000000007"


def month_name(time: datetime) -> str:
    """The table of a month."""
    return f"event_bodies_{time:%Y_%m}"


def now(story: Story) -> datetime:
    """The database's clock, which decides."""
    time: datetime = story.books.value("SELECT now()")
    return time.astimezone(UTC)


def make(story: Story, time: datetime, months: int = 1) -> int:
    """Make the month of a time, and those after it."""
    return int(story.books.value("SELECT ensure_partitions(:time, :months)", time=time, months=months))


def places(story: Story) -> list[str]:
    """In which table the body of each event lies, by the order of the events."""
    return [row["place"].removeprefix("parts.") for row in story.owner.rows(PLACES)]


def names(story: Story) -> list[str]:
    """All tables of bodies."""
    return [row["name"] for row in story.owner.rows(MONTHS)]


@pytest.fixture
def later(story: Story) -> datetime:
    """The first of a month, in UTC, that nobody has made; a year from now, so that no test disturbs another."""
    return (now(story) + timedelta(days=365)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def _own_months(story: Story) -> None:
    """Months that another test made are gone."""
    for name in set(names(story)) - {"event_bodies_other"}:
        story.tamper(f"DROP TABLE parts.{name}")
    inbox.ensure_partitions(story.engine)


def test_months_are_made_ahead_once(story: Story) -> None:
    """The present one and three more, in UTC; asked again, there is nothing to make."""
    first = now(story).replace(day=1)
    expected = [first]
    while len(expected) < 4:
        expected.append((expected[-1] + timedelta(days=32)).replace(day=1))

    assert names(story) == [*map(month_name, expected), "event_bodies_other"]
    assert inbox.ensure_partitions(story.engine) == 0


def test_new_body_lies_in_the_present_month(story: Story) -> None:
    """What is stored is where it will be looked for, and dropped with."""
    story.accept(report("call-1"))

    assert places(story) == [month_name(now(story))]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_body_at_the_turn_of_the_month_lies_in_its_own(story: Story, later: datetime, zone: str) -> None:
    """The last microsecond and the first are in two months, whatever the time zone of who makes them."""
    with story.books.engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL TimeZone = '{zone}'")
        connection.exec_driver_sql(f"SELECT ensure_partitions('{later - timedelta(days=1)}', 2)")
    for number, time in enumerate([later - timedelta(microseconds=1), later]):
        story.tamper("INSERT INTO event_bodies VALUES (:time, :number, '')", time=time, number=number)

    assert places(story) == [month_name(later - timedelta(days=1)), month_name(later)]


def test_webhook_without_a_month_is_kept_applied_and_moved_once_there_is_one(story: Story) -> None:
    """Nobody made the month: the webhook is stored and booked all the same, and its body moves when somebody does."""
    organization_id = story.open_wallet()
    story.tamper(f"DROP TABLE parts.{month_name(now(story))}")
    story.accept(report("call-1"), report("call-2"))
    (before,) = set(places(story))
    work(story.engine)
    made = inbox.ensure_partitions(story.engine)

    assert before == "event_bodies_other"
    assert made == 1
    assert places(story) == [month_name(now(story))] * 2
    assert story.books.balance(organization_id) == 100_000_000 - 2 * 700_000
    assert len(select_events(story.engine, Selection(state="done"))) == 2


def test_old_month_is_dropped_whole_and_what_is_unfinished_is_kept(story: Story) -> None:
    """Once the month ended; dead, parked, waiting and claimed events keep their bodies, and can be applied."""
    organization_id = story.open_wallet()
    make(story, now(story) - timedelta(days=100))
    parked, _ = payment("pi_1", NOBODY)
    story.accept(report("call-1"), unreadable("dead"), parked)
    work(story.engine)
    claimed = story.accept(report("call-2"))
    inbox.claim(story.engine, "w", 1)
    waiting = story.accept(report("call-3"))
    story.age(100)
    lay = set(places(story))
    pruned = inbox.prune(story.engine, 30, 400)
    story.lose_leases()
    work(story.engine)

    assert lay == {month_name(now(story) - timedelta(days=100))}
    assert pruned == Pruned(months=1)
    assert lay.isdisjoint(names(story))
    assert places(story) == ["event_bodies_other"] * 4
    assert {
        event_id: story.books.value("SELECT state FROM events WHERE id = :id", id=event_id)
        for event_id in claimed + waiting
    } == dict.fromkeys(claimed + waiting, "done")
    assert inbox.prune(story.engine, 30, 400) == Pruned(bodies=2), "those that are done now"
    story.books.value("SELECT assign_payment('pi_1', :acme, 'he said so')", acme=organization_id)
    work(story.engine)
    assert story.event(parked)["state"] == "done"


def test_month_that_ended_too_lately_stays(story: Story) -> None:
    """A body is never forgotten sooner than it should be, though others of its month are older."""
    last = now(story).replace(day=1) - timedelta(days=1)
    make(story, last)
    days = (now(story) - last).days + 1
    story.accept(report("call-1"))
    story.age(days)

    assert inbox.prune(story.engine, days + 1, 400) == Pruned()
    assert month_name(last) in names(story)


def test_repetition_in_another_month_is_stored_once(story: Story) -> None:
    """The same delivery a month later counts up, and says nothing anew."""
    organization_id = story.open_wallet()
    delivery = report("call-1")
    make(story, now(story) - timedelta(days=31))
    story.accept(delivery)
    story.age(31)
    story.accept(delivery)
    work(story.engine)

    assert story.event(delivery)["deliveries"] == 2
    assert places(story) == [month_name(now(story) - timedelta(days=31))]
    assert story.books.balance(organization_id) == 100_000_000 - 700_000


def test_event_without_a_body_is_dead_and_holds_up_nobody(story: Story) -> None:
    """It cannot be applied, and says so; its neighbour is booked."""
    organization_id = story.open_wallet()
    lost, _ = story.accept(report("call-1"), report("call-2"))
    story.tamper("DELETE FROM event_bodies WHERE event_id = :id", id=lost)
    work(story.engine)

    dead = story.books.rows("SELECT id, reason FROM events WHERE state = 'dead'")
    assert [row["id"] for row in dead] == [lost]
    assert "forgotten" in dead[0]["reason"]
    assert story.books.balance(organization_id) == 100_000_000 - 700_000


MANY = """
INSERT INTO events (provider, delivery_key, type, state, received_at, finished_at)
SELECT 'vapi', 'many' || n, 'hang', 'done', time, time
FROM generate_series(1, 20000) AS n CROSS JOIN LATERAL (SELECT now() - make_interval(mins => n) AS time) AS told
"""


def plan_of(story: Story, function: str, statement: str, **parameters: str) -> str:
    """The plan of the statement of a function that begins so, under the function's own settings."""
    source = story.owner.rows("SELECT prosrc, proconfig FROM pg_proc WHERE proname = :name", name=function)[0]
    text = source["prosrc"][source["prosrc"].index(statement) :].partition(";")[0]
    for name, literal in parameters.items():
        text = text.replace(name, literal)
    with story.owner.engine.begin() as connection:
        for setting in source["proconfig"]:
            name, _, value = setting.partition("=")
            connection.exec_driver_sql("SELECT set_config(%s, %s, true)", (name, value))
        return "\n".join(line for (line,) in connection.exec_driver_sql(f"EXPLAIN {text}"))


@pytest.mark.parametrize("analyzed", [False, True])
def test_old_events_are_found_by_their_end(story: Story, analyzed: bool) -> None:
    """Each step reads what it removes, however many events are kept; nothing reads the whole table."""
    story.tamper(MANY)
    if analyzed:
        story.tamper("ANALYZE events")
    plan = plan_of(story, "prune_events", "DELETE FROM events", p_row_age="interval '10 days'", p_limit="100")

    assert "on events_finished" in plan or "using events_finished" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan or not analyzed


def test_old_bodies_outside_of_months_are_found_by_their_time(story: Story) -> None:
    """Through the key, which begins with it."""
    plan = plan_of(
        story, "forget_bodies", "DELETE FROM parts.event_bodies_other", p_age="interval '10 days'", p_limit="100"
    )

    assert "event_bodies_other_pkey" in plan
    assert "Seq Scan" not in plan


def test_claimed_bodies_are_looked_up_in_their_month_alone(story: Story) -> None:
    """One look into one index for its length and one for itself, whatever is kept."""
    body = story.owner.value("SELECT prosrc FROM pg_proc WHERE proname = 'claim_these_events'")
    for place, name in enumerate(["p_ids", "p_claimed_by", "p_lease", "p_limit", "p_max_bytes"], start=1):
        body = body.replace(name, f"${place}")
    ids = story.accept(report("call-1"))
    with story.owner.engine.begin() as connection:
        connection.exec_driver_sql(f"PREPARE claiming (bigint[], text, interval, integer, bigint) AS {body}")
        explained = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, COSTS off, TIMING off) EXECUTE claiming (ARRAY{ids}, 'w', '1 minute', 10, 1000)"
        )
        plan = [line for (line,) in explained]
        connection.exec_driver_sql("DEALLOCATE claiming")
    read = [line for line in plan if "Scan" in line and " on event_bodies_" in line and "never executed" not in line]

    assert len(read) == 2
    assert all(f"using {month_name(now(story))}_pkey" in line for line in read)
