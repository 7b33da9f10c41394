"""What the books know comes as exact tables, whatever stands in them."""

from datetime import timedelta

import pandas as pd
from sqlalchemy import Engine

from billing import known_calls, repair
from billing.call_frames import KNOWN_COLUMNS
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
