"""Runs, organizations and ended calls for tests of what a night writes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
from sqlalchemy import Engine

from billing import known_calls, runs
from billing.figures import Window
from billing.night import Comparison
from billing.reconcile import SETTLING, Tolerances, find_differences
from billing.reliability import unseen_calls
from billing.runs import Order
from billing.vapi import EndedCall, ListedCall
from tests.books import Books

from .listed import AS_OF, RETENTION, listed, provider_frame

WINDOW = Window(
    start=datetime(2026, 11, 3, tzinfo=UTC),
    end=datetime(2026, 11, 4, tzinfo=UTC),
    listed_from=datetime(2026, 10, 31, tzinfo=UTC),
)
A_MINUTE_MICROS = 700_000
FIGURES: dict[str, Any] = {
    "provider_calls": 3,
    "known_calls": 2,
    "counts": {"missing": 1, "matched": 2},
    "ended_calls": 3,
    "ended_by_webhook": 2,
    "reliability_ratio": Decimal("0.66666667"),
    "reliability_low": Decimal("0.2"),
    "reliability_high": Decimal("0.9"),
    "recovered_calls": 1,
    "recovered_micros": 2**53 + 1,
    "outstanding_micros": 0,
    "money": [],
    "groups": {},
    "completeness": [],
    "cause": None,
    "plan": None,
    "plan_digest": None,
}
"""Columns of a run that has ended well."""


def order(*, organization: str | None = None, dry_run: bool = False) -> Order:
    """A night of that window."""
    return Order(WINDOW, AS_OF, organization=organization, dry_run=dry_run)


def begin(engine: Engine, *, organization: str | None = None, dry_run: bool = False) -> UUID:
    """A run that has begun."""
    run_id = uuid4()
    runs.start_run(engine, run_id, order(organization=organization, dry_run=dry_run), None)
    return run_id


def ended(call_id: str, seconds: float | None = 60, assistant: str | None = "asst") -> EndedCall:
    """A call that is over."""
    return listed(call_id, seconds, assistant_id=assistant).ended_call()


def compare(engine: Engine, theirs: Sequence[ListedCall]) -> Comparison:
    """What follows from the provider's list and the books as they are now, as the night's task does it."""
    return compare_frame(engine, provider_frame(theirs))


def compare_frame(engine: Engine, provider: pd.DataFrame, window: Window = WINDOW) -> Comparison:
    """The same of a provider frame."""
    found = find_differences(
        provider,
        known_calls.load_known_calls(engine, window),
        known_calls.load_routes(engine),
        AS_OF,
        kept_since=AS_OF - RETENTION,
        tolerances=Tolerances(),
    )
    unseen = unseen_calls(found, AS_OF - SETTLING)
    known_calls.keep_first_sights(engine, unseen)
    return Comparison(
        found,
        window=window,
        as_of=AS_OF,
        reported=known_calls.load_reported(engine, unseen),
        names={},
        completeness=[],
        stops_billing=True,
    )


def acme(books: Books, topup_micros: int = 5_000_000) -> UUID:
    """An organization with money and a route for its assistant."""
    organization_id = books.organization("Acme")
    books.credit(organization_id, topup_micros, "topup:pi_1")
    books.route(organization_id, "asst")
    return organization_id


def everything(books: Books) -> list[dict[str, object]]:
    """The books, to compare them with themselves."""
    return [
        *books.rows("SELECT * FROM transfers ORDER BY id"),
        *books.rows("SELECT * FROM charges ORDER BY idempotency_key"),
        *books.rows("SELECT * FROM calls ORDER BY id"),
    ]
