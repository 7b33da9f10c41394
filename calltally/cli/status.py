"""`calltally status`: is everything well? One screen, whatever is down."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from billing.errors import BillingError
from calltally.cli.database import database_url, migrated_books
from calltally.cli.output import Json, print_json
from calltally.probes import SECONDS, NoAnswer, Probe, fetch, not_up

if TYPE_CHECKING:
    from billing.settings import Settings
    from billing.status import Facts, Trouble


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(status)


def status(as_json: Json = False) -> None:
    """Is everything well? Services, queue, nights, money and books on one screen.

    Exit code 0 if all is well, 1 if something is wrong.
    """
    from billing.settings import get_settings  # noqa: PLC0415

    screen = look(get_settings())
    if as_json:
        print_json(screen)
    else:
        from calltally.cli.status_screen import show  # noqa: PLC0415 - programs want JSON only

        show(screen)
    if not screen["healthy"]:
        raise typer.Exit(1)


def look(settings: "Settings") -> dict[str, Any]:
    """Everything at once: the network in threads, the books here."""
    from billing.prefect_access import prefect_api_url, prefect_headers  # noqa: PLC0415

    prefect_url, headers = prefect_api_url(settings), prefect_headers(settings)
    receiver_urls = _receiver_urls(settings)
    prefect = Probe(lambda: _ask_prefect(prefect_url, headers))
    receiver = Probe(lambda: _ask_receiver(receiver_urls))
    database, parts = _read_books(settings)
    services = [database, _workers(parts), _prefect(prefect, prefect_url), _receiver(receiver, receiver_urls)]
    troubles = [service.pop("trouble") for service in services if service.get("trouble")]
    troubles += [_plain(trouble) for name, part in parts.items() if name != "workers" for trouble in part.troubles]
    prefect_service = services[2]
    return {
        "healthy": not any(trouble["serious"] for trouble in troubles),
        "at": datetime.now(UTC),
        "troubles": troubles,
        "services": services,
        "next_night": prefect_service.pop("next_night", None),
        **{name: {**part.facts, "missing": part.missing} for name, part in parts.items() if name != "workers"},
    }


def _read_books(settings: "Settings") -> tuple[dict[str, Any], dict[str, "Facts"]]:
    from billing.status import PROBE_SECONDS, Limits, read_status  # noqa: PLC0415

    limits = Limits(settings.health_max_waiting, settings.reliability_threshold)
    embedded = settings.database_url is None
    service: dict[str, Any] = {
        "name": "database",
        "state": "up",
        "detail": "embedded" if embedded else "DATABASE_URL",
    }
    try:
        with database_url() as url, migrated_books(url, connect_seconds=2) as books:
            version = books.value("SELECT current_setting('server_version')")
            service["detail"] = f"PostgreSQL {version.split()[0]}, {service['detail']}"
            return service, read_status(books, limits, PROBE_SECONDS)
    except BillingError as error:
        service |= {"state": "down", "detail": str(error)}
        fix = (
            "see .calltally/postgres.log" if embedded else "check DATABASE_URL and the server; run: calltally doctor"
        )
        service["trouble"] = _trouble(f"the database does not answer: {error}", fix)
        return service, {}


def _ask_prefect(url: str, headers: dict[str, str]) -> dict[str, Any]:
    """Whether it and its database are well, and when the next night is due."""
    code, _ = fetch(f"{url}/ready", headers=headers)
    if code != 200:  # noqa: PLR2004
        raise Unwell(f"it answers {code}", "see the log of Prefect's server, and whether its database is up")
    from billing.prefect_access import CREDENTIALS_FIX, REFUSED  # noqa: PLC0415

    wanted = {
        "deployments": {"name": {"any_": ["reconcile_calls"]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": 1,
    }
    code, runs = fetch(f"{url}/flow_runs/filter", body=wanted, headers=headers)
    if code in REFUSED:
        raise Unwell(f"it refuses our credentials ({code})", CREDENTIALS_FIX)
    if code != 200:  # noqa: PLR2004
        raise Unwell(f"it answers {code} when asked for the next night", "see the log of Prefect's server")
    return {"next_night": runs[0]["expected_start_time"] if runs else None}


class Unwell(NoAnswer):
    """Something is there, and refuses or fails; `fix` mends it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def _workers(parts: dict[str, "Facts"]) -> dict[str, Any]:
    part = parts.get("workers")
    if part is None or part.missing:
        return {"name": "worker", "state": "unknown", "detail": "its heartbeat is in the database"}
    alive = [worker for worker in part.facts["workers"] if worker["alive"]]
    names = ", ".join(f"{worker['name']} ({worker['silent_seconds']:.0f} s ago)" for worker in alive)
    service: dict[str, Any] = {
        "name": "worker",
        "state": "up" if alive else "down",
        "detail": names or "no heartbeat",
    }
    if part.troubles:
        service["trouble"] = _plain(part.troubles[0])
    return service


