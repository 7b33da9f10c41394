"""What each process of an installation gets: its secrets and its login, and nobody else's."""

import os
from collections.abc import Collection, Mapping
from typing import Any, Final

import psycopg
from dotenv import dotenv_values
from psycopg import sql
from sqlalchemy import make_url

from billing.process import PROCESS_VARIABLE, PROCESSES
from billing.settings import ENV_FILE_VARIABLE, Settings

SECRETS: Final[Mapping[str, frozenset[str]]] = {
    "DATABASE_URL": frozenset(PROCESSES),  # each its own
    "OPERATOR_TOKEN": frozenset({"receiver"}),
    "STRIPE_WEBHOOK_SECRETS": frozenset({"receiver"}),
    "VAPI_WEBHOOK_SECRETS": frozenset({"receiver"}),
    "TWILIO_AUTH_TOKEN": frozenset({"receiver", "worker"}),  # one checks signatures, one asks
    "METRICS_TOKEN": frozenset({"receiver", "worker"}),
    "STRIPE_API_KEY": frozenset({"worker", "nights"}),
    "VAPI_API_KEY": frozenset({"nights"}),
    "SLACK_WEBHOOK_URL": frozenset({"worker", "nights"}),
    "PREFECT_API_AUTH_STRING": frozenset(PROCESSES),
    "PREFECT_API_KEY": frozenset(PROCESSES),
    "SENTRY_DSN": frozenset(PROCESSES),
}
"""By setting: the processes that get it. All other settings are no secrets, and everybody's. `calltally up` follows
this table, and so do the files of deployments/ (tests/deployments/test_secrets.py)."""

LOGINS: Final[Mapping[str, tuple[str, ...]]] = {
    "receiver": ("calltally_receiver", "calltally_operators"),
    "worker": ("calltally_worker",),
    "nights": ("calltally_nights",),
}
"""By process: the roles that its login `calltally_<process>_login` may act as, and no others."""


def withheld_from(process: str) -> frozenset[str]:
    """The secrets that a process must not see, wherever they are set."""
    return frozenset(name for name, processes in SECRETS.items() if process not in processes)


def without(env: Mapping[str, str], withheld: Collection[str] = frozenset(SECRETS)) -> dict[str, str]:
    """An environment without these variables, in whatever letters; unless others are named, without any secret."""
    return {name: content for name, content in env.items() if name.upper() not in withheld}


def given_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Settings of ours that somebody has set, in `.env`, the environment or `env`; the last one counts."""
    file = dotenv_values(os.environ.get(ENV_FILE_VARIABLE, ".env"))
    ours = {name.upper() for name in Settings.model_fields}
    merged = {name.upper(): content for source in (file, os.environ, env) for name, content in source.items()}
    return {name: content for name, content in merged.items() if name in ours and content}


def environment_of(process: str, given: Mapping[str, str], database_url: str) -> dict[str, str]:
    """The settings of one process: those of `given` that are its own, and no way to read the others from `.env`."""
    withheld = withheld_from(process)
    return {
        **{name: content for name, content in given.items() if name not in withheld},
        "DATABASE_URL": database_url,
        PROCESS_VARIABLE: process,
        ENV_FILE_VARIABLE: os.devnull,
    }


def ensure_logins(database_url: str) -> dict[str, str]:
    """Make the login of each process on a server of ours, as its superuser; the address of the books for each.

    A session of such a login has nothing to go back to: with `RESET ROLE` it is no more than its process.
    """
    addresses: dict[str, str] = {}
    with psycopg.connect(database_url) as connection:
        for process, roles in LOGINS.items():
            login = f"calltally_{process}_login"
            _make_login(connection, login, roles)
            addresses[process] = make_url(database_url).set(username=login).render_as_string(hide_password=False)
    return addresses


def _make_login(connection: psycopg.Connection[Any], login: str, roles: tuple[str, ...]) -> None:
    name = sql.Identifier(login)
    known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [login])
    if known.rowcount == 0:
        connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION").format(name))
    for role in roles:
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), name))
