"""What happens to webhooks on their way: some are lost, some come twice, some late and out of order.

`plan_deliveries` decides that beforehand and says what it decided; `send` then sends exactly the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from calltally.sandbox.messages import Message

_MS_PER_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One sending of a message; `copy` is 0 for the first and 1 for a duplicate."""

    message: Message
    arrives_ms: int
    copy: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """Deliveries in the order of arrival, and the messages that never arrive."""

    deliveries: tuple[Delivery, ...]
    lost_messages: tuple[Message, ...]

    @property
    def lost(self) -> list[str]:
        """Ids of the calls whose end-of-call report is lost, sorted."""
        return sorted(message.subject_id for message in self.lost_messages if message.is_report)

    @property
    def duplicates(self) -> int:
        """How many deliveries repeat an earlier one."""
        return sum(1 for delivery in self.deliveries if delivery.copy)


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the way is; all rates lie between 0 and 1.

    `lost_reports_share` loses exactly that share of the end-of-call reports, rounded to a whole number,
    and then `loss_rate` applies to the other messages alone. Delayed messages and duplicates come up to
    `longest_delay_seconds` after their time; nothing waits for that time to pass, only the order follows
    from it. `disorder_rate` moves messages to any place in the order.
    """

    loss_rate: float = 0.0
    lost_reports_share: float | None = None
    duplicate_rate: float = 0.0
    delay_rate: float = 0.0
    longest_delay_seconds: float = 600.0
    disorder_rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse rates that are no rates."""
        rates = (
            self.loss_rate,
            self.lost_reports_share or 0.0,
            self.duplicate_rate,
            self.delay_rate,
            self.disorder_rate,
        )
        if any(not 0.0 <= rate <= 1.0 for rate in rates):
            raise ValueError("rates lie between 0 and 1")


FAIR_WEATHER = Weather()


def plan_deliveries(
    messages: Iterable[Message], weather: Weather = FAIR_WEATHER, *, seed: int | str = 0
) -> DeliveryPlan:
    """Decide the fate of each message; the same messages, weather and seed give the same plan."""
    random = Random(seed)  # noqa: S311  # an experiment that must repeat
    ordered = sorted(messages, key=lambda message: message.at_ms)
    lost = _lost_positions(ordered, weather, random)
    deliveries: list[Delivery] = []
    for position, message in enumerate(ordered):
        if position in lost:
            continue
        delay_ms = _delay_ms(weather, random) if random.random() < weather.delay_rate else 0
        deliveries.append(Delivery(message, message.at_ms + delay_ms))
        if random.random() < weather.duplicate_rate:
            arrives_ms = message.at_ms + delay_ms + _delay_ms(weather, random)
            deliveries.append(Delivery(message, arrives_ms, copy=1))
    deliveries.sort(key=lambda delivery: delivery.arrives_ms)
    return DeliveryPlan(
        deliveries=tuple(_disordered(deliveries, weather, random)),
        lost_messages=tuple(ordered[position] for position in sorted(lost)),
    )


def _lost_positions(messages: Sequence[Message], weather: Weather, random: Random) -> set[int]:
    if weather.lost_reports_share is None:
        return {position for position in range(len(messages)) if random.random() < weather.loss_rate}
    reports = [position for position, message in enumerate(messages) if message.is_report]
    others = [position for position, message in enumerate(messages) if not message.is_report]
    lost = set(random.sample(reports, k=round(len(reports) * weather.lost_reports_share)))
    return lost | {position for position in others if random.random() < weather.loss_rate}


def _delay_ms(weather: Weather, random: Random) -> int:
    return int(random.uniform(0.0, weather.longest_delay_seconds) * _MS_PER_SECOND)


def _disordered(deliveries: list[Delivery], weather: Weather, random: Random) -> list[Delivery]:
    moved = [position for position in range(len(deliveries)) if random.random() < weather.disorder_rate]
    targets = moved.copy()
    random.shuffle(targets)
    mixed = deliveries.copy()
    for source, target in zip(moved, targets, strict=True):
        mixed[target] = deliveries[source]
    return mixed
