"""The inbox: store a delivery, claim events, give them back, forget them. Each function is one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from billing.database import rows, transaction, value
from billing.deliveries import Delivery
from billing.errors import BillingError
from billing.metrics import EVENT_FAILURES

LEASE = timedelta(seconds=30)
"""How long a claimed event is left to its worker; longer than a batch and the retries of a failed event take."""

CLAIM_BYTES = 32_000_000
"""Bodies of one claim, beside the largest of each provider: three times as much in memory while they are received. So
a worker whose eight runs (`WORKER_MAX_RUNS`) all keep theirs for a retry has room in 1 GiB, and 2000 reports of an
everyday call (9 KB) are still one batch. Without it, a backlog of long calls would kill every worker that claims it.
"""
NAMED = 3
"""Kinds of events in the name of a run; the commonest first."""
LONGEST_APPLYING = timedelta(minutes=10)
"""For how long a lease is renewed: a batch takes seconds, and whoever applies one for longer hangs. Its events go
back in line then, and if it comes to life again, its claim is over.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """An event, as much of it as a name needs."""

    id: int
    provider: str
    type: str

    @property
    def name(self) -> str:
        """For people, in run names and logs."""
        return f"{self.provider} {self.type} (event {self.id})"


@dataclass(frozen=True, slots=True)
class ClaimedEvent(Event):
    """An event that is ours until its lease ends; whoever ends it must show the token."""

    body: bytes | None
    """None if it was forgotten meanwhile; then there is nothing to apply."""
    attempts: int
    claim_token: UUID
    received_at: datetime


def in_words(events: Sequence[Event]) -> str:
    """What a batch is about: a single event by its name, more of them by their numbers."""
    if len(events) == 1:
        return events[0].name
    counts = Counter(f"{event.provider} {event.type}" for event in events)
    shown = counts.most_common(NAMED)
    more = len(events) - sum(count for _, count in shown)
    named = ", ".join(f"{count} {kind}" for kind, count in shown) or "nothing waiting"
    return f"{named} and {more} more" if more else named


@dataclass(frozen=True, slots=True)
class Failure:
    """An event that could not be applied, and why."""

    event: ClaimedEvent
    error: BillingError


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a run has taken, and what its look at the line found beside that."""

    events: list[ClaimedEvent]
    suspects: bool
    """Whether events wait that are claimed alone, because a worker may have died of them."""
    died: bool
    """Whether one of those has ended just now."""


def accept(engine: Engine, deliveries: Sequence[Delivery]) -> None:
    """Store deliveries durably; repeated ones are counted."""
    with transaction(engine) as connection:
        value(
            connection,
            "SELECT accept_events(:providers, :keys, :types, :bodies)",
            providers=[delivery.provider for delivery in deliveries],
            keys=[delivery.key for delivery in deliveries],
            types=[delivery.type for delivery in deliveries],
            bodies=[delivery.body for delivery in deliveries],
        )


def not_accepted(engine: Engine, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those of the deliveries that the inbox lacks, whatever became of the others."""
    with transaction(engine) as connection:
        known = rows(
            connection,
            "SELECT provider, delivery_key FROM events"
            " JOIN unnest(CAST(:providers AS text[]), CAST(:keys AS text[])) AS told (provider, delivery_key)"
            " USING (provider, delivery_key)",
            providers=[delivery.provider for delivery in deliveries],
            keys=[delivery.key for delivery in deliveries],
        )
    stored = {(row["provider"], row["delivery_key"]) for row in known}
    return [delivery for delivery in deliveries if (delivery.provider, delivery.key) not in stored]


def peek(engine: Engine, limit: int = 1000, *, suspects: bool = False) -> list[Event]:
    """The head of the line, oldest first, without taking anything: of what is claimed together, or of `suspects`."""
    with transaction(engine) as connection:
        waiting = rows(
            connection,
            "SELECT id, provider, type FROM events WHERE state = 'waiting' AND suspected = :suspects"
            " ORDER BY provider, id LIMIT :limit",
            limit=limit,
            suspects=suspects,
        )
    return sorted((Event(**row) for row in waiting), key=lambda event: event.id)


def is_untouched(engine: Engine, event_id: int) -> bool:
    """Whether an event still waits, or is claimed and not dealt with yet."""
    with transaction(engine) as connection:
        return value(connection, "SELECT state FROM events WHERE id = :id", id=event_id) in {"waiting", "active"}


def claim(
    engine: Engine, worker: str, limit: int, flow_run_id: UUID | None = None, *, suspects: bool | None = None
) -> list[ClaimedEvent]:
    """Take up to `limit` events, oldest first, after putting back in line those whose worker is gone.

    Fewer if their bodies are large: at most `CLAIM_BYTES`, but one event at least of each provider that waits. One
    that was in a claim that expired may have killed its worker, and is claimed alone: if `suspects` is true; None:
    if nothing else waits.
    """
    return take(engine, worker, limit, flow_run_id, suspects=suspects).events


