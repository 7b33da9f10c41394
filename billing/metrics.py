"""What Prometheus is told, by its naming conventions: what the books say when asked, and what a worker does.

Money stays in micros (`_micros`), like everywhere else: Prometheus has no convention for it, a float holds it exactly
up to nine billion units, and a figure in a graph is then the figure in SQL. Dashboards divide by 1e6.
"""

import logging
import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psycopg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from billing.probe import Probe, Reader

log = logging.getLogger("billing.metrics")

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, that nobody asks for

FRESH_SECONDS: Final = 5.0
"""Scrapes within this time share one look at the database."""
READING_SECONDS: Final = 0.5
"""Then the remaining gauges are left out of this scrape."""

_PROVIDERS: Final = "(VALUES ('stripe'), ('vapi'), ('twilio')) AS known (provider)"
_NIGHT: Final = "FROM reporting.night_figures AS night"


@dataclass(frozen=True, slots=True)
class DatabaseGauge:
    """A figure that the books know; `query` answers with one column per label and `value`, null for unknown."""

    name: str
    help: str
    query: str
    labels: tuple[str, ...] = ()


DATABASE_GAUGES: Final[Sequence[DatabaseGauge]] = (
    DatabaseGauge(
        "calltally_events",
        "Events of the inbox that are not finished, and dead ones.",
        f"""
        WITH counted AS (
            SELECT provider, state, count(*) AS events FROM events WHERE state = 'waiting' GROUP BY 1, 2
            UNION ALL
            SELECT provider, state, count(*) FROM events WHERE state IN ('active', 'delayed') GROUP BY 1, 2
            UNION ALL
            SELECT provider, state, count(*) FROM events WHERE state = 'parked' GROUP BY 1, 2
            UNION ALL
            SELECT provider, state, count(*) FROM events WHERE state = 'dead' GROUP BY 1, 2
        )
        SELECT provider, state, coalesce(events, 0) AS value FROM {_PROVIDERS}
        CROSS JOIN (VALUES ('waiting'), ('active'), ('delayed'), ('parked'), ('dead')) AS states (state)
        LEFT JOIN counted USING (provider, state)
        """,  # noqa: S608 - constants
        ("provider", "state"),
    ),
    DatabaseGauge(
        "calltally_events_finished",
        "Events that are done or skipped and not forgotten yet; estimated beyond 100,000.",
        "SELECT finished AS value FROM queue_metrics()",
    ),
    DatabaseGauge(
        "calltally_oldest_waiting_event_seconds",
        "For how long the oldest event has not been applied, in line or claimed by a worker; 0 if there is none.",
        f"""
        SELECT provider, coalesce(extract(epoch FROM now() - received_at), 0) AS value FROM {_PROVIDERS}
        LEFT JOIN LATERAL (
            SELECT min(received_at) AS received_at FROM (
                (
                    SELECT received_at FROM events WHERE state = 'waiting' AND events.provider = known.provider
                    ORDER BY id LIMIT 1
                )
                UNION ALL
                SELECT received_at FROM events
                WHERE state IN ('active', 'delayed') AND events.provider = known.provider
            ) AS unsettled
        ) AS head ON true
        """,  # noqa: S608 - constants
        ("provider",),
    ),
    DatabaseGauge(
        "calltally_calls_unattributed",
        "Calls in quarantine: no route names who pays.",
        "SELECT count(*) AS value FROM calls WHERE organization_id IS NULL",
    ),
    DatabaseGauge(
        "calltally_messages",
        "Messages that were first told of in the last 24 hours, by the furthest status that was told.",
        """
        SELECT known.status, count(first_seen_at) AS value
        FROM unnest(
            ARRAY['scheduled', 'accepted', 'queued', 'sending', 'sent', 'canceled', 'failed', 'partially_delivered',
            'undelivered', 'delivered', 'read']
        ) AS known (status)
        LEFT JOIN sms_messages ON sms_messages.status = known.status AND first_seen_at > now() - interval '24 hours'
        GROUP BY known.status
        """,
        ("status",),
    ),
    DatabaseGauge(
        "calltally_outstanding_micros",
        "Charges that a debt limit refused and that are owed, in micros of the currency.",
        "SELECT currency, sum(outstanding_micros) AS value FROM reporting.wallet_figures GROUP BY currency",
        ("currency",),
    ),
    DatabaseGauge(
        "calltally_wallet_balance_micros",
        "What all wallets hold together, in micros of the currency; debts count below zero.",
        "SELECT currency, sum(balance_micros) AS value FROM reporting.wallet_figures GROUP BY currency",
        ("currency",),
    ),
    DatabaseGauge(
        "calltally_wallets",
        "Wallets that are well, low (below their recharge threshold), near their debt limit (four fifths used), "
        "or at it (or owing charges).",
        """
        SELECT currency, states.state, coalesce(sum(wallets) FILTER (WHERE known.state = states.state), 0) AS value
        FROM reporting.wallet_figures AS known
        CROSS JOIN (VALUES ('well'), ('low'), ('near_limit'), ('at_limit')) AS states (state) GROUP BY 1, 2
        """,
        ("currency", "state"),
    ),
    DatabaseGauge(
        "calltally_night_completed_timestamp_seconds",
        "When the last night of the whole reseller was completed.",
        f"SELECT extract(epoch FROM finished_at) AS value {_NIGHT}",  # noqa: S608 - constants
    ),
    DatabaseGauge(
        "calltally_night_reliability_ratio",
        "Of that night: ended calls reported by webhook / ended calls; absent if there were none.",
        f"SELECT reliability_ratio AS value {_NIGHT}",
    ),
    DatabaseGauge(
        "calltally_night_ended_calls",
        "Of that night: calls that connected and ended.",
        f"SELECT ended_calls AS value {_NIGHT}",
    ),
    DatabaseGauge(
        "calltally_night_recovered_calls",
        "Of that night: calls that no webhook had told us of, recorded by the night.",
        f"SELECT recovered_calls AS value {_NIGHT}",
    ),
    DatabaseGauge(
        "calltally_night_recovered_micros",
        "Of that night: what was charged for them, in micros of the currency.",
        "SELECT money.currency, money.recovered_micros AS value"
        f" {_NIGHT}, jsonb_to_recordset(night.money) AS money (currency text, recovered_micros bigint)",
        ("currency",),
    ),
    DatabaseGauge(
        "calltally_night_at_risk_micros",
        "Of that night: estimated price of calls that cannot be charged yet, in micros of the currency.",
        "SELECT money.currency, money.at_risk_micros AS value"
        f" {_NIGHT}, jsonb_to_recordset(night.money) AS money (currency text, at_risk_micros bigint)",
        ("currency",),
    ),
    DatabaseGauge(
        "calltally_night_calls",
        "Of that night: calls by what the comparison found (matched, missing, drift, and so on).",
        f"SELECT found.kind, found.calls::bigint AS value {_NIGHT}, jsonb_each_text(counts) AS found (kind, calls)",
        ("kind",),
    ),
    DatabaseGauge(
        "calltally_workers_alive",
        "Workers that were seen within the last 20 seconds.",
        "SELECT count(*) AS value FROM workers WHERE seen_at > now() - interval '20 seconds'",
    ),
    DatabaseGauge(
        "calltally_incidents_open",
        "Conditions that people were told of and that still hold, by the first part of their key.",
        "SELECT split_part(key, ':', 1) AS key, severity, count(*) AS value FROM incidents"
        " WHERE closed_at IS NULL GROUP BY 1, 2",
        ("key", "severity"),
    ),
    DatabaseGauge(
        "calltally_alerts_unsent",
        "Messages for Slack that are due and have not been sent.",
        "SELECT count(*) AS value FROM alerts WHERE sent_at IS NULL AND withdrawn_at IS NULL AND due_at <= now()",
    ),
)

