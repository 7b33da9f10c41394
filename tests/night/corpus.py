"""Two lists with differences planted in them, each of a class whose finding is known beforehand."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from billing.reconcile import SETTLING
from tests.night.listed import ACME, AS_OF, GLOBEX, RETENTION, known, listed, provider_row, route

PER_CLASS = 50
HOURS = 60
"""The calls were created within so many hours before the list was read."""
HANDOVER = AS_OF - timedelta(hours=30)
"""When the assistant `moving` passed from one organization to the other."""

ROUTES = [
    *(route(f"acme-{number}") for number in range(3)),
    *(route(f"globex-{number}", GLOBEX) for number in range(3)),
    route("squad", GLOBEX, kind="squad"),
    route("number", kind="phone_number"),
    route("moving", valid_to=HANDOVER),
    route("moving", GLOBEX, valid_from=HANDOVER),
    route("left", valid_to=AS_OF - RETENTION),
]
PAYERS = {f"acme-{number}": ACME for number in range(3)} | {f"globex-{number}": GLOBEX for number in range(3)}

Finding = tuple[str, str | None]
"""Kind and fields of drift."""
Row = dict[str, Any]


@dataclass
class Planted:
    """One call of one class: how it stands in either list, and what must be found."""

    theirs: list[Row]
    ours: Row | None
    findings: Sequence[Finding]
    reported: bool = False
    """Its report lies in the inbox."""
    lost: bool = False
    """Its webhook never came, and it was due."""


@dataclass
class Corpus:
    """All of them together."""

    theirs: list[Row] = field(default_factory=list)
    ours: list[Row] = field(default_factory=list)
    expected: Counter[tuple[str | None, str, str | None]] = field(default_factory=Counter)
    """How often each call id, kind and fields of drift must be found."""
    reported: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def add(self, call_id: str | None, planted: Planted) -> None:
        """One more call."""
        self.theirs += planted.theirs
        self.ours += [planted.ours] if planted.ours else []
        self.expected.update((call_id, *finding) for finding in planted.findings)
        self.reported |= {call_id} if planted.reported and call_id else set()
        self.lost |= {call_id} if planted.lost and call_id else set()


class Call:
    """One random call that both sides know alike, until something is changed."""

    def __init__(self, call_id: str, random: Random) -> None:
        self.random = random
        self.assistant_id, payer = random.choice(list(PAYERS.items()))
        created_at = AS_OF - timedelta(hours=2) - timedelta(milliseconds=random.randrange(HOURS * 3_600_000))
        seconds = random.randrange(1, 1_800_000) / 1000
        cost_micros = random.randrange(200, 9_000) * 100
        self.theirs = provider_row(
            listed(
                call_id,
                seconds,
                cost=f"{cost_micros / 1_000_000:.4f}",
                created_at=created_at,
                assistant_id=self.assistant_id,
                type="inboundPhoneCall",
                ended_reason=random.choice(["customer-ended-call", "assistant-ended-call", "silence-timed-out"]),
            )
        )
        self.ours = known(call_id, seconds, cost_micros=cost_micros, created_at=created_at, organization_id=payer) | {
            "assistant_id": self.assistant_id
        }

    def moved(self, micros_or_ms: int) -> int:
        """A change by up to so much, in either direction, and by at least one."""
        return self.random.choice([-1, 1]) * self.random.randint(1, micros_or_ms)

    def unconnected(self) -> None:
        """It never connected: no times, and no cost."""
        self.theirs |= {"started_at": None, "ended_at": None, "duration_ms": 0, "cost_micros": 0}

    def running(self, updated_at: datetime) -> None:
        """It is not over."""
        status = self.random.choice(["in-progress", "ringing", "queued", "forwarding"])
        self.theirs |= {"status": status, "ended_at": None, "duration_ms": None, "updated_at": updated_at}
        self.theirs["cost_micros"] = 0  # as it may be while a call runs

    def just_now(self) -> datetime:
        """A time at which numbers may still move."""
        return AS_OF - timedelta(milliseconds=self.random.randrange(int(SETTLING / timedelta(milliseconds=1))))

    def broken(self, *, without_id: bool = False) -> Row:
        """The provider's row as one that could not be read."""
        return {"call_id": None if without_id else self.theirs["call_id"], "problem": "Expected `str`, got `int`"}


def both(call: Call, kind: str = "matched", fields: str | None = None) -> Planted:
    """Known to both."""
    return Planted([call.theirs], call.ours, [(kind, fields)])


