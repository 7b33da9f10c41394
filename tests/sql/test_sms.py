"""Messages: any order and repetition of what is told comes to one state and one charge."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from billing import sms
from billing.errors import ConstraintBroken, UnknownOrganization
from billing.twilio import ToldMessage
from tests.books import Books, Row
from tests.messages import ACCOUNT, SENT_AT, SERVICE, looked_up, message, price, record, route, told

STATUSES = ["scheduled", "accepted", "queued", "sending", "sent", "canceled", "failed", "partially_delivered"]
STATUSES += ["undelivered", "delivered", "read"]
BILLABLE = {"sent", "partially_delivered", "undelivered", "delivered", "read"}
CENTS_2 = 20_000
STALE = timedelta(hours=12)


@pytest.fixture
def acme(shared: Books, tag: str) -> UUID:
    """An organization with money, a price of two cents a segment, and a messaging service of its own."""
    organization_id = shared.organization()
    shared.credit(organization_id, 1_000_000, f"topup:pi_{tag}")
    price(shared, organization_id, CENTS_2)
    route(shared, organization_id, "messaging_service", f"MG{tag}")
    return organization_id


def due(books: Books) -> set[str]:
    """The messages that Twilio would be asked about."""
    return {row["sid"] for row in books.rows("SELECT * FROM messages_to_poll(:stale, 1000)", stale=STALE)}


def age(owner: Books, sid: str, *, hours: float, polled_hours: float | None = None) -> None:
    """Let a message have been seen, and asked for, so long ago."""
    owner.rows(
        "UPDATE sms_messages SET first_seen_at = now() - make_interval(secs => :age),"
        " status_at = now() - make_interval(secs => :age),"
        " polled_at = now() - make_interval(secs => CAST(:polled AS float)) WHERE sid = :sid RETURNING sid",
        sid=sid,
        age=hours * 3600,
        polled=None if polled_hours is None else polled_hours * 3600,
    )


@pytest.mark.parametrize("later", range(len(STATUSES)))
def test_status_never_goes_back(shared: Books, tag: str, later: int) -> None:
    """Each status gives way to all that are further, and to none that is not."""
    sid = f"SM{tag}"
    record(shared, told(sid, STATUSES[later]))
    record(shared, *(told(sid, status) for status in STATUSES[: later + 1]))

    assert message(shared, sid)["status"] == STATUSES[later]


STORY = st.fixed_dictionaries(
    {
        "told": st.lists(
            st.tuples(st.sampled_from(STATUSES), st.sampled_from([None, 30003, 30008])), min_size=1, max_size=6
        ),
        "looked_up": st.sampled_from([None, "sent", "delivered", "undelivered"]),
        "sizes": st.lists(st.integers(1, 4), min_size=20, max_size=20),
    }
)


def tell(books: Books, messages: list[Row], sizes: list[int]) -> None:
    """Tell them in this order, so many at once."""
    rest = list(messages)
    for size in sizes:
        if rest:
            record(books, *rest[:size])
            rest = rest[size:]


def known(books: Books, sid: str) -> Row:
    """What must not depend on order and repetition."""
    stored = message(books, sid)
    columns = ("status", "error_code", "carrier_accepted", "num_segments", "organization_id", "per_segment_micros")
    charges = books.rows("SELECT amount_micros, state FROM charges WHERE idempotency_key = 'sms:' || :sid", sid=sid)
    return {**{name: stored[name] for name in columns}, "charges": charges}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORY, data=st.data())
def test_any_order_and_repetition_comes_to_one_state_and_one_charge(
    shared: Books, acme: UUID, tag: str, story: Row, data: st.DataObject
) -> None:
    """Callbacks and looks at the Message resource, shuffled, doubled, and in batches of any size."""
    service = f"MG{tag}"
    number = shared.value("SELECT count(*) FROM sms_messages")
    in_order, shuffled = f"SMa{number}{tag}", f"SMb{number}{tag}"

    def messages(sid: str) -> list[Row]:
        facts = [
            told(sid, status, error_code=error, messaging_service_sid=service) for status, error in story["told"]
        ]
        last = story["looked_up"]
        return facts + ([looked_up(sid, last, 2, messaging_service_sid=service)] if last else [])

    tell(shared, messages(in_order), [1] * 20)
    mixed = data.draw(st.permutations(messages(shuffled) * 2))
    tell(shared, mixed, story["sizes"])

    result = known(shared, shuffled)
    assert result == known(shared, in_order)
    is_charged = story["looked_up"] is not None
    assert result["charges"] == ([{"amount_micros": 2 * CENTS_2, "state": "settled"}] if is_charged else [])
    assert result["carrier_accepted"] == bool(BILLABLE & {row["status"] for row in mixed})


def test_message_is_charged_by_the_segment_when_it_was_sent(shared: Books, acme: UUID, tag: str) -> None:
    """To the wallet's account for messages, dated by Twilio's clock, under the message's key."""
    assert record(shared, looked_up(f"SM{tag}", "sent", 3, messaging_service_sid=f"MG{tag}")) == {
        f"SM{tag}": "settled"
    }

    booked = shared.transfers(acme)[-1]
    assert (booked["kind"], booked["idempotency_key"], booked["amount_micros"]) == ("sms", f"sms:SM{tag}", 60_000)
    assert booked["event_at"] == datetime.fromisoformat(SENT_AT)
    assert booked["to_account"] == shared.value("SELECT own_account('sms_revenue', 'USD')")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("queued", "not_billable"),
        ("failed", "not_billable"),
        ("canceled", "not_billable"),
        ("sent", "settled"),
        ("undelivered", "settled"),
        ("delivered", "settled"),
        ("read", "settled"),
    ],
)
def test_message_costs_what_a_carrier_took(shared: Books, acme: UUID, tag: str, status: str, outcome: str) -> None:
    """Twilio bills undelivered ones too, and none that never left it."""
    assert record(shared, looked_up(f"SM{tag}", status, messaging_service_sid=f"MG{tag}")) == {f"SM{tag}": outcome}
    assert len(shared.charges(acme)) == (outcome == "settled")


