"""Whatever happens while the list is read, it is complete in the end, or an error says that it is not."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from billing.errors import ProviderRefused, ProviderUnavailable, RateLimited, TransientError
from billing.pace import Pace, Patience
from billing.settings import Settings
from billing.vapi_client import CONNECTIONS, VapiClient
from calltally.sandbox.calls import Call
from calltally.sandbox.faults import Fault, broken_connection, html_fault, slow_answer, text_fault
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi import vapi_fault

from .listing import NEXT_DAY, FastClock, ask, each_once, ids, limits, place, place_at, read, requests
from .served import Switchboard


@pytest.mark.parametrize(
    "fault",
    [
        vapi_fault(500, "Internal server error"),
        vapi_fault(503, "Service Unavailable"),
        vapi_fault(429, "Rate limit exceeded"),
        vapi_fault(429, "Rate limit exceeded", retry_after_seconds=0.01),
        Fault(429, headers=(("Retry-After-Ms", "5"),)),
        html_fault(521),
        html_fault(200),
        text_fault(200, '[{"id": "cut'),
        broken_connection(),
    ],
)
def test_list_is_complete_after_passing_trouble(sandbox: RunningSandbox, settings: Settings, fault: Fault) -> None:
    """What passes is waited for within the window; nobody else has to begin again."""
    calls = place(sandbox, 250)
    sandbox.vapi.faults.add(fault, times=3)

    assert ids(read(settings)) == each_once(calls)
    assert len(sandbox.vapi.faults) == 0


def test_storm_of_refusals_slows_everybody_down(sandbox: RunningSandbox, settings: Settings) -> None:
    """Every request of a crowd is refused at first; all of them are repeated, at half the rate, and none is lost."""
    calls = place(sandbox, 1_500)
    pace = Pace(1_000)
    rates: list[float] = []
    answers: list[int] = []

    async def refuse_the_next(answer: httpx.Response) -> None:
        answers.append(answer.status_code)
        if len(answers) == 2:
            sandbox.vapi.faults.add(vapi_fault(429, "Rate limit exceeded", retry_after_seconds=0.05), times=7)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            rates.append(pace.per_second)

    assert ids(read(settings, pace=pace, hook=refuse_the_next)) == each_once(calls)
    assert len(rates) == 7
    assert min(rates) < 1_000


@pytest.mark.parametrize("status", [429, 503, 500, 408, 409])
def test_announced_pause_is_waited_out(sandbox: RunningSandbox, settings: Settings, status: int) -> None:
    """Minutes of it, within the request: whatever the trouble is, nobody asks before Vapi said, and nothing fails."""
    calls = place(sandbox, 3)
    sandbox.vapi.faults.add(vapi_fault(status, "Not now", retry_after_seconds=900), times=2)
    clock = FastClock()

    assert ids(read(settings, pace=clock.pace(), patience=Patience())) == each_once(calls)
    assert clock.seconds >= 1_800
    assert len(requests(sandbox)) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_pause_beyond_all_patience_is_left_to_the_night(
    sandbox: RunningSandbox, settings: Settings, status: int
) -> None:
    """What the provider said about waiting is among the facts, and nobody asks again before it is over."""
    sandbox.vapi.faults.add(vapi_fault(status, "Not today", retry_after_seconds=7_200), times=50)
    pace = FastClock().pace()

    with pytest.raises(TransientError) as caught:
        read(settings, pace=pace, patience=Patience())
    with pytest.raises(RateLimited, match="7200 s"):
        read(settings, pace=pace, patience=Patience())

    assert caught.value.facts["retry_after_seconds"] == 7_200
    assert len(requests(sandbox)) == 1


def test_short_pauses_that_go_on_are_waited_for_longer_each_time(sandbox: RunningSandbox, settings: Settings) -> None:
    """A storm that announces a second each time has two minutes to pass, not eight seconds."""
    calls = place(sandbox, 3)
    sandbox.vapi.faults.add(vapi_fault(429, "Rate limit exceeded", retry_after_seconds=1), times=7)
    clock = FastClock()

    assert ids(read(settings, pace=clock.pace(), patience=Patience())) == each_once(calls)
    assert clock.seconds > 120


def test_time_of_a_request_begins_when_a_connection_is_free(sandbox: RunningSandbox, settings: Settings) -> None:
    """Standing in our own queue is no slowness of the provider's: a request is built once it can be sent."""
    built: list[None] = []
    built_at_first_answer: list[int] = []

    async def note(_answer: httpx.Response) -> None:
        built_at_first_answer.append(len(built))

    async def crowd(client: VapiClient) -> list[int]:
        def build() -> httpx.Request:
            built.append(None)
            return client.http.build_request("GET", "/call", params={"limit": "10"})

        asking = [client.ask(build, lambda answer: len(answer.content)) for _ in range(3 * CONNECTIONS)]
        return await asyncio.gather(*asking)

    assert len(ask(settings, crowd, hook=note)) == 3 * CONNECTIONS
    assert built_at_first_answer[0] == CONNECTIONS


def test_outage_beyond_all_patience_is_left_to_the_night(sandbox: RunningSandbox, settings: Settings) -> None:
    """A bounded number of tries."""
    sandbox.vapi.faults.add(vapi_fault(500, "Internal server error"), times=50)

    with pytest.raises(ProviderUnavailable):
        read(settings)

    assert len(requests(sandbox)) == 4


