"""What no worker could tell, Prefect's server tells Slack itself: with a real server, whose runs nobody runs."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.states import Completed, Failed, Running, Scheduled
from pydantic import SecretStr

from calltally.stack.automation_names import TELLING_SLACK
from calltally.stack.automations import install_automations
from calltally.stack.deployments import read_deployments
from tests.stack.serving import IMPATIENT, Stack, serving, until
from tests.stack.sleeping import sleeping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLOWS = ("monitor_billing", "reconcile_calls", "backfill_payments", "process_webhooks")


@pytest.fixture(scope="module")
def stack(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Deployments under the names of ours, and no worker."""
    descriptions = {deployment.name: deployment.description for deployment in read_deployments()}
    with serving(postgres_url, tmp_path_factory.mktemp("prefect")) as stack:
        for name in FLOWS:
            stack.deploy(name, "nights", sleeping.with_options(name=name), descriptions[name])
        asyncio.run(install_automations(SecretStr(stack.sandbox.slack_webhook_url), IMPATIENT))
        yield stack


def told(stack: Stack, *parts: str) -> list[str]:
    """The messages that say all of this."""
    return [text for text in stack.told() if all(part in text for part in parts)]


def test_watch_that_never_began_is_told_again_and_again(stack: Stack) -> None:
    """In earnest once a day, for as long as nobody looks."""
    until(lambda: len(told(stack, "monitor_billing", "for a day")) > 1)


def test_watch_that_stopped_is_told_once(stack: Stack) -> None:
    """What somebody runs by hand meanwhile is no watch."""
    stack.run("monitor_billing", "the last look", Running(), Completed())
    stack.run("monitor_billing", "a look by hand", Running(), Completed(), by_hand=True)
    [message] = until(lambda: told(stack, "monitor_billing", "minutes"))
    times = len(told(stack, "for a day"))
    until(lambda: len(told(stack, "for a day")) > times + 1)

    assert "A worker is gone or hangs" in message
    assert told(stack, "monitor_billing", "minutes") == [message]


def test_night_that_nobody_takes_up_is_told_with_its_page(stack: Stack) -> None:
    """Prefect calls it Late by itself; one of yesterday that was made up for is none."""
    due = datetime.now(UTC) - timedelta(hours=1)
    stack.run("reconcile_calls", "made up for", Scheduled(scheduled_time=due), Running(), Completed())
    late = stack.run("reconcile_calls", "late", Scheduled(scheduled_time=due))
    [message] = until(lambda: told(stack, "has not compared by 04:00 UTC"))

    assert str(late) in message


def test_run_that_a_schedule_started_and_that_fails_is_told_with_its_own_advice(stack: Stack) -> None:
    """The watch's own failure too; not that of a run by hand, whose typo its operator sees, nor of the inbox."""
    stack.run("backfill_payments", "a typo", Running(), Failed(), by_hand=True)
    stack.run("process_webhooks", "a burst", Running(), Failed())
    for flow in ("backfill_payments", "monitor_billing"):
        stack.run(flow, f"the {flow} of a schedule", Running(), Failed())
    [payments] = until(lambda: told(stack, "the backfill_payments of a schedule is Failed"))
    [watch] = until(lambda: told(stack, "the monitor_billing of a schedule is Failed"))

    assert "Stripe did not answer, or refuses `STRIPE_API_KEY`; the message says which. Run it again" in payments
    assert "a rule could not be looked at" in watch
    assert told(stack, "is Failed") == told(stack, "of a schedule")


@pytest.mark.parametrize(
    "program", [["-m", "calltally.stack.deployments"], ["-m", "calltally", "worker"]], ids=" ".join
)
def test_program_installs_automations(stack: Stack, database_url: str, program: list[str]) -> None:
    """The installer of `calltally up` and of every deployment, and each worker that finds them missing."""
    with stack.client() as client:
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        stack.start(
            *program,
            SLACK_WEBHOOK_URL=stack.sandbox.slack_webhook_url,
            DATABASE_URL=database_url,
        )
        wanted = set(TELLING_SLACK)
        until(lambda: {automation.name for automation in client.read_automations()} == wanted)
