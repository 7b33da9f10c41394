"""The whole stack on one machine: PostgreSQL, Prefect server, worker, nightly worker and receiver."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from billing.migrate import migrate
from billing.prefect_access import prefect_auth_string, prefect_server_port, server_auth_string
from billing.process import PROCESSES
from billing.settings import ENV_FILE_VARIABLE, Settings
from calltally.stack.environment import SECRETS, ensure_logins, environment_of, given_settings, withheld_from
from calltally.stack.home import ensure_home
from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.prefect_server import client_environment, ensure_prefect_database, server_child
from calltally.stack.sharing import DATABASE_NAME, embedded_postgres, revive
from calltally.stack.supervisor import Child, Service, Supervisor, cancelled_by_signals

DEFAULT_PREFECT_PORT: Final = 4200
LONGEST_PAUSE_SECONDS: Final = 4
"""Of Postgres and the receiver: while they are away, webhooks are refused."""
HEALTH_POLL_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 10
"""Starting takes so long; whatever is not well then is named."""


class PortBusyError(Exception):
    """A port of ours is another's, or two of ours are one; the message says which, and how to use another one."""


@dataclass(frozen=True)
class Stack:
    """A running stack: where its parts are."""

    receiver_url: str
    prefect_api_url: str
    prefect_ui_url: str
    prefect_auth_string: str | None
    """`user:password`; None: nobody asks for one."""
    database_url: str
    supervisor: Supervisor

    @property
    def addresses(self) -> dict[str, str]:
        """Where everything is, for programs; without any password, nor the database's address, which may hold one."""
        return {
            "receiver_url": self.receiver_url,
            "prefect_api_url": self.prefect_api_url,
            "prefect_ui_url": self.prefect_ui_url,
        }


@asynccontextmanager
async def running_stack(
    settings: Settings,
    *,
    env: Mapping[str, str] = MappingProxyType({}),
    quiet: bool = False,
    console: Console | None = None,
    prefect_port: int = DEFAULT_PREFECT_PORT,
    patient: bool = False,
) -> AsyncIterator[Stack]:
    """Start everything, wait until it is ready, and stop it all at the end.

    `env` goes to every process, each secret to those alone that need it; `quiet` keeps their output in the log files
    alone, else it goes to `console` too; `prefect_port` counts only if PREFECT_API_URL is unset. If `patient`, what
    does not start is started again and waited for, but for Postgres, the schema and the receiver, which are there
    first and need none of the others.

    Raises HomeError, PortBusyError, PostgresError, AccountError, PrefectDatabaseError, ChildFailedError, or what
    `migrate` raises; each message says what to do.
    """
    home, ours = settings.calltally_home, settings.prefect_api_url is None
    api_url = settings.prefect_api_url or f"http://127.0.0.1:{prefect_port}/api"
    _require_port(settings.receiver_host, settings.receiver_port, "the receiver", "RECEIVER_PORT")
    if ours:
        if prefect_port == settings.receiver_port:
            message = (
                f"The receiver and Prefect's server cannot both have port {prefect_port}. "
                "Choose another one with RECEIVER_PORT or PREFECT_SERVER_API_PORT."
            )
            raise PortBusyError(message)
        _require_port("127.0.0.1", prefect_port, "Prefect's server", "PREFECT_SERVER_API_PORT")
    ensure_home(home)
    auth_string = server_auth_string(settings) if ours else prefect_auth_string(settings)
    with _database(settings) as (database_url, postgres):
        shared = {
            **client_environment(api_url, home, settings.prefect_ui_url, auth_string=auth_string),
            **{name: content for name, content in env.items() if name not in SECRETS},
            "CALLTALLY_HOME": str(home.absolute()),
            "RECEIVER_HOST": settings.receiver_host,
            "RECEIVER_PORT": str(settings.receiver_port),
        }
        shown = None if quiet else console or Console()
        async with Supervisor(home / "logs", console=shown, farewell=_farewell(postgres)) as supervisor:
            if postgres is not None:
                service = Service("postgres", postgres.is_running, partial(revive, postgres), LONGEST_PAUSE_SECONDS)
                supervisor.keep(service)

            addresses, given = dict.fromkeys(PROCESSES, database_url), given_settings(env)

            def own(process: str) -> dict[str, str]:
                return {**environment_of(process, given, addresses[process]), **shared}

            async def receive() -> None:
                await asyncio.to_thread(migrate, database_url)
                if postgres is not None:
                    addresses.update(await asyncio.to_thread(ensure_logins, database_url))
                await supervisor.start(_receiver(settings, own("receiver")))

            server = []
            if ours:  # before there are steps that nobody would await if this fails
                prefect_database_url = await asyncio.to_thread(ensure_prefect_database, database_url)
                child = server_child(
                    api_url, prefect_database_url, home, settings.prefect_ui_url, auth_string=auth_string
                )
                child = replace(
                    child, env={**child.env, ENV_FILE_VARIABLE: os.devnull}, withheld=withheld_from("prefect")
                )
                server.append(supervisor.start(child, patient=patient))
            installer = _installer(own("worker"))
            await _together([receive(), supervisor.run(installer, patient=patient), *server])
            for child in _workers({name: own(name) for name in ("worker", "nights")}):
                await supervisor.start(child, patient=patient)
            yield Stack(
                receiver_url=_http(settings.receiver_host, settings.receiver_port),
                prefect_api_url=api_url,
                prefect_ui_url=settings.prefect_ui_url or api_url.removesuffix("/api"),
                prefect_auth_string=auth_string,
                database_url=database_url,
                supervisor=supervisor,
            )