def test_wrong_key_is_not_tried_again(sandbox: RunningSandbox, settings: Settings) -> None:
    """Nor is anything else in flight waited for."""
    place(sandbox, 1_000)
    sandbox.vapi.faults.add(vapi_fault(401, "Invalid Key"), times=50)

    with pytest.raises(ProviderRefused):
        read(settings)

    assert len(requests(sandbox)) == 1


def test_slow_answer_is_tried_again_with_a_smaller_page(sandbox: RunningSandbox, settings: Settings) -> None:
    """Vapi ends queries that take long; a smaller one may not."""
    calls = place(sandbox, 30)
    sandbox.vapi.faults.add(slow_answer(30), times=2)

    assert ids(read(settings, timeout=0.3)) == each_once(calls)
    assert limits(sandbox)[:3] == [100, 50, 25]


def test_provider_that_never_answers_is_unavailable(sandbox: RunningSandbox, settings: Settings) -> None:
    """A timeout each time."""
    sandbox.vapi.faults.latency_seconds = 30

    with pytest.raises(ProviderUnavailable, match="ReadTimeout"):
        read(settings, timeout=0.05)


def test_answer_that_trickles_for_ever_is_given_up(sandbox: RunningSandbox, settings: Settings) -> None:
    """However steadily it comes, an answer has its time."""
    sandbox.vapi.faults.latency_seconds = 30

    with pytest.raises(ProviderUnavailable, match="TimeoutError"):
        read(settings, patience=Patience(tries=1, answer_seconds=0.05))


def test_page_size_grows_while_answers_are_small(sandbox: RunningSandbox, settings: Settings) -> None:
    """Calls without transcripts come a thousand at a time."""
    calls = place(sandbox, 6_500)

    assert ids(read(settings)) == each_once(calls)
    assert (limits(sandbox)[0], limits(sandbox)[-1]) == (100, 1000)
    assert len(limits(sandbox)) < 40


def test_page_of_large_calls_stays_small(sandbox: RunningSandbox, settings: Settings) -> None:
    """A hundred full calls are four megabytes already."""
    calls = place(sandbox, 400, detail="full")

    assert ids(read(settings)) == each_once(calls)
    assert max(limits(sandbox)) == 100


def test_page_size_that_failed_is_avoided(sandbox: RunningSandbox, settings: Settings) -> None:
    """After a failure at 100 the rest is asked for in fifties, however well those go."""
    calls = place(sandbox, 400)
    sandbox.vapi.faults.add(vapi_fault(504, "Gateway Timeout"))

    assert ids(read(settings)) == each_once(calls)
    assert limits(sandbox)[0] == 100
    assert set(limits(sandbox)[1:]) == {50}


def test_answers_are_compressed(sandbox: RunningSandbox, settings: Settings) -> None:
    """A page of large calls is a fraction of its size on the wire."""
    place(sandbox, 50, detail="full")
    sizes: list[tuple[str | None, int, int]] = []

    async def measure(answer: httpx.Response) -> None:
        body = await answer.aread()
        sizes.append((answer.headers.get("content-encoding"), answer.num_bytes_downloaded, len(body)))

    read(settings, hook=measure)

    ((encoding, downloaded, size),) = sizes
    assert encoding == "gzip"
    assert downloaded * 10 < size


def test_calls_that_vanish_between_pages_disturb_no_other(sandbox: RunningSandbox, settings: Settings) -> None:
    """Deleted while the list is read: the remaining ones come once each, the deleted ones once at most."""
    calls = place(sandbox, 600)
    doomed = calls[::3]
    left = iter(doomed)

    async def delete_some(_answer: httpx.Response) -> None:
        for call in [call for _, call in zip(range(20), left, strict=False)]:
            sandbox.vapi.delete_call(call.id)

    seen = ids(read(settings, hook=delete_some, page_size=20, max_page_size=40))

    staying = each_once([call for call in calls if call not in doomed])
    assert seen & staying == staying
    assert set(seen.values()) == {1}
    assert len(seen) < 600


def test_calls_created_while_the_list_is_read_disturb_no_other(sandbox: RunningSandbox, settings: Settings) -> None:
    """The window's end is fixed: what is created after it waits for the next night, and nothing comes twice."""
    calls = place(sandbox, 600)
    created: list[Call] = []

    async def create_some(_answer: httpx.Response) -> None:
        later = NEXT_DAY + timedelta(seconds=len(created))
        created.extend(place_at(sandbox, later, later, later))

    assert ids(read(settings, hook=create_some, page_size=20, max_page_size=40)) == each_once(calls)
    assert len(created) > 30
    assert ids(read(settings, start=NEXT_DAY, end=NEXT_DAY + timedelta(days=1))) == each_once(created)


def test_provider_that_ignores_the_page_size_loses_no_call(
    sandbox: RunningSandbox, switchboard: Switchboard, settings: Settings
) -> None:
    """Asked for a thousand, it might answer with its usual hundred: that looks short, and is not trusted."""
    calls = place(sandbox, 1_200)
    usual = switchboard.app

    async def without_limit(scope: Scope, receive: Receive, send: Send) -> None:
        query = scope.get("query_string", b"").partition(b"&limit=")[0]
        await usual({**scope, "query_string": query}, receive, send)

    switchboard.app = without_limit

    assert ids(read(settings)) == each_once(calls)
