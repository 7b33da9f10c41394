"""Prefect is away: all that watches the books is a run of Prefect's, so its workers have to say this themselves."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine

from billing.alerts import Noted, note_condition
from billing.database import transaction, value
from billing.incident_messages import Words

NAME: Final = "prefect_down"
PATIENCE: Final = timedelta(minutes=10)
"""A new version of its server, or of its database, takes minutes, and what waited is applied at once after that.

Nobody should sleep through more: the watch that it does not run would have looked every 15 minutes.
"""


def note_prefect(
    engine: Engine, worker: str, trouble: str | None, failing_since: datetime | None, now: datetime
) -> Noted | None:
    """Note what a worker was answered at `now`: no `trouble`, or one as at each look since `failing_since`.

    Prefect is down once no worker has reached it for `PATIENCE`: that one of them does not is its own trouble, since
    the others apply the events. Answers with the incident that this look opened, kept open or closed; None otherwise.

    Raises:
        BillingError: the database is away.
    """
    with transaction(engine) as connection:
        if trouble is None:
            value(connection, "SELECT note_prefect_reached(:worker, :now)", worker=worker, now=now)
        reached_at: datetime | None = value(connection, "SELECT max(prefect_reached_at) FROM workers")
    lately = any(time is not None and now - time < PATIENCE for time in (failing_since, reached_at))
    if trouble is not None and lately:
        return None  # too soon to tell; an incident that is open stays so
    facts = {"trouble": trouble or "", "reached": f"{reached_at:%Y-%m-%d %H:%M} UTC" if reached_at else "never"}
    return note_condition(engine, NAME, trouble is not None, facts, "critical")


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    return Words(
        headline="No worker reaches Prefect: webhooks wait, and nobody watches the books",
        all_clear="Prefect is reached again",
        next_step=(
            "`calltally status` says how it is. Start or restart its server, or the database beneath it; webhooks "
            "are kept, and applied then. If it slept through a night, run `calltally reconcile`."
        ),
        values={"Last reached": facts["reached"]},
        paragraphs={"A worker found that": facts["trouble"]},
    )