def test_message_past_the_debt_limit_is_owed_until_the_next_top_up(shared: Books, tag: str) -> None:
    """As a call is."""
    organization_id = shared.organization(debt_limit_micros=0)
    price(shared, organization_id, CENTS_2)
    route(shared, organization_id, "messaging_service", f"MG{tag}")

    refused = record(shared, looked_up(f"SM{tag}", "sent", messaging_service_sid=f"MG{tag}"))
    credit = shared.credit(organization_id, 1_000_000, f"topup:pi_{tag}")

    assert refused == {f"SM{tag}": "outstanding"}
    assert credit["settled_outstanding_micros"] == CENTS_2
    assert shared.states(organization_id) == {f"sms:SM{tag}": "settled"}


def test_callback_alone_is_noted_and_charged_once_its_segments_are_known(shared: Books, acme: UUID, tag: str) -> None:
    """It says neither how many there are nor when the message was sent."""
    assert record(shared, told(f"SM{tag}", "delivered", messaging_service_sid=f"MG{tag}")) == {
        f"SM{tag}": "unmeasured"
    }
    assert record(shared, looked_up(f"SM{tag}", "sent", messaging_service_sid=f"MG{tag}")) == {f"SM{tag}": "settled"}
    assert message(shared, f"SM{tag}")["status"] == "delivered"


def test_charge_stays_when_segments_or_routes_change_later(shared: Books, acme: UUID, tag: str) -> None:
    """What was charged is history."""
    record(shared, looked_up(f"SM{tag}", "sent", messaging_service_sid=f"MG{tag}"))
    route(shared, shared.organization(), "messaging_service", f"MG{tag}", since="2020-01-01")
    record(shared, looked_up(f"SM{tag}", "delivered", 5, messaging_service_sid=f"MG{tag}"))

    assert [charge["amount_micros"] for charge in shared.charges(acme)] == [CENTS_2]
    assert message(shared, f"SM{tag}")["organization_id"] == acme


def test_messaging_service_decides_before_sender_before_account(shared: Books, tag: str) -> None:
    """Each kind of route explains what the ones before it do not."""
    service, number, account = (shared.organization() for _ in range(3))
    route(shared, service, "messaging_service", f"MG{tag}")
    route(shared, number, "sms_number", f"+1{tag}")
    route(shared, account, "twilio_account", f"AC{tag}")
    facts = {"account_sid": f"AC{tag}", "sender": f"+1{tag}", "messaging_service_sid": f"MG{tag}"}

    payers = []
    for step, name in enumerate(["none", "messaging_service_sid", "sender", "account_sid"]):
        facts[name] = "another"
        sid = f"SM{step}{tag}"
        record(shared, {**told(sid, "queued"), **facts})
        payers.append(message(shared, sid)["organization_id"])

    assert payers == [service, number, account, None]


