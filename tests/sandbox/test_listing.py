"""`GET /call` and `GET /call/{id}` over real HTTP."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from calltally.sandbox.call_store import CallFilter
from calltally.sandbox.calls import Route
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.wire import iso, to_ms

from .conftest import ASSISTANT, DAY, NEXT_DAY, PlaceCalls, placing


def test_list_without_parameters_returns_the_newest_hundred(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """The answer is a bare array of 100 calls, newest first."""
    calls = place_calls(130)

    rows = vapi.get("/call").json()

    newest = sorted((call.created_at_ms for call in calls), reverse=True)[:100]
    assert [iso(moment) for moment in newest] == [row["createdAt"] for row in rows]


def test_list_with_a_tie_shows_the_smaller_id_first(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """Calls of one millisecond are all listed, ids ascending."""
    calls = place_calls(5, end=DAY + timedelta(milliseconds=1))

    rows = vapi.get("/call").json()

    assert sorted(call.id for call in calls) == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("parameter", "offsets"),
    [("createdAtGt", [2]), ("createdAtGe", [2, 1]), ("createdAtLt", [0]), ("createdAtLe", [1, 0])],
)
def test_list_with_a_creation_bound_keeps_the_right_side(
    sandbox: RunningSandbox,
    vapi: httpx.Client,
    place_calls: PlaceCalls,
    parameter: str,
    offsets: list[int],
) -> None:
    """`Gt` and `Lt` leave the bound itself out, `Ge` and `Le` keep it."""
    for offset in range(3):
        start = DAY + timedelta(milliseconds=offset)
        place_calls(1, start=start, end=start + timedelta(milliseconds=1))

    rows = vapi.get("/call", params={parameter: iso(to_ms(DAY) + 1)}).json()

    assert [iso(to_ms(DAY) + offset) for offset in offsets] == [row["createdAt"] for row in rows]


def test_list_with_a_finer_bound_compares_exactly(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """A bound half a millisecond later excludes the earlier call on `Ge` and includes it on `Lt`."""
    place_calls(1, end=DAY + timedelta(milliseconds=1))
    bound = "2026-11-03T00:00:00.000500Z"

    later = vapi.get("/call", params={"createdAtGe": bound}).json()
    earlier = vapi.get("/call", params={"createdAtLt": bound}).json()

    assert (len(later), len(earlier)) == (0, 1)


def test_list_of_adjoining_windows_finds_each_call_once(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """Half-open windows that touch return every call exactly once."""
    calls = place_calls(200, tie_share=0.3)
    found: list[str] = []
    for hour in range(24):
        start = DAY + timedelta(hours=hour)
        bounds = {"createdAtGe": iso(to_ms(start)), "createdAtLt": iso(to_ms(start + timedelta(hours=1)))}
        found += [row["id"] for row in vapi.get("/call", params=bounds).json()]

    assert sorted(call.id for call in calls) == sorted(found)


def test_list_by_update_finds_a_call_corrected_later(
    sandbox: RunningSandbox, vapi: httpx.Client, place_calls: PlaceCalls
) -> None:
    """A correction moves `updatedAt` and changes cost and end, and the update window shows it."""
    calls = place_calls(20, never_connected_share=0.0)
    corrected_at = NEXT_DAY + timedelta(days=2)
    sandbox.vapi.correct_call(calls[3].id, at=corrected_at, duration_ms=90_000, cost=Decimal("0.1234"))

    rows = vapi.get("/call", params={"updatedAtGe": iso(to_ms(corrected_at))}).json()

    assert [calls[3].id] == [row["id"] for row in rows]
    assert rows[0]["cost"] == rows[0]["costBreakdown"]["total"] == 0.1234
    assert iso((calls[3].started_at_ms or 0) + 90_000) == rows[0]["endedAt"]


def test_list_by_creation_and_update_keeps_calls_in_both_windows(
    sandbox: RunningSandbox, vapi: httpx.Client, place_calls: PlaceCalls
) -> None:
    """Of two calls corrected later and one left alone, only the corrected one of the hour is listed."""
    morning = place_calls(2, never_connected_share=0.0, end=DAY + timedelta(hours=1), tie_share=0.0)
    evening = place_calls(1, never_connected_share=0.0, start=NEXT_DAY - timedelta(hours=1))
    place_calls(5, start=NEXT_DAY, end=NEXT_DAY + timedelta(hours=1))
    for call in (morning[0], evening[0]):
        sandbox.vapi.correct_call(call.id, at=NEXT_DAY + timedelta(days=2), duration_ms=5_000)
    bounds = {"createdAtLt": iso(to_ms(DAY + timedelta(hours=1))), "updatedAtGe": iso(to_ms(NEXT_DAY))}

    rows = vapi.get("/call", params=bounds).json()

    assert [row["id"] for row in rows] == [morning[0].id]


def test_list_full_up_to_its_limit_starts_just_below_the_bound(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """A call created exactly at `createdAtLt` does not take a place on the page."""
    bound = DAY + timedelta(milliseconds=1)
    older = place_calls(3, end=bound)
    place_calls(2, start=bound, end=bound + timedelta(milliseconds=1))

    rows = vapi.get("/call", params={"createdAtLt": iso(to_ms(bound)), "limit": 3}).json()

    assert {row["id"] for row in rows} == {call.id for call in older}


def test_list_by_ids_matches_exactly(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """`assistantId`, `phoneNumberId` and `id` each select their calls."""
    other = Route(assistant_id="other", phone_number_id="line")
    calls = place_calls(6)
    others = place_calls(4, routes=(other,))

    by_assistant = vapi.get("/call", params={"assistantId": "other"}).json()
    by_number = vapi.get("/call", params={"phoneNumberId": "line"}).json()
    by_id = vapi.get("/call", params={"id": calls[0].id}).json()

    assert {call.id for call in others} == {row["id"] for row in by_assistant}
    assert by_assistant == by_number
    assert [calls[0].id] == [row["id"] for row in by_id]


def test_list_with_an_unknown_parameter_ignores_it(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """There are no pages: `page=2` returns the first rows again."""
    place_calls(3)

    assert vapi.get("/call").json() == vapi.get("/call", params={"page": 2}).json()


@pytest.mark.parametrize(
    "params", [{"limit": "1001"}, {"limit": "many"}, {"limit": "-1"}, {"createdAtGe": "yesterday"}]
)
def test_list_with_a_bad_parameter_answers_400_with_an_array(vapi: httpx.Client, params: dict[str, str]) -> None:
    """The error has Vapi's shape and names the parameter."""
    response = vapi.get("/call", params=params)

    assert response.status_code == 400
    assert (response.json()["error"], response.json()["statusCode"]) == ("Bad Request", 400)
    assert response.json()["message"][0].startswith(next(iter(params)))


