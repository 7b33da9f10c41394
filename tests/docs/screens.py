"""`make screens`: the pictures of docs/images, taken anew of an evening's real runs with Debian's Chromium.

The story is that of `make demo`, with a payment nobody knows the owner of, a look at the rules and a weekly summary.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from billing.prefect_api import start_deployment
from calltally.demo.stage import Stage, open_stage
from calltally.demo.story import Narrator, tell_chapters
from calltally.sandbox.deliveries import Weather
from calltally.sandbox.stripe_objects import Payment

from .pages import ROOT

IMAGES = ROOT / "docs" / "images"
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
STEADY = ("--run-all-compositor-stages-before-draw", "--force-prefers-reduced-motion")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
LOADING_MS = 25_000
"""Of the browser's own time, which runs ahead while nothing is under way."""
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True)
class Screen:
    """A picture: its name, the address of the page, and how much of it is seen."""

    name: str
    address: str
    height: int = 1000
    width: int = 1500


async def main() -> int:
    """Tell the story, make something go wrong, and look at every page."""
    if not shutil.which(CHROMIUM[0]):
        print("chromium is not on the path: apt-get install chromium")
        return 1
    async with open_stage(seed=7) as stage:
        await tell_chapters(Narrator(), stage)
        await pay_for_nobody(stage)
        await look_at_rules(stage)
        for screen in await screens(stage):
            photograph(screen)
            print(f"docs/images/{screen.name}.png")
    return 0


async def pay_for_nobody(stage: Stage) -> None:
    """A payment whose organization is unknown is parked, and somebody has to do something."""
    stranger = Payment(2_500, client_reference_id="somebody-else")
    topup = stage.sandbox.stripe.pay_topup(stranger, at=datetime.now(UTC))
    await asyncio.to_thread(
        stage.sandbox.sandbox.deliver_events,
        topup.events,
        url=f"{stage.stack.receiver_url}/webhooks/stripe",
        weather=Weather(),
        seed=1,
    )
    await stage.until("SELECT count(*) > 0 FROM events WHERE state = 'parked'", "the stranger's payment")


async def look_at_rules(stage: Stage) -> None:
    """As every 15 minutes."""
    flow_run = await start_deployment(stage.stack.prefect_api_url, "monitor_billing", {})
    chosen = {"id": {"any_": [str(flow_run.id)]}}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await one(stage, "flow_runs", flow_runs=chosen))["end_time"] is None:
        assert time.monotonic() < deadline, "monitor_billing does not end"
        await asyncio.sleep(1)


async def one(stage: Stage, kind: str, **chosen: Any) -> Mapping[str, Any]:
    """The newest that Prefect knows of a kind, chosen by Prefect's filters."""
    order = {"flow_runs": "START_TIME_DESC", "artifacts": "CREATED_DESC", "deployments": "NAME_ASC"}[kind]
    async with httpx.AsyncClient(base_url=stage.stack.prefect_api_url, trust_env=False) as client:
        answer = await client.post(f"{stage.stack.prefect_api_url}/{kind}/filter", json={**chosen, "sort": order})
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    assert found, f"Prefect has no {kind} with {chosen}"
    return found[0]


async def screens(stage: Stage) -> list[Screen]:
    """Every page that an operator opens."""
    ui = stage.stack.prefect_ui_url.rstrip("/")
    night = await one(stage, "flow_runs", flows={"name": {"any_": ["reconcile_calls"]}})
    deployment = await one(stage, "deployments", deployments={"name": {"any_": ["reconcile_calls"]}})
    artifacts = {
        name: await one(stage, "artifacts", artifacts={"key": {"any_": [key]}})
        for name, key in (
            ("rules", "billing-health"),
            ("summary", "reconciliation-summary"),
            ("events", "events-not-applied"),
        )
    }
    report = next(stage.home.glob("reports/*/*.html"))
    return [
        Screen("prefect-dashboard", f"{ui}/dashboard"),
        Screen("prefect-runs", f"{ui}/runs", 1300),
        Screen("prefect-deployments", f"{ui}/deployments", 1100),
        Screen("prefect-deployment", f"{ui}/deployments/deployment/{deployment['id']}"),
        Screen("prefect-form", f"{ui}/deployments/deployment/{deployment['id']}/run", 1300),
        Screen("prefect-run", f"{ui}/runs/flow-run/{night['id']}", 1100),
        Screen("prefect-webhooks", f"{ui}/runs/flow-run/{artifacts['events']['flow_run_id']}", 1000),
        Screen("prefect-automations", f"{ui}/automations", 1000),
        Screen("prefect-work-pools", f"{ui}/work-pools", 800),
        Screen("prefect-artifacts", f"{ui}/artifacts", 900),
        *(Screen(f"prefect-{name}", f"{ui}/artifacts/artifact/{found['id']}") for name, found in artifacts.items()),
        Screen("report", report.as_uri(), 1500, 1060),
    ]


def photograph(screen: Screen) -> None:
    """Have Chromium draw the page."""
    with tempfile.TemporaryDirectory() as profile:
        options = [
            f"--user-data-dir={profile}",
            f"--window-size={screen.width},{screen.height}",
            f"--virtual-time-budget={LOADING_MS}",
            f"--screenshot={IMAGES / screen.name}.png",
        ]
        subprocess.run(
            [*CHROMIUM, *QUIET, *STEADY, *options, screen.address],
            check=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
