"""What a call takes on disk and on the wire: the figures that docs/scale.md reckons with.

Reports of calls go the way of webhooks: stored, claimed, applied, ended. Then every table is measured after VACUUM,
with its indexes, per row; the yardstick is the table alone. A body is measured beside the JSON that it came as. What
is said in the sandbox repeats itself, so real text compresses less well.
"""

import gzip
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean

from sqlalchemy import Engine

from benchmarks.table import Figure
from billing import applying, inbox
from billing.database import open_engine, rows, transaction, value
from billing.deliveries import identify_vapi
from billing.migrate import migrate
from calltally.sandbox.calls import Call, Detail, Route
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.vapi import VapiWorld
from calltally.sandbox.vapi_webhooks import end_of_call_report
from calltally.stack.postgres import EmbeddedPostgres

CALLS = 40_000
BODIES = 400
"""Reports and rows of the list that are looked at for their size, of each detail."""
PAGE = 100
BATCH = 1_000
ORGANIZATIONS = 100
TABLES = ("events", "calls", "charges", "transfers")
LASTING = TABLES[1:]
"""Events are forgotten after a while."""

SIZE_OF_TABLE = """
SELECT pg_relation_size(:name) / count(*)::float AS alone, pg_indexes_size(:name) / count(*)::float AS indexes
FROM {name}
"""
SIZE_OF_BODIES = """
SELECT sum(pg_total_relation_size(relid))::float / (SELECT count(*) FROM event_bodies) AS stored,
    (SELECT avg(octet_length(body))::float FROM event_bodies) AS came
FROM pg_partition_tree('event_bodies')
"""


def figures() -> Iterator[Figure]:
    """Rows, stored bodies, and what comes over the wire."""
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            server.ensure_database("sizes")
            migrate(server.url("sizes"))
            engine = open_engine(server.url("sizes"), role=None)
            _live_through(engine)
            yield from _stored(engine)
            engine.dispose()
        finally:
            server.stop("immediate")
    yield from _on_the_wire()


def _stored(engine: Engine) -> Iterator[Figure]:
    lasting = 0.0
    with transaction(engine) as connection:
        for name in TABLES:
            (size,) = rows(connection, SIZE_OF_TABLE.format(name=name), name=name)
            lasting += size["alone"] + size["indexes"] if name in LASTING else 0
            yield Figure(f"row of {name}, with indexes", sum(size.values()), size["alone"], "the table alone", " B")
        (body,) = rows(connection, SIZE_OF_BODIES)
    yield Figure("body of a report, small, stored", body["stored"], body["came"], "as it came", " B")
    yield Figure("lasting, per call", lasting, body["stored"], "its body, for a while", " B")


def _on_the_wire() -> Iterator[Figure]:
    details: tuple[Detail, ...] = ("slim", "small", "full")
    for detail in details:
        world = VapiWorld()
        calls = _place(world, BODIES, detail)
        bodies = [world.body(call.id) or b"" for call in calls]
        pages = [b"[" + b",".join(bodies[first : first + PAGE]) + b"]" for first in range(0, len(bodies), PAGE)]
        zipped = sum(len(gzip.compress(page)) for page in pages) / len(bodies)
        name = f"call of the list, {detail}, gzip in pages of {PAGE}"
        yield Figure(name, zipped, mean(map(len, bodies)), "as JSON", " B")
        if detail != "slim":  # a report always tells what was said
            reports = [end_of_call_report(call).body for call in calls]
            zipped = mean(len(gzip.compress(report)) for report in reports)
            yield Figure(f"report of a call, {detail}, gzip each", zipped, mean(map(len, reports)), "as JSON", " B")


def _live_through(engine: Engine) -> None:
    """Every call from its report to its charge, through the inbox."""
    with transaction(engine) as connection:
        for number in range(ORGANIZATIONS):
            name = f"bench-{number}"
            organization = value(connection, "SELECT create_organization(:name, 'a@example.com')", name=name)
            rows(connection, "SELECT * FROM add_route(:id, 'assistant', :name)", id=organization, name=name)
            rows(connection, "SELECT * FROM credit_wallet(:id, 1000000000000, :name)", id=organization, name=name)
    calls = _place(VapiWorld(), CALLS, "small")
    for first in range(0, len(calls), BATCH):
        batch = calls[first : first + BATCH]
        inbox.accept(engine, [identify_vapi(end_of_call_report(call).body) for call in batch])
        applying.apply_batch(engine, inbox.claim(engine, "bench", BATCH))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")  # as autovacuum does beside ordinary traffic
    with transaction(engine) as connection:
        charged = value(connection, "SELECT count(*) FROM charges WHERE kind = 'call'")
        waiting = value(connection, "SELECT count(*) FROM events WHERE state <> 'done'")
    if (charged, waiting) != (CALLS, 0):
        raise RuntimeError(f"{charged} of {CALLS} calls charged, {waiting} events not done")


def _place(world: VapiWorld, count: int, detail: Detail) -> list[Call]:
    """All of them connected, with ids as long as Vapi's."""
    now = datetime.now(UTC)
    routes = tuple(Route(assistant_id=f"bench-{number}") for number in range(ORGANIZATIONS))
    start, end = now - timedelta(hours=2), now - timedelta(minutes=30)
    return world.place_calls(Traffic(count, routes, start, end, never_connected_share=0.0, detail=detail))