async def up(settings: Settings, *, tell: Callable[[dict[str, str]], None] | None = None) -> None:
    """Run the stack until Ctrl-C or SIGTERM, whatever dies meanwhile.

    `tell` gets the addresses once `/health` answers 200, and everything for people goes to stderr.

    Raises what `running_stack` raises, and asyncio.CancelledError once a signal has stopped everything.
    """
    console = Console(stderr=tell is not None)
    port = prefect_server_port()
    with cancelled_by_signals():
        async with running_stack(settings, console=console, prefect_port=port, patient=True) as stack:
            await _until_healthy(stack, console)
            if tell is None:
                console.print(_panel(stack))
            else:
                tell(stack.addresses)
            await asyncio.Event().wait()


async def _until_healthy(stack: Stack, console: Console) -> None:
    """Return once `/health` answers 200, and say meanwhile what it waits for whenever that changes."""
    loop, told = asyncio.get_running_loop(), ""
    quiet_until = loop.time() + QUIET_SECONDS
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while True:
            try:
                answer = await client.get(f"{stack.receiver_url}/health")
                if answer.is_success:
                    return
                services = answer.json()["services"].items()
                missing = ", ".join(name for name, state in services if state not in {"up", True})
            except (httpx.HTTPError, ValueError, LookupError, AttributeError):
                missing = "the receiver"
            if missing != told and loop.time() > quiet_until:
                told = missing
                with suppress(OSError):
                    console.print(f"calltally is starting; {missing} not well yet", markup=False, highlight=False)
            await asyncio.sleep(HEALTH_POLL_SECONDS)


async def _together(steps: Sequence[Coroutine[None, None, None]]) -> None:
    """Await all `steps`; the first one that fails cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _installer(env: Mapping[str, str]) -> Child:
    """Installs the deployments once the Prefect server answers; a process of its own, as it imports the flows."""
    command = [sys.executable, "-m", "calltally.stack.deployments"]
    return Child("deploy", command, env, ready_timeout_seconds=240, withheld=withheld_from("worker"))


def _receiver(settings: Settings, env: Mapping[str, str]) -> Child:
    async def listens() -> bool:
        return await asyncio.to_thread(_is_listening, settings.receiver_host, settings.receiver_port)

    command = [sys.executable, "-m", "calltally", "receiver"]
    withheld = withheld_from("receiver")
    return Child("receiver", command, env, listens, longest_wait_seconds=LONGEST_PAUSE_SECONDS, withheld=withheld)


def _workers(own: Mapping[str, Mapping[str, str]]) -> Iterator[Child]:
    prefect_worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "nights"]
    commands = {
        "worker": [sys.executable, "-m", "calltally", "worker"],
        "nights": [*prefect_worker, "--type", "process", "--name", "nights"],
    }
    for name, command in commands.items():
        yield Child(name, command, own[name], withheld=withheld_from(name))


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """The address of the books, and their server if it is ours."""
    if settings.database_url is not None:
        yield settings.database_url, None
        return
    with embedded_postgres(settings.calltally_home) as server:
        server.ensure_database(DATABASE_NAME)
        yield server.url(DATABASE_NAME), server


def _farewell(postgres: EmbeddedPostgres | None) -> Sequence[str]:
    """What stops our PostgreSQL should we be killed."""
    if postgres is None:
        return ()
    return [sys.executable, "-m", "calltally.stack.sharing", str(postgres.data_directory.parent)]


def _require_port(host: str, port: int, who: str, variable: str) -> None:
    if _is_listening(host, port):
        message = (
            f"Port {port}, which {who} needs, is in use. "
            f"Stop the program that listens there, or choose another port with {variable}."
        )
        raise PortBusyError(message)


def _is_listening(host: str, port: int) -> bool:
    try:
        socket.create_connection((_reachable(host), port), timeout=1).close()
    except OSError:
        return False
    return True


def _reachable(host: str) -> str:
    """An address under which we reach a server that is bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def _http(host: str, port: int) -> str:
    name = _reachable(host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def _panel(stack: Stack) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_row("Webhooks", f"{stack.receiver_url}/webhooks/vapi  {stack.receiver_url}/webhooks/stripe")
    table.add_row("Health", f"{stack.receiver_url}/health")
    table.add_row("Prefect", stack.prefect_ui_url)
    if stack.prefect_auth_string is not None:
        table.add_row("", "asks for a password once: calltally prefect-login")
    return Panel(table, title="calltally is up", subtitle="Ctrl-C stops it", expand=False)
