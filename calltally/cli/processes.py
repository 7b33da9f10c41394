"""The processes: everything at once, or each alone."""

import asyncio
import errno
import logging
import os
import socket
from typing import Annotated

import typer

from billing.errors import PermanentError
from calltally.cli.output import Json, JsonLine, keep_stdout_for_json, print_json, print_line

SANDBOXED = ("vapi", "stripe", "slack", "twilio", "control")


class NotListening(PermanentError):
    """A port cannot be listened on."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for command in (up, demo, sandbox, migrate, receiver, worker):
        app.command()(command)


def up(as_json: JsonLine = False) -> None:
    """Run everything on this machine: Postgres, Prefect, worker and receiver."""
    from billing.settings import get_settings  # noqa: PLC0415 - each verb pays for what it uses
    from calltally.stack.up import up as run_stack  # noqa: PLC0415 - Prefect takes seconds to import

    try:
        asyncio.run(run_stack(get_settings(), tell=print_line if as_json else None))
    except asyncio.CancelledError:
        raise typer.Exit from None


def demo(
    keep: Annotated[bool, typer.Option(help="Leave everything running until Ctrl-C.")] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another story.")] = 7,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print as one line of JSON what came true; the story goes to stderr.")
    ] = False,
) -> None:
    """Tell the whole story with real parts: calls, lost webhooks, a debt limit, and the night that finds them."""
    from calltally.demo.story import tell  # noqa: PLC0415 - Prefect takes seconds to import

    try:
        raise typer.Exit(asyncio.run(tell(keep=keep, seed=seed, report=print_line if as_json else None)))
    except asyncio.CancelledError:
        raise typer.Exit from None


def sandbox(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 4010,
    vapi_target: Annotated[str | None, typer.Option(help="Where Vapi's webhooks go.")] = None,
    stripe_target: Annotated[str | None, typer.Option(help="Where Stripe's webhooks go.")] = None,
    seed: Annotated[int | None, typer.Option(help="What happens by chance follows from it; default: new.")] = None,
    as_json: JsonLine = False,
) -> None:
    """Imitate Vapi, Stripe and Slack on this machine."""
    from calltally.sandbox.server import serve  # noqa: PLC0415 - only this verb needs it

    listening("127.0.0.1", port, "the sandbox", "--port").close()  # its own server would end without a word
    url = f"http://127.0.0.1:{port}"
    if as_json:
        print_line({"url": url, **{provider: f"{url}/{provider}" for provider in SANDBOXED}})
        keep_stdout_for_json()
    else:
        typer.echo(f"Vapi, Stripe, Slack and Twilio answer at {url}. Ctrl-C stops them.")
    serve(port=port, vapi_target=vapi_target, stripe_target=stripe_target, seed=seed)


def migrate(as_json: Json = False) -> None:
    """Bring the database to the newest schema."""
    from billing.books import open_books  # noqa: PLC0415
    from billing.migrate import migrate as apply  # noqa: PLC0415 - only this verb needs Alembic
    from calltally.cli.database import database_url  # noqa: PLC0415

    with database_url() as url:
        apply(url)
        with open_books(url) as books:
            revision = books.value("SELECT version_num FROM schema_revision")
    if as_json:
        print_json({"revision": revision})
    else:
        typer.echo("The database is up to date.")


def receiver(as_json: JsonLine = False) -> None:
    """Take in webhooks on RECEIVER_HOST and RECEIVER_PORT."""
    import uvicorn  # noqa: PLC0415 - only this verb needs it

    from billing.process import become, get_engine  # noqa: PLC0415
    from billing.settings import get_settings  # noqa: PLC0415
    from billing.telemetry import start_telemetry, traced  # noqa: PLC0415
    from receiver.app import create_app  # noqa: PLC0415
    from receiver.connections import server_config  # noqa: PLC0415

    become("receiver")
    log_what_happens()
    settings, engine = get_settings(), get_engine()
    start_telemetry(settings, "receiver", engine)
    for name, secrets in (("STRIPE", settings.stripe_webhook_secrets), ("VAPI", settings.vapi_webhook_secrets)):
        if not secrets:
            logging.getLogger("billing.receiver").warning(
                "%s_WEBHOOK_SECRETS is not set: every webhook of theirs is refused with 401", name
            )
    config = server_config(traced(create_app(settings, engine), settings), settings)
    with listening(settings.receiver_host, settings.receiver_port) as listener:
        if as_json:
            host = f"[{settings.receiver_host}]" if ":" in settings.receiver_host else settings.receiver_host
            print_line({"url": f"http://{host}:{settings.receiver_port}", "pid": os.getpid()})
            keep_stdout_for_json()
        uvicorn.Server(config).run(sockets=[listener])


def worker(as_json: JsonLine = False) -> None:
    """Apply the webhooks that wait in the inbox, as runs in Prefect."""
    from billing.process import become, get_engine  # noqa: PLC0415
    from billing.settings import get_settings  # noqa: PLC0415
    from billing.telemetry import start_telemetry  # noqa: PLC0415
    from calltally.cli.services import prepare_prefect  # noqa: PLC0415

    prepare_prefect(get_settings())  # read when Prefect is imported; `calltally up` sets it as well
    from calltally.stack.supervisor import cancelled_by_signals  # noqa: PLC0415
    from calltally.worker import work  # noqa: PLC0415 - Prefect takes seconds to import

    become("worker")
    log_what_happens()
    start_telemetry(get_settings(), "worker", get_engine())

    if as_json:
        from billing.prefect_access import prefect_api_url  # noqa: PLC0415
        from billing.process import process_name  # noqa: PLC0415

        print_line({"worker": process_name(), "pid": os.getpid(), "prefect_api_url": prefect_api_url(get_settings())})
        keep_stdout_for_json()

    async def until_told_to_stop() -> None:
        with cancelled_by_signals():
            await work()

    try:
        asyncio.run(until_told_to_stop())
    except asyncio.CancelledError:
        raise typer.Exit from None


def listening(host: str, port: int, who: str = "the receiver", choice: str = "RECEIVER_PORT") -> socket.socket:
    """A socket of a server's, which several of its kind may share; `choice` is what sets the port.

    Raises:
        NotListening: nobody may listen there; the message says what to do.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise NotListening(f"{who} cannot listen on {host}, port {port}: {_how_to_listen(error, choice)}") from error
    return listener


def _how_to_listen(error: OSError, choice: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"it is in use. Stop the program that listens there, or choose another port with {choice}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"this user may not. Choose a port from 1024 up with {choice}, and put a proxy in front of it"
    return (
        f"{error.strerror}. Set RECEIVER_HOST to an address of this machine: 127.0.0.1 behind a proxy, or 0.0.0.0 or"
        " :: for all of its addresses"
    )


def log_what_happens() -> None:
    """Processes say what they do; commands only what went wrong."""
    logging.getLogger("billing").setLevel(logging.INFO)