@pytest.mark.parametrize(("kind", "name"), [("messaging_service", "MG1"), ("twilio_account", "AC1")])
def test_route_added_later_charges_the_messages_that_it_explains(books: Books, kind: str, name: str) -> None:
    """No callback waits for it: Twilio's list told all there is, and nobody asks again."""
    organization_id = books.organization()
    price(books, organization_id, CENTS_2)
    facts = {"account_sid": "AC1", "messaging_service_sid": "MG1", "num_segments": 1, "provider_price_micros": 7500}
    outcomes = record(
        books,
        told("SM-1", "delivered", sent_at="2026-11-01T23:59:59Z", **facts),
        told("SM-2", "delivered", sent_at="2026-11-02T00:00:00Z", **facts),
    )
    route(books, organization_id, kind, name, since="2026-11-02")

    assert set(outcomes.values()) == {"unattributed"}
    assert books.states(organization_id) == {"sms:SM-2": "settled"}
    assert books.broken() == []


@pytest.mark.parametrize("polled_hours", [1, 99])
def test_route_by_number_lets_twilio_be_asked_whose_a_message_is(
    books: Books, owner: Books, polled_hours: float
) -> None:
    """The sender is not stored: the next answer names it, however lately there was one."""
    organization_id = books.organization()
    price(books, organization_id, CENTS_2)
    complete = looked_up("SM-1", "delivered", provider_price_micros=7500, sender="+14155550124")
    record(books, complete)
    age(owner, "SM-1", hours=400, polled_hours=polled_hours)
    before = due(books)
    route(books, organization_id, "sms_number", "+14155550124")

    assert (before, due(books)) == (set(), {"SM-1"})
    assert record(books, complete) == {"SM-1": "settled"}
    assert due(books) == set()


def test_message_of_a_list_is_news_until_somebody_pays_for_it(books: Books, engine: Engine) -> None:
    """The list comes every hour, and a route may have come since; the sender is only there."""
    organization_id = books.organization()
    price(books, organization_id, CENTS_2)
    listed = ToldMessage(
        sid="SM" + "2" * 32,
        status="delivered",
        account_sid=ACCOUNT,
        sender="+14155550124",
        num_segments=2,
        sent_at=datetime.fromisoformat(SENT_AT),
        provider_price_micros=15_000,
        provider_currency="USD",
        polled=True,
    )
    unknown = sms.settle(engine, sms.Answers(sms.news(engine, [listed])))
    route(books, organization_id, "sms_number", "+14155550124")
    known = sms.settle(engine, sms.Answers(sms.news(engine, [listed])))

    assert (unknown, known) == ({listed.sid: "unattributed"}, {listed.sid: "settled"})
    assert sms.news(engine, [listed]) == []
    assert [charge["amount_micros"] for charge in books.charges(organization_id)] == [2 * CENTS_2]


def test_message_that_a_route_by_number_may_explain_does_not_go_to_the_account(books: Books) -> None:
    """Nor does it wait in silence: Twilio is asked, and the sender decides."""
    number, account = books.organization(), books.organization()
    told_once = looked_up("SM-1", "delivered", provider_price_micros=7500, sender="+14155550124")
    price(books, None, CENTS_2)
    record(books, told_once)
    route(books, number, "sms_number", "+14155550124")
    route(books, account, "twilio_account", ACCOUNT)

    assert (due(books), books.broken()) == ({"SM-1"}, [])
    record(books, told_once)
    assert (len(books.charges(number)), books.charges(account)) == (1, [])


@pytest.mark.parametrize(
    ("hours", "polled_hours", "is_due"), [(13, 3, False), (13, 4, True), (400, 99, False), (721, None, False)]
)
def test_message_that_nobody_routes_is_asked_about_ever_more_rarely(
    books: Books, owner: Books, hours: float, polled_hours: float | None, is_due: bool
) -> None:
    """As the others, and after those that somebody pays for."""
    route(books, books.organization(), "sms_number", "+14155550199")
    route(books, books.organization(), "messaging_service", SERVICE)
    record(books, looked_up("SM-1", "delivered", provider_price_micros=7500))
    record(books, told("SM-2", "sent", messaging_service_sid=SERVICE))
    age(owner, "SM-1", hours=hours, polled_hours=polled_hours)
    age(owner, "SM-2", hours=13, polled_hours=3.5)
    asked = [row["sid"] for row in books.rows("SELECT sid FROM messages_to_poll(:stale, 1000)", stale=STALE)]

    assert asked == (["SM-2", "SM-1"] if is_due else ["SM-2"])


