"""Event loops for tests about time."""

import asyncio


class TimeFlies(asyncio.SelectorEventLoop):
    """A loop in which waiting takes no time: its clock jumps to whatever is due next, and stands still otherwise."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds that were waited for, however long that took."""
        return self.now

    def _run_once(self) -> None:
        inside = vars(self)
        if not inside["_ready"] and inside["_scheduled"]:
            self.now = max(self.now, inside["_scheduled"][0].when())
        super()._run_once()  # type: ignore[misc]  # every loop of asyncio's has it