def test_list_with_a_wrong_key_answers_401(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """The body is Vapi's hint about public and private keys."""
    response = vapi.get("/call", headers={"Authorization": "Bearer nonsense"})

    assert response.status_code == 401
    assert {"message", "error", "statusCode"} == set(response.json())
    assert response.json()["message"].startswith("Invalid Key.")


def test_list_asked_for_gzip_is_compressed(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """Compression follows `Accept-Encoding`."""
    place_calls(10)

    assert vapi.get("/call").headers["content-encoding"] == "gzip"
    assert "content-encoding" not in vapi.get("/call", headers={"Accept-Encoding": "identity"}).headers


def test_list_with_unreadable_rows_shows_them_in_their_place(
    sandbox: RunningSandbox, vapi: httpx.Client, place_calls: PlaceCalls
) -> None:
    """A spoiled call keeps its place, a raw row gets one, whatever they are."""
    calls = sorted(place_calls(3, tie_share=0.0), key=lambda call: call.created_at_ms, reverse=True)
    shown = sandbox.vapi.shown(calls[1].id)
    sandbox.vapi.spoil_call(calls[1].id, {**shown, "cost": "abc", "createdAt": None})
    sandbox.vapi.put_raw("no object at all", created_at=NEXT_DAY)

    rows = vapi.get("/call").json()

    assert rows[0] == "no object at all"
    assert [calls[0].id, calls[1].id, calls[2].id] == [row["id"] for row in rows[1:]]
    assert (rows[2]["cost"], rows[2]["createdAt"]) == ("abc", None)


def test_single_call_is_the_listed_one(vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """`GET /call/{id}` shows the same object as the list."""
    place_calls(1)
    listed = vapi.get("/call").json()[0]

    assert listed == vapi.get(f"/call/{listed['id']}").json()


def test_single_call_unknown_or_malformed_is_refused(
    sandbox: RunningSandbox, vapi: httpx.Client, place_calls: PlaceCalls
) -> None:
    """Unknown and deleted calls answer 404, anything but a UUID 400."""
    deleted = place_calls(1)[0]
    sandbox.vapi.delete_call(deleted.id)

    statuses = [vapi.get(f"/call/{name}").status_code for name in (uuid.uuid4(), deleted.id, "42")]

    assert statuses == [404, 404, 400]
    assert vapi.get("/call").json() == []


def test_list_beyond_the_cache_stays_the_same() -> None:
    """A world that may keep nothing encoded lists the same bytes."""
    caching, forgetful = VapiWorld(seed=1), VapiWorld(seed=1, cache_limit_bytes=0)
    for world in (caching, forgetful):
        placing(world)(20, routes=(ASSISTANT,))

    assert caching.page(CallFilter(), 20) == forgetful.page(CallFilter(), 20)
