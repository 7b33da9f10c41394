"""The command line: `calltally --help`.

A verb's module is imported when the verb runs, so that nobody waits for Prefect to see a balance. To add a verb: a
module with `register(app)`, and a line in `VERBS`; then write its reference with
`python -m calltally.cli.reference`.
"""

import atexit
import gc
import logging
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from billing.literal import log_literally, visible


class Verb(NamedTuple):
    """Where a verb is, and the first line of its help."""

    module: str
    help: str


VERBS: Final = {
    "up": Verb("processes", "Run everything on this machine: Postgres, Prefect, worker and receiver."),
    "demo": Verb(
        "processes",
        "Tell the whole story with real parts: calls, lost webhooks, a debt limit, and the night that finds them.",
    ),
    "status": Verb("status", "Is everything well? Services, queue, nights, money and books on one screen."),
    "doctor": Verb("doctor", "Check settings, database, Prefect and the providers' set-up, and say how to mend it."),
    "explain": Verb("explain", "Why does this call cost what it costs, or what became of this payment?"),
    "org": Verb("organizations", "Organizations: the reseller's customers."),
    "route": Verb("organizations", "Routes: which assistant, squad, workflow, number or messaging service is whose."),
    "call": Verb("calls", "Calls that only a person can decide: whose one is, how long it lasted."),
    "wallet": Verb("wallets", "Wallets: prepaid balances."),
    "events": Verb("events", "Events: webhook deliveries and what became of them."),
    "sms": Verb("sms", "Text messages: delivered or not, charged or not, and their price."),
    "books": Verb("wallets", "The books as a whole."),
    "reconcile": Verb("night", "Compare the books with Vapi's list of calls, and bill what no webhook told us of."),
    "backfill": Verb(
        "night", "Reconcile the past, day by day; run again after an interruption, it goes on where it was."
    ),
    "payments": Verb(
        "payments",
        "Payments: those that no webhook told us of, whose they are, and what was taken back of them.",
    ),
    "migrate": Verb("processes", "Bring the database to the newest schema."),
    "receiver": Verb("processes", "Take in webhooks on RECEIVER_HOST and RECEIVER_PORT."),
    "worker": Verb("processes", "Apply the webhooks that wait in the inbox, as runs in Prefect."),
    "prefect-server": Verb(
        "services", "Run Prefect's server on PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT."
    ),
    "prefect-login": Verb(
        "services",
        "Show where Prefect's pages are, the password that they ask for once, and what its own command line needs.",
    ),
    "install": Verb(
        "services", "Make work pools, deployments and automations what they should be in Prefect's server."
    ),
    "nights": Verb("services", "Run what Prefect schedules for the nights, each run in a process of its own."),
    "healthy": Verb(
        "services", "Answer 0 if a service on this machine is well, else 1 and why: for health checks of containers."
    ),
    "sandbox": Verb("processes", "Imitate Vapi, Stripe and Slack on this machine."),
}
"""Every verb, in the order of `--help`."""
BRIEF: Final = {"status", "explain", "org", "route", "call", "wallet", "events", "sms", "books"}
"""Verbs that end before collecting garbage pays: looking for it takes a third of their time."""


class Verbs(TyperGroup):
    """Knows its verbs by name and help, and imports one when it is asked to run or to complete it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name=name, help=verb.help) for name, verb in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that the arguments begin with, in full."""
        name, stub, rest = super().resolve_command(ctx, args)
        if name not in BRIEF:
            gc.enable()
        return name, stub and load_verb(str(name)), rest


def load_verb(name: str) -> Any:
    """The whole command of a verb; each paragraph of its help is one line, for terminals of any width."""
    module = typer.Typer(add_completion=False)
    import_module(f"calltally.cli.{VERBS[name].module}").register(module)
    command: Any = typer.main.get_group(module).commands[name]
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = "\n\n".join(part.replace("\n", " ") for part in each.help.split("\n\n"))
    return command


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Bills phone calls made by voice AI: every call once, every payment once, and you can prove it.",
    epilog="Every verb has --help. Exit codes: 0 done, 1 refused or something is wrong, 2 wrong usage.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - it costs more than most verbs have

        typer.echo(f"calltally {version('calltally')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before the verb."""


def _require_text(arguments: list[str]) -> None:
    """Refuse bytes that are no text: the database and the terminal could do nothing with them."""
    for argument in arguments:
        if not argument.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in argument):
            sys.stderr.write(f"Error: the argument {visible(argument)} is not UTF-8: type it again, as text\n")
            sys.exit(2)


def _leave_quickly() -> None:
    """The end of the process frees everything; a last look for garbage would take 0.1 s."""
    if not gc.isenabled():
        gc.freeze()


def main() -> None:
    """Run a command; an error that has a remedy is one line that says it."""
    os.umask(0o077)  # whatever any process of ours writes is for its own user: bills, logs, passwords
    gc.disable()  # until a verb is known to run for longer
    atexit.register(_leave_quickly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than a name has
    log_literally()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        _require_text(sys.argv[1:])
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from calltally.cli.complaints import in_words  # noqa: PLC0415 - only when something is wrong

        message = in_words(error)
        if message is None:
            raise
        from rich.console import Console  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        console = Console(stderr=True, soft_wrap=True)
        console.print("[red]Error:[/red] ", end="")
        console.print(Text(message), highlight=False)  # soft_wrap: a command in it can be copied
        sys.exit(1)
