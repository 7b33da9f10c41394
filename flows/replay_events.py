"""Puts ended events back in line, or shows what that would do."""

from datetime import datetime
from typing import Literal

from prefect import flow

from billing.replay import Selection
from tasks.replay import choose_events, put_back_in_line, show_rehearsal
from tasks.runs import name_this_run


@flow(name="replay_events", validate_parameters=True)
async def replay_events(
    ids: list[int] | None = None,
    state: Literal["dead", "parked", "skipped", "done"] = "dead",
    event_type: str | None = None,
    error: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = True,
) -> int:
    """Replay events, usually dead ones after their cause is mended.

    A rehearsal applies them in a transaction that it takes back, and shows the transfers that they would make. What
    is booked already stays booked once, so replaying too much does no harm.

    When it fails: a rehearsed event would fail again; the message says why. Nothing was changed.

    Args:
        ids: Only these events. Left empty: all that the other criteria fit.
        state: In which state they are now.
        event_type: Only this type, for example end-of-call-report. Left empty: every type.
        error: Only those whose reason contains this text. Left empty: every reason.
        since: Received since then. Left empty: from the beginning.
        until: Received before then. Left empty: until now.
        dry_run: Rehearse only: show the transfers as an artifact, and change nothing.
    """
    chosen = await choose_events(
        Selection(ids=ids or None, state=state, type=event_type, error=error, since=since, until=until)
    )
    await name_this_run(f"{'rehearse' if dry_run else 'replay'} {len(chosen)} {state} events")
    if not chosen:
        return 0
    if dry_run:
        await show_rehearsal(chosen)
        return 0
    return await put_back_in_line(chosen)