def take(
    engine: Engine, worker: str, limit: int, flow_run_id: UUID | None = None, *, suspects: bool | None = None
) -> Claimed:
    """The same, and what else a run wants to know of the line."""
    with transaction(engine) as connection:
        value(connection, "SELECT sweep_events()")
        claimed = rows(
            connection,
            "SELECT * FROM claim_events(:worker, :limit, :lease, :flow_run_id, :max_bytes, :suspects)",
            worker=worker,
            limit=limit,
            lease=LEASE,
            flow_run_id=flow_run_id,
            max_bytes=CLAIM_BYTES,
            suspects=suspects,
        )
        [beside] = rows(
            connection,
            "SELECT EXISTS (SELECT FROM events WHERE state = 'waiting' AND suspected) AS suspects,"
            " EXISTS (SELECT FROM events WHERE state = 'dead' AND finished_at >= now()) AS died",
        )
    return Claimed([ClaimedEvent(**row) for row in claimed], **beside)


def note_applying(engine: Engine, events: Sequence[ClaimedEvent], *, applying: bool) -> None:
    """Say whether what we hold is being applied again, or only kept: then nobody blames it if its worker dies."""
    with transaction(engine) as connection:
        value(
            connection,
            "SELECT note_applying(:tokens, :ids, :applying, :lease)",
            tokens=list({event.claim_token for event in events}),
            ids=[event.id for event in events],
            applying=applying,
            lease=LEASE,
        )


def release(engine: Engine, events: Sequence[ClaimedEvent]) -> int:
    """Give back what we hold of these events, since it cannot be applied now and that is not its fault; how many."""
    with transaction(engine) as connection:
        tokens = list({event.claim_token for event in events})
        return int(
            value(connection, "SELECT release_events(:tokens, :ids)", tokens=tokens, ids=[e.id for e in events])
        )


def extend_lease(engine: Engine, events: Sequence[ClaimedEvent]) -> None:
    """Keep what we hold: called while applying takes long."""
    with transaction(engine) as connection:
        tokens = list({event.claim_token for event in events})
        value(connection, "SELECT extend_lease(:tokens, :lease)", tokens=tokens, lease=LEASE)


def fail(
    engine: Engine, failure: Failure, *, dead: bool, flow_run_id: UUID | None = None, lease: timedelta = LEASE
) -> None:
    """Note a failed attempt: the event stays with us for the next one, or, if `dead`, ends here. What nobody tries
    before its lease is over goes back in line then.

    Raises:
        ClaimLost: another worker holds it now.
    """
    with transaction(engine) as connection:
        value(
            connection,
            "SELECT fail_event(:token, :id, :error_class, :message, :dead, :lease, :flow_run_id)",
            token=failure.event.claim_token,
            id=failure.event.id,
            error_class=type(failure.error).__name__,
            message=str(failure.error),
            dead=dead,
            lease=lease,
            flow_run_id=flow_run_id,
        )
    EVENT_FAILURES.labels(type(failure.error).__name__).inc()


def unsettled(engine: Engine, ids: Sequence[int], limit: int) -> list[dict[str, Any]]:
    """Those of the events that are dead, delayed or parked, the dead first: who sent what, its state and reason."""
    with transaction(engine) as connection:
        return rows(
            connection,
            "SELECT id, provider, delivery_key, type, state, reason FROM events"
            " WHERE id = ANY(:ids) AND state IN ('dead', 'delayed', 'parked')"
            " ORDER BY array_position(ARRAY['dead', 'delayed', 'parked'], state), id LIMIT :limit",
            ids=list(ids),
            limit=limit,
        )


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was forgotten: whole months of bodies, bodies that lay in no month, and events."""

    months: int = 0
    bodies: int = 0
    events: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(self.months + other.months, self.bodies + other.bodies, self.events + other.events)


def ensure_partitions(engine: Engine) -> int:
    """Make the months for the bodies to come; how many were missing."""
    with transaction(engine) as connection:
        return int(value(connection, "SELECT ensure_partitions()"))


def prune(engine: Engine, body_days: int, row_days: int) -> Pruned:
    """Forget old bodies, and rows of events that ended long ago, a limited number at once."""
    with transaction(engine) as connection:
        pruned = rows(
            connection,
            "SELECT months, bodies, events_removed AS events"
            " FROM prune_events(make_interval(days => :body_days), make_interval(days => :row_days))",
            body_days=body_days,
            row_days=row_days,
        )[0]
    return Pruned(**pruned)
