"""What people read of a night keeps to Slack's limits and never flatters."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from billing.alert_messages import write_message
from billing.alerts import Alert
from billing.figures import Completeness, Finding, Night, NightMoney, Recovered, Reliability, Totals, Window
from billing.literal import in_slack
from billing.messages import MAX_REFERENCES, percent
from billing.night_messages import night_facts
from calltally.sandbox.slack import refusal
from calltally.sandbox.wire import encode_json

START = datetime(2026, 11, 3, tzinfo=UTC)
THRESHOLD = Decimal("0.95")
ACME = UUID(int=7)
DOLLARS = NightMoney("USD", 1_400_000, 250_000, 0, 0, 42_000_000)


def recovered(count: int) -> list[Recovered]:
    """So many recovered calls."""
    return [Recovered(f"call-{place:03}", ACME, "settled", 700_000, known=False) for place in range(count)]


def night(calls: Sequence[Recovered] = (), **figures: Any) -> Night:
    """A bad night."""
    facts: dict[str, Any] = {
        "run_id": UUID(int=1),
        "kind": "night",
        "window": Window(START, START + timedelta(days=1), START - timedelta(days=3)),
        "as_of": START + timedelta(days=1, hours=3),
        "dry_run": False,
        "organization": None,
        "counts": {"matched": 90, "missing": len(calls)},
        "reliability": Reliability(90, 100),
        "by_organization": [],
        "by_assistant": [],
        "money": [DOLLARS],
        "recovered": calls,
        "lost_ids": [call.call_id for call in calls],
        "completeness": [],
        "organizations": {ACME: "Acme"},
        "cause": None,
        "run_url": "http://127.0.0.1:4200/runs/flow-run/1",
    }
    return Night(**{**facts, **figures})


def message(night: Night, kind: Any = "raised", runbook_url: str | None = None, **alert: Any) -> dict[str, Any]:
    """The message of an alert about the night."""
    facts = night_facts(night, THRESHOLD)
    known: dict[str, Any] = {"incident_id": 12, "since": START, "until": None, "times_seen": 1, **alert}
    return write_message(Alert(1, "webhook_reliability", kind, "warning", facts, **known), runbook_url)


def as_text(message: dict[str, Any]) -> str:
    """The whole message as sent."""
    return encode_json(message).decode()


@pytest.mark.parametrize("kind", ["raised", "reminder", "cleared"])
@pytest.mark.parametrize("count", [0, 1, MAX_REFERENCES, 5000])
def test_message_of_any_size_is_accepted_by_slack(count: int, kind: str) -> None:
    """However many calls were lost in however many currencies, and however long their names are, Slack takes it."""
    money = [NightMoney(f"X{place:02}", 1, 2, 3, 4, 5) for place in range(count)]
    sent = message(night(recovered(count), cause="x<&" * 10_000, money=money), kind, until=START)

    assert refusal(encode_json(sent)) is None
    assert len(sent["text"]) < 4000


def test_message_says_what_happened_how_sure_that_is_and_what_it_is_worth() -> None:
    """Counts, ratio with its interval, every sum that the night knows, and the way to the run."""
    money = [replace(DOLLARS, at_risk_micros=700_000)]
    written = as_text(message(night(recovered(2), cause="8 of 10 share assistant a", money=money)))

    for expected in (
        "10 of 100 calls did not tell us by webhook",
        "90.00 % (95 % interval 82.56 % to 94.47 %), alert below 95.00 %",
        "*Recovered*\\n$1.40 (2 calls of this run)",
        "*Outstanding*\\n$0.25",
        "*At risk*\\n$0.70",
        "*Projected monthly loss*\\n$42.00",
        "2026-11-03 00:00 to 2026-11-04 00:00 UTC",
        "8 of 10 share assistant a",
        "http://127.0.0.1:4200/runs/flow-run/1",
        "docs/runbook.md, section `webhook_reliability`",
    ):
        assert expected in written


def test_message_keeps_currencies_apart() -> None:
    """Nobody adds dollars to euros."""
    written = as_text(message(night(money=[DOLLARS, NightMoney("EUR", 3_000_000)])))

    assert "*Recovered*\\n$1.40, €3.00 (0 calls of this run)" in written


def test_message_without_a_run_page_has_no_button() -> None:
    """A button that leads nowhere would be refused."""
    sent = message(night(recovered(1), run_url=None))

    assert refusal(encode_json(sent)) is None
    assert "actions" not in {block["type"] for block in sent["blocks"]}


def test_message_names_the_first_calls_and_counts_the_others() -> None:
    """Ten ids and the number of the rest, of all whose webhook got lost."""
    exactly = as_text(message(night(recovered(MAX_REFERENCES))))
    more = as_text(message(night(recovered(MAX_REFERENCES + 3), reliability=Reliability(87, 100))))

    assert "more" not in exactly
    assert "call-009" in exactly
    assert "and 3 more" in more
    assert "call-010" not in more


def test_message_of_calls_that_another_run_billed_names_them_and_what_they_cost() -> None:
    """An hourly pass may have found them before the night did: the night recovers nothing, and is no less bad."""
    earlier = NightMoney("USD", earlier_micros=2_100_000, projected_monthly_loss_micros=63_000_000)
    figures: dict[str, Any] = {"lost_ids": ["call-a", "call-b"], "reliability": Reliability(98, 100)}
    written = as_text(message(night(money=[earlier], **figures)))

    assert "*Calls*\\n`call-a`, `call-b`" in written
    assert "*Recovered*\\n$0.00 (0 calls of this run)" in written
    assert "*Billed earlier*\\n$2.10" in written
    assert "What was found is billed; nothing has to be repeated." in written


@pytest.mark.parametrize(
    ("outcome", "step"),
    [
        ("settled", "What was found is billed; nothing has to be repeated."),
        ("unattributed", "2 calls without an organization: `calltally route add ORG --assistant new` bills them;"),
        ("held_call", "2 calls held, as they cannot be as Vapi told them: `calltally call held` lists them"),
        ("unpriced", "2 calls without a price: `set_price` gives their organization one"),
        ("refused", "2 calls refused: the run's findings say why; run the same window again"),
        ("held", "2 calls held back until Vapi's list is complete: run the same window again"),
    ],
)
def test_next_step_is_what_is_left_to_do(outcome: str, step: str) -> None:
    """Only a night that billed all that it found says that nothing has to be repeated."""
    detail = {"assistant_id": "new"} | ({"problem": "it is older than Vapi"} if outcome == "held_call" else {})
    outcome = outcome.removesuffix("_call")
    found = [Finding("missing", f"c-{place}", None, None, outcome, detail) for place in (1, 2)]
    sent = message(night(findings=found))
    [shown] = [block["text"]["text"] for block in sent["blocks"] if "*Next step*" in str(block)]

    assert step in shown
    assert ("nothing has to be repeated" in shown) == (outcome == "settled")


def test_next_step_names_what_calls_of_an_earlier_run_wait_for() -> None:
    """Those that are in quarantine already are no findings of this run, but their money is still at risk."""
    written = as_text(message(night(money=[NightMoney("USD", at_risk_micros=1)])))

    assert "What is at risk is not billed yet: it waits for `calltally route add`, or for a price." in written


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (Totals(9, 2), "The list has fewer calls in 1 of its parts"),
        (Totals(11, 2), "The list has more calls in 1 of its parts"),
        (Totals(10, 1), "The list has the same number of calls at another cost in 1 of its parts"),
    ],
)
def test_message_says_how_the_list_was_incomplete(listed: Totals, said: str) -> None:
    """What was not listed was not compared either; and whether billing waits for it."""
    part = Completeness(START, START + timedelta(hours=6), listed, Totals(10, 2), "incomplete")
    billed, held = (as_text(message(night(completeness=[replace(part, held=held)]))) for held in (False, True))

    assert said in billed
    assert said in held
    assert ("is held until both agree" in billed, "is held until both agree" in held) == (False, True)
    assert "Incomplete" not in as_text(message(night()))


def test_reminder_and_all_clear_say_so_and_since_when() -> None:
    """The incident keeps its number, and an all-clear its good figures."""
    good = night(reliability=Reliability(99, 100), organization="Acme")
    reminder = message(night(), "reminder", times_seen=2)
    cleared = message(good, "cleared", until=START + timedelta(days=1), told=True)
    untold = message(good, "cleared", until=START + timedelta(days=1))

    assert reminder["text"].startswith("Still: 10 of 100 calls")
    assert "Incident 12, since 2026-11-03 00:00 UTC, seen 2 times" in as_text(reminder)
    assert cleared["text"] == (
        "Webhooks are reliable again: 99.00 % of 100 calls of Acme."
        " From 2026-11-03 00:00 UTC to 2026-11-04 00:00 UTC."
    )
    assert "before anybody could be told" in untold["text"]


def test_runbook_is_linked_if_somebody_can_read_it_there() -> None:
    """By the name of the section."""
    written = as_text(message(night(), runbook_url="https://docs.example.com/runbook"))

    assert "<https://docs.example.com/runbook#webhook_reliability|" in written


def test_special_characters_are_escaped_once() -> None:
    """An id with markup in it stays text."""
    written = as_text(message(night(cause="<!channel> & friends", organization="<!here>")))

    assert in_slack("a & b < c > d") == "a &amp; b &lt; c &gt; d"
    assert "&lt;!channel&gt; &amp; friends" in written
    assert "<!here>" not in message(night(organization="<!here>"))["text"]


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