def test_price_set_later_charges_what_was_sent_since(shared: Books, tag: str) -> None:
    """And nothing that was sent before."""
    organization_id = shared.organization()
    route(shared, organization_id, "messaging_service", f"MG{tag}")
    facts = {"messaging_service_sid": f"MG{tag}", "num_segments": 1}
    outcomes = record(
        shared,
        told(f"SM1{tag}", "sent", sent_at="2026-11-01T11:59:59Z", **facts),
        told(f"SM2{tag}", "sent", sent_at="2026-11-01T12:00:00Z", **facts),
    )
    price(shared, organization_id, CENTS_2, since="2026-11-01T12:00:00Z")

    assert set(outcomes.values()) == {"unpriced"}
    assert shared.states(organization_id) == {f"sms:SM2{tag}": "settled"}


def test_message_keeps_the_price_of_its_time(books: Books) -> None:
    """A new price begins when it says; an organization's own counts before everybody's."""
    own, ordinary = books.organization(), books.organization()
    route(books, own, "messaging_service", "MG-own")
    route(books, ordinary, "messaging_service", "MG-ordinary")
    price(books, None, 50_000)
    price(books, own, CENTS_2, since="2026-11-01")
    price(books, own, 30_000, since="2026-11-02")
    for organization in ("own", "ordinary"):
        for day in ("10-31T23:59:59Z", "11-01T23:59:59Z", "11-02T00:00:00Z"):
            facts = {"messaging_service_sid": f"MG-{organization}", "num_segments": 1, "sent_at": f"2026-{day}"}
            record(books, told(f"SM-{organization}-{day}", "sent", **facts))
    books.value("SELECT set_sms_price(NULL, 0, '2026-11-01')")

    assert [charge["amount_micros"] for charge in books.charges(own)] == [50_000, CENTS_2, 30_000]
    assert [charge["amount_micros"] for charge in books.charges(ordinary)] == [50_000] * 3
    assert books.broken() == []


def test_price_of_nobody_and_status_of_nothing_are_refused(shared: Books, tag: str) -> None:
    """Nothing is stored."""
    with pytest.raises(UnknownOrganization):
        price(shared, UUID(int=7), CENTS_2)
    with pytest.raises(ConstraintBroken):
        record(shared, told(f"SM{tag}", "received"))


def test_messages_without_segments_price_or_end_are_asked_for(books: Books, owner: Books) -> None:
    """Those of which nothing is missing, or nothing more is to come, are not."""
    organization_id = books.organization()
    route(books, organization_id, "twilio_account", ACCOUNT)
    record(
        books,
        told("SM-no-segments", "delivered"),
        looked_up("SM-no-price", "delivered"),
        looked_up("SM-complete", "delivered", provider_price_micros=7500, provider_currency="USD"),
        told("SM-young", "queued"),
        told("SM-stale", "queued"),
        told("SM-failed", "failed"),
        told("SM-gone", "sent"),
    )
    for sid in ("SM-no-segments", "SM-no-price", "SM-complete", "SM-stale", "SM-failed", "SM-gone"):
        age(owner, sid, hours=13)
    books.value("SELECT note_messages_asked(ARRAY['SM-gone'], true)")
    owner.rows("UPDATE sms_messages SET missing_since = now() - interval '25 h' WHERE sid = 'SM-gone' RETURNING 1")
    books.value("SELECT note_messages_asked(ARRAY['SM-gone'], true)")

    assert due(books) == {"SM-no-segments", "SM-no-price", "SM-stale"}


@pytest.mark.parametrize(
    ("hours", "polled_hours", "is_due"),
    [(13, 0.5, False), (13, 3, False), (13, 4, True), (400, 99, False), (400, 101, True), (721, None, False)],
)
def test_message_is_asked_for_ever_more_rarely(
    books: Books, owner: Books, hours: float, polled_hours: float | None, is_due: bool
) -> None:
    """After a quarter of its age, and after thirty days no more."""
    record(books, told("SM-1", "sent"))
    age(owner, "SM-1", hours=hours, polled_hours=polled_hours)

    assert (due(books) == {"SM-1"}) == is_due


