"""Outlives the supervisor by seconds: when its input ends, it stops whatever the supervisor left running.

The kernel closes the pipe however the supervisor dies, kill -9 included. Run as a script on its own, so that
it starts fast; the supervisor writes `watch GROUP` and `forget GROUP` lines, one process group per child, and `leave`
before it ends by itself.

Arguments: the mark that every child has in its environment, and the command to run after an unexpected end, if any.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

GRACE_SECONDS = 10
POLL_SECONDS = 0.1
MARK = "CALLTALLY_SUPERVISOR"


def main(mark: str, *farewell: str) -> None:
    """Keep the list of groups until the input ends, then stop them, youngest first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: list[int] = []
    as_planned = False
    for line in sys.stdin:
        verb, _, group = line.strip().partition(" ")
        if verb == "watch":
            groups.append(int(group))
        elif verb == "forget" and int(group) in groups:
            groups.remove(int(group))
        elif verb == "leave":
            as_planned = True
    _stop(groups)
    _kill_marked(mark)
    if farewell and not as_planned:
        subprocess.run(farewell, stdin=subprocess.DEVNULL, check=False)


def _stop(groups: list[int]) -> None:
    for group in reversed(groups):
        with suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)  # its leader tells the others
    deadline = time.monotonic() + GRACE_SECONDS
    while any(_is_alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for group in reversed(groups):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _kill_marked(mark: str) -> None:
    """End what left its group, as Prefect's worker lets each flow run do."""
    import psutil  # type: ignore[import-untyped] # noqa: PLC0415 - only needed at the end

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark:
                process.kill()


def _is_alive(group: int) -> bool:
    try:
        os.kill(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
