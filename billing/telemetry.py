"""Errors to Sentry and traces by OpenTelemetry, if somebody asks for it: neither is even imported otherwise.

What leaves says what happened and where, never with what: no bodies, no parameters, no local variables, no headers,
addresses without queries, and messages only of errors of ours, which are written for people's eyes.
"""

import logging
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr
from sqlalchemy import Engine

from billing.errors import PermanentError
from billing.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger("billing.telemetry")

OUR_MODULES: Final = ("billing", "calltally", "flows", "receiver", "tasks")
PHONE_NUMBER: Final = re.compile(r"\+?\d[\d ()/.-]{6,}\d")
"""Also takes other long numbers, which nobody misses in a trace."""
LEAVES: Final = frozenset(
    {"event_id", "exception", "level", "logentry", "logger", "message", "platform", "release", "environment"}
    | {"server_name", "timestamp", "transaction", "threads", "contexts", "sdk", "tags", "type", "_meta"}
)
"""Of an event to Sentry; what is not named here (request, user, extra, breadcrumbs, modules) stays."""
CONTEXTS: Final = frozenset({"runtime", "os", "trace"})
SPAN_ATTRIBUTES: Final = frozenset(
    {"http.method", "http.request.method", "http.route", "http.scheme", "http.status_code", "http.flavor"}
    | {
        "http.response.status_code",
        "server.address",
        "server.port",
        "net.host.port",
        "net.peer.name",
        "net.peer.port",
    }
    | {"db.system", "db.system.name", "db.name", "db.namespace", "db.operation", "db.statement", "db.query.text"}
    | {"prefect.run.name", "prefect.run.type", "prefect.run.id", "prefect.state.type", "exception.type", "error.type"}
)
"""Statements are sent without their parameters; addresses, headers and messages are not among these."""


class NotInstalled(PermanentError):
    """A setting asks for a package that is not there; the message says how to install it."""


def start_telemetry(settings: Settings, service: str, engine: Engine) -> None:
    """Do what `SENTRY_DSN` and `OTEL_EXPORTER_OTLP_ENDPOINT` ask for; call it once, before anything else.

    The statements of `engine` are traced. Prefect traces its flow and task runs by itself.

    Raises:
        NotInstalled: the extra of that name is missing.
    """
    try:
        if settings.sentry_dsn is not None:
            _start_sentry(settings, settings.sentry_dsn, service)
        if settings.otel_exporter_otlp_endpoint is not None:
            _start_tracing(settings.otel_exporter_otlp_endpoint, service, engine)
    except ImportError as error:
        raise NotInstalled(
            f"SENTRY_DSN and OTEL_EXPORTER_OTLP_ENDPOINT need packages ({error.name} is missing):"
            " pip install 'calltally[sentry,telemetry]', or unset them"
        ) from error


def traced(app: Any, settings: Settings) -> Any:
    """An ASGI application, with a span for each request if traces are asked for."""
    if settings.otel_exporter_otlp_endpoint is None:
        return app
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415 - loaded only if asked for

    return OpenTelemetryMiddleware(app, exclude_spans=["receive", "send"])


def _start_sentry(settings: Settings, dsn: SecretStr, service: str) -> None:
    import sentry_sdk  # noqa: PLC0415 - loaded only if asked for

    scrub = _Scrubber(settings)
    sentry_sdk.init(
        dsn=dsn.get_secret_value(),
        before_send=scrub.event,
        before_send_log=lambda *_: None,
        include_local_variables=False,
        send_default_pii=False,
        max_request_body_size="never",
        max_breadcrumbs=0,  # they hold addresses and log lines of everybody
        auto_enabling_integrations=False,
        trace_propagation_targets=[],  # nor do providers learn of our traces
        send_client_reports=False,
    )
    sentry_sdk.set_tag("service", service)
    log.info("telemetry.errors_are_reported service=%s", service)


class _Scrubber:
    """Lets out of an event what is known to hold nothing of anybody's."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = sorted(_secrets(settings), key=len, reverse=True)

    def event(self, event: Any, _hint: Any) -> Any:
        kept = {name: content for name, content in event.items() if name in LEAVES}
        kept["contexts"] = {name: c for name, c in event.get("contexts", {}).items() if name in CONTEXTS}
        for raised in kept.get("exception", {}).get("values", []):
            self._clean_exception(raised)
        for thread in kept.get("threads", {}).get("values", []):
            _clean_stack(thread)
        if "logentry" in kept:
            kept["logentry"] = self._clean_entry(kept["logentry"], ours=_is_ours(event.get("logger")))
        kept.pop("message", None)
        return kept

    def _clean_exception(self, raised: dict[str, Any]) -> None:
        """Class and place; the message only if it is one of ours. A statement's holds its parameters."""
        ours = _is_ours(raised.get("module"))
        raised["value"] = self._clean(str(raised.get("value") or "")) if ours else ""
        raised.get("mechanism", {}).pop("data", None)
        _clean_stack(raised)

    def _clean_entry(self, entry: dict[str, Any], *, ours: bool) -> dict[str, Any]:
        text = entry.get("formatted") if ours else None
        return {"message": self._clean(str(text or entry.get("message") or ""))}

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return PHONE_NUMBER.sub("[number]", text)


def _clean_stack(raised: dict[str, Any]) -> None:
    for frame in (raised.get("stacktrace") or {}).get("frames", []):
        frame.pop("vars", None)


def _is_ours(name: str | None) -> bool:
    return (name or "").partition(".")[0] in OUR_MODULES


def _secrets(settings: Settings) -> set[str]:
    """Every secret that the settings hold, passwords of addresses included."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        content = getattr(settings, name)
        for each in content if isinstance(content, tuple) else (content,):
            if isinstance(each, SecretStr):
                found.add(each.get_secret_value())
    for url in (settings.database_url, settings.prefect_api_url):
        if url and (password := re.search(r"://[^/@]*:([^/@]+)@", url)):
            found.add(password[1])
    return {secret for secret in found if secret}


def _start_tracing(endpoint: str, service: str, engine: Engine) -> None:
    from opentelemetry import trace  # noqa: PLC0415 - loaded only if asked for
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor  # noqa: PLC0415
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor  # noqa: PLC0415
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # It may come from .env; the exporter reads this and the other standard variables from the environment.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    name = os.environ.get("OTEL_SERVICE_NAME", f"calltally-{service}")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))

    class Exporter(OTLPSpanExporter):
        """Sends what is left of a span."""

        def export(self, spans: Sequence["ReadableSpan"]) -> Any:
            """Send copies that hold nothing of anybody's."""
            return super().export([_scrubbed(span) for span in spans])

    provider.add_span_processor(BatchSpanProcessor(Exporter()))
    trace.set_tracer_provider(provider)
    HTTPXClientInstrumentor().instrument()
    # It says that it knows no SQLAlchemy above 2.0; with 2.1 it does what it did, which a test watches.
    SQLAlchemyInstrumentor().instrument(engine=engine, skip_dep_check=True)
    log.info("telemetry.traces_are_sent service=%s", name)


def _scrubbed(span: "ReadableSpan") -> "ReadableSpan":
    from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415
    from opentelemetry.trace import Status  # noqa: PLC0415

    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_allowed(span.attributes),
        events=[Event(event.name, _allowed(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),  # its description is the message of an error
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _allowed(attributes: Any) -> dict[str, Any]:
    return {name: content for name, content in (attributes or {}).items() if name in SPAN_ATTRIBUTES}
