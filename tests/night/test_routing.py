"""Who pays, for many calls at once: what the books would answer for each of them."""

import json
from datetime import datetime, timedelta
from itertools import pairwise, product
from typing import Any

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.call_frames import PROVIDER_COLUMNS, ROUTE_COLUMNS, frame
from billing.routing import PRECEDENCE, organizations_of
from billing.vapi import ListedCall, read_page, read_report
from tests.books import Books

from .listed import ACME, CREATED, GLOBEX, route

Row = dict[str, Any]
MICROSECOND = timedelta(microseconds=1)
MOMENTS = [CREATED + timedelta(days=day) for day in range(5)]


def payers(calls: list[Row], routes: list[Row]) -> list[str | None]:
    """The organization of each call."""
    found = organizations_of(frame(calls, PROVIDER_COLUMNS), frame(routes, ROUTE_COLUMNS)).astype(object)
    return [None if pd.isna(organization) else organization for organization in found]


def call(created_at: datetime | None = CREATED, **ids: str | None) -> Row:
    """As much of a call as routes are about."""
    return {"created_at": created_at, **ids}


def test_assistant_decides_first_and_metadata_last() -> None:
    """The first of them that has a route; the same id of another kind says nothing."""
    routes = [
        route("a", "by-assistant"),
        route("s", "by-squad", "squad"),
        route("w", "by-workflow", "workflow"),
        route("n", "by-number", "phone_number"),
        route("org_id=m", "by-metadata", "metadata"),
    ]
    told: Row = {"squad_id": "s", "workflow_id": "w", "phone_number_id": "n", "metadata": "org_id=m"}
    calls = [
        call(assistant_id="a", **told),
        call(assistant_id="x", **told),
        call(assistant_id=None, **told | {"squad_id": "x"}),
        call(**told | {"squad_id": None, "workflow_id": None}),
        call(**told | {"squad_id": None, "workflow_id": "s", "phone_number_id": "x"}),
        call(assistant_id="s", squad_id="n", phone_number_id="a", metadata="tenant_id=m"),
        call(),
    ]

    assert payers(calls, routes) == [
        "by-assistant", "by-squad", "by-workflow", "by-number", "by-metadata", None, None,
    ]  # fmt: skip


def test_route_holds_from_its_first_moment_to_just_before_its_last() -> None:
    """Where one ends and the next begins, the next one holds; between routes nobody pays."""
    _, first, second, third, _ = MOMENTS
    routes = [route("a", ACME, valid_from=first, valid_to=second), route("a", GLOBEX, valid_from=third)]
    moments = [first - MICROSECOND, first, second - MICROSECOND, second, third - MICROSECOND, third]

    assert payers([call(moment, assistant_id="a") for moment in moments], routes) == [
        None,
        ACME,
        ACME,
        None,
        None,
        GLOBEX,
    ]


def test_assistant_whose_route_has_ended_leaves_the_decision_to_the_number() -> None:
    """A route that does not hold is none."""
    routes = [route("a", ACME, valid_to=CREATED), route("n", GLOBEX, "phone_number")]

    assert payers([call(assistant_id="a", phone_number_id="n")], routes) == [GLOBEX]


@pytest.mark.parametrize("routes", [[], [route("a")]])
def test_call_without_a_time_of_creation_belongs_to_nobody(routes: list[Row]) -> None:
    """No route is in force at no time, not even one since ever; and no calls have no payers."""
    assert payers([call(None, assistant_id="a")], routes) == [None]
    assert payers([], routes) == []


def test_rows_keep_their_index() -> None:
    """The answer can be put beside the calls, whatever part of a list they are."""
    calls = frame([call(assistant_id="b"), call(assistant_id="a")], PROVIDER_COLUMNS)[1:]

    assert organizations_of(calls, frame([route("a")], ROUTE_COLUMNS)).to_dict() == {1: ACME}


ROUTES = [
    route("a", "assistant"),
    route("member", "member"),
    route("s", "squad", "squad"),
    route("w", "workflow", "workflow"),
    route("n", "number", "phone_number"),
    route("org_id=m", "metadata", "metadata"),
]


