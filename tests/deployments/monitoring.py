"""Which metrics the program has, and which a PromQL expression speaks of."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.core import Metric
from sqlalchemy import create_engine

from billing.metrics import DATABASE_GAUGES, EVENT_FAILURES, FLOW_RUNS, WORKER, count_applied
from billing.prefect_probe import PrefectProbe
from billing.settings import Settings
from receiver.metrics import ReceiverMetrics

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"

ADDED_BY_PROMETHEUS = {"job", "instance"}

SELECTOR = re.compile(r"\b((?:calltally|process)_\w+)\s*(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    """A metric in an expression, with the labels that it is chosen by."""

    name: str
    labels: frozenset[str]


def selectors(expression: str) -> set[Selector]:
    """The metrics of ours that an expression speaks of."""
    without_groupings = GROUPING.sub(" ", expression)
    return {
        Selector(name, frozenset(label for label, _, _ in MATCHER.findall(matchers)))
        for name, matchers in SELECTOR.findall(without_groupings)
    }


def groupings(expression: str) -> set[str]:
    """The labels that it groups by."""
    return {label.strip() for found in GROUPING.findall(expression) for label in found.split(",") if label.strip()}


def known_metrics() -> dict[str, set[str]]:
    """The labels of every series that receivers and workers show, by its name."""
    engine, settings = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/x"), Settings(_env_file=None)
    receiver = ReceiverMetrics(engine, settings, PrefectProbe(settings))
    receiver.observed("vapi", lambda *_: None)  # type: ignore[arg-type]
    count_applied([("vapi", datetime.now(UTC))], Counter(done=0), Counter(settled=0))
    EVENT_FAILURES.labels("DatabaseUnavailable").inc(0)
    FLOW_RUNS.labels("process_webhooks", "completed").inc(0)
    families: list[Metric] = [*receiver.registry.collect(), *WORKER.collect()]
    shown = {gauge.name: set(gauge.labels) for gauge in DATABASE_GAUGES}
    for family in families:
        for sample in family.samples:
            shown.setdefault(sample.name, set()).update(sample.labels)
    return shown


def problems(expression: str, known: dict[str, set[str]]) -> list[str]:
    """What is wrong with an expression: names and labels that the program does not have, or brackets."""
    found = []
    chosen = selectors(expression)
    for selector in chosen:
        if selector.name not in known:
            found.append(f"no metric {selector.name}")
        elif unknown := set(selector.labels) - known[selector.name] - ADDED_BY_PROMETHEUS:
            found.append(f"{selector.name} has no label {sorted(unknown)}")
    possible = {label for selector in chosen for label in known.get(selector.name, ())} | ADDED_BY_PROMETHEUS
    if unknown := groupings(expression) - possible:
        found.append(f"nothing in it has the label {sorted(unknown)}")
    if not _is_balanced(expression):
        found.append("brackets do not match")
    return found


def _is_balanced(expression: str) -> bool:
    pairs = {")": "(", "]": "[", "}": "{"}
    open_ones: list[str] = []
    for sign in re.sub(r'"[^"]*"', "", expression):
        if sign in pairs.values():
            open_ones.append(sign)
        elif sign in pairs and (not open_ones or open_ones.pop() != pairs[sign]):
            return False
    return not open_ones
