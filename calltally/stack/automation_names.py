"""What the automations are called, for whoever looks for them without importing Prefect."""

from typing import Final

LOST: Final = "calltally: runs whose process is gone"
UNSTARTED: Final = "calltally: runs that never began"
FAILED: Final = "calltally: a run failed"
CRASHED: Final = "calltally: a run crashed"
UNWATCHED: Final = "calltally: nobody watches the books"
UNWATCHED_FOR_A_DAY: Final = "calltally: nobody has watched the books for a day"
LATE_NIGHT: Final = "calltally: no night by 04:00 UTC"

KEEPING_STATES_TRUE: Final = (LOST, UNSTARTED)
TELLING_SLACK: Final = (FAILED, CRASHED, UNWATCHED, UNWATCHED_FOR_A_DAY, LATE_NIGHT)
"""Only where Slack has an address."""
RETIRED: Final = ("calltally: a night failed",)
"""Of earlier releases; removed wherever they are found."""