@pytest.mark.parametrize("spoke", [None, "a", "member"])
@pytest.mark.parametrize(
    "named", [*product([None, "a"], [None, "s"], [None, "w"], [None, "n"], [None, "m"])], ids=str
)
def test_report_and_list_of_a_call_name_the_same_payer(named: tuple[str | None, ...], spoke: str | None) -> None:
    """Whichever ids a call has and whoever spoke in it; one without any is its assistant's, if the report says so."""
    told: Row = dict(zip(("assistantId", "squadId", "workflowId", "phoneNumberId"), named[:4], strict=True))
    told |= {"metadata": {"org_id": named[4]}} if named[4] else {}
    row = {
        "id": "c",
        "createdAt": "2026-11-03T12:00:00Z",
        "updatedAt": "2026-11-03T12:09:00Z",
        "status": "ended",
        **told,
    }
    message = {"assistant": {"id": spoke}, "phoneNumber": {"id": told["phoneNumberId"]}, "call": row}
    report = read_report(json.dumps({"message": message}).encode())
    (listed,) = read_page(json.dumps([row]).encode())
    assert isinstance(listed, ListedCall)
    ids = [
        {column: getattr(each, column) for column in PRECEDENCE.values()} for each in (report, listed.ended_call())
    ]

    for routes in (*(ROUTES[start:] for start in range(len(ROUTES))), ROUTES[:2], ROUTES[:1]):
        by_report, by_list = payers([call(**each) for each in ids], routes)
        assert by_report == by_list or not any(named[:4])


ORGANIZATIONS = ("one", "two", "three")
BOUNDS = [None, *MOMENTS, None]
CUTS = st.lists(st.integers(0, len(BOUNDS) - 1), min_size=2, max_size=5, unique=True).map(sorted)


@st.composite
def dated_routes(draw: st.DrawFn) -> list[Row]:
    """Routes of a few ids, which do not overlap, with gaps and open ends."""
    routes = []
    for kind in PRECEDENCE:
        for external_id in ("a", "b"):
            for start, end in pairwise(draw(CUTS)):
                if organization := draw(st.sampled_from([*ORGANIZATIONS, None])):
                    routes.append(route(external_id, organization, kind, BOUNDS[start], BOUNDS[end]))
    return draw(st.permutations(routes))


IDS = st.sampled_from(["a", "b", "unknown", None])
CALLS = st.lists(
    st.builds(
        call,
        st.sampled_from([MOMENTS[0] - timedelta(days=1), *MOMENTS]).flatmap(
            lambda moment: st.sampled_from([moment - MICROSECOND, moment, moment + MICROSECOND])
        ),
        assistant_id=IDS,
        squad_id=IDS,
        workflow_id=IDS,
        phone_number_id=IDS,
        metadata=IDS,
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(routes=dated_routes(), calls=CALLS)
def test_payers_are_those_that_the_books_would_find(
    books: Books, database_url: str, routes: list[Row], calls: list[Row]
) -> None:
    """The same answer as find_organization in sql/ for any calls and any dated routes."""
    for name in ORGANIZATIONS:
        if not books.rows("SELECT 1 FROM organizations WHERE name = :name", name=name):
            books.organization(name)
    uuids = {row["name"]: str(row["id"]) for row in books.rows("SELECT id, name FROM organizations")}
    routes = [row | {"organization_id": uuids[row["organization_id"]]} for row in routes]

    assert payers(calls, routes) == payers_by_books(database_url, calls, routes)


def payers_by_books(database_url: str, calls: list[Row], routes: list[Row]) -> list[str | None]:
    """What find_organization answers for each call, with these routes alone."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO routes (kind, external_id, organization_id, valid)"
            " SELECT kind, external_id, organization_id, tstzrange(valid_from, valid_to)"
            " FROM jsonb_to_recordset(%s) AS told"
            " (kind text, external_id text, organization_id uuid, valid_from timestamptz, valid_to timestamptz)",
            [json.dumps(routes, default=datetime.isoformat)],
        )
        answers = connection.execute(
            "SELECT"
            " find_organization(assistant_id, squad_id, workflow_id, phone_number_id, metadata, created_at)::text"
            " FROM ROWS FROM (jsonb_to_recordset(%s) AS (assistant_id text, squad_id text, workflow_id text,"
            " phone_number_id text, metadata text, created_at timestamptz)) WITH ORDINALITY AS told"
            " (assistant_id, squad_id, workflow_id, phone_number_id, metadata, created_at, place) ORDER BY place",
            [json.dumps(calls, default=datetime.isoformat)],
        ).fetchall()
        connection.rollback()
    return [organization for (organization,) in answers]
