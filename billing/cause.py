"""What the calls that lost their webhook have in common, beyond what all calls have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import exp, lgamma
from typing import Any

import pandas as pd

from billing.reliability import due_calls

MIN_LOST = 2
"""One lost call shares everything with itself."""
MIN_SHARE = 0.5
"""A cause explains at least half of what was lost."""
MIN_LIFT = 2
"""Calls of the group lose theirs at least twice as often as the others: what holds most calls holds most losses."""
SIGNIFICANCE = 0.05
"""Chance that pure luck lets any group of the night stand out."""
NOTHING_STANDS_OUT = "no assistant, number, hour or reason stands out among the lost calls"

HOUR = "hour"
TRAITS = {
    "assistant_id": "went through assistant {}",
    "phone_number_id": "went through phone number {}",
    HOUR: "ended in the hour from {:%Y-%m-%d %H:%M} UTC",
    "ended_reason": "ended with {}",
}
"""What is looked at; of two that explain the same, the first is named."""


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that share one trait, beside all calls of the night."""

    words: str
    lost: int
    calls: int
    all_lost: int
    all_calls: int

    @property
    def stands_out(self) -> bool:
        """Whether it holds enough of the losses, and loses more than the others do."""
        others_lost, others = self.all_lost - self.lost, self.all_calls - self.calls
        return (
            self.lost >= MIN_LOST
            and self.lost >= MIN_SHARE * self.all_lost
            and self.lost * others >= MIN_LIFT * others_lost * self.calls
        )

    @property
    def chance(self) -> float:
        """Fisher's exact test, one-sided: how likely so many of the losses fall into a group of this size by luck."""
        return hypergeometric_tail(self.lost, self.calls, self.all_lost, self.all_calls)

    def __str__(self) -> str:
        others_lost, others = self.all_lost - self.lost, self.all_calls - self.calls
        return (
            f"{self.lost} of {self.all_lost} lost calls {self.words}"
            f" ({self.lost} of its {self.calls} {'call' if self.calls == 1 else 'calls'};"
            f" elsewhere {others_lost} of {others})"
        )


def likely_cause(differences: pd.DataFrame, reported: set[str], start: datetime, end: datetime) -> str | None:
    """For people; None if no webhook was lost. Arguments as in billing/reliability.py.

    A group of calls is named if it holds at least half of the losses and at least two, loses webhooks at least twice
    as often as all other calls, and if luck would hardly make it so: by Fisher's exact test, with Bonferroni's
    correction for looking at many groups. Of several, the least likely one is named.
    """
    calls = due_calls(differences, reported, start, end)
    calls = calls.assign(**{HOUR: calls["ended_at"].dt.floor("h")})
    if calls["told"].all():
        return None
    groups = list(_groups(calls))
    causes = [group for group in groups if group.stands_out and group.chance * len(groups) <= SIGNIFICANCE]
    return str(min(causes, key=lambda group: group.chance)) if causes else NOTHING_STANDS_OUT


def _groups(calls: pd.DataFrame) -> Iterator[Group]:
    lost = int((~calls["told"]).sum())
    for trait, words in TRAITS.items():
        told: Any = calls.groupby(trait, observed=True)["told"].agg(["sum", "count"])
        for value, by_webhook, size in told.itertuples(name=None):
            yield Group(words.format(value), int(size - by_webhook), int(size), lost, len(calls))


def hypergeometric_tail(successes: int, draws: int, all_successes: int, population: int) -> float:
    """P(X >= successes), drawing `draws` of `population` without putting back; `all_successes` of them count."""

    def probability(hits: int) -> float:
        return exp(
            _log_choose(all_successes, hits)
            + _log_choose(population - all_successes, draws - hits)
            - _log_choose(population, draws)
        )

    lowest = max(successes, draws + all_successes - population)
    tail = 0.0
    for hits in range(lowest, min(draws, all_successes) + 1):
        term = probability(hits)
        tail += term
        if term < tail * 1e-15:  # terms rise to one peak, and from there only fall
            break
    return min(tail, 1.0)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
