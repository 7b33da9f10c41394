"""What a listing keeps in memory does not grow with what was said in the calls.

Pages come from a transport within the client: a served sandbox would hold the transcripts in this very process.
"""

import asyncio
import gc
import json
import tracemalloc
from datetime import datetime, timedelta

import httpx
import pyarrow as pa
import pytest

from billing.vapi_client import VapiClient, stamp
from billing.vapi_list import CallLister

from .listing import DAY

CALLS = 600
PAGE = 10
APART = timedelta(seconds=1)
SHORT, LONG = 1_000, 50_000
"""Bytes of a transcript."""


def provider(transcript_bytes: int) -> httpx.MockTransport:
    """A list with a call every second, each with so long a transcript."""
    transcript = "x" * transcript_bytes

    def row(number: int) -> str:
        at = DAY + number * APART
        call = {"id": f"call-{number:06d}", "status": "ended", "createdAt": stamp(at), "updatedAt": stamp(at)}
        return json.dumps(call | {"startedAt": stamp(at), "endedAt": stamp(at + APART), "transcript": transcript})

    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        start, end = (-(-(datetime.fromisoformat(asked[f"createdAt{side}"]) - DAY) // APART) for side in ("Ge", "Lt"))
        newest = range(start, min(end, CALLS))[-int(asked["limit"]) :]
        return httpx.Response(200, content=f"[{','.join(row(number) for number in newest)}]".encode())

    return httpx.MockTransport(answer)


def megabytes(transcript_bytes: int) -> tuple[float, float]:
    """What stays allocated after the whole list was read, and the most there was at once."""

    async def listing() -> int:
        async with httpx.AsyncClient(base_url="https://list.test", transport=provider(transcript_bytes)) as http:
            lister = CallLister(VapiClient(http), page_size=PAGE, max_page_size=PAGE)
            frame = await lister.list_window("createdAt", DAY, DAY + CALLS * APART)
            assert frame["call_id"].nunique() == len(frame) == CALLS
            gc.collect()
            return int(tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes())

    gc.collect()
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        kept = asyncio.run(listing()) - before
        return kept / 1e6, tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_of_a_listing_does_not_grow_with_transcripts() -> None:
    """Fifty times as much was said, 30 MB of it: nothing of that is kept, and a few pages exist at once at most."""
    megabytes(SHORT)  # what is made once and kept, such as decoders
    (short_kept, _), (long_kept, long_peak) = megabytes(SHORT), megabytes(LONG)

    assert long_kept < short_kept + 1
    assert long_peak < CALLS * LONG / 1e6 / 2
