"""How much to ask of a list for at once: windows of time that fit the density of calls, and a page size that answers.

Everything here is an estimate. That a list is complete never depends on it: an answer counts only if it is not full.
"""

import math
from dataclasses import dataclass
from typing import Final

SPARE_DEVIATIONS: Final = 3
"""Room left in a page, in standard deviations of the number of calls in a window (Poisson)."""
FASTEST_GROWTH: Final = 8.0
"""From one window to the next, through an empty stretch."""
WEIGHT: Final = 0.5
"""Of the latest answer in the estimate of the density."""

SMALLEST_PAGE: Final = 10
SMALL_BYTES: Final = 2_500_000
LARGE_BYTES: Final = 10_000_000
QUICK_SECONDS: Final = 2.0
TRUSTED_AGAIN: Final = 50
"""Answers after which a page size that has failed is tried again."""


def expected_rows(limit: int) -> float:
    """How many rows to aim at, so that answers seldom come back full."""
    return max(limit / 2, limit - SPARE_DEVIATIONS * math.sqrt(limit))


@dataclass(slots=True)
class Stretch:
    """A part of the list that is read from its start to its end, in milliseconds since 1970, piece by piece."""

    start: int
    end: int
    per_ms: float = 0.0
    """Calls per millisecond; 0 if nothing is known."""

    def take(self, limit: int) -> "Piece":
        """The next piece, of about as many calls as such a page holds."""
        length = self.end - self.start
        if self.per_ms:
            length = max(1, int(min(length, expected_rows(limit) / self.per_ms)))
        piece = Piece(self.start, self.start + length, self, self.per_ms)
        self.start += length
        return piece

    def learn(self, piece: "Piece", rows: int, limit: int) -> None:
        """What a complete answer says about the rest."""
        seen = max(rows / piece.length, piece.per_ms / FASTEST_GROWTH)
        ordinary = rows >= expected_rows(limit) / 2
        self.per_ms = self.per_ms + WEIGHT * (seen - self.per_ms) if ordinary else seen


@dataclass(frozen=True, slots=True)
class Piece:
    """What one request asks for, `[start, end)`, and what was thought of it."""

    start: int
    end: int
    stretch: Stretch
    per_ms: float

    @property
    def length(self) -> int:
        """In milliseconds."""
        return self.end - self.start

    def cut(self, rows: int, limit: int, shown_ms: int) -> Stretch:
        """The same again in smaller pieces, half as long at most, after an answer that may have been cut.

        Its rows lie within `shown_ms`. The list is newest first, as far as anybody has seen, so such an answer shows
        how dense its end is.
        """
        return Stretch(self.start, self.end, max(rows / (shown_ms + 1), 2 * limit / self.length))


class PageSize:
    """The `limit` of the next request: larger while answers are small and quick, smaller when the provider fails."""

    def __init__(self, usual: int, largest: int) -> None:
        self.limit = usual
        self._smallest = min(SMALLEST_PAGE, usual)
        self._largest = largest
        self._ceiling = largest
        self._answers = 0

    def failed(self, limit: int) -> None:
        """The provider failed with so many rows asked for."""
        self._answers = 0
        self._ceiling = max(self._smallest, min(self._ceiling, limit // 2))
        self.limit = min(self.limit, self._ceiling)

    def answered(self, rows: int, size_bytes: int, seconds: float) -> None:
        """A page came; one with few rows says little about the size of others."""
        self._answers += 1
        if self._answers >= TRUSTED_AGAIN:
            self._answers, self._ceiling = 0, min(self._largest, 2 * self._ceiling)
        if rows < self.limit / 4:
            return
        full_bytes = size_bytes / rows * self.limit
        if full_bytes < SMALL_BYTES and seconds < QUICK_SECONDS:
            self.limit = min(self._ceiling, 2 * self.limit)
        elif full_bytes > LARGE_BYTES:
            self.limit = max(self._smallest, self.limit // 2)
