"""What leaves for Sentry and OpenTelemetry: that something went wrong and where, and nothing of anybody's."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

FORBIDDEN = [b"hush", b"15112345678", b"151 12345678", b"151%2012345678", b"transcript"]


class Collector(ThreadingHTTPServer):
    """Takes whatever is sent, as Sentry and an OTLP collector do."""

    daemon_threads = True

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Taking)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        """Keep it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.received.append((self.path, body))
        self._answer()

    def do_GET(self) -> None:
        """What a provider would be asked."""
        self.server.received.append((self.path, str(self.headers).encode()))
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that runs."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def telling(collector: Collector, *modules: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the process that goes wrong in every way."""
    env = {
        "PATH": os.environ["PATH"],
        "VAPI_BASE_URL": collector.url,
        "VAPI_API_KEY": "hush-secret",
        "TOLD_BODY": '{"message": {"customer": {"number": "+4915112345678"}, "transcript": "hush-body"}}',
        "TOLD_NUMBER": "+49 151 12345678",
        **variables,
    }
    command = [sys.executable, "-m", "tests.unit.telling"] if not modules else [sys.executable, *modules]
    return subprocess.run(
        command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60
    )


def sentry_events(collector: Collector) -> list[dict[str, Any]]:
    """The events of all envelopes."""
    found = []
    for path, body in collector.received:
        if path.endswith("/envelope/"):
            lines = body.split(b"\n")
            found += [json.loads(lines[i + 1]) for i, line in enumerate(lines) if line.startswith(b'{"type":"event"')]
    return found


@pytest.fixture(scope="module")
def told() -> Iterator[Collector]:
    """A collector that was told of everything."""
    with collecting() as collector:
        ended = telling(
            collector,
            SENTRY_DSN=collector.url.replace("http://", "http://public@") + "/1",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        )
        assert ended.returncode == 0, ended.stderr
        yield collector


def test_sentry_learns_of_each_error_with_its_class_and_place(told: Collector) -> None:
    """Errors of ours with their message, others without; and what the log said, if it is ours."""
    raised = {
        (each["type"], each["value"])
        for event in sentry_events(told)
        for each in event.get("exception", {}).get("values", [])
    }
    entries = {event["logentry"]["message"] for event in sentry_events(told) if "logentry" in event}
    frames = [
        frame["function"]
        for event in sentry_events(told)
        for each in event["exception"]["values"]
        for frame in each["stacktrace"]["frames"]
    ]

    assert ("RuntimeError", "") in raised
    assert ("OperationalError", "") in raised
    assert ("UnreadablePayload", "of [number], key [secret]") in raised
    assert "webhook.unreadable event=7 number=[number]" in entries
    assert "Exception in ASGI application on %s" in entries
    assert "main" in frames


def test_nothing_of_anybodys_leaves_for_sentry(told: Collector) -> None:
    """No body, no number, no secret, no request, no variables."""
    sent = b"\n".join(body for path, body in told.received if path.endswith("/envelope/"))

    assert sent
    assert [word for word in FORBIDDEN if word in sent.replace(b"\\u002b", b"+")] == []
    assert all(not {"request", "user", "extra", "breadcrumbs", "modules"} & set(e) for e in sentry_events(told))


def test_traces_show_requests_and_statements(told: Collector) -> None:
    """A webhook, a request of ours, and a statement without its parameters."""
    spans = {}
    for path, body in told.received:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.update({span.name: span for span in scope.spans})
                names = {each.key: each.value.string_value for each in resource.resource.attributes}

    statements = {each.key: each.value.string_value for each in spans["SELECT"].attributes}

    assert {"POST /webhooks/vapi", "GET", "SELECT"} <= set(spans)
    assert statements["db.statement"].startswith("SELECT")
    assert names["service.name"] == "calltally-test"


def test_nothing_of_anybodys_leaves_in_traces(told: Collector) -> None:
    """Neither in attributes, nor in the errors that spans note."""
    sent = b"\n".join(body for path, body in told.received if path == "/v1/traces")

    assert sent
    assert [word for word in FORBIDDEN if word in sent] == []


def test_providers_do_not_learn_of_sentrys_traces(told: Collector) -> None:
    """Their requests bear no header of Sentry's."""
    asked = next(body for path, body in told.received if path.startswith("/call"))

    assert b"sentry" not in asked.lower()
    assert b"baggage" not in asked.lower()


def test_nothing_is_sent_or_imported_unless_asked_for() -> None:
    """The default costs nothing."""
    imported = (
        "import sys, tests.unit.telling as t; t.main();"
        "print([m for m in ('sentry_sdk', 'opentelemetry.sdk.trace', 'opentelemetry.exporter') if m in sys.modules])"
    )
    with collecting() as collector:
        ended = telling(collector, "-c", imported)

    assert ended.stdout.strip() == "[]", ended.stderr
    assert {path.partition("?")[0] for path, _ in collector.received} == {"/call"}


def test_package_that_is_missing_is_named_with_the_way_to_install_it() -> None:
    """An extra was left out."""
    hidden = (
        "import sys; sys.modules['sentry_sdk'] = None\n"
        "import tests.unit.telling as t\n"
        "try:\n    t.main()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    with collecting() as collector:
        ended = telling(collector, "-c", hidden, SENTRY_DSN="http://public@127.0.0.1:1/1")

    assert ended.stdout.startswith("NotInstalled"), ended.stderr
    assert "calltally[sentry,telemetry]" in ended.stdout
