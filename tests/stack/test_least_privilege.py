"""What each process of `calltally up` has: its own secrets, its own login, and nothing that a stranger may ask."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg import errors

from billing.settings import Settings
from calltally.stack.environment import SECRETS
from calltally.stack.up import Stack, running_stack
from tests.scenarios.places import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROCESSES = ("receiver", "worker", "nights")
GIVEN = {
    name: f"secret-of-{name.lower()}" for name in SECRETS if not name.startswith(("DATABASE", "PREFECT", "SENTRY"))
}
GIVEN["SLACK_WEBHOOK_URL"] = "http://127.0.0.1:9/slack"
SCAN = """
import encodings.idna, http.client, json, os, sys, urllib.error, urllib.request
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
PATHS = ["/", "/health", "/metrics", "/docs", "/webhooks/stripe", "/webhooks/vapi", "/webhooks/twilio",
    "/api/monitoring/queue-stats", "/api/billing-reconciliation/runs", "/api/billing-reconciliation/trigger",
    "/api/admin/version", "/api/flow_runs/filter", "/api/deployments/filter", "/api/ui-settings", "/api/health"]
answers = {}
for port in map(int, sys.argv[1:]):
    for path in PATHS:
        for method in ("GET", "POST"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                data=b"{}" if method == "POST" else None, headers={"Content-Type": "application/json"})
            try:
                answers[f"{port} {method} {path}"] = urllib.request.urlopen(request, timeout=20).status
            except urllib.error.HTTPError as error:
                answers[f"{port} {method} {path}"] = error.code
            except OSError as error:
                answers[f"{port} {method} {path}"] = type(error).__name__
print(json.dumps(answers))
"""
"""What a stranger on this machine tries."""


ATTEMPTS = (
    "RESET ROLE; UPDATE wallets SET balance_micros = 0",
    "SET ROLE calltally_app",
    "SET ROLE calltally_owner",
    "SET SESSION AUTHORIZATION postgres",
    "SELECT set_debt_limit(gen_random_uuid(), 1)",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "CREATE TABLE mine (id int)",
    "ALTER ROLE CURRENT_USER SUPERUSER",
)


@dataclass(frozen=True)
class Seen:
    """What was seen of a running stack."""

    environments: dict[str, dict[str, str]]
    """By process."""
    refused: dict[str, list[str]]
    """By process: those of `ATTEMPTS` that its login was refused."""
    answers: dict[str, int | str]
    """What a stranger was answered, by method and path, in place of the port whose it is."""


def environments() -> dict[str, dict[str, str]]:
    """Of the children of this process, by what they are."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        command = " ".join(child.cmdline())
        for name, words in (
            ("receiver", "calltally receiver"),
            ("worker", "calltally worker"),
            ("nights", "prefect worker start --pool nights"),
            ("prefect", "calltally.stack.prefect_server"),
        ):
            if words in command:
                found[name] = child.environ()
    return found


def refused(address: str) -> list[str]:
    """The attempts that this login is refused."""
    found = []
    for attempt in ATTEMPTS:
        with psycopg.connect(address, autocommit=True) as connection:
            try:
                for statement in attempt.split("; "):
                    connection.execute(statement.encode())
            except errors.InsufficientPrivilege:
                found.append(attempt)
    return found


def scan(ports: dict[int, str]) -> dict[str, int | str]:
    """What another user of this machine is answered; the same user, unless this one may become another."""
    command = [sys.executable, "-I", "-c", SCAN, *map(str, ports)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd="/", env={})
    answers: dict[str, int | str] = json.loads(done.stdout)
    return {f"{ports[int(where.split()[0])]} {where.split(' ', 1)[1]}": answer for where, answer in answers.items()}


async def look(stack: Stack) -> Seen:
    """Look at a running stack."""
    found = await asyncio.to_thread(environments)
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(120):
        while (await client.get(f"{stack.receiver_url}/health")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    ports = {
        connection.laddr.port: {int(stack.receiver_url.rsplit(":", 1)[1]): "receiver"}.get(
            connection.laddr.port, "prefect"
        )
        for child in psutil.Process().children(recursive=True)
        for connection in child.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    return Seen(
        found,
        {name: await asyncio.to_thread(refused, found[name]["DATABASE_URL"]) for name in PROCESSES},
        await asyncio.to_thread(scan, ports),
    )


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """A stack with its own PostgreSQL and Prefect, all secrets set, some in `.env` and some in the environment."""
    with tempfile.TemporaryDirectory(prefix="calltally-roles-") as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        in_file = dict(list(GIVEN.items())[::2])
        (home / "env").write_text("".join(f"{name.lower()}={content}\n" for name, content in in_file.items()))
        patch.setenv("CALLTALLY_ENV_FILE", str(home / "env"))
        for name in ("DATABASE_URL", "PREFECT_API_URL"):
            patch.delenv(name, raising=False)
        for name in GIVEN.keys() - in_file.keys():
            patch.setenv(name, GIVEN[name])

        async def scenario() -> Seen:
            settings = Settings(_env_file=None, calltally_home=home / "home", receiver_port=free_port())
            async with running_stack(settings, quiet=True, prefect_port=free_port()) as stack:
                return await look(stack)

        yield asyncio.run(scenario())


@pytest.mark.parametrize("process", [*PROCESSES, "prefect"])
def test_process_gets_its_own_secrets_alone(seen: Seen, process: str) -> None:
    """By name and by content; the file that holds all is not where it would look."""
    environment = seen.environments[process]
    own = {name: secret for name, secret in GIVEN.items() if process in SECRETS[name]}
    others = GIVEN.keys() - own.keys()

    assert {name: environment.get(name) for name in own} == own
    assert [name for name in others if GIVEN[name] in str(environment) or name in environment] == []
    assert environment.get("CALLTALLY_ENV_FILE", os.devnull) == os.devnull


@pytest.mark.parametrize("process", PROCESSES)
def test_login_of_a_process_is_no_more_than_that(seen: Seen, process: str) -> None:
    """It cannot become anybody else: there is no role behind its own."""
    assert f"//calltally_{process}_login@" in seen.environments[process]["DATABASE_URL"]
    assert seen.refused[process] == list(ATTEMPTS)


def test_strangers_are_answered_health_and_refusals_alone(seen: Seen) -> None:
    """Another user of the machine, who reaches the same ports: without proof it learns whether all is well."""
    answered = {where: status for where, status in seen.answers.items() if where.startswith("receiver ")}
    webhooks = {f"receiver POST /webhooks/{provider}": 401 for provider in ("stripe", "vapi", "twilio")}

    assert answered["receiver GET /health"] == 200
    assert {where: answered[where] for where in webhooks} == webhooks
    assert {status for where, status in answered.items() if where != "receiver GET /health"} <= {401, 404, 405}
    assert answered["receiver GET /metrics"] == answered["receiver GET /api/billing-reconciliation/runs"] == 401


def test_prefect_answers_nobody_without_its_password(seen: Seen) -> None:
    """Its pages are the same for everybody; what they would show, or start, asks for the password."""
    told = {"prefect GET /api/health"}
    answered = {
        where: status
        for where, status in seen.answers.items()
        if where.startswith(("prefect GET /api/", "prefect POST /api/")) and where not in told
    }

    assert len(answered) > 10
    assert set(answered.values()) == {401}
