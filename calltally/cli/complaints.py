"""What a person is told when a command fails: errors that have a remedy, in their own words."""

from typing import Any

from billing.errors import BillingError
from billing.literal import visible

OURS = {
    "calltally.stack.postgres.PostgresError",
    "calltally.stack.service_account.AccountError",
    "calltally.stack.prefect_server.PrefectDatabaseError",
    "calltally.stack.supervisor.ChildFailedError",
    "calltally.stack.up.PortBusyError",
}
"""By name: importing them would cost what the failed command did not need. Each message says what to do."""
UNDEFINED = {"42P01", "42703", "42883"}
"""SQLSTATEs of a table, column or function that is not there."""


def in_words(error: Exception) -> str | None:
    """The message for a person, or None for a defect of ours, which deserves its traceback.

    What it quotes of others cannot be seen as more than text; a report of several lines, as of a log, keeps them.
    """
    message = _message(error)
    return message and visible(message, lines=True)


def _message(error: Exception) -> str | None:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, BillingError) and error.facts.get("sqlstate") in UNDEFINED:
        return f"{error}: the schema is older than this calltally; run calltally migrate"
    if isinstance(error, BillingError) or kind in OURS:
        return str(error)
    if kind == "pydantic_core._pydantic_core.ValidationError":
        return _wrong_settings(error)
    if kind == "alembic.util.exc.CommandError":
        return f"{error}: the database is newer than this calltally; run the version that migrated it, or a newer one"
    if kind.startswith("sqlalchemy.exc.") and hasattr(error, "orig"):
        said = str(error.orig).strip().partition("\n")[0]
        return f"the database refused: {said}. Nothing was changed; check DATABASE_URL, or run calltally doctor"
    return None


def _wrong_settings(error: Exception) -> str:
    """Which settings are wrong and why, without their values: they may be secrets."""
    problems: list[dict[str, Any]] = getattr(error, "errors", list)()
    lines = [f"{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}" for problem in problems]
    named = "; ".join(line.removeprefix(": ") for line in lines)
    return f"the settings are wrong: {named}. Mend them in the environment or in .env (.env.example explains each)"
