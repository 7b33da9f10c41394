"""The operators' API: closed without the token, and true to the database and to Prefect."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from calltally.sandbox.serving import running_app
from tests.books import Books
from tests.databases import Scratch
from tests.receiver.conftest import receiver
from tests.receiver.serving import LOOPBACK

TOKEN = {"Authorization": "Bearer operator-token"}
FLOW_RUN = "0b5e5a0e-5a4c-4c43-9d39-0a3b1f0f7c11"
NIGHTS = "/api/billing-reconciliation"


class Prefect:
    """Prefect's API, as much of it as starting a deployment takes; remembers what was asked."""

    def __init__(self) -> None:
        self.parameters: list[dict[str, Any]] = []
        self.credentials: str | None = None
        """Whoever does not send this is refused."""

    def app(self) -> Starlette:
        """Knows one deployment."""

        async def deployment(request: Request) -> JSONResponse:
            if self.credentials not in {None, request.headers.get("Authorization")}:
                return JSONResponse({"exception_message": "Unauthorized"}, 401)
            return JSONResponse({"id": FLOW_RUN})

        async def create(request: Request) -> JSONResponse:
            self.parameters.append((await request.json())["parameters"])
            return JSONResponse({"id": FLOW_RUN}, 201)

        return Starlette(
            routes=[
                Route("/api/deployments/name/reconcile_calls/reconcile_calls", deployment),
                Route("/api/deployments/{id}/create_flow_run", create, methods=["POST"]),
            ]
        )


@pytest.fixture
def prefect() -> Prefect:
    """A Prefect that nobody has asked anything."""
    return Prefect()


@pytest.fixture
def client(engine: Engine, prefect: Prefect) -> Iterator[httpx.Client]:
    """A client of a receiver with an operator's token."""
    with (
        running_app(prefect.app()) as port,
        receiver(engine, prefect_api_url=f"http://{LOOPBACK}:{port}/api", operator_token="operator-token") as served,
        httpx.Client(base_url=served.url, trust_env=False) as client,
    ):
        yield client


def test_request_without_the_token_is_refused(client: httpx.Client) -> None:
    """On every route, and with a hint what to send."""
    paths = ["/api/monitoring/queue-stats", f"{NIGHTS}/runs", f"{NIGHTS}/runs/{FLOW_RUN}"]
    told = ["Bearer wrong", "Bearer", "operator-token", "Basic operator-token", "Token operator-token"]
    sent = [{}, *({"Authorization": authorization} for authorization in told)]
    answers = [client.get(path, headers=headers) for path in paths for headers in sent]

    assert [answer.status_code for answer in answers] == [401] * len(paths) * len(sent)
    assert all("OPERATOR_TOKEN" in answer.json()["error"] for answer in answers)


