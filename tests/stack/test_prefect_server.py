"""The Prefect server and the deployments get what they need from our settings and from prefect.yaml."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import flows
from billing.settings import Settings
from calltally.stack.deployments import read_deployments
from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.prefect_server import PrefectDatabaseError, ensure_prefect_database, server_child
from calltally.stack.sharing import embedded_postgres
from calltally.stack.up import PortBusyError, running_stack
from tests.databases import execute


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL that forgets about the disk."""
    with embedded_postgres(tmp_path, options={"fsync": "off"}) as server:
        yield server


def test_prefect_database_is_made_beside_ours(server: EmbeddedPostgres) -> None:
    """The server's state lives on the same PostgreSQL; asking twice changes nothing."""
    server.ensure_database("calltally")
    first = ensure_prefect_database(server.url())
    second = ensure_prefect_database(server.url())

    url = make_url(first)
    assert (url.drivername, url.database) == ("postgresql+asyncpg", "calltally_prefect")
    assert url.query["host"] == str(server.socket_directory)
    assert first == second


def test_prefect_database_that_cannot_be_made_says_what_to_do(empty_url: str) -> None:
    """A user who may create none is told its name and the way around it."""
    address = make_url(empty_url)
    execute(empty_url, "CREATE ROLE makes_nothing LOGIN")
    try:
        with pytest.raises(PrefectDatabaseError, match=f"{address.database}_prefect") as caught:
            ensure_prefect_database(address.set(username="makes_nothing").render_as_string(hide_password=False))
    finally:
        execute(empty_url, "DROP ROLE makes_nothing")

    assert "CREATE DATABASE" in str(caught.value)
    assert "PREFECT_API_URL" in str(caught.value)


def test_prefect_server_listens_where_the_url_says(tmp_path: Path) -> None:
    """Address, database and home of the server come from the arguments alone."""
    child = server_child("http://127.0.0.1:4321/api", "postgresql+asyncpg://db/prefect", tmp_path)

    assert child.env["PREFECT_SERVER_API_PORT"] == "4321"
    assert child.env["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert child.env["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_prefect_yaml_has_a_deployment_for_each_flow() -> None:
    """Every file of flows/ is installed from the repository's prefect.yaml, by module path."""
    deployments = {deployment.name: deployment for deployment in read_deployments()}

    assert set(deployments) == {file.stem for file in Path(flows.__file__).parent.glob("*.py")} - {"__init__"}
    assert all(":" not in deployment.entrypoint for deployment in deployments.values())
    assert deployments["reconcile_calls"].concurrency_limit == 1


def test_busy_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    """The message says which port, and which setting moves it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(calltally_home=tmp_path / "home", receiver_port=taken.getsockname()[1])

        async def scenario() -> None:
            async with running_stack(settings):
                pytest.fail("it started")

        with pytest.raises(PortBusyError, match="RECEIVER_PORT"):
            asyncio.run(scenario())

    assert not (tmp_path / "home").exists()


def test_one_port_for_both_is_named_before_anything_starts(tmp_path: Path) -> None:
    """Nobody listens there yet; the one that comes second would die again and again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def scenario() -> None:
        async with running_stack(Settings(calltally_home=tmp_path / "home", receiver_port=port), prefect_port=port):
            pytest.fail("it started")

    with pytest.raises(PortBusyError, match=f"cannot both have port {port}"):
        asyncio.run(scenario())

    assert not (tmp_path / "home").exists()
