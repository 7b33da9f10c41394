"""What the books know comes as exact tables, whatever stands in them."""

from datetime import timedelta

import pandas as pd
import pytest
from sqlalchemy import Engine

from billing import known_calls, repair
from billing.call_frames import KNOWN_COLUMNS, concatenated, frame, ids_missing
from billing.vapi import EndedCall
from tests.books import Books

from .bookkeeping import WINDOW, acme, begin, ended
from .listed import CREATED, listed

ODD_TEXTS = ["asst,1", 'as"st', "as\nst", "", "\\N", " ", "日本", "NULL"]


def test_known_calls_are_those_of_the_window_and_those_asked_for(books: Books, engine: Engine) -> None:
    """The window is half-open on `created_at`; older calls are found by their ids."""
    acme(books)
    starts = {
        "too-old": WINDOW.listed_from - timedelta(milliseconds=1),
        "first": WINDOW.listed_from,
        "last": WINDOW.end - timedelta(milliseconds=1),
        "too-new": WINDOW.end,
    }
    calls = [
        listed(call_id, created_at=created, assistant_id="asst").ended_call() for call_id, created in starts.items()
    ]
    repair.record_calls(engine, calls, begin(engine))

    assert set(known_calls.load_known_calls(engine, WINDOW)["call_id"]) == {"first", "last"}
    assert set(known_calls.load_known_by_id(engine, ["too-old", "unheard-of"])["call_id"]) == {"too-old"}


def test_known_calls_are_exact(books: Books, engine: Engine) -> None:
    """Micros beyond floats, microseconds, absent values and odd texts come through, in the declared types."""
    organization_id = acme(books)
    moment = CREATED + timedelta(microseconds=123_457)
    big = EndedCall("big", moment, "asst", started_at=moment, ended_at=moment, provider_cost_micros=2**53 + 1)
    odd = [EndedCall(f"odd-{place}", CREATED, text) for place, text in enumerate(ODD_TEXTS)]
    repair.record_calls(engine, [big, *odd, ended("none", None, assistant=None)], begin(engine))
    known = known_calls.load_known_calls(engine, WINDOW).set_index("call_id")

    assert known["cost_micros"]["big"] == 2**53 + 1
    assert known["created_at"]["big"] == pd.Timestamp(moment)
    assert str(known["organization_id"]["big"]) == str(organization_id)
    assert [known["assistant_id"][f"odd-{place}"] for place in range(len(ODD_TEXTS))] == ODD_TEXTS
    assert pd.isna(known["assistant_id"]["none"])
    assert pd.isna(known["started_at"]["none"])
    assert not known["by_webhook"].any()
    assert {name: str(kind) for name, kind in known.reset_index().dtypes.items()} == dict(KNOWN_COLUMNS)


def test_books_without_calls_have_a_table_all_the_same(engine: Engine) -> None:
    """Empty, with the same columns and types."""
    known = known_calls.load_known_calls(engine, WINDOW)

    assert len(known) == 0
    assert {name: str(kind) for name, kind in known.dtypes.items()} == dict(KNOWN_COLUMNS)


def test_routes_have_open_ends(books: Books, engine: Engine) -> None:
    """Since ever and for ever are absent times, dated ones are moments."""
    organization_id = acme(books)
    books.route(organization_id, "later", since=CREATED.isoformat())
    routes = known_calls.load_routes(engine).set_index("external_id")

    assert pd.isna(routes["valid_from"]["asst"])
    assert routes["valid_from"]["later"] == pd.Timestamp(CREATED)
    assert routes["valid_to"].isna().all()
    assert set(routes["organization_id"]) == {str(organization_id)}


def ids(*texts: str | None) -> "pd.Series[str]":
    """A column of ids."""
    return frame([{"call_id": text} for text in texts], KNOWN_COLUMNS)["call_id"]


@pytest.mark.parametrize(
    ("theirs", "ours", "missing"),
    [
        (ids("a", "b", "a", None), ids("b"), ["a"]),
        (ids("a"), ids(), ["a"]),
        (ids(), ids("a"), []),
        (ids(), ids(), []),
    ],
)
def test_ids_that_we_lack_are_named_once(
    theirs: "pd.Series[str]", ours: "pd.Series[str]", missing: list[str]
) -> None:
    """An absent id is nobody's, and either side may be empty."""
    assert ids_missing(theirs, ours) == missing


def test_tables_are_joined_with_all_their_categories_and_emptied() -> None:
    """Even if one of them has no value at all; nothing is left in memory twice."""
    parts = [
        frame([{"call_id": "a", "assistant_id": "x", "duration_ms": 2**53 + 1}], KNOWN_COLUMNS),
        frame([], KNOWN_COLUMNS),
        frame([{"call_id": "b", "assistant_id": "y"}, {"call_id": "c"}], KNOWN_COLUMNS),
    ]
    joined = concatenated(parts)

    assert {name: str(kind) for name, kind in joined.dtypes.items()} == dict(KNOWN_COLUMNS)
    assert joined["assistant_id"].astype(object).where(joined["assistant_id"].notna(), None).tolist() == [
        "x",
        "y",
        None,
    ]
    assert joined["duration_ms"].iloc[0] == 2**53 + 1
    assert [list(part.columns) for part in parts] == [[], [], []]