DATABASE_UP: Final = "calltally_database_up"
"""1 if the figures of this scrape could be read; if it is 0, the others are absent rather than old."""

Figures = dict[str, list[tuple[tuple[str, ...], float]]]


class DatabaseFigures(Collector):
    """The gauges above, as `refresh` last saw them. Every process that shares the books says the same."""

    def __init__(self, engine: Engine) -> None:
        self._probe = Probe(engine, _read)
        self._figures: Figures | None = None
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Look again unless that was done just now; within a second, whatever hangs."""
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        self._figures = await self._probe.ask()
        if self._figures is not None:
            self._read_at = time.monotonic()

    def close(self) -> None:
        """Let go of the connection."""
        self._probe.close()

    def collect(self) -> Iterator[Metric]:
        """What `refresh` found."""
        up = GaugeMetricFamily(DATABASE_UP, "Whether the database answered in time.")
        up.add_metric([], float(self._figures is not None))
        yield up
        for gauge in DATABASE_GAUGES:
            samples = (self._figures or {}).get(gauge.name)
            if samples is not None:
                family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
                for labels, value in samples:
                    family.add_metric(labels, value)
                yield family


def _read(reader: Reader) -> Figures:
    figures: Figures = {}
    deadline = time.monotonic() + READING_SECONDS
    for gauge in DATABASE_GAUGES:
        if time.monotonic() > deadline:
            log.warning("metrics.slow: %s and what follows are left out", gauge.name)
            break
        with suppress(psycopg.errors.QueryCanceled):  # that one took too long
            found = reader.execute(gauge.query.encode()).fetchall()
            figures[gauge.name] = [
                (tuple(str(row[label]) for label in gauge.labels), float(row["value"]))
                for row in found
                if row["value"] is not None
            ]
    return figures


WORKER: Final = CollectorRegistry()
"""What a worker's own endpoint shows."""
ProcessCollector(registry=WORKER)
GCCollector(registry=WORKER)

