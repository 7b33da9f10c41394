"""What a person is told when a command fails: errors that have a remedy, in their own words."""

from typing import Any

from billing.errors import BillingError, DatabaseUnavailable, translate_driver_error
from billing.literal import visible

OURS = {
    "calltally.stack.home.HomeError",
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
    if isinstance(error, BillingError) or kind in OURS:
        old = isinstance(error, BillingError) and error.facts.get("sqlstate") in UNDEFINED
        return f"{error}{': the schema is older than this calltally; run calltally migrate' if old else ''}"
    if kind == "pydantic_core._pydantic_core.ValidationError":
        return _wrong_settings(error)
    if kind.startswith("sqlalchemy.exc.") and hasattr(error, "orig"):
        translated = translate_driver_error(error.orig)
        way_out = ". Nothing was changed; mend that, or run calltally doctor"
        return f"{translated}{'' if isinstance(translated, DatabaseUnavailable) else way_out}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}. See that it is there, that there is room, and that this user may"
    return None


def _wrong_settings(error: Exception) -> str:
    """Which settings are wrong and why, without their values: they may be secrets."""
    problems: list[dict[str, Any]] = getattr(error, "errors", list)()
    lines = [f"{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}" for problem in problems]
    named = "; ".join(line.removeprefix(": ") for line in lines)
    return f"the settings are wrong: {named}. Mend them in the environment or in .env (.env.example explains each)"
