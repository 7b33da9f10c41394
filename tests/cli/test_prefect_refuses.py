"""What commands say of a Prefect server that is there and does not do what it should."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from billing.settings import get_settings
from calltally.sandbox.serving import running_app

from .conftest import Calltally
from .test_program import program

FIX = "PREFECT_API_AUTH_STRING"


class Server:
    """Prefect's API: its probes are open to everybody, everything else wants the right credentials."""

    def __init__(self) -> None:
        self.ready = 200
        self.status = 401

    def app(self) -> Starlette:
        """Answers as it is told to."""

        async def ready(_request: Request) -> JSONResponse:
            return JSONResponse({}, self.ready)

        async def refuse(_request: Request) -> JSONResponse:
            return JSONResponse({"exception_message": "Unauthorized"}, self.status)

        every = ["GET", "POST", "PATCH"]
        return Starlette(routes=[Route("/api/ready", ready), Route("/{path:path}", refuse, methods=every)])


@pytest.fixture
def server() -> Server:
    """A server with its own mind."""
    return Server()


@pytest.fixture(autouse=True)
def port(server: Server, environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where `calltally up` would start Prefect; no address is set."""
    with running_app(server.app()) as port:
        monkeypatch.setenv("PREFECT_SERVER_API_PORT", str(port))
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        get_settings.cache_clear()
        yield port
    get_settings.cache_clear()


def prefect_of(calltally: Calltally) -> tuple[str, str]:
    """What the doctor says of Prefect, and how to mend it."""
    findings = calltally("doctor", "--json").json["findings"]
    [finding] = [finding for finding in findings if finding["area"] == "prefect"]
    return finding["what"], finding["fix"]


def test_doctor_names_credentials_that_are_refused(calltally: Calltally, port: int) -> None:
    """Another address would not help."""
    what, fix = prefect_of(calltally)

    assert what.startswith(f"it refuses our credentials at http://127.0.0.1:{port}/api (401)")
    assert FIX in fix


def test_doctor_names_a_database_of_prefects_that_is_away(calltally: Calltally, server: Server) -> None:
    """The process is there, and can do nothing."""
    server.ready = 503

    assert "its database is away" in prefect_of(calltally)[0]


@pytest.mark.parametrize(("ready", "said"), [(200, "it refuses our credentials (401)"), (503, "it answers 503")])
def test_status_tells_refusals_from_silence(calltally: Calltally, server: Server, ready: int, said: str) -> None:
    """The service is unwell, not gone."""
    server.ready = ready
    screen = calltally("status", "--json").json

    [service] = [service for service in screen["services"] if service["name"] == "prefect"]
    assert service["state"] == "unwell"
    assert said in service["detail"]


def test_container_check_asks_the_port_that_is_set(calltally: Calltally, server: Server, port: int) -> None:
    """And says which address failed."""
    well = calltally("healthy", "prefect-server").exit_code
    server.ready = 503
    unwell = calltally("healthy", "prefect-server")

    assert well == 0
    assert f"http://127.0.0.1:{port}/api/ready answers 503" in str(unwell.error)


@pytest.mark.slow
def test_flow_by_hand_names_credentials_that_are_refused(tmp_path: Path, database_url: str, port: int) -> None:
    """No word of a server that does not answer."""
    ended = program(
        tmp_path,
        *("payments", "backfill"),
        DATABASE_URL=database_url,
        PREFECT_SERVER_API_PORT=str(port),
        PREFECT_HOME=str(tmp_path / "prefect"),
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: Prefect at http://127.0.0.1:{port}/api refuses our credentials (401)")
    assert FIX in ended.stderr
