"""Puts ended events back in line, or shows what that would do."""

from datetime import datetime
from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from billing.replay import Selection
from tasks.replay import choose_events, put_back_in_line, show_rehearsal
from tasks.runs import name_this_run

TIMEOUT_SECONDS = 3600
"""Rehearsing thousands of events takes minutes."""


@flow(name="replay_events", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def replay_events(
    ids: list[int] | None = None,
    state: Literal["dead", "parked", "skipped", "done"] = "dead",
    provider: Literal["stripe", "vapi", "twilio"] | None = None,
    event_type: str | None = None,
    error: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = True,
) -> State[int]:
    """Replay events, usually dead ones after their cause is mended.

    A rehearsal applies them in a transaction that it takes back, and shows the transfers that they would make. What
    is booked already stays booked once, so replaying too much does no harm.

    When it fails: a rehearsed event would fail again; the message says why. Nothing was changed.

    Args:
        ids: Only these events. Left empty: all that the other criteria fit.
        state: In which state they are now.
        provider: Only what this provider sent. Left empty: all of them.
        event_type: Only this type, for example end-of-call-report. Left empty: every type.
        error: Only those whose reason contains this text. Left empty: every reason.
        since: Received since then. Left empty: from the beginning.
        until: Received before then. Left empty: until now.
        dry_run: Rehearse only: show the transfers as an artifact, and change nothing.
    """
    chosen = await choose_events(
        Selection(
            ids=ids or None, state=state, provider=provider, type=event_type, error=error, since=since, until=until
        )
    )
    await name_this_run(f"{'rehearse' if dry_run else 'replay'} {len(chosen)} {state} events")
    if not chosen:
        return Completed(message=f"no {state} event fits", data=0)
    if dry_run:
        return Completed(message=await show_rehearsal(chosen), data=0)
    count = await put_back_in_line(chosen)
    return Completed(message=f"{count} put back in line: process_webhooks applies them now", data=count)
