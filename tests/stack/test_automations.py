"""Runs whose process is killed become Crashed, and Slack is told: with a real Prefect server and real processes."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from pydantic import SecretStr

from calltally.stack.automations import (
    MISSED,
    PATIENCE,
    install_automations,
    slack_messages,
    unresponsive_after,
)
from calltally.stack.prefect_server import HEARTBEAT_SECONDS, client_environment
from calltally.stack.run_watch import RunWatch
from tests.docs.pages import ROOT
from tests.stack.serving import IMPATIENT, SOON, Stack, kill_family, serving, until


def test_run_may_miss_some_heartbeats_before_it_counts_as_lost() -> None:
    """One that is late, or lost on its way, is no crash."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 50}):
        patience = unresponsive_after()

    assert patience == timedelta(seconds=50 * MISSED)
    assert client_environment("http://x/api", Path("y"))["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(
        HEARTBEAT_SECONDS
    )


def test_messages_say_how_long_they_have_waited() -> None:
    """As long as people are told that they may take."""
    messages = [message.model_dump_json() for message in slack_messages(uuid4(), PATIENCE)]

    assert any("not looked at the books for 45 minutes" in message for message in messages)


def test_page_says_how_long_automations_wait_and_how_often_they_tell() -> None:
    """Its figures are the code's."""
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    page = (ROOT / "docs" / "prefect-ui.md").read_text(encoding="utf-8").partition("## What watches the runs")[2]
    told = " ".join(page.split())

    for words in (
        f"gives no sign of life for {MISSED} heartbeats ({MISSED * HEARTBEAT_SECONDS} seconds)",
        f"not begin within {PATIENCE.unstarted // minute} minutes",
        f"| once per flow in {PATIENCE.failing // hour} hours |",
        f"a run crashed, whoever started it | once in {PATIENCE.quiet // minute} minutes",
        f"`monitor_billing` has not looked for {PATIENCE.unwatched // minute} minutes",
        f"has not compared by {3 + PATIENCE.late_night // hour:02}:00 UTC",
    ):
        assert words in told


INSTALL = """
import asyncio
from pydantic import SecretStr
from calltally.stack.automations import install_automations
from tests.stack.serving import IMPATIENT
asyncio.run(install_automations(SecretStr("{url}"), IMPATIENT))
"""


def looked(stack: Stack) -> bool:
    """After one look of a worker."""
    stack.look()
    return True


@pytest.fixture(scope="module")
def stack(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two deployments of a long flow, and processes to kill."""
    with serving(postgres_url, tmp_path_factory.mktemp("prefect")) as stack:
        stack.deploy("warm", "webhooks")
        stack.deploy("cold", "nights")
        asyncio.run(install_automations(SecretStr(stack.sandbox.slack_webhook_url), IMPATIENT))
        stack.watch = RunWatch(IMPATIENT)
        yield stack


def test_automations_tell_and_decide_nothing() -> None:
    """They go by events: a late one would have them crash a run that has ended."""
    actions = {action.type for each in slack_messages(uuid4(), PATIENCE) for action in each.actions}

    assert actions == {"send-notification"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_run_inside_a_worker_that_is_killed_becomes_crashed_and_slack_is_told(stack: Stack) -> None:
    """It cannot say so itself; another worker misses the signs of life."""
    ended = stack.start("-m", "tests.stack.sleeping", str(stack.deployments["warm"]), "0.1")
    assert ended.wait(60) == 0
    worker = stack.start("-m", "tests.stack.sleeping", str(stack.deployments["warm"]), "600")
    stack.until_state("warm", "Running")
    worker.kill()
    crashed = stack.until_state("warm", "Crashed", watched=True)
    message = until(lambda: next((text for text in stack.told() if "run warm is" in text), None))

    assert crashed.state is not None
    assert "its process is gone" in (crashed.state.message or "")
    assert sorted(run.state_name or "" for run in stack.runs("warm")) == ["Completed", "Crashed"]
    assert "run warm is Crashed" in str(message)
    assert str(crashed.id) in str(message)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_night_whose_process_or_machine_is_killed_becomes_crashed(stack: Stack) -> None:
    """Its worker says so if only the run's process was killed, and a worker of webhooks if that one is gone too."""
    worker = stack.start("-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process")
    with stack.client() as client:
        first = client.create_flow_run_from_deployment(stack.deployments["cold"], name="first")
    stack.until_state("cold", "Running")
    kill_family(psutil.Process(worker.pid).children()[0].pid)
    by_worker = stack.until_state("cold", "Crashed")
    with stack.client() as client:
        second = client.create_flow_run_from_deployment(stack.deployments["cold"], name="second")
    stack.until_state("cold", "Running")
    kill_family(worker.pid)
    until(lambda: looked(stack) and [run.state_name for run in stack.runs("cold")] == ["Crashed", "Crashed"])

    assert by_worker.id == first.id
    assert {run.id for run in stack.runs("cold")} == {first.id, second.id}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_run_that_fails_is_told_without_the_words_of_its_error(stack: Stack) -> None:
    """They may quote what the error was about; the run's page has them."""
    worker = stack.start("-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process")
    with stack.client() as client:
        failed = client.create_flow_run_from_deployment(
            stack.deployments["cold"],
            name="third",
            parameters={"seconds": 0, "wrong": True},
            tags=["auto-scheduled"],
        )
    stack.until_state("cold", "Failed")
    message = until(lambda: next((text for text in stack.told() if "third" in text), None))
    kill_family(worker.pid)

    assert "run third is Failed" in str(message)
    assert str(failed.id) in str(message)
    assert "a body that nobody may see" not in str(message)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_automations_installed_again_stay_as_they_are_and_paused_ones_stay_paused(stack: Stack) -> None:
    """A restart overrules nobody, and lets Prefect forget nothing that it has been waiting for."""
    address = SecretStr(stack.sandbox.slack_webhook_url)
    with stack.client() as client:
        before = client.read_automations()
        client.pause_automation(before[0].id)
    for seed in ("1", "2"):
        again = stack.start("-c", INSTALL.format(url=stack.sandbox.slack_webhook_url), PYTHONHASHSEED=seed)
        assert again.wait(60) == 0
    with stack.client() as client:
        after = client.read_automations()
    asyncio.run(install_automations(address, replace(IMPATIENT, forgotten=2 * SOON)))
    with stack.client() as client:
        changed = client.read_automations()

    assert len(before) == 6
    assert {each.id: each.description for each in before} == {each.id: each.description for each in after}
    assert {each.id for each in after} == {each.id for each in changed}
    assert sum(each.description != known.description for each, known in zip(after, changed, strict=True)) == 1
    assert [each.enabled for each in after if each.id == before[0].id] == [False]
    assert [each.enabled for each in changed if each.id == before[0].id] == [False]
