"""Prefect's server on this machine lets in nobody without its password, and nobody may choose what a run executes."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.workers.process import ProcessWorker
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from billing.prefect_access import (
    basic_auth,
    login_file,
    other_version,
    prefect_auth_string,
    prefect_headers,
    server_auth_string,
)
from billing.settings import Settings
from calltally.sandbox.serving import running_app
from calltally.stack.deployments import FIXED_JOB, install_deployments
from calltally.stack.known_hosts import KnownHosts, origins
from tests.stack.serving import ROOT, Stack, serving

PASSWORD = "operator:a secret of this test"
STRANGER = {"Host": "evil.example.com", "Origin": "http://evil.example.com"}
SOCKETS = ("events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled")


def settings(home: Path, **changes: Any) -> Settings:
    """Settings without a file."""
    return Settings(_env_file=None, calltally_home=home, **changes)


def is_let_in(address: str, **options: Any) -> bool:
    """Whether a websocket is open after a first word that proves nothing."""
    try:
        with connect(address, proxy=None, **options) as opened:
            opened.send('{"type": "auth", "token": "guessed"}')
            opened.recv(timeout=10)
    except ConnectionClosedOK:
        return True
    except (ConnectionClosed, InvalidStatus):
        return False
    return True


def test_password_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Whoever asks on this machine finds it; another home has another."""
    ours = settings(tmp_path / "home")
    assert prefect_auth_string(ours) is None
    first, second = server_auth_string(ours), server_auth_string(ours)
    user, _, password = first.partition(":")

    assert (first, user) == (second, "calltally")
    assert len(password) >= 32
    assert prefect_auth_string(ours) == first
    assert stat.S_IMODE(login_file(ours).stat().st_mode) == 0o600
    assert [file.name for file in login_file(ours).parent.iterdir()] == [login_file(ours).name]
    assert server_auth_string(settings(tmp_path / "other")) != first


def test_what_the_user_sets_wins_and_the_kept_password_leaves_this_machine_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server elsewhere is not told the password of the one here."""
    kept = server_auth_string(settings(tmp_path))
    set_by_user = settings(tmp_path, prefect_api_auth_string=SecretStr("me:mine"))

    assert (server_auth_string(set_by_user), prefect_auth_string(set_by_user)) == ("me:mine", "me:mine")
    assert prefect_headers(settings(tmp_path, prefect_api_url="http://prefect.example.com/api")) == {}
    assert prefect_auth_string(settings(tmp_path, prefect_api_url="http://localhost:4201/api")) == kept
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "the:server's")
    assert server_auth_string(settings(tmp_path)) == "the:server's"


def test_login_is_told_to_whoever_asks_on_this_machine(tmp_path: Path) -> None:
    """The page, the password, and two lines for Prefect's own command line."""
    env = {"PATH": os.environ["PATH"], "CALLTALLY_HOME": str(tmp_path), "CALLTALLY_ENV_FILE": os.devnull}
    command = [sys.executable, "-m", "calltally", "prefect-login"]
    before = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    kept = server_auth_string(settings(tmp_path))
    told = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    as_json = subprocess.run([*command, "--json"], env=env, cwd=ROOT, capture_output=True, text=True, check=True)

    assert before.returncode == 1
    assert "calltally up" in before.stderr
    assert kept in told
    assert f"export PREFECT_API_AUTH_STRING={kept}" in told
    assert json.loads(as_json.stdout)["auth_string"] == kept


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:4200", True),
        ("localhost:4200", True),
        ("[::1]:4200", True),
        ("10.1.2.3:4200", True),
        ("prefect:4200", True),
        ("prefect.example.com", True),
        ("PREFECT.example.com:443", True),
        ("evil.example.com", False),
        ("127.0.0.1.evil.example.com", False),
        ("localhost.evil.example.com:4200", False),
        ("prefect.example.com.evil.net", False),
    ],
)
def test_credentials_under_a_foreign_name_are_not_looked_at(host: str, known: bool) -> None:
    """Whether right or wrong; what needs none passes on to whoever refuses it."""

    app = KnownHosts(Starlette(routes=[Route("/x", lambda _: PlainTextResponse("x"))]), ["prefect.example.com", None])
    with running_app(app) as port:
        address = f"http://127.0.0.1:{port}/x"
        with httpx.Client(trust_env=False) as client:
            proved = client.get(address, headers={"Host": host, "Authorization": "Basic eA=="}).status_code
            plain = client.get(address, headers={"Host": host}).status_code

    assert (proved, plain) == (200 if known else 421, 200)