def test_receiver_without_a_token_refuses_everybody(engine: Engine) -> None:
    """What is not set opens nothing."""
    with receiver(engine) as served, httpx.Client(base_url=served.url, trust_env=False) as client:
        assert client.get(f"{NIGHTS}/runs", headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.post(f"{NIGHTS}/trigger", headers={"Authorization": "Bearer x"}).status_code == 401


def test_queue_stats_count_what_is_unfinished(client: httpx.Client, books: Books) -> None:
    """By provider, type and state, with the age of the oldest."""
    books.value(
        "SELECT accept_events(ARRAY['vapi', 'vapi', 'stripe'], ARRAY['a', 'b', 'c'], ARRAY['x', 'x', 'y'],"
        " ARRAY[CAST('{}' AS bytea), CAST('{}' AS bytea), CAST('{}' AS bytea)])"
    )

    stats = client.get("/api/monitoring/queue-stats", headers=TOKEN).json()

    assert stats["totals"]["waiting"] == 3
    assert [(row["provider"], row["type"], row["state"], row["events"]) for row in stats["queue"]] == [
        ("stripe", "y", "waiting", 1),
        ("vapi", "x", "waiting", 2),
    ]
    assert all(row["oldest_seconds"] >= 0 for row in stats["queue"])


def test_queue_stats_speak_the_names_of_health(client: httpx.Client, books: Books) -> None:
    """Overall, by provider and by type, finished events too."""
    books.value(
        "SELECT accept_events(ARRAY['vapi', 'vapi', 'stripe'], ARRAY['a', 'b', 'c'], ARRAY['x', 'y', 'z'],"
        " ARRAY[CAST('{}' AS bytea), CAST('{}' AS bytea), CAST('{}' AS bytea)])"
    )
    event_id = books.value("SELECT id FROM events WHERE type = 'x'")
    [claimed] = books.rows("SELECT id, claim_token FROM claim_these_events(:ids, 'w', '1 hour')", ids=[event_id])
    books.rows(
        "SELECT finish_events(:token, ARRAY[CAST(:id AS bigint)], ARRAY['done'], ARRAY[NULL])",
        token=claimed["claim_token"],
        id=claimed["id"],
    )

    stats = client.get("/api/monitoring/queue-stats", headers=TOKEN).json()

    none = dict.fromkeys(["waiting", "active", "delayed", "completed", "failed", "paused"], 0)
    assert stats["queueMetrics"] == {**none, "waiting": 2, "completed": 1}
    assert stats["byProvider"] == [
        {"provider": "stripe", **none, "waiting": 1},
        {"provider": "vapi", **none, "waiting": 1, "completed": 1},
    ]
    assert stats["byType"] == [
        {"provider": "stripe", "type": "z", **none, "waiting": 1},
        {"provider": "vapi", "type": "x", **none, "completed": 1},
        {"provider": "vapi", "type": "y", **none, "waiting": 1},
    ]


@pytest.mark.slow
def test_queue_stats_do_not_wait_for_a_count_that_takes_too_long(
    client: httpx.Client, books: Books, own_tables: Scratch
) -> None:
    """What could not be counted is null, not zero; the rest is told."""
    books.value("SELECT accept_events(ARRAY['vapi'], ARRAY['a'], ARRAY['x'], ARRAY[CAST('{}' AS bytea)])")
    with psycopg.connect(own_tables.url) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION queue_metrics() RETURNS TABLE (waiting bigint, active bigint, delayed bigint,"
            " parked bigint, dead bigint, finished bigint, oldest_waiting_at timestamptz)"
            " LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp"
            " AS 'SELECT 0, 0, 0, 0, 0, 0, now() FROM pg_sleep(60)'"
        )

    stats = client.get("/api/monitoring/queue-stats", headers=TOKEN, timeout=30).json()

    assert stats["totals"] is None
    assert set(stats["queueMetrics"].values()) == {None}
    assert stats["byType"][0]["waiting"] == 1


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        (None, {"dry_run": False}),
        ({}, {"dry_run": False}),
        (
            {"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z", "dry_run": True},
            {"window_from": "2026-11-20T00:00:00Z", "window_to": "2026-11-21T00:00:00Z", "dry_run": True},
        ),
    ],
)
def test_trigger_starts_the_deployment_with_what_was_asked(
    client: httpx.Client, prefect: Prefect, body: dict[str, Any] | None, parameters: dict[str, Any]
) -> None:
    """The answer names the flow run and where to watch it."""
    answer = (
        client.post(f"{NIGHTS}/trigger", headers=TOKEN, json=body)
        if body is not None
        else client.post(f"{NIGHTS}/trigger", headers=TOKEN)
    )

    assert answer.status_code == 202
    assert answer.json()["flow_run_id"] == FLOW_RUN
    assert answer.json()["url"].endswith(f"/runs/flow-run/{FLOW_RUN}")
    assert prefect.parameters == [parameters]


STRANGE_BODIES = [
    b"nope",
    b"[]",
    b'{"from": "yesterday"}',
    b'{"from": "2026-11-20T00:00:00"}',
    b'{"until": "2026-11-20T00:00:00Z"}',
    b'{"dry_run": "yes"}',
    b'{"from": "2026-11-21T00:00:00Z", "to": "2026-11-20T00:00:00Z"}',
    b'{"from": "2026-11-20T00:00:00Z", "to": "2026-11-20T00:00:00Z"}',
    b"\xff\xfe",
    b'{"from": "\xff"}',
    b"[" * 9000,
    b"\xef\xbb\xbf{}",
    *(
        f'{{"{name}": "{time}"}}'.encode()
        for name in ("from", "to")
        for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00")
    ),
    b'{"from": "2020-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}',
]


def test_trigger_answers_with_the_page_that_people_can_open(engine: Engine, prefect: Prefect) -> None:
    """PREFECT_UI_URL goes before the address of the API, which is often an internal one."""
    with (
        running_app(prefect.app()) as port,
        receiver(
            engine,
            prefect_api_url=f"http://{LOOPBACK}:{port}/api",
            prefect_ui_url="https://prefect.example.com/",
            operator_token="operator-token",
        ) as served,
        httpx.Client(base_url=served.url, trust_env=False) as client,
    ):
        answer = client.post(f"{NIGHTS}/trigger", headers=TOKEN)

    assert answer.json()["url"] == f"https://prefect.example.com/runs/flow-run/{FLOW_RUN}"


