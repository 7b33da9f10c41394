"""The light pass: finds within the hour what the night would find."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from prefect import flow
from pydantic import Field

from billing.night_windows import night_window
from flows.reconcile_calls import reconcile_calls
from tasks.runs import name_this_run, scheduled_start, tagged_as_this_run

TIMEOUT_SECONDS = 3600
"""The next pass is due in an hour, and reads again what this one did not."""


@flow(name="reconcile_recent_calls", validate_parameters=True, timeout_seconds=TIMEOUT_SECONDS)
async def reconcile_recent_calls(hours: Annotated[int, Field(ge=1, le=48)] = 3) -> str:
    """Reconcile the last hours.

    The same as a night, over a shorter window and list, so that an organization's wallet is right within the hour
    even if webhooks get lost. The night still reads everything again.

    When it fails: as a night does. The next pass, or the night, makes up for it.

    Args:
        hours: Calls that ended in the last so many hours, up to 15 minutes ago.
    """
    window = night_window(None, None, scheduled_start(), now=datetime.now(UTC), length=timedelta(hours=hours))
    await name_this_run(f"reconcile the last {hours} hours to {window.end:%Y-%m-%d %H:%M} UTC")
    with tagged_as_this_run():
        return await reconcile_calls(
            window_from=window.start, window_to=window.end, look_back_hours=12, kind="recent"
        )
