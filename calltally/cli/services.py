"""What an installation of several processes runs beside receiver and worker, and how each says that it is well."""

import asyncio
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer

from billing.database import open_engine, transaction, value
from billing.errors import BillingError, PermanentError
from billing.prefect_access import (
    login_file,
    prefect_api_url,
    prefect_auth_string,
    prefect_server_port,
    server_auth_string,
)
from billing.process import NotConfigured, become, role_of
from billing.settings import ENV_FILE_VARIABLE, Settings, get_settings
from calltally.cli.database import closing_engine
from calltally.cli.output import Json, JsonLine, keep_stdout_for_json, print_json, print_line
from calltally.cli.processes import listening

WORKER_SILENCE = timedelta(seconds=60)
"""A worker beats every 5 s; what restarts it is in less of a hurry than what reports it."""
TIMEOUT_SECONDS = 4.0


class Service(StrEnum):
    """A long-running process."""

    RECEIVER = "receiver"
    WORKER = "worker"
    NIGHTS = "nights"
    PREFECT_SERVER = "prefect-server"


class Unwell(PermanentError):
    """The service on this machine does not answer."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("prefect-server")(prefect_server)
    app.command("prefect-login")(prefect_login)
    app.command()(install)
    app.command()(nights)
    app.command()(healthy)


def prefect_server(as_json: JsonLine = False) -> None:
    """Run Prefect's server on PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT.

    Its database is that of PREFECT_API_DATABASE_CONNECTION_URL; unset: `<database>_prefect` beside the books. It
    asks for PREFECT_API_AUTH_STRING; unset: for a password that it makes and keeps (`calltally prefect-login`).
    """
    from calltally.stack.home import ensure_home  # noqa: PLC0415
    from calltally.stack.prefect_server import (  # noqa: PLC0415 - only this verb needs it
        SERVER_SETTINGS,
        ensure_prefect_database,
        main,
    )

    settings = get_settings()
    host, port = os.environ.get("PREFECT_SERVER_API_HOST") or "127.0.0.1", prefect_server_port()
    listening(host, port, "Prefect's server", "PREFECT_SERVER_API_PORT").close()
    ensure_home(settings.calltally_home)
    _set_defaults({"PREFECT_SERVER_API_AUTH_STRING": server_auth_string(settings)})
    prepare_prefect(settings)
    _set_defaults(SERVER_SETTINGS)
    _set_defaults({"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(Path(os.environ["PREFECT_HOME"]) / "ui")})
    if "PREFECT_API_DATABASE_CONNECTION_URL" not in os.environ:
        if settings.database_url is None:
            raise NotConfigured(
                "Prefect's server has no database: set PREFECT_API_DATABASE_CONNECTION_URL, or DATABASE_URL"
            )
        os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = ensure_prefect_database(settings.database_url)
    if as_json:
        print_line({"api_url": f"http://{host}:{port}/api", "pid": os.getpid()})
        keep_stdout_for_json()
    main()


def prefect_login(as_json: Json = False) -> None:
    """Show where Prefect's pages are, the password that they ask for once, and what its own command line needs."""
    settings = get_settings()
    api_url, auth_string = prefect_api_url(settings), prefect_auth_string(settings)
    pages = settings.prefect_ui_url or api_url.removesuffix("/api")
    if auth_string is None:
        raise NotConfigured(
            f"no password is known for {api_url}: `calltally up` makes one and keeps it in {login_file(settings)}; "
            "set PREFECT_API_AUTH_STRING for a server of your own"
        )
    if as_json:
        print_json({"url": pages, "auth_string": auth_string, "api_url": api_url})
        return
    typer.echo(f"Open {pages} and type the whole of this line as the password:\n\n  {auth_string}\n")
    typer.echo("For Prefect's own command line:\n")
    typer.echo(f"  export PREFECT_API_URL={shlex.quote(api_url)}")
    typer.echo(f"  export PREFECT_API_AUTH_STRING={shlex.quote(auth_string)}")