def test_message_is_gone_after_a_day_of_asking_and_back_when_anything_is_told(books: Books, owner: Books) -> None:
    """One answer may be wrong; a callback proves that it was."""
    record(books, told("SM-1", "sent"))
    seen = []
    for hours in (0, 23, 25):
        owner.rows(
            "UPDATE sms_messages SET missing_since = missing_since - make_interval(hours => :h) RETURNING 1", h=hours
        )
        books.value("SELECT note_messages_asked(ARRAY['SM-1'], true)")
        seen.append(message(books, "SM-1")["gone_at"] is not None)
    record(books, told("SM-1", "delivered"))
    back = message(books, "SM-1")

    assert seen == [False, False, True]
    assert (back["gone_at"], back["missing_since"]) == (None, None)


def test_message_that_failed_after_it_was_sent_is_settled_by_the_look_at_it(books: Books, owner: Books) -> None:
    """With segments it is charged, as a carrier had it; without any it costs nothing, and nobody asks again."""
    organization_id = books.organization()
    books.credit(organization_id, 1_000_000, "topup:pi_1")
    price(books, organization_id, CENTS_2)
    route(books, organization_id, "twilio_account", ACCOUNT)
    record(books, told("SM-counted", "sent"), told("SM-nothing", "sent"))
    outcomes = record(books, looked_up("SM-counted", "failed"), told("SM-nothing", "failed", polled=True))
    for sid in ("SM-counted", "SM-nothing"):
        age(owner, sid, hours=100, polled_hours=50)

    assert outcomes == {"SM-counted": "settled", "SM-nothing": "not_billable"}
    assert due(books) == set()
    assert books.broken() == []


def test_failures_are_counted_by_error_code_and_hour(books: Books, owner: Books) -> None:
    """Beside them, how many messages of the organization ended in that hour."""
    organization_id = books.organization()
    route(books, organization_id, "messaging_service", SERVICE)
    ends = [("undelivered", 30003), ("undelivered", 30003), ("failed", 30008), ("delivered", None), ("sent", None)]
    record(
        books,
        *(
            told(f"SM-{number}", status, error_code=error, messaging_service_sid=SERVICE)
            for number, (status, error) in enumerate(ends)
        ),
    )
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    owner.rows("UPDATE sms_messages SET status_at = :hour RETURNING sid", hour=hour)

    shared_facts = {"hour": hour, "organization_id": organization_id, "ended_messages": 4}
    assert books.rows("SELECT * FROM sms_failures ORDER BY error_code") == [
        {**shared_facts, "status": "undelivered", "error_code": 30003, "messages": 2},
        {**shared_facts, "status": "failed", "error_code": 30008, "messages": 1},
    ]


def test_failures_of_one_hour_are_counted_for_each_organization(books: Books, owner: Books) -> None:
    """Neither is shown the other's, nor measured by how many messages the other sent."""
    ended = {}
    for number, good in enumerate([1, 4]):
        organization_id, service = books.organization(), f"MG{number:032}"
        route(books, organization_id, "messaging_service", service)
        for place, status in enumerate(["failed"] + ["delivered"] * good):
            sid = f"SM-{number}-{place}"
            record(books, told(sid, status, error_code=30008 if not place else None, messaging_service_sid=service))
        ended[organization_id] = 1 + good
    hour = datetime(2026, 11, 18, 12, tzinfo=UTC)
    owner.rows("UPDATE sms_messages SET status_at = :hour + interval '59 minutes' RETURNING sid", hour=hour)
    found = books.rows("SELECT * FROM sms_failures")

    assert {row["organization_id"]: row["ended_messages"] for row in found} == ended
    assert [(row["hour"], row["messages"]) for row in found] == [(hour, 1)] * 2


def test_price_that_comes_late_is_kept_and_its_first_value_stays(shared: Books, acme: UUID, tag: str) -> None:
    """What Twilio charges the reseller is noted beside what the organization is charged."""
    sid = f"SM{tag}"
    for micros in (None, 7500, 9000):
        record(shared, looked_up(sid, "delivered", provider_price_micros=micros, provider_currency="USD"))

    assert (message(shared, sid)["provider_price_micros"], message(shared, sid)["provider_currency"]) == (7500, "USD")
