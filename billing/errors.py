"""Every error that calltally raises on purpose.

BillingError
├─ PermanentError             retrying cannot help; the message says what to do
│  ├─ InvalidSignature        a webhook that does not come from its provider
│  ├─ UnreadablePayload       a body or row that does not say what it must
│  ├─ UnknownOrganization     TY003
│  ├─ InvalidAmount           TY004
│  ├─ CurrencyMismatch        TY005
│  ├─ IdempotencyConflict     TY002: a key that was used with other facts
│  ├─ HistoryIsAppendOnly     TY008
│  ├─ ClaimLost               TY009: another worker holds the event now
│  ├─ NameTaken               TY010
│  ├─ UnexpectedError         a defect of ours: the event is kept, and its message goes into a report
│  ├─ ProviderRefused         the provider will not answer this request, ever (wrong key, bad request)
│  └─ ConstraintBroken        the database refused a value
└─ TransientError             may pass; retried
   ├─ DatabaseUnavailable     no connection, shutdown, out of space, locked for minutes
   ├─ InstallationBroken      it refuses what is right: a function or a grant is missing, it is read-only
   ├─ TransactionConflict     deadlock or serialization failure
   ├─ ProviderUnavailable     no answer, or 5xx
   └─ RateLimited             429
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that answer at once do without SQLAlchemy, whose import takes longer than their work
    from sqlalchemy.exc import DBAPIError


class BillingError(Exception):
    """The root; `facts` are what the message is about."""

    affects_everything = False
    """Whether whatever else is tried now will fail as well, so that it is nobody's fault that was tried."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.facts = facts


class PermanentError(BillingError):
    """Retrying cannot help."""


class TransientError(BillingError):
    """May pass; worth a retry."""


class InvalidSignature(PermanentError):
    """The request does not prove that it comes from the provider."""


class UnreadablePayload(PermanentError):
    """The provider's data lacks what we need of it, or has it in another form."""


class UnknownOrganization(PermanentError):
    """There is no such organization."""


class InvalidAmount(PermanentError):
    """An amount, kind or time that cannot be booked."""


class CurrencyMismatch(PermanentError):
    """Another currency than the wallet's."""


class IdempotencyConflict(PermanentError):
    """The key was used before, with other facts."""


class HistoryIsAppendOnly(PermanentError):
    """The ledger is corrected by new transfers, never changed."""


class ClaimLost(PermanentError):
    """Another worker holds the event now; nothing of ours was committed."""


class NameTaken(PermanentError):
    """There is an organization of that name."""


class UnexpectedError(PermanentError):
    """Something that we did not think of; a defect of ours."""


class ProviderRefused(PermanentError):
    """The provider refuses the request as it stands."""


class ConstraintBroken(PermanentError):
    """The database refused a value."""


class DatabaseUnavailable(TransientError):
    """Postgres is away, starting, stopping, full, or locked by somebody for minutes."""

    affects_everything = True


class InstallationBroken(TransientError):
    """The database refuses what is right: something of ours is missing, may not be used, or cannot be written."""

    affects_everything = True


class TransactionConflict(TransientError):
    """Postgres gave up this transaction in favour of another; the same again may succeed."""


class ProviderUnavailable(TransientError):
    """The provider did not answer, or answered 5xx."""


class RateLimited(TransientError):
    """The provider asks us to wait."""


BY_SQLSTATE: dict[str, type[BillingError]] = {
    "TY002": IdempotencyConflict,
    "TY003": UnknownOrganization,
    "TY004": InvalidAmount,
    "TY005": CurrencyMismatch,
    "TY008": HistoryIsAppendOnly,
    "TY009": ClaimLost,
    "TY010": NameTaken,
}
"""The functions in `sql/` raise these; a test walks both sides."""

OF_THE_DATA = ("22", "23", "54", "TY")
"""Classes of SQLSTATEs that are about what is booked; 54 is a value too long for an index, or nested too deep. Every
other one is about the installation, and no event's fault."""
CONFLICTS = {"40001", "40P01"}  # serialization failure, deadlock
SINGLE_OUTAGES = {"25P03", "55P03"}
"""Postgres has ended the session of a process that was frozen in the midst of a transaction; or somebody holds a lock
for longer than we wait for one."""
OUTAGE_CLASSES = {"08", "53", "57", "58"}  # connection, resources, operator intervention, system error


def translate_database_error(error: "DBAPIError") -> BillingError:
    """What a database error means to us."""
    return translate_driver_error(error.orig)


def unreachable(error: BaseException) -> DatabaseUnavailable:
    """What an error while connecting means to us: the first line of what psycopg says, which holds no password."""
    said = str(error).strip().partition("\n")[0] or "the database does not answer"
    state = getattr(error, "sqlstate", None)
    return DatabaseUnavailable(f"{said}. {_reach_it(said)}", sqlstate=state)


def _reach_it(said: str) -> str:
    """What a person does about a database that lets nobody in; libpq's own words, since they carry no SQLSTATE."""
    if "does not exist" in said and "database" in said:
        return "Create it (createdb), or mend the name in DATABASE_URL"
    if "authentication failed" in said or "no password" in said or ("role" in said and "does not exist" in said):
        return "Mend user and password in DATABASE_URL, in which signs such as / @ : are written %2F %40 %3A"
    if "option" in said or "invalid" in said:
        return "Mend what stands behind ? in DATABASE_URL, or leave it away"
    return "Start the server, or mend host and port in DATABASE_URL; calltally doctor looks closer"


def translate_driver_error(error: BaseException | None) -> BillingError:
    """What an error of psycopg means to us."""
    state: str = getattr(error, "sqlstate", None) or ""
    diagnosis = getattr(error, "diag", None)
    message = getattr(diagnosis, "message_primary", None) or str(error or "").strip() or "the database went away"
    if state in BY_SQLSTATE:
        facts = json.loads(getattr(diagnosis, "message_detail", None) or "{}")
        hint = getattr(diagnosis, "message_hint", None)
        return BY_SQLSTATE[state](f"{message}. {hint}" if hint else message, **facts)
    if state.startswith(OF_THE_DATA) or _was_never_sent(error, state):
        return ConstraintBroken(message, sqlstate=state)
    if state in CONFLICTS:
        return TransactionConflict(message, sqlstate=state)
    if not state and message.startswith(("connection", "failed to resolve", "invalid")):  # before there was a session
        return unreachable(error or DatabaseUnavailable(message))
    if not state or state[:2] in OUTAGE_CLASSES or state in SINGLE_OUTAGES:
        return DatabaseUnavailable(message, sqlstate=state)
    return InstallationBroken(message, sqlstate=state)


def _was_never_sent(error: BaseException | None, state: str) -> bool:
    """Whether psycopg itself refused a value, such as a text with a NUL; by name, since not everybody imports it."""
    return not state and type(error).__name__ == "DataError"
