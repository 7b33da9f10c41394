"""Postgres is lost with all that came after the backup; the providers know the rest (docs/how-to/restore.md)."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from billing.migrate import migrate
from calltally.sandbox.calls import Call, Route
from calltally.sandbox.deliveries import Weather
from calltally.sandbox.server import RunningSandbox, running_sandbox
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.traffic import Traffic
from calltally.sandbox.world import Sandbox
from calltally.stack.postgres import _binary
from tests import messages
from tests.docs.pages import ROOT, blocks
from tests.scenarios.house import STUBBORN, House, Mortal, open_house
from tests.scenarios.places import DAY_END, DAY_START

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BACKUP = DAY_START + (DAY_END - DAY_START) / 2
"""When the backup is made, in the providers' time."""
RESTORE = ROOT / "docs" / "how-to" / "restore.md"
SERVICE = "MG" + "7" * 32
ASSISTANTS = ("asst-acme", "asst-bolt")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path."""
    with tempfile.TemporaryDirectory(prefix="ct-") as directory:
        yield Path(directory)


def place_calls(house: House, start: datetime, end: datetime, count: int) -> list[Call]:
    """Calls of this time at the provider, for each assistant."""
    routes = tuple(Route(assistant_id=name) for name in ASSISTANTS)
    return house.sandbox.vapi.place_calls(
        Traffic(count, routes, start, end, never_connected_share=0.0, detail="slim")
    )


async def pay(house: House, times: list[datetime], amount_minor: int) -> None:
    """Payments of every organization at these times; their webhooks arrive."""
    organizations = [row["id"] for row in house.ask("SELECT id FROM organizations ORDER BY name")]
    topups = [
        house.sandbox.stripe.pay_topup(Payment(amount_minor, client_reference_id=str(organization)), at=at)
        for organization in organizations
        for at in times
    ]
    await asyncio.to_thread(
        house.sandbox.sandbox.deliver_events,
        [event for topup in topups for event in topup.events],
        url=f"{house.receiver_url}/webhooks/stripe",
        weather=Weather(),
        retries=STUBBORN,
        concurrency=2,
    )


def settings(house: House) -> dict[str, str]:
    """Of every process: Twilio's callbacks come straight to the receiver."""
    return {**house.environment, **house.sandbox.twilio_environment(house.receiver_url)}


async def send_messages(house: House) -> None:
    """Three messages, of one of which no callback arrives."""
    twilio = house.sandbox.twilio
    sent = [twilio.send_message(at=datetime.now(UTC), messaging_service_sid=SERVICE) for _ in range(3)]
    await asyncio.to_thread(twilio.deliver, sent[1:], f"{house.receiver_url}/webhooks/twilio")


def books(house: House) -> dict[str, list[dict[str, Any]]]:
    """What must be the same again: who owes what for which call, which money moved, and what is left."""
    return {
        "wallets": house.ask("SELECT organization_id, balance_micros FROM wallets ORDER BY 1"),
        "charges": house.ask("SELECT idempotency_key, organization_id, state, amount_micros FROM charges ORDER BY 1"),
        "transfers": house.ask(
            "SELECT idempotency_key, kind, from_account, to_account, amount_micros FROM transfers ORDER BY 1"
        ),
        "messages": house.ask("SELECT sid, organization_id, status, num_segments FROM sms_messages ORDER BY 1"),
        "calls": house.ask("SELECT id, organization_id, duration_ms, provider_cost_micros FROM calls ORDER BY 1"),
    }


class Page:
    """What docs/how-to/restore.md tells people to type, typed."""

    def __init__(self, house: House, folder: Path, since: datetime) -> None:
        self.house = house
        self.folder = folder
        self.since = f"{since:%Y-%m-%dT%H:%M}"

    def environment(self) -> dict[str, str]:
        """PostgreSQL's programs, ours, and the two addresses."""
        programs = [str(Path(_binary("psql")).parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        addresses = {"OWNER_URL": self.house.postgres.url(), "SERVER_URL": self.house.postgres.url("postgres")}
        return {**os.environ, **settings(self.house), **addresses, "PATH": ":".join(programs)}

    def type(self, word: str) -> None:
        """Its only block in which this word stands; on this day's dump, and from the time of this one on."""
        (text,) = [block.text for block in blocks(RESTORE, "sh") if word in block.text and "docker" not in block.text]
        text = text.replace("2026-11-22T02:00", self.since).replace("books-2026-11-22.dump", "books-*.dump")
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, text + done.stdout + done.stderr


def lose_everything(house: House) -> None:
    """The disk of the database is gone, Prefect's history with it."""
    house.engine.dispose()
    house.postgres.stop("immediate")
    shutil.rmtree(house.postgres.data_directory)


async def live(page: Page, start: datetime, end: datetime, amount_minor: int) -> None:
    """Half a day: calls and messages, most of whose webhooks arrive, and payments."""
    house = page.house
    calls = place_calls(house, start, end, 60)
    await pay(house, [start + timedelta(minutes=5), end - timedelta(minutes=5)], amount_minor)
    statuses = await house.deliver(calls)
    assert list(statuses) == ["200"]
    await send_messages(house)
    await house.until_applied()
    await asyncio.to_thread(page.type, "calltally sms backfill")


async def story(home: Path, sandbox: RunningSandbox) -> None:
    """Morning, backup, afternoon, disaster, restore, catch-up."""
    async with open_house(home, sandbox) as house:
        page = Page(house, home, since=BACKUP - timedelta(hours=1))
        migrate(house.postgres.url())
        for name in ASSISTANTS:
            organization = house.books.organization(f"Owner of {name}")
            house.books.route(organization, name)
        messages.price(house.books, None, 20_000)
        messages.route(house.books, organization, "messaging_service", SERVICE)
        mortals = [Mortal(verb, settings(house), home / f"{verb}.log") for verb in ("receiver", "worker")]
        try:
            for mortal in mortals:
                mortal.start()
            await live(page, DAY_START, BACKUP, 900_000)
            await asyncio.to_thread(page.type, "pg_dumpall")
            at_backup = books(house)
            await live(page, BACKUP, DAY_END, 50_000)
            before = books(house)

            for mortal in mortals:
                mortal.kill()
            await house.stop_prefect()
            await asyncio.to_thread(lose_everything, house)
            house.postgres.start()
            await asyncio.to_thread(page.type, "pg_restore")
            assert books(house) == at_backup
            assert books(house) != before
            await house.start_prefect()
            for mortal in mortals:
                mortal.start()

            await asyncio.to_thread(page.type, "calltally payments backfill")
            await house.until_applied()
            await asyncio.to_thread(page.type, "calltally backfill")
            await asyncio.to_thread(page.type, "calltally sms backfill")
        finally:
            for mortal in mortals:
                mortal.kill()
        assert books(house) == before
        assert house.ask("SELECT count(*) AS messages FROM charges WHERE kind = 'sms'") == [{"messages": 6}]
        assert house.ask("SELECT count(*) AS calls FROM calls WHERE reconciled") == [{"calls": 60}]
        assert house.ask("SELECT * FROM check_books()") == []


def test_books_after_restore_and_catch_up_equal_those_before_the_loss(home: Path) -> None:
    """Every charge, every transfer and every balance, from a backup of midday and the providers' lists."""
    with running_sandbox(Sandbox(seed=12)) as sandbox:
        asyncio.run(story(home, sandbox))
