"""The command line: `calltally --help`."""

import logging
import sys

import typer
from rich.console import Console

from billing.errors import BillingError
from calltally.cli import night, organizations, processes, services, wallets
from calltally.cli.events import events

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__.partition(":")[0])
processes.register(app)
services.register(app)
night.register(app)
app.add_typer(organizations.org, name="org")
app.add_typer(organizations.route, name="route")
app.add_typer(wallets.wallet, name="wallet")
app.add_typer(wallets.books, name="books")
app.add_typer(events, name="events")


def main() -> None:
    """Run a command; an error that we raise on purpose is one line that says what to do."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        app()
    except BillingError as error:
        Console(stderr=True).print(f"[red]Error:[/red] {error}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