LATENCY_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)

EVENTS_APPLIED: Final = Counter(
    "calltally_events_applied", "Events that this worker ended, by state.", ["state"], registry=WORKER
)
APPLY_LATENCY: Final = Histogram(
    "calltally_event_latency_seconds",
    "From receiving an event to its effect being committed; by the clocks of database and worker.",
    ["provider"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
BATCH_EVENTS: Final = Histogram(
    "calltally_batch_events",
    "Events applied in one transaction.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000),
    registry=WORKER,
)
CALLS_RECORDED: Final = Counter(
    "calltally_calls_recorded",
    "Calls recorded from webhooks by this worker, by what became of their charge.",
    ["outcome"],
    registry=WORKER,
)
EVENT_FAILURES: Final = Counter(
    "calltally_event_failures", "Failed attempts at events, by class of error.", ["error"], registry=WORKER
)
FLOW_RUNS: Final = Counter(
    "calltally_flow_runs",
    "Flow runs that ended in this worker, by flow and end.",
    ["flow", "state"],
    registry=WORKER,
)


def count_runs_from_zero(flows: Iterable[str]) -> None:
    """Show flows that have not ended badly yet as well: Prometheus sees no first failure that begins a series."""
    for flow in flows:
        for state in ("completed", "failed", "crashed"):
            FLOW_RUNS.labels(flow, state)


def count_applied(arrivals: Iterable[tuple[str, datetime]], states: Tally[str], calls: Tally[str]) -> None:
    """Note a committed transaction: provider and time of arrival of each event, and what became of them."""
    now = datetime.now(UTC)
    size = 0
    for provider, received_at in arrivals:
        size += 1
        APPLY_LATENCY.labels(provider).observe(max(0.0, (now - received_at).total_seconds()))
    BATCH_EVENTS.observe(size)
    for state, events in states.items():
        EVENTS_APPLIED.labels(state).inc(events)
    for outcome, recorded in calls.items():
        CALLS_RECORDED.labels(outcome).inc(recorded)
