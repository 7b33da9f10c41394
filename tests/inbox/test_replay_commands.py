"""`calltally events`: rehearse, apply what was shown, and look at one event's whole life."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from billing import applying, inbox
from billing.errors import TransactionConflict
from billing.inbox import Failure
from billing.replay import PlanChanged
from calltally.cli import app

from .story import Story, payment, report, unreadable, work

Run = Callable[..., Result]


@pytest.fixture
def events(environment: None) -> Run:
    """Run `calltally events …`."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["events", *(str(argument) for argument in arguments)])

    return run


def answer(result: Result) -> Any:
    """What a command said in JSON."""
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture
def parked(story: Story) -> int:
    """A payment that had nobody to go to, and has by now; its event."""
    organization_id = story.open_wallet()
    event_id = story.accept(payment("pi_1", "", 2_000)[0])[0]
    work(story.engine)
    story.tamper(
        "UPDATE event_bodies SET body = convert_to(replace(convert_from(body, 'UTF8'), :old, :new), 'UTF8')",
        old='"client_reference_id": ""',
        new=f'"client_reference_id": "{organization_id}"',
    )
    return event_id


def test_ids_that_cannot_be_replayed_are_named(story: Story, events: Run, parked: int) -> None:
    """The others are replayed; exit code 1, since not all was done."""
    waiting = story.accept(report("call-1"))[0]
    result = events("replay", parked, waiting, 999_999, "--json")
    said = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (said["replayed"], said["ids"]) == (1, [parked])
    assert said["not_replayed"] == [
        {"id": waiting, "why": "it is waiting, so it is in line or worked on already"},
        {"id": 999_999, "why": "there is no such event; calltally events list shows those that there are"},
    ]


def test_id_that_another_option_excludes_is_named(story: Story, events: Run, parked: int) -> None:
    """In a rehearsal too."""
    result = events("replay", parked, "--provider", "vapi", "--dry-run")

    assert result.exit_code == 1
    assert f"Event {parked} was left out: it is parked, and either another option does not fit it" in result.stderr


def test_rehearsed_plan_is_applied_by_its_digest(story: Story, events: Run, parked: int) -> None:
    """The rehearsal books nothing; the same command with the plan books what it showed."""
    shown = answer(events("replay", "--state", "parked", "--dry-run", "--json"))
    before = story.content()["transfers"]
    applied = answer(events("replay", "--state", "parked", "--plan", shown["plan"], "--json"))
    key = {"idempotency_key": "topup:pi_1", "kind": "topup", "amount_micros": 20_000_000}

    assert shown["transfers"] == [{**key, "organization": "Acme", "currency": "USD"}]
    assert shown["outcomes"] == [{"id": parked, "state": "done", "reason": None}]
    assert key not in before
    assert applied == shown
    assert key in story.content()["transfers"]
    assert story.books.broken() == []


def test_plan_that_was_not_shown_is_refused(story: Story, events: Run, parked: int) -> None:
    """A wrong digest books nothing and says how to get the right one."""
    refused = events("replay", parked, "--plan", "0" * 16, "--json")

    assert refused.exit_code == 1
    assert isinstance(refused.exception, PlanChanged)
    assert "--dry-run" in str(refused.exception)
    assert story.states() == {"evt_pi_1_0": "parked"}


def test_event_shows_its_whole_life_and_no_body(story: Story, events: Run) -> None:
    """Deliveries, failed attempts, transfers, and where Prefect shows its run; nothing of what it says."""
    story.open_wallet()
    told, flow_run_id = report("call-1"), uuid4()
    for _ in range(3):
        [event_id] = story.accept(told)
    claimed = inbox.claim(story.engine, "w", 1, flow_run_id)[0]
    failure = Failure(claimed, TransactionConflict("busy"))
    inbox.fail(story.engine, failure, dead=False, flow_run_id=flow_run_id)
    applying.apply(story.engine, [claimed])
    result = events("show", event_id, "--json")
    shown = answer(result)

    assert (shown["state"], shown["deliveries"], shown["attempts"]) == ("done", 3, 2)
    assert [
        (row["attempt"], row["error_class"], row["message"], row["flow_run_id"]) for row in shown["failed_attempts"]
    ] == [(1, "TransactionConflict", "busy", str(flow_run_id))]
    assert [(row["organization"], row["idempotency_key"], row["kind"]) for row in shown["transfers"]] == [
        ("Acme", "call:call-1", "call")
    ]
    assert shown["flow_run_url"] == f"http://127.0.0.1:4200/runs/flow-run/{flow_run_id}"
    assert shown["body_bytes"] == len(told.body)
    assert "body" not in shown
    assert "415555" not in result.output
    assert told.body.hex() not in result.output


@pytest.mark.parametrize("forgotten", [False, True])
def test_event_without_readable_body_is_shown(story: Story, events: Run, forgotten: bool) -> None:
    """Neither an unreadable body nor a forgotten one is in the way of its life, and neither has transfers."""
    [event_id] = story.accept(unreadable("x"))
    work(story.engine)
    if forgotten:
        story.tamper("DELETE FROM event_bodies")
    result = events("show", event_id, "--json")
    shown = answer(result)

    assert (shown["state"], shown["transfers"], shown["flow_run_url"]) == ("dead", [], None)
    assert [row["error_class"] for row in shown["failed_attempts"]] == ["UnreadablePayload"]
    assert "415555" not in result.output
