"""Prefect, through its API: is it there, does it know our deployments, and does anybody run them?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]

from billing.prefect_access import CREDENTIALS_FIX, REFUSED, other_version, prefect_api_url, prefect_headers
from billing.settings import Settings
from calltally import stack
from calltally.doctor.findings import Area, Finding
from calltally.stack.automation_names import TELLING_SLACK

AREA = Area("prefect")
INSTALL = "calltally up installs them; elsewhere: calltally install"
POOL_WORKERS = {"webhooks": "calltally worker", "nights": "calltally nights"}


def check_prefect(settings: Settings) -> list[Finding]:
    """Look; nothing is changed."""
    api_url = prefect_api_url(settings)
    fix = "calltally up starts one; or set PREFECT_API_URL (it ends with /api) to where it runs"
    try:
        with httpx.Client(base_url=api_url, headers=prefect_headers(settings), timeout=10) as client:
            client.get("/ready").raise_for_status()
            found = [*_version(client, api_url), *_deployments(client, api_url), *_work_pools(client)]
            return [*found, *_automations(client, telling=settings.slack_webhook_url is not None)]
    except httpx.HTTPStatusError as error:
        problem, fix = _refusal(error, api_url, fix)
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        problem = f"it does not answer as Prefect does at {api_url} ({type(error).__name__})"
    return [AREA.problem(f"{problem}: webhooks are stored, but not applied", fix)]


def _refusal(error: httpx.HTTPStatusError, api_url: str, otherwise: str) -> tuple[str, str]:
    """What an answer that is no success means, and what mends it."""
    status = error.response.status_code
    if status in REFUSED:
        return f"it refuses our credentials at {api_url} ({status})", CREDENTIALS_FIX
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return f"its database is away (503 at {api_url}/ready)", "see the log of Prefect's server, and bring it back"
    return f"it answers {status} at {api_url}", otherwise


def _version(client: httpx.Client, api_url: str) -> Iterator[Finding]:
    server = str(client.get("/admin/version").raise_for_status().json())
    if other := other_version(server):
        yield AREA.warning(*other)
    else:
        yield AREA.ok(f"version {server} answers at {api_url}")


def _deployments(client: httpx.Client, api_url: str) -> Iterator[Finding]:
    installed = {row["name"]: row for row in _all(client, "/deployments/filter")}
    wanted = _wanted()
    well = True
    for name, has_schedule in wanted.items():
        row = installed.get(name)
        if row is None:
            well = False
            yield AREA.problem(f"deployment {name} is not installed", INSTALL)
        elif row.get("paused") or (has_schedule and not any(plan["active"] for plan in row.get("schedules", []))):
            well = False
            place = f"{api_url.removesuffix('/api')}/deployments/deployment/{row['id']}"
            commands = [
                f"prefect deployment schedule resume {name}/{name} {plan['id']}"
                for plan in row.get("schedules", [])
                if not plan["active"]
            ]
            fix = " && ".join(commands) or f"open {place} and switch it on"
            yield AREA.problem(f"deployment {name} is paused: it does not run by itself", fix, url=place)
    if well:
        yield AREA.ok(f"{len(wanted)} deployments are installed, none is paused")


def _wanted() -> dict[str, bool]:
    """The deployments of `prefect.yaml`, and whether each runs by itself unless somebody pauses it."""
    here = Path(stack.__path__[0])
    places = [here / "prefect.yaml", here.parents[1] / "prefect.yaml"]
    content = yaml.safe_load(next(place for place in places if place.exists()).read_text(encoding="utf-8"))
    return {
        row["name"]: any(plan.get("active", True) for plan in row.get("schedules", []))
        for row in content["deployments"]
    }


def _work_pools(client: httpx.Client) -> Iterator[Finding]:
    pools = {row["name"]: row for row in _all(client, "/work_pools/filter")}
    for name, command in POOL_WORKERS.items():
        if name not in pools:
            yield AREA.problem(f"work pool {name} does not exist", INSTALL)
            continue
        if pools[name].get("is_paused"):
            yield AREA.problem(f"work pool {name} is paused", f"prefect work-pool resume {name}")
        workers = client.post(f"/work_pools/{name}/workers/filter", json={}).raise_for_status().json()
        online = [worker["name"] for worker in workers if worker.get("status") == "ONLINE"]
        if online:
            yield AREA.ok(f"work pool {name} has {len(online)} worker(s) online")
        else:
            yield AREA.problem(
                f"work pool {name} has no worker online: its runs wait", f"run: {command} (or calltally up)"
            )


def _automations(client: httpx.Client, *, telling: bool) -> Iterator[Finding]:
    """Those that tell Slack are only made where Slack has an address."""
    known = {row["name"]: row for row in _all(client, "/automations/filter")}
    wanted = TELLING_SLACK if telling else ()
    missing = [name for name in wanted if name not in known]
    paused = [name for name in wanted if name in known and not known[name]["enabled"]]
    for name in missing:
        yield AREA.problem(f"automation {name!r} is not installed: nobody would notice", INSTALL)
    for name in paused:
        yield AREA.warning(f"automation {name!r} is paused", f"prefect automation resume --id {known[name]['id']}")
    if wanted and not missing and not paused:
        yield AREA.ok(f"{len(wanted)} automations are installed, none is paused")


def _all(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.post(path, json={}).raise_for_status().json()
    return rows
