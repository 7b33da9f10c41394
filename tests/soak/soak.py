"""One soak: start everything, send, disturb, reconcile, watch; then wait for the rest, and settle accounts."""

import asyncio
import csv
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from billing.errors import BillingError
from calltally.sandbox.server import RunningSandbox
from tests.scenarios.installation import Installation

from .accounts import OPENING_TOPUPS, STUCK, differences
from .memory import Life, Sample, lives, look
from .nights import Nights
from .sender import Sender
from .traffic import CHUNK_SECONDS, LONGEST_SECONDS, Provider, provider_time
from .troubles import Troubles

ASSISTANTS = ("asst-acme", "asst-bolt", "asst-corner", "asst-poor")
RICH_MICROS = 1_000_000_000_000
POOR_MICROS = 50_000_000
"""Of asst-poor's owner, who soon comes to the debt limit and is settled by the next payments."""
SAMPLE_SECONDS = 5.0
TROUBLES_PER_SOAK = 8
LONGEST_PEACE_SECONDS = 600.0
QUIET_SECONDS = 30.0
"""Before the end, without new trouble."""
NIGHTS_PER_SOAK = 5
LONGEST_EVENING_SECONDS = 900.0
DRAIN_SECONDS = 180.0
STRAGGLERS = timedelta(seconds=LONGEST_SECONDS + CHUNK_SECONDS + 10)
QUEUE = (
    "SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting, count(*) FILTER (WHERE state = 'active') AS active,"
    " count(*) FILTER (WHERE state = 'delayed') AS delayed,"
    " coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8 AS oldest_seconds"
    " FROM events WHERE state IN ('waiting', 'active', 'delayed')"
)
LATENCY = (
    "SELECT percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY"
    " extract(epoch FROM coalesce(finished_at, clock_timestamp()) - received_at))::float8[] AS quantiles,"
    " max(id) AS last FROM events WHERE id > :after AND state <> 'parked' AND received_at < now() - interval '5 s'"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how much, and where the samples go."""

    seconds: float
    rate: float
    csv: Path

    @property
    def peace_seconds(self) -> float:
        """Between two troubles."""
        return min(LONGEST_PEACE_SECONDS, self.seconds / TROUBLES_PER_SOAK)

    @property
    def evening_seconds(self) -> float:
        """Between two reconciliations."""
        return min(LONGEST_EVENING_SECONDS, self.seconds / NIGHTS_PER_SOAK)


@dataclass
class Result:
    """What was seen."""

    lives: Sequence[Life]
    problems: list[str]
    sent: int
    troubles: dict[str, int]
    repeated: dict[str, int]
    nights: tuple[int, int]
    """Finished and failed."""
    planted: dict[str, int]
    latency_seconds: tuple[float, float, float]
    """From storing an event to its end: median, 99th percentile, longest."""


@dataclass
class Soak:
    """A soak under way."""

    plan: Plan
    installation: Installation
    sandbox: RunningSandbox
    say: Callable[[str], None] = print
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> Result:
        """All of it."""
        provider = Provider(self.sandbox.sandbox, ASSISTANTS, open_wallets(self.installation))
        self._nights = Nights(self.installation, self.sandbox.vapi, provider_time() - timedelta(seconds=5))
        self._troubles = Troubles(self.installation, self.sandbox.slack)
        self._sender = Sender(self.installation.receiver_port)
        self._started = time.monotonic()
        async with self._beside(self._sample(), self._watch(), self._make_trouble()):
            await self._send(provider)
            await self._sender.close()
            traffic_seconds = self._seconds()
            drained = await self._drain()
        problems = [] if drained else ["the inbox was not empty after the last delivery"]
        if not await self._settle():
            problems.append("the last reconciliation or the last look of the monitor failed")
        planted = provider.planted
        problems += differences(self.installation, planted, self._sender.statuses)
        processes = lives(self.samples, traffic_seconds)
        return Result(
            lives=processes,
            problems=problems + [problem for life in processes for problem in life.problems],
            sent=self._sender.answered,
            troubles=dict(self._troubles.made),
            repeated=dict(self._sender.troubles),
            nights=(self._nights.finished, self._nights.failed),
            planted={"lost reports": planted.lost_reports, **_by_state(planted.events)},
            latency_seconds=tuple(self._ask(LATENCY, after=0)["quantiles"]),
        )

    async def _send(self, provider: Provider) -> None:
        """Chunk after chunk, each spread evenly over its time."""
        next_at = time.monotonic()
        while self._seconds() < self.plan.seconds:
            chunk = provider.chunk(datetime.now(UTC), self.plan.rate)
            for number, delivery in enumerate(chunk):
                self._sender.send(delivery)
                if number % 20 == 0:
                    self._sender.send_late_ones()
                    due = next_at + CHUNK_SECONDS * number / len(chunk)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            next_at += CHUNK_SECONDS
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def _make_trouble(self) -> None:
        """Processes die in the first half alone: the second shows whether those that live on grow."""
        number = 0
        while True:
            await asyncio.sleep(self.plan.peace_seconds)
            if self._seconds() > self.plan.seconds - QUIET_SECONDS:
                return
            deadly = self._seconds() < self.plan.seconds * 0.4
            name = await self._troubles.make(number, deadly=deadly)
            self.say(f"{self._clock()}  trouble: {name}")
            number += 1

    async def _watch(self) -> None:
        """Reconcile, and let the monitor look, from time to time."""
        while True:
            await asyncio.sleep(self.plan.evening_seconds)
            if self._seconds() > self.plan.seconds:
                return
            went_well = await self._nights.reconcile()
            await self._nights.monitor()
            self.say(f"{self._clock()}  reconciliation: {'finished' if went_well else 'FAILED, to be repeated'}")

    async def _sample(self) -> None:
        """Look at memory, queue and latency; write it down, and say it now and then."""
        last, said_at = 0, 0.0
        with self.plan.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "what", "pid", "value", "unit"])
            while True:
                await asyncio.sleep(SAMPLE_SECONDS)
                now = self._seconds()
                looked = await asyncio.to_thread(lambda at: look(self.installation.processes(), at), now)
                self.samples += looked
                for seen in looked:
                    writer.writerow([round(now, 1), seen.name, seen.pid, round(seen.megabytes, 1), "MB"])
                    writer.writerow([round(now, 1), seen.name, seen.pid, round(seen.own_mb, 1), "MB of its own"])
                try:
                    queue = await asyncio.to_thread(self._ask, QUEUE)
                    latency = await asyncio.to_thread(self._ask, LATENCY, after=last)
                except BillingError:
                    continue  # it is down, or has just thrown us out
                last, quantiles = latency["last"] or last, latency["quantiles"] or [0.0, 0.0, 0.0]
                figures = {**queue, "sent": self._sender.answered, "unsent": self._sender.unsent}
                figures |= dict(zip(("p50_seconds", "p99_seconds", "longest_seconds"), quantiles, strict=True))
                writer.writerows([round(now, 1), name, "", value, ""] for name, value in figures.items())
                file.flush()
                if now - said_at >= min(60.0, self.plan.seconds / 20):
                    said_at = now
                    self.say(f"{self._clock()}  {_in_words(figures, looked)}")

    async def _drain(self) -> bool:
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline:
            queue = await asyncio.to_thread(self._ask, QUEUE)
            if queue["waiting"] + queue["active"] + queue["delayed"] == 0:
                return True
            await asyncio.sleep(0.5)
        return False

    async def _settle(self) -> bool:
        """The last night takes everything that is left."""
        until = provider_time() + STRAGGLERS
        for _ in range(3):
            if await self._nights.reconcile(until) and await self._nights.monitor():
                return bool(self._ask(STUCK)["stuck"] == 0)
        return False

    @asynccontextmanager
    async def _beside(self, *duties: Any) -> AsyncIterator[None]:
        """Run the duties beside the block; one that fails spoils the soak."""
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    def _ask(self, query: str, **parameters: Any) -> dict[str, Any]:
        return self.installation.ask(query, **parameters)[0]

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _clock(self) -> str:
        minutes, seconds = divmod(int(self._seconds()), 60)
        return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def open_wallets(installation: Installation) -> list[Any]:
    """Organizations with money and a route; their ids."""
    ids = []
    for assistant in ASSISTANTS:
        organization_id = installation.books.organization(f"Owner of {assistant}")
        amount = POOR_MICROS if assistant == "asst-poor" else RICH_MICROS
        installation.books.credit(organization_id, amount, f"{OPENING_TOPUPS}{assistant}")
        installation.books.route(organization_id, assistant)
        ids.append(organization_id)
    return ids


def _by_state(events: Any) -> dict[str, int]:
    states = sorted({state for _, _, state in events})
    return {state: sum(count for key, count in events.items() if key[2] == state) for state in states}


def _in_words(figures: dict[str, Any], samples: Sequence[Sample]) -> str:
    sizes = "  ".join(f"{sample.name} {sample.megabytes:.0f}" for sample in samples if sample.name != "guard")
    return (
        f"{figures['sent']:,} sent  {figures['waiting']} waiting  p50 {figures['p50_seconds']:.2f} s"
        f"  p99 {figures['p99_seconds']:.2f} s  MB: {sizes}"
    )
