"""What is sent, chunk by chunk, and what must come of it: each fate is planted here, so that all can be counted.

The providers' clock runs `LAG` behind ours: what happens at the provider now is settled by the time of a night.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

from calltally.sandbox.calls import Call, Route
from calltally.sandbox.deliveries import Weather, plan_deliveries
from calltally.sandbox.messages import Message
from calltally.sandbox.signing import Signer, StripeSignature, VapiBearer, forged_stripe_signature
from calltally.sandbox.stripe import StripeWorld
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi_webhooks import messages_about
from calltally.sandbox.world import Sandbox

CHUNK_SECONDS = 2.0
LAG = timedelta(minutes=20)
"""More than the 15 minutes after which a night takes a call for settled."""
LONGEST_SECONDS = 30.0
WEATHER = Weather(lost_reports_share=0.06, duplicate_rate=0.05, disorder_rate=0.3)
DELIVERIES_PER_CALL = 3.0
LATE_SHARE = 0.01
LATE_SECONDS = (5.0, 45.0)
STRANGER = "asst-nobody-knows"

Key = tuple[str, str, str]
"""Provider, type and final state of an event."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request, `late_seconds` after its turn, and the status that it must be answered with."""

    path: str
    signer: Signer
    body: bytes
    status: int = 200
    late_seconds: float = 0.0


@dataclass
class Planted:
    """What must have come of everything sent so far."""

    events: Counter[Key] = field(default_factory=Counter)
    """Rows of the inbox, each of which ends once."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Deliveries by their final answer."""
    charged_calls: int = 0
    """Connected calls of organizations that we know, whether a report of them arrived or not."""
    lost_reports: int = 0
    payments: int = 0


class Provider:
    """Makes chunks of traffic for these organizations, and keeps account of them."""

    def __init__(self, sandbox: Sandbox, assistants: Sequence[str], organization_ids: Sequence[UUID]) -> None:
        self.planted = Planted()
        self._sandbox = sandbox
        self._vapi = sandbox.vapi_signer
        self._stripe = StripeSignature(sandbox.stripe_secrets)
        self._routes = tuple(Route(assistant_id=assistant) for assistant in assistants)
        self._organization_ids = organization_ids
        self._random = Random(5)
        self._chunks = 0

    def chunk(self, now: datetime, rate: float) -> list[Delivery]:
        """The deliveries of the next `CHUNK_SECONDS`, in their order; about `rate` a second."""
        self._chunks += 1
        total = rate * CHUNK_SECONDS
        deliveries = [*self._calls(now - LAG, round(0.96 * total / DELIVERIES_PER_CALL))]
        deliveries += self._payments(now, max(1, round(0.01 * total)))
        deliveries += self._nuisances()
        if self._chunks % 5 == 0:
            deliveries += [*self._strangers(now), *self._poison()]
        self._random.shuffle(deliveries)
        self.planted.statuses.update(delivery.status for delivery in deliveries)
        return deliveries

    def _calls(self, at: datetime, count: int) -> Iterator[Delivery]:
        calls = self._place(at, count, self._routes)
        plan = plan_deliveries(messages_about(calls), WEATHER, seed=self._chunks)
        self.planted.charged_calls += sum(call.started_at_ms is not None for call in calls)
        self.planted.lost_reports += len(plan.lost)
        for delivery in plan.deliveries:
            if not delivery.copy:
                self._count(delivery.message, "done")
            late = self._random.uniform(*LATE_SECONDS) if self._random.random() < LATE_SHARE else 0.0
            yield Delivery("/webhooks/vapi", self._vapi, delivery.message.body, late_seconds=late)

    def _strangers(self, now: datetime) -> Iterator[Delivery]:
        """A call of an assistant that nobody has routed, and a payment of nobody: parked, not lost."""
        for message in messages_about(self._place(now - LAG, 1, (Route(assistant_id=STRANGER),))):
            self._count(message, "parked")
            yield Delivery("/webhooks/vapi", self._vapi, message.body)
        yield from self._pay(now, uuid4(), "parked")

    def _payments(self, now: datetime, count: int) -> Iterator[Delivery]:
        for _ in range(count):
            self.planted.payments += 1
            yield from self._pay(now, self._random.choice(self._organization_ids), "done")

    def _pay(self, now: datetime, organization_id: UUID, state: str) -> Iterator[Delivery]:
        """Both events of a payment."""
        world = StripeWorld(seed=self._random.getrandbits(64))  # a new one: it keeps its events for ever
        reference = str(organization_id)
        payment = Payment(2_000, client_reference_id=reference, metadata={"org_id": reference})
        for message in world.messages(world.pay_topup(payment, at=now).events):
            self.planted.events["stripe", message.type, state] += 1
            yield Delivery("/webhooks/stripe", self._stripe, message.body)

    def _nuisances(self) -> Iterator[Delivery]:
        """Forged, broken, and foreign: refused with 401 and 400, and skipped."""
        yield Delivery("/webhooks/stripe", forged_stripe_signature(), b'{"id": "evt_forged", "type": "x"}', 401)
        yield Delivery("/webhooks/vapi", VapiBearer("guessed"), b'{"message": {}}', 401)
        yield Delivery("/webhooks/vapi", self._vapi, b'{"message": {"type": "end-of', 400)
        self.planted.events["vapi", "unknown", "skipped"] += 1
        yield Delivery("/webhooks/vapi", self._vapi, json.dumps({"hello": str(uuid4())}).encode())

    def _poison(self) -> Iterator[Delivery]:
        """A report that gives no time for its call: dead at once."""
        self.planted.events["vapi", "end-of-call-report", "dead"] += 1
        message = {"type": "end-of-call-report", "call": {"id": str(uuid4())}}
        yield Delivery("/webhooks/vapi", self._vapi, json.dumps({"message": message}).encode())

    def _place(self, at: datetime, count: int, routes: tuple[Route, ...]) -> list[Call]:
        window = timedelta(seconds=CHUNK_SECONDS)
        traffic = Traffic(
            count,
            routes,
            at,
            at + window,
            median_seconds=10.0,
            longest_seconds=LONGEST_SECONDS,
            never_connected_share=0.05 if count > 1 else 0.0,
            tie_share=0.0,
            detail="slim",
        )
        return self._sandbox.vapi.place_calls(traffic)

    def _count(self, message: Message, state: str) -> None:
        self.planted.events["vapi", message.type, state if message.is_report else "skipped"] += 1


def provider_time() -> datetime:
    """Now, by the provider's clock."""
    return datetime.now(UTC) - LAG