def _prefect(probe: Probe, url: str) -> dict[str, Any]:
    try:
        seen = probe.result()
    except Unwell as error:
        what = f"Prefect at {url} is not well: {error}; webhooks are stored, but wait"
        return {
            "name": "prefect",
            "state": "unwell",
            "detail": f"{url}: {error}",
            "trouble": _trouble(what, error.fix),
        }
    except NoAnswer as error:
        what = f"Prefect does not answer at {url} ({error}): webhooks are stored, but wait"
        fix = "run: calltally up, or set PREFECT_API_URL to where it is"
        return {"name": "prefect", "state": "down", "detail": f"{url}: {error}", "trouble": _trouble(what, fix)}
    service = {"name": "prefect", "state": "up", "detail": url, **seen}
    if seen["next_night"] is None:
        fix = "run: calltally doctor (is the deployment there, and its schedule active?)"
        service["trouble"] = _trouble("no night is scheduled", fix)
    return service


def _receiver_urls(settings: "Settings") -> list[str]:
    """Where a receiver may answer: on this machine, and where the providers reach it.

    Beside a worker's container or on another machine there is none; the public address leads to one all the same.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.receiver_host, settings.receiver_host)
    here = f"http://{host}:{settings.receiver_port}"
    return [f"{url.rstrip('/')}/health" for url in (here, settings.public_url) if url]


def _ask_receiver(urls: Sequence[str]) -> tuple[str, str]:
    """The first address at which a receiver answers, and what it says is not up."""
    reasons = []
    for url in urls:
        try:
            return url, not_up(fetch(url)[1])
        except NoAnswer as error:
            reasons.append(str(error))
    raise NoAnswer("; ".join(reasons))


def _receiver(probe: Probe, urls: Sequence[str]) -> dict[str, Any]:
    try:
        url, bad = probe.result(SECONDS * len(urls))
    except NoAnswer as error:
        places = f"{' or '.join(urls)} ({error})"
        what = f"no receiver answers at {places}: webhooks are lost until the provider retries"
        return {"name": "receiver", "state": "down", "detail": places, "trouble": _trouble(what, _how_to_start(urls))}
    if not bad:
        return {"name": "receiver", "state": "up", "detail": url}
    service: dict[str, Any] = {"name": "receiver", "state": "unwell", "detail": f"{url}: it sees {bad}"}
    service["trouble"] = _trouble(f"the receiver says that it is unwell: {bad}", "mend that first")
    return service


def _how_to_start(urls: Sequence[str]) -> str:
    if len(urls) == 1:
        return "run: calltally up (or receiver); if it runs elsewhere, as for a container, set PUBLIC_URL"
    return (
        "see whether it runs (calltally receiver, its container, pod or unit), and whether PUBLIC_URL leads to it; a"
        " network that cannot reach its own public address has to be asked from outside, or where the receiver runs"
    )


def _trouble(what: str, fix: str) -> dict[str, Any]:
    return {"what": what, "fix": fix, "serious": True}


def _plain(trouble: "Trouble") -> dict[str, Any]:
    return {"what": trouble.what, "fix": trouble.fix, "serious": trouble.serious}
