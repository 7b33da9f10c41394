"""How fast a provider is asked: a token bucket that everybody in this process shares, and how long patience lasts.

Other processes have buckets of their own: those of one run a part of the rate each, other runs a whole one. A 429 of
the provider's slows each of them down. Only politeness depends on it.
"""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache

from billing.errors import RateLimited

BURST_SECONDS = 0.25
"""How much of an unused rate may be used at once."""
SLOWEST_SECONDS = 5.0
"""Between two requests, after however many refusals."""
RECOVERY = 0.97
"""Of the time between two requests, after each answer: back from half the rate after 23 answers."""
UNLIMITED_AFTER_REFUSAL = 0.05
"""Seconds between two requests of somebody who had no limit, and was told that there is one."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long one request is repeated before its caller is told."""

    tries: int = 4
    """If the provider fails."""
    refused_tries: int = 8
    """If it asks us to slow down (429)."""
    first_delay_seconds: float = 1.0
    """Before the second try; doubled each time, unless the provider says how long to wait."""
    longest_delay_seconds: float = 60.0
    total_delay_seconds: float = 3600.0
    """Waited within one request, all its tries together. Limits are counted by the minute or by the hour, so no pause
    that is worth waiting for is longer; and a run that waited so long still ends before the next working day."""
    answer_seconds: float = 300.0
    """For one complete answer, however steadily it trickles in."""

    def delay_seconds(self, tries: int) -> float:
        """How long to wait after so many tries."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** (tries - 1))


class Pace:
    """A token bucket, safe for threads and for several event loops: tasks run in either."""

    def __init__(
        self,
        per_second: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`per_second` requests on average; 0 for no limit. `now` and `sleep` count in the same seconds."""
        self._now = now
        self.sleep = sleep
        self._usual = 1 / per_second if per_second else 0.0
        self._interval = self._usual
        self._next = 0.0
        self._paused_until = 0.0
        self._refusals = 0
        self._lock = threading.Lock()

    @property
    def per_second(self) -> float:
        """The rate of the moment; infinite without a limit."""
        return 1 / self._interval if self._interval else math.inf

    async def turn(self, longest_pause_seconds: float = math.inf) -> int:
        """Wait for the next free place, and for the end of any pause; the answer is for `slow_down`.

        Raises:
            RateLimited: at once, if the provider asked for a longer pause than that.
        """
        while True:
            with self._lock:
                now = self._now()
                pause = self._paused_until - now
                if pause > longest_pause_seconds:
                    raise RateLimited(
                        f"the provider asked us to wait for another {pause:.0f} s; start the run again after that",
                        retry_after_seconds=pause,
                    )
                refusals = self._refusals
                at = max(now, self._next - BURST_SECONDS, self._paused_until)
                self._next = max(self._next, at) + self._interval
            if at > now:
                await self.sleep(at - now)
            if self._paused_until <= self._now():  # else a pause began while we slept
                return refusals

    def pause(self, seconds: float) -> None:
        """Let nobody ask before so many seconds are over."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._now() + seconds)
            self._next = max(self._next, self._paused_until + BURST_SECONDS)

    def slow_down(self, turn: int) -> None:
        """Halve the rate: once for all requests that were on their way when the provider refused."""
        with self._lock:
            if turn == self._refusals:
                self._refusals += 1
                self._interval = min(SLOWEST_SECONDS, 2 * self._interval or UNLIMITED_AFTER_REFUSAL)

    def speed_up(self) -> None:
        """Recover a little: an answer came."""
        with self._lock:
            recovered = self._interval * RECOVERY
            if self._usual:
                self._interval = max(self._usual, recovered)
            else:
                self._interval = recovered if recovered > UNLIMITED_AFTER_REFUSAL / 2 else 0.0


@cache
def shared_pace(provider: str, per_second: float) -> Pace:
    """The one of this process."""
    del provider  # tells them apart
    return Pace(per_second)


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float | None:
    """What an answer says about when to come back; None if nothing that can be read. `now` in Unix seconds.

    The names are those that Vapi's own SDK reads: `retry-after-ms`, `retry-after` (seconds or an HTTP date), and
    `x-ratelimit-reset` (Unix seconds).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    retry_after = headers.get("retry-after")
    seconds = _number(retry_after)
    if seconds is None and retry_after is not None:
        seconds = _seconds_until(retry_after, now)
    reset = _number(headers.get("x-ratelimit-reset"))
    if seconds is None and reset is not None:
        seconds = reset - now
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(date: str, now: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return None