def test_trigger_with_a_strange_body_says_what_to_send(client: httpx.Client, prefect: Prefect) -> None:
    """Nothing is started."""
    answers = [client.post(f"{NIGHTS}/trigger", headers=TOKEN, content=body) for body in STRANGE_BODIES]

    assert [answer.status_code for answer in answers] == [400] * len(STRANGE_BODIES)
    assert all(answer.json()["error"] for answer in answers)
    assert prefect.parameters == []


def test_trigger_with_a_long_body_is_refused(client: httpx.Client, prefect: Prefect) -> None:
    """Before it is read to its end."""
    answer = client.post(f"{NIGHTS}/trigger", headers=TOKEN, content=b" " * 20_000)

    assert (answer.status_code, prefect.parameters) == (413, [])


@pytest.mark.usefixtures("own_tables")
def test_database_that_was_away_and_is_back_costs_no_answer(
    client: httpx.Client, scratch: Scratch, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions are gone, those that rest in the pool among them."""
    monkeypatch.setattr("billing.database.REST_SECONDS", 0.0)
    before = client.get(f"{NIGHTS}/runs", headers=TOKEN)
    ended = scratch.owner.value(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    after = [client.get(path, headers=TOKEN) for path in (f"{NIGHTS}/runs", "/api/monitoring/queue-stats")]

    assert before.status_code == 200
    assert ended >= 1
    assert [answer.status_code for answer in after] == [200, 200]


@pytest.mark.parametrize(
    ("setting", "credentials"),
    [("prefect_api_auth_string", "Basic YWRtaW46aHVzaA=="), ("prefect_api_key", "Bearer admin:hush")],
)
def test_trigger_proves_itself_to_prefect(engine: Engine, prefect: Prefect, setting: str, credentials: str) -> None:
    """As Prefect's own client does; without it the answer says what to set, and not the secret."""
    prefect.credentials = credentials
    answers = []
    for changes in ({setting: SecretStr("admin:hush")}, {setting: SecretStr("admin:wrong")}):
        with (
            running_app(prefect.app()) as port,
            receiver(
                engine, prefect_api_url=f"http://{LOOPBACK}:{port}/api", operator_token="operator-token", **changes
            ) as served,
            httpx.Client(base_url=served.url, trust_env=False) as client,
        ):
            answers.append(client.post(f"{NIGHTS}/trigger", headers=TOKEN))

    assert [answer.status_code for answer in answers] == [202, 503]
    assert "refuses our credentials (401)" in answers[1].json()["error"]
    assert "PREFECT_API_AUTH_STRING" in answers[1].json()["error"]
    assert "wrong" not in answers[1].text


def test_trigger_without_prefect_asks_to_come_again(engine: Engine) -> None:
    """503, since it may be back soon."""
    with (
        receiver(engine, prefect_api_url=f"http://{LOOPBACK}:1/api", operator_token="operator-token") as served,
        httpx.Client(base_url=served.url, trust_env=False) as client,
    ):
        assert client.post(f"{NIGHTS}/trigger", headers=TOKEN).status_code == 503


def test_runs_are_listed_and_shown_with_their_findings(client: httpx.Client, books: Books) -> None:
    """Money as micros, the ratio as a number."""
    run_id: UUID = books.value(
        "INSERT INTO reconciliation_runs (window_from, window_to, reliability_ratio, recovered_micros, counts)"
        " VALUES ('2026-11-20', '2026-11-21', 0.92, 4351666, CAST('{\"missing\": 23}' AS jsonb)) RETURNING id"
    )
    books.value(
        "INSERT INTO findings (run_id, kind, call_id, amount_micros)"
        " VALUES (:id, 'missing', 'c1', 700000) RETURNING 1",
        id=run_id,
    )

    listed = client.get(f"{NIGHTS}/runs", headers=TOKEN).json()["runs"]
    shown = client.get(f"{NIGHTS}/runs/{run_id}", headers=TOKEN).json()

    assert [(run["id"], run["reliability_ratio"], run["counts"]) for run in listed] == [
        (str(run_id), 0.92, {"missing": 23})
    ]
    assert shown["recovered_micros"] == 4_351_666
    assert [(finding["call_id"], finding["amount_micros"]) for finding in shown["findings"]] == [("c1", 700_000)]


def test_unknown_run_is_not_found(client: httpx.Client) -> None:
    """Whether it has the form of an id or not."""
    assert client.get(f"{NIGHTS}/runs/{FLOW_RUN}", headers=TOKEN).status_code == 404
    assert client.get(f"{NIGHTS}/runs/17", headers=TOKEN).status_code == 404
