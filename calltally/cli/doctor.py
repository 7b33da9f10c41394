"""`calltally doctor`: what is set up wrong, and how to mend it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from billing.errors import BillingError
from calltally.cli.database import database_url
from calltally.cli.output import Json, literal, print_json

if TYPE_CHECKING:
    from billing.settings import Settings
    from calltally.doctor.findings import Finding

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(doctor)


def doctor(as_json: Json = False) -> None:
    """Check settings, database, Prefect and the providers' set-up, and say how to mend it.

    Nothing is changed; an object store of reports is tried with an empty file. Exit code 1 if there are problems, 0
    if there are only warnings.
    """
    from billing.settings import get_settings  # noqa: PLC0415

    found = list(examine(get_settings()))
    problems = sum(finding.verdict == "problem" for finding in found)
    warnings = sum(finding.verdict == "warning" for finding in found)
    if as_json:
        print_json(
            {
                "problems": problems,
                "warnings": warnings,
                "findings": [
                    {
                        "area": finding.area,
                        "verdict": finding.verdict.value,
                        "what": finding.what,
                        "fix": finding.fix,
                        "facts": finding.facts or {},
                    }
                    for finding in found
                ],
            }
        )
    else:
        _print(found, problems, warnings)
    if problems:
        raise typer.Exit(1)


def examine(settings: "Settings") -> Iterator["Finding"]:
    """Everything, the network's parts at the same time."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    from billing.settings import ENV_FILE_VARIABLE  # noqa: PLC0415
    from calltally.doctor.database import routed_ids  # noqa: PLC0415
    from calltally.doctor.prefect import check_prefect  # noqa: PLC0415
    from calltally.doctor.receiver import check_receiver  # noqa: PLC0415
    from calltally.doctor.reports import check_reports  # noqa: PLC0415
    from calltally.doctor.settings import check_settings  # noqa: PLC0415
    from calltally.doctor.stripe import check_stripe  # noqa: PLC0415
    from calltally.doctor.twilio import check_twilio  # noqa: PLC0415
    from calltally.doctor.vapi import check_vapi  # noqa: PLC0415

    yield from check_settings(settings, Path(os.environ.get(ENV_FILE_VARIABLE, ".env")))
    with ThreadPoolExecutor(5) as pool:
        database, routed = _database(settings, routed_ids)
        looks: list[Callable[[], list[Finding]]] = [
            lambda: check_prefect(settings),
            lambda: check_receiver(settings),
            lambda: check_reports(settings),
            lambda: check_vapi(settings, routed),
            lambda: check_stripe(settings),
            lambda: check_twilio(settings, routed),
        ]
        answers = [pool.submit(look) for look in looks]
        yield from database
        for answer in answers:
            yield from answer.result()


def _database(
    settings: "Settings", routed_ids: Callable[[str], dict[tuple[str, str], str] | None]
) -> tuple[list["Finding"], dict[tuple[str, str], str] | None]:
    from calltally.cli.complaints import in_words  # noqa: PLC0415
    from calltally.doctor.database import AREA, check_database  # noqa: PLC0415

    try:
        with database_url() as url:
            return check_database(url), routed_ids(url)
    except Exception as error:
        words = in_words(error)
        if words is None and not isinstance(error, BillingError):
            raise
        home = settings.calltally_home
        return [AREA.problem(f"the embedded one does not start: {words}", f"see {home}/postgres.log")], None


def _print(found: list["Finding"], problems: int, warnings: int) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    area = ""
    for finding in found:
        if finding.area != area:
            area = finding.area
            console.print(literal(area, style="bold"))
        mark, colour = MARKS[finding.verdict.value]
        what = literal(finding.what, style=colour if finding.fix else "")
        console.print(literal(f"  {mark} ") + what, soft_wrap=True)
        if finding.fix:
            console.print(literal(f"    → {finding.fix}"), soft_wrap=True)
    console.print(f"\n{problems} problem(s), {warnings} warning(s)")
