"""Answers spoiled on purpose."""

from __future__ import annotations

import time

import httpx
import pytest

from calltally.sandbox.faults import broken_connection, html_fault, json_fault, slow_answer
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi import vapi_fault

from .conftest import PlaceCalls

RATE_LIMITED = {"message": "Rate limit exceeded", "error": "Too Many Requests", "statusCode": 429}


def test_faults_spoil_the_next_requests_only(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """Two faults, two spoiled answers, then all is well; both forms of 429 exist."""
    sandbox.vapi.faults.add(vapi_fault(429, "Rate limit exceeded", retry_after_seconds=0.5))
    sandbox.vapi.faults.add(vapi_fault(429, "Rate limit exceeded"))

    first, second, third = (vapi.get("/call") for _ in range(3))

    assert [each.status_code for each in (first, second, third)] == [429, 429, 200]
    assert (first.headers.get("retry-after"), second.headers.get("retry-after")) == ("0.5", None)
    assert first.json() == RATE_LIMITED


def test_html_fault_is_a_page_and_no_json(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """A proxy's error page has its own status and content type."""
    sandbox.vapi.faults.add(html_fault(521))

    response = vapi.get("/call")

    assert (response.status_code, response.headers["content-type"]) == (521, "text/html; charset=UTF-8")
    assert response.text.startswith("<!DOCTYPE html>")


def test_fault_for_a_path_waits_for_it(sandbox: RunningSandbox, vapi: httpx.Client, place_calls: PlaceCalls) -> None:
    """Other requests pass by a fault that names a path."""
    call = place_calls(1)[0]
    sandbox.vapi.faults.add(json_fault(500, {}, path_prefix="/call/"))

    statuses = [vapi.get(path).status_code for path in ("/call", f"/call/{call.id}", f"/call/{call.id}")]

    assert statuses == [200, 500, 200]


def test_slow_answer_is_late_and_otherwise_usual(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """A client with a shorter timeout gives up, a patient one gets its answer."""
    sandbox.vapi.faults.add(slow_answer(0.3), times=2)

    with pytest.raises(httpx.ReadTimeout):
        vapi.get("/call", timeout=0.05)
    began = time.monotonic()
    assert vapi.get("/call").status_code == 200
    assert time.monotonic() - began >= 0.3


def test_broken_connection_ends_in_the_middle(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """The promised body never comes, and the next request works."""
    sandbox.vapi.faults.add(broken_connection())

    with pytest.raises(httpx.RemoteProtocolError):
        vapi.get("/call")
    assert vapi.get("/call").status_code == 200


def test_requests_are_noted(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """A test can see what was asked, spoiled or not."""
    sandbox.vapi.faults.add(json_fault(500, {}))
    vapi.get("/call", params={"limit": 5})
    vapi.get("/call/42")

    assert list(sandbox.vapi.faults.requests) == ["GET /call?limit=5", "GET /call/42"]


def test_cleared_faults_are_forgotten(sandbox: RunningSandbox, vapi: httpx.Client) -> None:
    """Clearing also removes the latency of all answers."""
    sandbox.vapi.faults.add(json_fault(500, {}), times=9)
    sandbox.vapi.faults.latency_seconds = 60.0
    sandbox.vapi.faults.clear()

    assert vapi.get("/call", timeout=2).status_code == 200
    assert len(sandbox.vapi.faults) == 0
