"""Vapi's world: the calls that exist, whatever arrived of their webhooks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from random import Random

from calltally.sandbox.call_store import CACHE_LIMIT_BYTES, EVER, CallFilter, CallStore, Row, Window
from calltally.sandbox.calls import Call
from calltally.sandbox.costs import costs_of, rounded
from calltally.sandbox.faults import Fault, FaultQueue, json_fault
from calltally.sandbox.traffic import Traffic, finished, generate_calls
from calltally.sandbox.vapi_setup import VapiSetup
from calltally.sandbox.wire import JsonObject, encode_json, to_ms

DEFAULT_API_KEY = "vapi-sandbox-key"


class VapiWorld:
    """Calls of one Vapi org; may be changed from any thread while it is served."""

    def __init__(
        self,
        *,
        seed: int = 0,
        api_key: str = DEFAULT_API_KEY,
        cache_limit_bytes: int = CACHE_LIMIT_BYTES,
    ) -> None:
        self.api_key = api_key
        self.faults = FaultQueue()
        self.setup = VapiSetup()
        self._seed = seed
        self._random = Random(seed)  # noqa: S311  # invented data, and it must repeat
        self._placements = 0
        self._store = CallStore(cache_limit_bytes)
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Return how many rows the list has in all."""
        return len(self._store)

    def place_calls(self, traffic: Traffic, *, seed: int | str | None = None) -> list[Call]:
        """Generate and add calls; without a seed, each placement follows from the world's own."""
        with self._lock:
            self._placements += 1
            chosen = f"{self._seed}:{self._placements}" if seed is None else seed
            calls = list(generate_calls(traffic, chosen))
            self.add_calls(calls)
            return calls

    def add_calls(self, calls: Iterable[Call]) -> None:
        """Add calls made by hand."""
        with self._lock:
            self._store.add([_row_of(call) for call in calls])

    def calls(self, created: Window = EVER) -> list[Call]:
        """Return the readable calls that were created in this window, newest first."""
        with self._lock:
            return [row.call for row in self._store.find(CallFilter(created)) if row.call is not None]

    def call(self, call_id: str) -> Call:
        """Return one call; KeyError when it is unknown or unreadable."""
        with self._lock:
            row = self._store.get(call_id)
            if row is None or row.call is None:
                raise KeyError(call_id)
            return row.call

    def finish_call(self, call_id: str, *, duration_ms: int) -> Call:
        """End a running call so long after its start; its costs appear and `updatedAt` moves."""
        with self._lock:
            call = self.call(call_id)
            if call.status == "ended":
                raise ValueError(f"call {call_id} has ended already")
            return self._replace(finished(call, duration_ms, self._random))

    def correct_call(
        self,
        call_id: str,
        *,
        at: datetime,
        duration_ms: int | None = None,
        cost: Decimal | None = None,
    ) -> Call:
        """Change the duration or cost (USD) of an ended call afterwards, as Vapi has done.

        `updatedAt` becomes `at`; a new duration alone also changes the cost.
        """
        with self._lock:
            call = self.call(call_id)
            if call.started_at_ms is None or call.ended_at_ms is None:
                raise ValueError(f"call {call_id} has no duration to correct")
            if duration_ms is not None:
                call = replace(call, ended_at_ms=call.started_at_ms + duration_ms)
            if cost is not None:
                priced = costs_of(call)
                difference = rounded(cost) - (priced.total if priced else 0)
                call = replace(call, extra_cost=call.extra_cost + difference)
            return self._replace(replace(call, updated_at_ms=to_ms(at)))

    def delete_call(self, call_id: str) -> None:
        """Remove a call as retention or a deletion request does."""
        with self._lock:
            self._store.remove(call_id)

    def expire_calls(self, *, before: datetime) -> int:
        """Remove all calls created before then, as retention does; return how many there were."""
        with self._lock:
            expired = self._store.find(CallFilter(Window(end_ms=to_ms(before))))
            for row in expired:
                self._store.remove(row.id)
            return len(expired)

    def spoil_call(self, call_id: str, row: object) -> None:
        """Show any JSON value in place of a call, at the same place of the list."""
        with self._lock:
            old = self._store.remove(call_id)
            self._store.add([replace(old, call=None, encoded=encode_json(row))])

    def put_raw(self, row: object, *, created_at: datetime) -> str:
        """Add any JSON value to the list as if created then; return the id under which it is kept."""
        with self._lock:
            row_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                row_id = row["id"]
            moment_ms = to_ms(created_at)
            self._store.add([Row(row_id, moment_ms, moment_ms, None, encode_json(row))])
            return row_id

    def page(self, wanted: CallFilter, limit: int) -> bytes:
        """Return the body of `GET /call`: a bare JSON array."""
        with self._lock:
            return b"[" + b",".join(map(self._store.encoded, self._store.find(wanted, limit))) + b"]"

    def encode_all(self) -> None:
        """Encode every call now, as far as the cache holds, so that a measurement need not wait for it."""
        with self._lock:
            for row in self._store.find(CallFilter()):
                self._store.encoded(row)

    def body(self, call_id: str) -> bytes | None:
        """Return the body of `GET /call/{id}`, None when there is no such call."""
        with self._lock:
            row = self._store.get(call_id)
            return None if row is None else self._store.encoded(row)

    def shown(self, call_id: str) -> JsonObject:
        """Return the call as a client reads it, for instance as a start for `spoil_call`."""
        with self._lock:
            row = self._store.get(call_id)
            if row is None:
                raise KeyError(call_id)
            return self._store.shown(row)

    def _replace(self, call: Call) -> Call:
        self._store.remove(call.id)
        self._store.add([_row_of(call)])
        return call


def vapi_fault(
    status: int, message: str, *, retry_after_seconds: float | None = None, path_prefix: str = "/"
) -> Fault:
    """Return a fault in Vapi's error shape, for example 429 "Rate limit exceeded"."""
    body = {"message": message, "error": HTTPStatus(status).phrase, "statusCode": status}
    return json_fault(status, body, retry_after_seconds=retry_after_seconds, path_prefix=path_prefix)


def _row_of(call: Call) -> Row:
    return Row(call.id, call.created_at_ms, call.updated_at_ms, call)
