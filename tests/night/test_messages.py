"""What people read of a night keeps to Slack's limits and never flatters."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from billing.messages import (
    MAX_REFERENCES,
    Night,
    escape,
    likely_cause,
    percent,
    recovered_table,
    slack_message,
    summary_markdown,
)
from billing.runs import Recovered, Window
from calltally.sandbox.slack import refusal
from calltally.sandbox.wire import encode_json

START = datetime(2026, 11, 3, tzinfo=UTC)
THRESHOLD = Decimal("0.95")
ACME = UUID(int=7)


def recovered(count: int, outcome: str = "settled", amount_micros: int = 700_000) -> list[Recovered]:
    """So many recovered calls."""
    return [Recovered(f"call-{place:03}", ACME, outcome, amount_micros, known=False) for place in range(count)]


def night(calls: Sequence[Recovered], **figures: Any) -> Night:
    """A bad night."""
    facts: dict[str, Any] = {
        "run_id": UUID(int=1),
        "window": Window(START, START + timedelta(days=1), START - timedelta(days=3)),
        "dry_run": False,
        "counts": {"matched": 90, "missing": len(calls)},
        "ended": 100,
        "by_webhook": 90,
        "recovered": calls,
        "corrected_micros": 0,
        "organizations": {ACME: "Acme"},
        "cause": None,
        "run_url": "http://127.0.0.1:4200/runs/flow-run/1",
    }
    return Night(**{**facts, **figures})


def as_text(message: dict[str, Any]) -> str:
    """The whole message as sent."""
    return encode_json(message).decode()


@pytest.mark.parametrize("count", [0, 1, MAX_REFERENCES, MAX_REFERENCES + 1, 5000])
def test_message_of_any_size_is_accepted_by_slack(count: int) -> None:
    """However many calls were lost and however long their names are, Slack takes the message."""
    message = slack_message(night(recovered(count), cause="x" * 10_000), THRESHOLD)

    assert refusal(encode_json(message)) is None
    assert message["text"]


def test_message_without_a_run_page_has_no_button() -> None:
    """A button that leads nowhere would be refused."""
    message = slack_message(night(recovered(1), run_url=None), THRESHOLD)

    assert refusal(encode_json(message)) is None
    assert "actions" not in {block["type"] for block in message["blocks"]}


def test_message_names_the_first_calls_and_counts_the_others() -> None:
    """Ten ids and the number of the rest."""
    exactly = as_text(slack_message(night(recovered(MAX_REFERENCES)), THRESHOLD))
    more = as_text(slack_message(night(recovered(MAX_REFERENCES + 3)), THRESHOLD))

    assert "more" not in exactly
    assert "call-009" in exactly
    assert "and 3 more" in more
    assert "call-010" not in more


def test_message_shows_charged_and_outstanding_apart() -> None:
    """Money that a debt limit refused is not called recovered."""
    calls = [*recovered(2), *recovered(1, "outstanding", 250_000), *recovered(1, "free", 0)]
    message = as_text(slack_message(night(calls), THRESHOLD))

    assert "*Recovered*\\n$1.40" in message
    assert "*Outstanding*\\n$0.25" in message
    assert "10 of 100 calls did not tell us by webhook" in message


def test_special_characters_are_escaped_once() -> None:
    """An id with markup in it stays text."""
    message = as_text(slack_message(night([], cause="<!channel> & friends"), THRESHOLD))

    assert escape("a & b < c > d") == "a &amp; b &lt; c &gt; d"
    assert "&lt;!channel&gt; &amp; friends" in message


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (Decimal("0.95"), "95.00 %"),
        (Decimal("0.9499999"), "94.99 %"),
        (Decimal(2) / 3, "66.66 %"),
        (Decimal(1), "100.00 %"),
        (Decimal("0.99999"), "99.99 %"),
        (Decimal(0), "0.00 %"),
        (None, "no calls"),
    ],
)
def test_percent_is_cut_and_never_rounded_up(share: Decimal | None, shown: str) -> None:
    """A ratio below the threshold never reads as the threshold."""
    assert percent(share) == shown


def missing(*, assistant: str | None = None, number: str | None = None, hour: int = 12) -> dict[str, Any]:
    """What the cause is looked for in."""
    return {
        "assistant_id": assistant,
        "phone_number_id": number,
        "ended_at": datetime(2026, 11, 3, hour, 30, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("calls", "cause"),
    [
        ([], None),
        ([missing(assistant="a")], "stands out"),
        ([missing(assistant="a", hour=hour) for hour in (1, 2, 3)], "3 of 3 missing calls share assistant a"),
        ([missing(number="n", hour=1), missing(number="n", hour=2), missing(hour=3)], "2 of 3 .* phone number id n"),
        ([missing(assistant=name, hour=9) for name in "abc"], "3 of 3 missing calls share hour 2026-11-03 09:00 UTC"),
        ([missing(assistant=name, hour=hour) for hour, name in enumerate("abcd")], "stands out"),
        ([missing(assistant="a", hour=1), missing(assistant="b", hour=2)], "stands out"),
    ],
)
def test_likely_cause_is_what_most_missing_calls_share(calls: list[dict[str, Any]], cause: str | None) -> None:
    """More than half of them, or nothing stands out."""
    found = likely_cause(calls)

    if cause is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(cause, found)


def test_summary_of_a_rehearsal_says_that_nothing_was_booked() -> None:
    """Nobody mistakes what would be for what is."""
    assert "nothing was booked" in summary_markdown(night(recovered(1), dry_run=True))
    assert "nothing was booked" not in summary_markdown(night(recovered(1)))


def test_recovered_calls_of_nobody_ask_for_a_route() -> None:
    """The table says what to do about a call without organization."""
    stray = Recovered("call-x", None, "unattributed", None, known=False)
    rows = recovered_table(night([stray, *recovered(1)]))

    assert [row["organization"] for row in rows] == ["unknown: add a route", "Acme"]
    assert [row["amount"] for row in rows] == ["", "$0.70"]
