"""Calls that were lost, or charged to the wrong one, elsewhere: each by its number among the reports."""

import re
import shlex
from typing import Any

import pytest

from billing.rules.billed_calls import RULE as BILLED_CALLS
from billing.rules.held_calls import RULE as HELD_CALLS
from tests.books import Books
from tests.payloads import content
from tests.rules.looking import looked, written

from .conftest import Calltally
from .listed_calls import AS_OF, listed, outcomes, reconcile, tell, work

A_MINUTE = 700_000


def message(name: str) -> dict[str, Any]:
    """Its end-of-call report."""
    told: dict[str, Any] = content("calls", name)["webhooks"][0]
    return told


def rows(name: str) -> list[dict[str, Any]]:
    """What the list shows."""
    return list(content("calls", name)["list"])


def follow(calltally: Calltally, advice: str, organization: str) -> None:
    """Do what the message says, to the letter, but for the organization, which it cannot know."""
    commands = re.findall(r"`calltally ([^`]*)`", advice)
    assert commands
    for command in commands:
        words = [organization if word == "ORG" else word for word in shlex.split(command)]
        assert calltally(*words).exit_code == 0, command


@pytest.mark.parametrize("name", ["20-workflow-web-call", "21-transient-assistant-web-call"])
def test_20_and_21_call_that_only_workflow_or_metadata_names_is_billed_by_the_advice(
    calltally: Calltally, books: Books, name: str
) -> None:
    """By webhook it is parked; the message about unbilled calls says what bills it, and its like from then on."""
    organization_id = books.organization("Acme")
    assert tell(books.engine, message(name)) == {"parked": 1}
    condition = looked(books, BILLED_CALLS, AS_OF.replace(day=30, month=11, hour=20))["billed_calls"]

    assert condition.failing
    follow(calltally, BILLED_CALLS.words(condition.facts).next_step, "Acme")
    assert books.balance(organization_id) == -A_MINUTE
    assert work(books.engine) == {"done": 1}
    [row] = rows(name)
    assert outcomes(reconcile(books.engine, [row, row | {"id": "its-like"}])) == {"its-like": ("missing", "settled")}
    assert books.balance(organization_id) == -2 * A_MINUTE
    assert books.broken() == []


@pytest.mark.parametrize("name", ["20-workflow-web-call", "21-transient-assistant-web-call"])
def test_20_and_21_night_says_the_same_as_the_webhook(calltally: Calltally, books: Books, name: str) -> None:
    """Whichever tells of it first, the same route names the same payer."""
    organization_id = books.organization("Acme")
    [finding] = reconcile(books.engine, rows(name))
    stored = calltally("call", "held", "--json").json

    assert (finding.kind, finding.outcome) == ("unattributed", "unattributed")
    follow(calltally, f"`{stored[0]['next']}`", "Acme")
    assert tell(books.engine, message(name)) == {"done": 1}
    assert books.balance(organization_id) == -A_MINUTE


def test_21b_call_whose_metadata_names_somebody_else_than_its_number_is_held(
    calltally: Calltally, books: Books
) -> None:
    """Neither pays until a person says who; the same by webhook and by night, whatever order they come in."""
    told = message("21b-shared-number-transient-assistants")
    owner, other = books.organization("Owner"), books.organization("Other")
    books.value("SELECT add_route(:id, 'phone_number', :number)", id=owner, number=told["call"]["phoneNumberId"])
    told["call"]["metadata"]["org_id"] = told["assistant"]["metadata"]["org_id"] = str(other)
    row = {**listed("by-night"), **told["call"], "assistantId": None, "id": "by-night"}
    done = tell(books.engine, told)
    by_night = reconcile(books.engine, [row, {**row, "id": told["call"]["id"]}])
    condition = looked(books, HELD_CALLS)["held_calls"]

    assert done == {"done": 1}
    assert outcomes(by_night) == {"by-night": ("missing", "held"), told["call"]["id"]: ("held", "held")}
    assert {finding.detail["problem"] for finding in by_night if finding.detail} == {
        "its metadata names another organization than its route"
    }
    assert books.value("SELECT count(*) FROM charges") == 0
    assert condition.facts["calls"] == 2
    assert "2 calls are held" in written(condition)
    for found in calltally("call", "held", "--json").json:
        follow(calltally, f"`{found['next']}`", "Other")
    assert (books.balance(owner), books.balance(other)) == (0, -2 * A_MINUTE)
    assert not looked(books, HELD_CALLS)["held_calls"].failing
    assert [found.kind for found in reconcile(books.engine, [row])] == []  # a person has said whose it is
    assert books.broken() == []


def test_22_times_that_stand_only_inside_the_call_are_billed_by_the_night(books: Books) -> None:
    """They are as old as the call itself in a report, so they are not read there."""
    name = "22-times-only-inside-call"
    organization_id = books.organization("Acme")
    books.route(organization_id, rows(name)[0]["assistantId"])
    tell(books.engine, message(name))
    reconcile(books.engine, rows(name))

    assert books.balance(organization_id) == -A_MINUTE * 11 // 2  # 330 s


@pytest.mark.parametrize("first", ["webhook", "night"])
@pytest.mark.parametrize(
    ("name", "why", "seconds", "micros"),
    [
        ("23-duration-without-start", "it cost money, but has no start", "60", A_MINUTE),
        ("24-start-equals-end-but-billed", "it ended as it started, but cost money", "10.4", 128_333),
    ],
)
def test_23_and_24_call_whose_duration_cannot_be_waits_for_a_person(
    calltally: Calltally, books: Books, first: str, name: str, why: str, seconds: str, micros: int
) -> None:
    """It is not silently free, and nobody is charged for what is not known."""
    organization_id = books.organization("Acme")
    books.route(organization_id, rows(name)[0]["assistantId"])
    call_id = rows(name)[0]["id"]
    if first == "webhook":
        tell(books.engine, message(name))
        [finding] = reconcile(books.engine, rows(name))
    else:
        [finding] = reconcile(books.engine, rows(name))
        tell(books.engine, message(name))

    assert (finding.outcome, finding.detail and finding.detail["problem"]) == ("held", why)
    assert books.value("SELECT count(*) FROM charges") == 0
    assert calltally("call", "release", call_id).exit_code == 1  # no duration is known
    answer = calltally("call", "release", call_id, "--duration", seconds, "--reason", "Vapi's log", "--json").json
    again = calltally("call", "release", call_id, "--duration", seconds, "--json").json
    assert (answer["outcome"], answer["duplicate"], again["duplicate"]) == ("settled", False, True)
    # 10.4 s are billed as 11.
    assert books.balance(organization_id) in {-micros, -128_334}
    assert [found.outcome for found in reconcile(books.engine, rows(name))] in ([], ["noted"])
    assert books.rows("SELECT decision, duration_ms, held, reason FROM call_decisions") == [
        {"decision": "released", "duration_ms": int(float(seconds) * 1000), "held": why, "reason": "Vapi's log"}
    ]
    assert books.broken() == []


def test_29_call_that_was_forwarded_is_billed_by_its_end(books: Books) -> None:
    """Vapi's call is over at the hand-over, whatever its status says; a call that runs has no end."""
    name = "29-forwarding-but-ended"
    organization_id = books.organization("Acme")
    books.route(organization_id, rows(name)[0]["assistantId"])
    [finding] = reconcile(books.engine, rows(name))

    assert (finding.kind, finding.outcome) == ("missing", "settled")
    assert books.balance(organization_id) == -A_MINUTE
