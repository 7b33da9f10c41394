"""A corpus of planted differences: every one is found, nothing else is, and each under its own name."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pandas as pd
import pytest

from billing.call_frames import KNOWN_COLUMNS, PROVIDER_COLUMNS, ROUTE_COLUMNS, frame
from billing.reconcile import KINDS, Tolerances, find_differences
from billing.reliability import lost_calls

from .corpus import CLASSES, HOURS, PER_CLASS, ROUTES, Corpus, Row, planted
from .listed import AS_OF, RETENTION

SEEDS = (1, 2026)


def compared(corpus: Corpus, routes: Sequence[Row] = ROUTES) -> pd.DataFrame:
    """What the comparison finds."""
    return find_differences(
        frame(corpus.theirs, PROVIDER_COLUMNS),
        frame(corpus.ours, KNOWN_COLUMNS),
        frame(list(routes), ROUTE_COLUMNS),
        AS_OF,
        kept_since=AS_OF - RETENTION,
        tolerances=Tolerances(),
    )


def as_findings(differences: pd.DataFrame) -> Counter[tuple[str | None, str, str | None]]:
    """How often each call id, kind and fields of drift was found."""
    plain = differences[["call_id", "kind", "drift_fields"]].astype(object)
    return Counter(plain.where(plain.notna(), None).itertuples(index=False, name=None))


def payers(differences: pd.DataFrame) -> Counter[tuple[str | None, str | None]]:
    """Who pays for each call, as the comparison says."""
    plain = differences[["call_id", "organization_id"]].astype(object)
    return Counter(plain.where(plain.notna(), None).itertuples(index=False, name=None))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_planted_difference_is_found_and_nothing_else(seed: int) -> None:
    """Recall and precision of each kind are 1: what was planted, as often as it was planted, in the same fields."""
    corpus = planted(seed)
    found = as_findings(compared(corpus))
    right = found & corpus.expected

    for kind in KINDS:
        planted_of_kind, found_of_kind, right_of_kind = (
            sum(times for (_, of_kind, _), times in findings.items() if of_kind == kind)
            for findings in (corpus.expected, found, right)
        )
        assert planted_of_kind >= PER_CLASS
        assert right_of_kind / planted_of_kind == 1, f"recall of {kind}"
        assert right_of_kind / found_of_kind == 1, f"precision of {kind}"
    assert found == corpus.expected


def test_corpus_holds_enough_of_everything() -> None:
    """At least twelve classes, fifty calls of each, and every field in which a call can drift."""
    expected = planted(SEEDS[0]).expected
    fields = Counter(fields for _, _, fields in expected.elements() if fields)

    assert len(CLASSES) >= 12
    assert PER_CLASS >= 50
    assert {"ended_state", "duration", "cost", "organization", "duration,cost,organization"} <= set(fields)
    assert min(fields[name] for name in ("ended_state", "duration", "cost", "organization")) >= PER_CLASS


def test_order_of_the_lists_changes_no_finding() -> None:
    """Nor does the order of the routes."""
    corpus, random = planted(SEEDS[0]), Random(7)
    random.shuffle(corpus.theirs)
    random.shuffle(corpus.ours)
    orders = [ROUTES[::-1], *(random.sample(ROUTES, len(ROUTES)) for _ in range(3))]

    for routes in orders:
        found = compared(corpus, routes)
        assert as_findings(found) == corpus.expected
        assert payers(found) == payers(compared(corpus))


def test_lost_webhooks_are_those_that_were_planted() -> None:
    """Neither a waiting report nor an unanswered call is one; a call that an earlier night repaired still is."""
    corpus = planted(SEEDS[0])
    start = AS_OF - pd.Timedelta(hours=HOURS + 3)
    lost = lost_calls(compared(corpus), corpus.reported, start, AS_OF)

    assert lost["call_id"].is_unique
    assert set(lost["call_id"]) == corpus.lost