def missing(call: Call) -> Planted:
    """Its webhook got lost."""
    return Planted([call.theirs], None, [("missing", None)], lost=True)


def report_waiting(call: Call) -> Planted:
    """Its webhook lies in the inbox, and nobody has applied it yet."""
    return Planted([call.theirs], None, [("missing", None)], reported=True)


def repaired(call: Call) -> Planted:
    """An earlier night found it; its webhook may have come afterwards."""
    call.ours["by_webhook"] = False
    return Planted([call.theirs], call.ours, [("matched", None)], reported=call.random.random() < 0.5, lost=True)


def within_tolerance(call: Call) -> Planted:
    """The last digit of its cost was rounded the other way."""
    call.theirs["cost_micros"] += call.moved(100)
    return both(call)


def they_lack_a_field(call: Call) -> Planted:
    """The provider gives no cost, or no assistant."""
    call.theirs[call.random.choice(["cost_micros", "assistant_id"])] = None
    return both(call)


def we_lack_a_field(call: Call) -> Planted:
    """Our report gave no cost, or its organization was not known then."""
    call.ours[call.random.choice(["cost_micros", "organization_id"])] = None
    return both(call)


def by_other_route(call: Call) -> Planted:
    """The squad decides, or the number, or the assistant's route of that time."""
    own = call.random.choice([{"squad_id": "squad", "phone_number_id": "number"}, {"phone_number_id": "number"}, {}])
    call.theirs |= {"assistant_id": call.random.choice(["left", None]) if own else "moving", **own}
    at_number = ACME if own or call.theirs["created_at"] < HANDOVER else GLOBEX
    call.ours["organization_id"] = GLOBEX if "squad_id" in own else at_number
    return both(call)


def unconnected(call: Call) -> Planted:
    """Nobody answered, and nobody told us."""
    call.unconnected()
    return Planted([call.theirs], None, [("unconnected", None)])


def unconnected_known(call: Call) -> Planted:
    """Nobody answered, and both know."""
    call.unconnected()
    call.ours |= {"started_at": None, "duration_ms": 0, "cost_micros": None}
    return both(call)


def not_ended(call: Call) -> Planted:
    """We billed it as over; the provider still shows it running, since long, and knows what it costs so far."""
    cost_micros = call.theirs["cost_micros"]
    call.running(call.theirs["updated_at"])
    call.theirs["cost_micros"] = cost_micros
    return both(call, "drift", "ended_state")


def runs_again(call: Call) -> Planted:
    """We billed it as over; the provider shows it running again, without cost, after a drop or a transfer."""
    call.running(call.theirs["updated_at"])
    return both(call, "drift", "ended_state,cost")


def forgotten(call: Call) -> Planted:
    """Its webhook got lost, and the provider could not, or need not, delete it; it tells when it ended."""
    call.theirs["status"] = call.random.choice(["deletion-failed", "not-found"])
    return Planted([call.theirs], None, [("missing", None)], lost=True)


def duration_changed(call: Call) -> Planted:
    """The provider corrected its length."""
    moved_ms = call.moved(60_000)
    call.theirs["duration_ms"] += moved_ms if call.theirs["duration_ms"] + moved_ms >= 0 else -moved_ms
    return both(call, "drift", "duration")


def cost_changed(call: Call) -> Planted:
    """The provider corrected its cost by more than a rounding."""
    call.theirs["cost_micros"] += call.random.choice([-1, 1]) * call.random.randint(101, 50_000)
    return both(call, "drift", "cost")


def organization_changed(call: Call) -> Planted:
    """It was booked on another organization than our routes say."""
    call.ours["organization_id"] = GLOBEX if call.ours["organization_id"] == ACME else ACME
    return both(call, "drift", "organization")


def several_changed(call: Call) -> Planted:
    """More than one of these at once."""
    changes = {"duration": duration_changed, "cost": cost_changed, "organization": organization_changed}
    chosen = [name for name in changes if call.random.random() < 0.5]
    chosen = chosen if len(chosen) > 1 else list(changes)
    for name in chosen:
        changes[name](call)
    return both(call, "drift", ",".join(chosen))


def phantom(call: Call) -> Planted:
    """The provider does not list it."""
    return Planted([], call.ours, [("phantom", None)])


def held(call: Call) -> Planted:
    """We hold it, and the provider shows it still so."""
    call.ours["held"] = "it ended as it started, but cost money"
    return both(call, "held")


