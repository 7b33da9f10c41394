"""Sending a plan of deliveries to a webhook endpoint, with each provider's signature and retries."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from calltally.sandbox.deliveries import Delivery
from calltally.sandbox.signing import Signer

DEFAULT_CONCURRENCY = 16

_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Retries:
    """Waits in seconds before each further attempt; statuses that end the attempts at once."""

    delays_seconds: tuple[float, ...] = ()
    excluded_statuses: frozenset[int] = frozenset()


# Vapi sends once unless the `server` object has a backoff plan.
NO_RETRIES = Retries()
# Stripe retries for days; these waits keep the number of a sandbox account's attempts and shrink the time.
STRIPE_RETRIES = Retries((0.05, 0.1, 0.2))


def vapi_backoff(
    kind: str, max_retries: int, base_delay_seconds: float, excluded_statuses: frozenset[int] = frozenset()
) -> Retries:
    """Return the retries of a Vapi backoff plan, `fixed` or `exponential`."""
    if kind not in {"fixed", "exponential"}:
        raise ValueError(f"unknown backoff plan: {kind}")
    growth = 2 if kind == "exponential" else 1
    delays = tuple(base_delay_seconds * growth**attempt for attempt in range(max_retries))
    return Retries(delays, excluded_statuses)


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint: where, signed how, retried how often, answered within how many seconds."""

    url: str
    signer: Signer
    retries: Retries = NO_RETRIES
    timeout_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one delivery: the status of each attempt, None for a broken connection."""

    delivery: Delivery
    statuses: tuple[int | None, ...]

    @property
    def accepted(self) -> bool:
        """Whether the last attempt was answered with 2xx."""
        return self.statuses[-1] in _SUCCESS


@dataclass(frozen=True, slots=True)
class SendReport:
    """Outcomes in the order of the plan."""

    outcomes: tuple[Outcome, ...]

    @property
    def accepted_ids(self) -> set[str]:
        """Subjects of which at least one delivery was accepted."""
        return {outcome.delivery.message.subject_id for outcome in self.outcomes if outcome.accepted}

    @property
    def final_statuses(self) -> dict[str, int]:
        """How many deliveries ended with which status; `broken` stands for no answer."""
        return dict(Counter(str(outcome.statuses[-1] or "broken") for outcome in self.outcomes))


async def send(
    deliveries: Sequence[Delivery],
    target: Target,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    per_second: float | None = None,
    clock: Callable[[], float] = time.time,
) -> SendReport:
    """Send in order, at most `concurrency` at a time and `per_second` started per second.

    With a concurrency of 1 the order of arrival is exactly that of the plan. `clock` (Unix seconds) dates
    the signature of each attempt.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(deliveries))
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(timeout=target.timeout_seconds, limits=limits, trust_env=False) as client:

        async def work() -> None:
            for position, delivery in waiting:
                outcomes[position] = await _attempt(client, delivery, target, clock)
                if per_second is not None:
                    await asyncio.sleep(concurrency / per_second)

        await asyncio.gather(*(work() for _ in range(concurrency)))
    return SendReport(tuple(outcomes[position] for position in range(len(deliveries))))


def send_now(
    deliveries: Sequence[Delivery],
    target: Target,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    per_second: float | None = None,
    clock: Callable[[], float] = time.time,
) -> SendReport:
    """Send from code that is not asynchronous; see `send`."""
    return asyncio.run(send(deliveries, target, concurrency=concurrency, per_second=per_second, clock=clock))


async def _attempt(
    client: httpx.AsyncClient, delivery: Delivery, target: Target, clock: Callable[[], float]
) -> Outcome:
    statuses: list[int | None] = []
    for delay_seconds in (0.0, *target.retries.delays_seconds):
        if delay_seconds:
            await asyncio.sleep(delay_seconds)
        status = await _post(client, delivery, target, clock())
        statuses.append(status)
        if status is not None and (status in _SUCCESS or status in target.retries.excluded_statuses):
            break
    return Outcome(delivery, tuple(statuses))


async def _post(client: httpx.AsyncClient, delivery: Delivery, target: Target, at_seconds: float) -> int | None:
    body = delivery.message.body
    headers = {"Content-Type": "application/json"} | target.signer.headers(body, at_seconds)
    try:
        response = await client.post(target.url, content=body, headers=headers)
    except httpx.TransportError:
        return None
    return response.status_code
