"""What is claimed is handed over: a statement that asks a function beside the tables it changes sees two moments."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import text

from billing import inbox
from billing.database import transaction
from billing.inbox import ClaimedEvent

from .story import Story, report

ROOT = Path(__file__).parents[2]
PROGRAMS = ("billing", "calltally", "flows", "receiver", "tasks")
TABLE = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+([a-z_]+)\b(?!\s*\()")


def wait_for_lock(story: Story) -> None:
    """Until somebody waits for the bodies."""
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'event_bodies'::regclass AND NOT granted"
    while not story.owner.value(waiting):
        pass


@pytest.mark.parametrize("suspected", [False, True])
def test_event_that_is_committed_while_others_are_claimed_is_handed_over_or_left(
    story: Story, suspected: bool
) -> None:
    """It is never active without a holder: a lock lets it arrive after the claim has begun, before it looks."""
    claimed: list[ClaimedEvent] = []

    def claim() -> None:
        claimed.extend(inbox.claim(story.engine, "worker", 100))

    claiming = Thread(target=claim)
    with transaction(story.owner.engine) as connection:
        connection.exec_driver_sql("LOCK TABLE event_bodies IN ACCESS EXCLUSIVE MODE")
        claiming.start()
        wait_for_lock(story)
        delivery = report("meanwhile")
        connection.execute(
            text("SELECT accept_events(ARRAY[:provider], ARRAY[:key], ARRAY[:type], ARRAY[CAST(:body AS bytea)])"),
            {"provider": delivery.provider, "key": delivery.key, "type": delivery.type, "body": delivery.body},
        )
        if suspected:
            connection.exec_driver_sql("UPDATE events SET suspected = true")
    claiming.join()

    active = story.books.rows("SELECT id, received_at FROM events WHERE state = 'active'")
    assert [(event.id, event.received_at) for event in claimed] == [(row["id"], row["received_at"]) for row in active]
    assert len(active) == 1


def statements() -> Iterator[tuple[str, str]]:
    """Each text in the programs that may be SQL, with the file that holds it."""
    for folder in PROGRAMS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "SELECT" in node.value:
                    yield str(path.relative_to(ROOT)), node.value


def test_no_statement_asks_a_function_that_changes_tables_beside_a_table(story: Story) -> None:
    """Such a function sees what was committed since the statement began; the tables beside it do not show that."""
    names = {"schema": "public"}
    tables = {
        row["name"]
        for row in story.owner.rows(
            "SELECT relname AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE nspname = :schema AND relkind IN ('r', 'p', 'v')",
            **names,
        )
    }
    functions = {
        row["name"]
        for row in story.owner.rows(
            "SELECT proname AS name FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace"
            " WHERE nspname = :schema AND provolatile = 'v' AND prosecdef",
            **names,
        )
    }
    mixed = [
        (path, statement)
        for path, statement in statements()
        if functions.intersection(re.findall(r"\b([a-z_]+)\(", statement))
        and tables.intersection(TABLE.findall(statement))
    ]

    assert {"claim_events", "record_calls"} <= functions
    assert "events" in tables
    assert mixed == []
