"""What the automations are called, for whoever looks for them without importing Prefect."""

from typing import Final

FAILED: Final = "calltally: a run failed"
CRASHED: Final = "calltally: a run crashed"
STARTED_AGAIN: Final = "calltally: a night is started again"
UNWATCHED: Final = "calltally: nobody watches the books"
UNWATCHED_FOR_A_DAY: Final = "calltally: nobody has watched the books for a day"
LATE_NIGHT: Final = "calltally: no night by 04:00 UTC"

TELLING_SLACK: Final = (FAILED, CRASHED, STARTED_AGAIN, UNWATCHED, UNWATCHED_FOR_A_DAY, LATE_NIGHT)
"""Only where Slack has an address."""
RETIRED: Final = (
    "calltally: a night failed",
    "calltally: runs whose process is gone",
    "calltally: runs that never began",
)
"""Of earlier releases; removed wherever they are found."""
