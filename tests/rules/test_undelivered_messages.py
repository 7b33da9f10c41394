"""Messages that do not arrive, and those that nobody can bill."""

from datetime import timedelta

from billing.rules.undelivered_messages import RULE
from tests import messages
from tests.books import Books
from tests.messages import looked_up, told

from .looking import NOW, all_clear, looked, written


def send(
    books: Books, owner: Books, organization: str, count: int, status: str, error_code: int | None = None
) -> None:
    """So many messages of an organization that has a messaging service of the same name, an hour ago."""
    number = books.value("SELECT count(*) FROM sms_messages")
    facts = [
        looked_up(f"SM{number + n}", status, messaging_service_sid=organization, error_code=error_code)
        for n in range(count)
    ]
    messages.record(books, *facts)
    seen(owner, timedelta(hours=1))


def seen(owner: Books, ago: timedelta) -> None:
    """What was told just now was told so long ago."""
    owner.rows(
        "UPDATE sms_messages SET first_seen_at = :at WHERE first_seen_at > now() - interval '1 minute' RETURNING 1",
        at=NOW - ago,
    )


def open_organization(books: Books, name: str) -> None:
    """With a messaging service of the same name."""
    messages.route(books, books.organization(name), "messaging_service", name)


def test_failures_are_told_by_organization_and_error_code_as_one_incident(books: Books, owner: Books) -> None:
    """With count, share and interval; those that are few are not, and when they end so does the incident."""
    for name in ("Acme", "Bolt"):
        open_organization(books, name)
    send(books, owner, "Acme", 60, "delivered")
    send(books, owner, "Acme", 12, "undelivered", 30003)
    send(books, owner, "Acme", 8, "failed", 30007)
    send(books, owner, "Bolt", 100, "delivered")
    send(books, owner, "Bolt", 2, "undelivered", 30003)
    condition = looked(books, RULE)["undelivered_messages"]
    message = written(condition)
    after = looked(books, RULE, NOW + timedelta(days=2))["undelivered_messages"]

    assert (condition.failing, condition.measured) == (True, "22 failed, 0 unmeasured")
    assert "20 messages of the last day did not arrive" in message
    assert "Acme, error 30003: 12 of 80, 15.00 % (95 % interval" in message
    assert "Acme, error 30007: 8 of 80, 10.00 %" in message
    assert "Bolt" not in message
    assert (after.failing, all_clear(after)) == (False, "Messages arrive and are measured again")


def test_few_failures_are_no_alarm(books: Books, owner: Books) -> None:
    """Two of two may be two numbers that do not exist; three of three are not."""
    open_organization(books, "Acme")
    send(books, owner, "Acme", 2, "undelivered", 30003)
    two = looked(books, RULE)["undelivered_messages"]
    send(books, owner, "Acme", 1, "undelivered", 30003)

    assert two.failing is False
    assert looked(books, RULE)["undelivered_messages"].failing


def test_message_that_is_not_measured_for_days_is_told(books: Books, owner: Books) -> None:
    """A carrier took it and nobody can bill it, whether Twilio does not answer or does not know it any more."""
    messages.record(books, told("SM-taken", "sent"), told("SM-waits", "queued"))
    seen(owner, timedelta(days=1))
    young = looked(books, RULE)["undelivered_messages"]
    old = looked(books, RULE, NOW + timedelta(days=2))["undelivered_messages"]
    messages.record(books, looked_up("SM-taken", "delivered"))
    measured = looked(books, RULE, NOW + timedelta(days=2))["undelivered_messages"]

    assert young.failing is False
    assert old.facts["first_sids"] == ["SM-taken"]
    assert "1 cannot be billed, as Twilio told no segments" in written(old)
    assert measured.failing is False
