"""What one night says about itself, as data: how reliable the webhooks were, and what they would have cost."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from math import sqrt
from typing import Generic, Literal, Self, TypeVar, overload
from uuid import UUID

NORMAL_QUANTILE = 1.959963984540054
"""Of a two-sided interval of 95 %."""


CHARGED = ("settled", "outstanding", "free")
"""Outcomes of a call that the books have charged: paid, owed, or costing nothing."""
UNBILLED = ("unattributed", "unpriced", "refused", "held", "held_call")
"""Why a call that was found is not charged yet: no route says who pays, no price was in force, the books refused it,
its part of the list is not proved complete, or it is held for a person, because it cannot be as it was told."""

T = TypeVar("T")


class Rows(Sequence[T], Generic[T]):
    """Many of a kind. Neither list nor tuple: Prefect walks through those item by item, which may take seconds."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        """One, or some as a tuple."""
        return self._items[place]

    def __len__(self) -> int:
        """How many."""
        return len(self._items)


@dataclass(frozen=True, slots=True)
class Window:
    """What a run compares: calls that ended in `start <= t < end`; the list is read from `listed_from` on."""

    start: datetime
    end: datetime
    listed_from: datetime

    @property
    def in_words(self) -> str:
        """For people."""
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Reliability:
    """Of the calls that connected and ended: how many told us by webhook."""

    by_webhook: int
    ended: int

    @property
    def ratio(self) -> Decimal | None:
        """Share that told us; None for no calls."""
        return Decimal(self.by_webhook) / self.ended if self.ended else None

    @property
    def lost(self) -> int:
        """Calls whose webhook never came."""
        return self.ended - self.by_webhook

    @property
    def interval(self) -> tuple[Decimal, Decimal] | None:
        """Wilson's score interval at 95 %: what the share may be in the long run, given so few calls."""
        if not self.ended:
            return None
        share, z2 = self.by_webhook / self.ended, NORMAL_QUANTILE**2
        middle = share + z2 / (2 * self.ended)
        spread = NORMAL_QUANTILE * sqrt(share * (1 - share) / self.ended + z2 / (4 * self.ended**2))
        scale = 1 + z2 / self.ended
        low, high = max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
        return Decimal(f"{low:.8f}"), Decimal(f"{high:.8f}")

    def is_below(self, threshold: Decimal, min_calls: int = 1) -> bool:
        """Whether to alert: exactly on the threshold is well, and too few calls are no alarm."""
        return self.ended >= max(1, min_calls) and self.by_webhook < threshold * self.ended


@dataclass(frozen=True, slots=True)
class GroupReliability:
    """The same for one organization or one assistant."""

    name: str
    """Of the organization, or the assistant's id; `unknown` if there is none."""
    reliability: Reliability


@dataclass(frozen=True, slots=True)
class NightMoney:
    """What a night did and prevented, in one currency; all in micros."""

    currency: str
    recovered_micros: int = 0
    """Charged for calls that no webhook told us of, and paid."""
    outstanding_micros: int = 0
    """The same, refused by a debt limit and owed."""
    at_risk_micros: int = 0
    """Estimated price of calls that were found but cannot be charged yet: no organization, no price, or refused."""
    corrected_micros: int = 0
    """Net worth of calls that the provider changed after they were charged."""
    projected_monthly_loss_micros: int = 0
    """What lost webhooks would cost in 30 days like this window, if no night found them."""
    earlier_micros: int = 0
    """Charged before this run, by another one, for calls of the window whose webhook got lost."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Number and cost of calls in a range of time."""

    calls: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Completeness:
    """One part of the list beside the provider's own totals for the same range of creation."""

    start: datetime
    end: datetime
    listed: Totals
    reported: Totals | None
    """None: the provider did not say."""
    verdict: str
    """`complete`, `incomplete`, or `unproven` if the provider gave no totals."""
    held: bool = False
    """Whether its calls wait for a night in which both agree."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A call that the night recorded; `outcome` is that of its charge, or why it has none."""

    call_id: str
    organization_id: UUID | None
    outcome: str
    amount_micros: int | None
    known: bool
    """Whether somebody else recorded it between comparison and repair."""
    problem: str | None = None
    """Why it was refused; a finding for people."""


FindingKind = Literal[
    "missing",
    "unattributed",
    "drift",
    "held",
    "phantom",
    "duplicate",
    "open",
    "unreadable",
    "incomplete",
    "alert",
    "report",
]
"""Differences between the two lists, then what was wrong with the run itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference, and what was done about it."""

    kind: FindingKind
    call_id: str | None
    organization_id: UUID | None = None
    amount_micros: int | None = None
    outcome: str | None = None
    detail: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Night:
    """The figures of one reconciliation run, for everything that people read."""

    run_id: UUID
    kind: str
    """`night`, `recent` or `backfill`."""
    window: Window
    as_of: datetime
    dry_run: bool
    organization: str | None
    """Name of the only one that was compared; None: all."""
    counts: Mapping[str, int]
    """Calls by kind of difference, those that agree included."""
    reliability: Reliability
    by_organization: Sequence[GroupReliability]
    by_assistant: Sequence[GroupReliability]
    money: Sequence[NightMoney]
    recovered: Sequence[Recovered]
    """The calls whose webhook got lost and that the night charged."""
    lost_ids: Sequence[str]
    """The calls of the window whose webhook got lost, whichever run charged them."""
    completeness: Sequence[Completeness]
    organizations: Mapping[UUID, str]
    """Names, of all."""
    cause: str | None
    run_url: str | None
    """In Prefect's UI."""
    alert: str | None = None
    """What came of telling Slack: `sent`, `not needed`, `could not alert: …`; None: nobody tried yet."""
    report_url: str | None = None
    """Folder of the run's files."""
    plan_digest: str | None = None
    """Of a rehearsal."""
    findings: Sequence[Finding] = field(default_factory=list)
    currencies: Mapping[UUID, str] = field(default_factory=dict)
    """Of the organizations' wallets; absent: that of `money`, if there is just one."""
    organization_id: UUID | None = None
    """Of the only one that was compared."""

    @property
    def lost(self) -> int:
        """Calls whose webhook never came."""
        return self.reliability.lost

    @property
    def unbilled(self) -> dict[str, int]:
        """How many calls were found and are not charged yet, for each of UNBILLED."""
        outcomes = Counter(
            "held_call" if finding.outcome == "held" and "problem" in (finding.detail or {}) else finding.outcome
            for finding in self.findings
            if finding.kind != "drift" or finding.outcome != "held" or "problem" not in (finding.detail or {})
        )
        return {outcome: outcomes[outcome] for outcome in UNBILLED}

    def with_problem(self, kind: Literal["alert", "report"], problem: str) -> Self:
        """The same night with a finding more, about the run itself."""
        found = Finding(kind, None, outcome="noted", detail={"problem": problem})
        return replace(self, findings=Rows([*self.findings, found]))