def beyond_retention(call: Call) -> Planted:
    """The provider no longer lists it."""
    call.ours["created_at"] -= RETENTION
    return Planted([], call.ours, [("beyond_retention", None)])


def listed_again(call: Call) -> Planted:
    """Two or three passes of the list show it alike."""
    copies = call.random.randint(1, 2)
    return Planted([call.theirs] * (1 + copies), call.ours, [("matched", None)] + [("duplicate", None)] * copies)


def listed_in_versions(call: Call) -> Planted:
    """An earlier pass shows it running, or with other numbers."""
    latest = dict(call.theirs)
    duration_changed(call)
    cost_changed(call)
    if call.random.random() < 0.5:
        call.running(latest["updated_at"])
    call.theirs["updated_at"] -= timedelta(milliseconds=call.random.randint(1, 60_000))
    return Planted([call.theirs, latest], call.ours, [("matched", None), ("duplicate", None)])


def missing_and_listed_again(call: Call) -> Planted:
    """Lost once, however often it is listed."""
    return Planted([call.theirs] * 2, None, [("missing", None), ("duplicate", None)], lost=True)


def unattributed_new(call: Call) -> Planted:
    """Nobody knows who pays; the route of one of the assistants has ended."""
    call.theirs["assistant_id"] = call.random.choice(["stranger", "left", None])
    return Planted([call.theirs], None, [("unattributed", None)], lost=True)


def unattributed_known(call: Call) -> Planted:
    """The same, and it lies in quarantine."""
    call.theirs["assistant_id"] = call.ours["assistant_id"] = "stranger"
    call.ours["organization_id"] = None
    return both(call, "unattributed")


def in_progress(call: Call) -> Planted:
    """It is not over."""
    call.running(call.theirs["updated_at"])
    return Planted([call.theirs], None, [("open", None)])


def unsettled(call: Call) -> Planted:
    """It is over and its webhook got lost, but the provider touched it just now, so its numbers may still move."""
    call.theirs["updated_at"] = call.just_now()
    return Planted([call.theirs], None, [("open", None)], lost=True)


def unsettled_known(call: Call) -> Planted:
    """Its numbers differ, but they may still move."""
    several_changed(call)
    call.theirs["updated_at"] = call.just_now()
    return both(call)


def running_known(call: Call) -> Planted:
    """The report came just after the list had been read."""
    call.running(call.just_now())
    return both(call)


def unreadable(call: Call) -> Planted:
    """Its row could not be read, beyond its id."""
    return Planted([call.broken()], None, [("unreadable", None)])


def unreadable_known(call: Call) -> Planted:
    """We know the call: it is no phantom, for the provider did list it."""
    return Planted([call.broken()], call.ours, [("unreadable", None)])


def unreadable_once(call: Call) -> Planted:
    """A later pass could not be read, another could."""
    later = {"updated_at": call.theirs["updated_at"] + timedelta(seconds=1)}
    return Planted([call.broken() | later, call.theirs], call.ours, [("unreadable", None), ("matched", None)])


CLASSES: tuple[Callable[[Call], Planted], ...] = (
    both,
    missing,
    report_waiting,
    repaired,
    within_tolerance,
    they_lack_a_field,
    we_lack_a_field,
    by_other_route,
    unconnected,
    unconnected_known,
    not_ended,
    runs_again,
    forgotten,
    duration_changed,
    cost_changed,
    organization_changed,
    several_changed,
    phantom,
    held,
    beyond_retention,
    listed_again,
    listed_in_versions,
    missing_and_listed_again,
    unattributed_new,
    unattributed_known,
    in_progress,
    unsettled,
    unsettled_known,
    running_known,
    unreadable,
    unreadable_known,
    unreadable_once,
)


def planted(seed: int, classes: Iterable[Callable[[Call], Planted]] = CLASSES) -> Corpus:
    """So many calls of each class, in random order; the same for the same seed."""
    random, corpus = Random(seed), Corpus()
    for plant in classes:
        for number in range(PER_CLASS):
            call_id = f"{plant.__name__}-{number}"
            corpus.add(call_id, plant(Call(call_id, random)))
    for _ in range(PER_CLASS):
        row = Call("nameless", random).broken(without_id=True)
        corpus.add(None, Planted([row], None, [("unreadable", None)]))
    random.shuffle(corpus.theirs)
    random.shuffle(corpus.ours)
    return corpus
