"""`make screens`: the pictures of docs/images, taken anew of an evening's real runs with Debian's Chromium.

The story is that of `make demo`, with a payment nobody knows the owner of, a look at the rules and a weekly summary.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from billing.prefect_access import basic_auth
from billing.prefect_api import start_deployment
from calltally.demo.stage import Stage, open_stage
from calltally.demo.story import Narrator, tell_chapters
from calltally.sandbox.deliveries import Weather
from calltally.sandbox.stripe_objects import Payment

from .browser import browsing, is_there
from .pages import ROOT

IMAGES = ROOT / "docs" / "images"
LOADED_SECONDS = 8
"""Pages go on drawing after they have all that they ask for."""
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
    if not is_there():
        print("chromium is not on the path: apt-get install chromium")
        return 1
    async with open_stage(seed=7) as stage:
        await tell_chapters(Narrator(), stage)
        await pay_for_nobody(stage)
        await look_at_rules(stage)
        with browsing() as browser:
            browser.log_in(stage.stack.prefect_ui_url, stage.stack.prefect_auth_string or "")
            for screen in await screens(stage):
                browser.open(screen.address, width=screen.width, height=screen.height)
                await asyncio.sleep(LOADED_SECONDS)
                browser.picture(IMAGES / f"{screen.name}.png")
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
    proof = basic_auth(stage.stack.prefect_auth_string)
    flow_run = await start_deployment(stage.stack.prefect_api_url, "monitor_billing", {}, headers=proof)
    chosen = {"id": {"any_": [str(flow_run.id)]}}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await one(stage, "flow_runs", flow_runs=chosen))["end_time"] is None:
        assert time.monotonic() < deadline, "monitor_billing does not end"
        await asyncio.sleep(1)


async def one(stage: Stage, kind: str, **chosen: Any) -> Mapping[str, Any]:
    """The newest that Prefect knows of a kind, chosen by Prefect's filters."""
    order = {"flow_runs": "START_TIME_DESC", "artifacts": "CREATED_DESC", "deployments": "NAME_ASC"}[kind]
    proof = basic_auth(stage.stack.prefect_auth_string)
    async with httpx.AsyncClient(headers=proof, trust_env=False) as client:
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


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