def install(as_json: Json = False) -> None:
    """Make work pools, deployments and automations what they should be in Prefect's server."""
    settings = get_settings()
    prepare_prefect(settings)
    from calltally.cli.flow_runs import installed_deployments  # noqa: PLC0415 - Prefect takes seconds to import
    from calltally.stack.automations import install_automations  # noqa: PLC0415

    async def installed() -> dict[str, str]:
        deployments = await installed_deployments()
        await install_automations(settings.slack_webhook_url)
        return {name: str(found) for name, found in sorted(deployments.items())}

    deployments = asyncio.run(installed())
    if as_json:
        print_json({"deployments": deployments})
    else:
        typer.echo(f"{len(deployments)} deployments are installed, with their work pools and automations.")


def nights(as_json: JsonLine = False) -> None:
    """Run what Prefect schedules for the nights, each run in a process of its own."""
    become(Service.NIGHTS)
    prepare_prefect(get_settings())
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", Service.NIGHTS, "--type", "process"]
    options = ["--name", f"nights {socket.gethostname()}", "--install-policy", "never", "--with-healthcheck"]
    if as_json:
        print_line(
            {"pool": Service.NIGHTS.value, "pid": os.getpid(), "prefect_api_url": os.environ["PREFECT_API_URL"]}
        )
        keep_stdout_for_json()
    os.execv(sys.executable, [*command, *options])  # noqa: S606 - no shell, and signals reach it directly


def healthy(
    service: Annotated[Service, typer.Argument(help="The one that runs on this machine.")], as_json: Json = False
) -> None:
    """Answer 0 if a service on this machine is well, else 1 and why: for health checks of containers."""
    try:
        _require_health(service, get_settings())
    except BillingError as error:
        if not as_json:
            raise
        print_json({"service": service.value, "healthy": False, "problem": str(error)})
        raise typer.Exit(1) from error
    if as_json:
        print_json({"service": service.value, "healthy": True, "problem": None})


def _require_health(service: Service, settings: Settings) -> None:
    if service is Service.WORKER:
        _require_heartbeat(settings)
        return
    address = {
        Service.RECEIVER: f"http://127.0.0.1:{settings.receiver_port}/openapi.json",
        Service.NIGHTS: f"http://127.0.0.1:{os.environ.get('PREFECT_WORKER_WEBSERVER_PORT', '8080')}/health",
        Service.PREFECT_SERVER: f"{prefect_api_url(settings)}/ready",
    }[service]
    try:
        answer = httpx.get(address, timeout=TIMEOUT_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise Unwell(f"{address} does not answer ({type(error).__name__}): read the log of {service}") from error
    if not answer.is_success:
        raise Unwell(f"{address} answers {answer.status_code}: read the log of {service}")


def _require_heartbeat(settings: Settings) -> None:
    if settings.database_url is None:
        raise NotConfigured("DATABASE_URL is not set: a worker's heartbeat is in the database")
    with (
        closing_engine(open_engine(settings.database_url, role=role_of(Service.WORKER), pool_size=1)) as engine,
        transaction(engine) as connection,
    ):
        beats = value(
            connection,
            "SELECT EXISTS (SELECT FROM workers WHERE starts_with(name, :host) AND seen_at > now() - :silence)",
            host=f"{socket.gethostname()}:",
            silence=WORKER_SILENCE,
        )
    if not beats:
        raise Unwell(f"no worker of {socket.gethostname()} has been seen for {WORKER_SILENCE}: read its log")


def prepare_prefect(settings: Settings) -> None:
    """What Prefect reads from the environment, unless somebody has set it; before Prefect is imported."""
    from calltally.stack.prefect_server import client_environment  # noqa: PLC0415 - only where Prefect runs

    auth_string = prefect_auth_string(settings)
    home, ui_url = settings.calltally_home, settings.prefect_ui_url
    _set_defaults(client_environment(prefect_api_url(settings), home, ui_url, auth_string=auth_string))
    if settings.prefect_api_key is not None:
        _set_defaults({"PREFECT_API_KEY": settings.prefect_api_key.get_secret_value()})
    _set_defaults({ENV_FILE_VARIABLE: str(Path(".env").absolute())})


def _set_defaults(environment: Mapping[str, str]) -> None:
    for name, content in environment.items():
        os.environ[name] = os.environ.get(name) or content