def test_websockets_under_a_foreign_name_are_closed_before_anything_is_read() -> None:
    """They prove themselves by their first word."""
    reached: list[str] = []
    sent: list[Message] = []

    async def inside(scope: Scope, _receive: Receive, _send: Send) -> None:
        reached.append(scope["type"])

    async def nothing() -> Message:
        raise AssertionError("it was read")

    async def send(message: Message) -> None:
        sent.append(message)

    for host in (b"evil.example.com", b"127.0.0.1:4200"):
        scope = {"type": "websocket", "path": "/", "headers": [(b"host", host)]}
        asyncio.run(KnownHosts(inside, [])(scope, nothing, send))

    assert reached == ["websocket"]
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_pages_on_this_machine_have_two_names() -> None:
    """A browser takes them for two origins."""
    assert origins(["http://127.0.0.1:4200/api", "", "https://prefect.example.com/", "http://[::1]:80/"]) == [
        "http://127.0.0.1:4200",
        "http://[::1]:80",
        "http://localhost:4200",
        "https://prefect.example.com",
    ]


def test_other_version_is_told_with_what_mends_it() -> None:
    """Patches of the same series understand each other."""
    assert other_version("3.9.77") is None
    what, fix = other_version("2.20.1") or ("", "")
    assert "2.20.1" in what
    assert fix.startswith("run the server with Prefect 3.9")


@pytest.fixture(scope="module")
def stack(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server that asks for a password, with our deployments."""
    home = tmp_path_factory.mktemp("closed")
    with serving(postgres_url, home, auth_string=PASSWORD) as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stranger_without_the_password_gets_nothing(stack: Stack) -> None:
    """Neither as a page of another site nor by name; what a probe asks needs none."""
    api = stack.env["PREFECT_API_URL"]
    with httpx.Client(base_url=api, trust_env=False) as nobody:
        for headers in ({}, STRANGER, {"Authorization": "Basic b3BlcmF0b3I6Z3Vlc3NlZA=="}):
            for method, path in (("POST", "/flow_runs/filter"), ("GET", "/admin/version"), ("POST", "/flow_runs/")):
                assert nobody.request(method, path, headers=headers, json={}).status_code == 401
        assert nobody.get("/admin/version", headers={**STRANGER, "Authorization": "Basic x"}).status_code == 421
        assert [nobody.get(path).status_code for path in ("/health", "/ready")] == [200, 200]
        pre_flight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        allowed = {
            origin: nobody.options("/flow_runs/filter", headers={"Origin": origin, **pre_flight}).headers
            for origin in ("http://evil.example.com", api.removesuffix("/api"))
        }
    sockets = [is_let_in(f"{api.replace('http', 'ws')}/{path}", subprotocols=["prefect"]) for path in SOCKETS]

    assert sockets == [False] * len(SOCKETS)
    assert "access-control-allow-origin" not in allowed["http://evil.example.com"]
    assert allowed[api.removesuffix("/api")]["access-control-allow-origin"] == api.removesuffix("/api")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nobody_chooses_the_command_or_the_environment_of_a_run(stack: Stack, tmp_path: Path) -> None:
    """Not even with the password, nor where the pool was made with Prefect's own template, nor by changing a run."""
    marks = [tmp_path / name for name in ("command", "environment", "changed")]
    deployment = asyncio.run(install_deployments())["prune_events"]
    stack.deploy("cold", "nights")
    with (
        stack.client() as client,
        httpx.Client(base_url=stack.env["PREFECT_API_URL"], headers=basic_auth(PASSWORD), trust_env=False) as person,
    ):
        old = ProcessWorker.get_default_base_job_template()
        person.patch("/work_pools/nights", json={"base_job_template": old}).raise_for_status()
        before = person.get("/work_pools/nights").json()["base_job_template"]
        asyncio.run(install_deployments())
        after = person.get("/work_pools/nights").json()["base_job_template"]
        refused = [
            person.post(
                f"/deployments/{target}/create_flow_run", json={"parameters": {"seconds": 0}, "job_variables": chosen}
            ).status_code
            for target in (stack.deployments["cold"], deployment)
            for chosen in (
                {"command": f"touch {marks[0]}"},
                {"env": {"BASH_ENV": "x"}},
                {"env.BASH_ENV": "x"},
                {"working_dir": "/"},
                {"anything": 1},
            )
        ]
        run = client.create_flow_run_from_deployment(
            stack.deployments["cold"], name="plain", parameters={"seconds": 0}
        )
        changed = person.patch(f"/flow_runs/{run.id}", json={"job_variables": {"command": f"touch {marks[2]}"}})
    worker = stack.start("-m", "prefect", "worker", "start", "--pool", "nights", "--type", "process")
    stack.until_state("cold", "Completed")
    worker.terminate()

    assert "command" in before["variables"]["properties"]
    assert after == FIXED_JOB
    assert refused == [422] * 10
    assert changed.status_code == 422
    assert [mark.exists() for mark in marks] == [False, False, False]
