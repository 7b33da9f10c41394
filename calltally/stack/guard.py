"""Outlives the supervisor by seconds: when its input ends, it stops whatever the supervisor left running.

The kernel closes the pipe however the supervisor dies, kill -9 included. Run as a script on its own, so that
it starts fast; the supervisor writes `watch GROUP` and `forget GROUP` lines, one process group per child.
"""

import os
import signal
import sys
import time
from contextlib import suppress

GRACE_SECONDS = 10
POLL_SECONDS = 0.1


def main() -> None:
    """Keep the list of groups until the input ends, then stop them, youngest first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: list[int] = []
    for line in sys.stdin:
        verb, group = line.split()
        if verb == "watch":
            groups.append(int(group))
        elif int(group) in groups:
            groups.remove(int(group))
    for group in reversed(groups):
        with suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)  # its leader tells the others
    deadline = time.monotonic() + GRACE_SECONDS
    while any(_is_alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for group in reversed(groups):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _is_alive(group: int) -> bool:
    try:
        os.kill(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
