"""The screen of `calltally status`, for a person."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from billing.figures import Reliability
from billing.messages import in_words, with_interval
from billing.money import format_micros
from calltally.cli.output import literal

COLOURS = {"up": "green", "down": "red", "unwell": "red", "unknown": "yellow"}
LABEL_WIDTH = 10


def show(screen: dict[str, Any]) -> None:
    """Print it: the verdict, what to do, then what is known."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    serious = sum(trouble["serious"] for trouble in screen["troubles"])
    verdict = "[green]All is well[/green]" if screen["healthy"] else f"[red]{_count(serious, 'thing')} wrong[/red]"
    console.print(f"{verdict}, {screen['at']:%Y-%m-%d %H:%M:%S} UTC\n", highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=LABEL_WIDTH, style="bold", no_wrap=True)
    for trouble in sorted(screen["troubles"], key=lambda trouble: not trouble["serious"]):
        label = Text("WRONG", "red") if trouble["serious"] else Text("note", "yellow")
        table.add_row(label, literal(trouble["what"], f"→ {trouble['fix']}"))
    if screen["troubles"]:
        table.add_row()
    for service in screen["services"]:
        detail = literal(service["state"], style=COLOURS[service["state"]]) + literal(f"  {service['detail']}")
        table.add_row(service["name"], detail)
    table.add_row()
    for name, lines in (
        ("queue", _queue(screen.get("queue"))),
        ("night", _night(screen.get("night"), screen["next_night"])),
        ("money", _money(screen.get("money"))),
        ("messages", _messages(screen.get("messages"))),
        ("alerts", _alerts(screen.get("alerts"))),
        ("books", _books(screen.get("books"))),
    ):
        table.add_row(name, literal(*lines))
    console.print(table)


def _unread(part: dict[str, Any] | None) -> list[str] | None:
    if part is None:
        return ["not known while the database is down"]
    return [f"not read: {part['missing']}"] if part.get("missing") else None


def _queue(part: dict[str, Any] | None) -> list[str]:
    if (unread := _unread(part)) or part is None:
        return unread or []
    by_provider: dict[str, list[str]] = {}
    for row in part["states"]:
        age = f" (oldest {in_words(row['oldest_seconds'])})"
        by_provider.setdefault(row["provider"], []).append(f"{row['events']:,} {row['state']}{age}")
    return [f"{provider}: {', '.join(states)}" for provider, states in by_provider.items()] or ["nothing waits"]


def _night(part: dict[str, Any] | None, next_night: str | None) -> list[str]:
    if (unread := _unread(part)) or part is None:
        return unread or []
    lines = _last_night(part["last"]) if part["last"] else ["none was ever completed"]
    lines += [f"failed {run['started_at']:%Y-%m-%d %H:%M}: {run['error']}" for run in part["failed"][:3]]
    lines += [f"running since {run['started_at']:%Y-%m-%d %H:%M}" for run in part["running"][:3]]
    return [
        *lines,
        f"next {next_night[:16].replace('T', ' ')} UTC" if next_night else "next: not scheduled, or not known",
    ]


def _last_night(run: dict[str, Any]) -> list[str]:
    window = f"{run['window_from']:%Y-%m-%d %H:%M} to {run['window_to']:%Y-%m-%d %H:%M} UTC"
    if run["reliability_low"] is None:
        return [f"{window}: no calls ended"]
    reliability = Reliability(run["ended_by_webhook"], run["ended_calls"])
    currencies = run["money"] or [{"currency": "USD", **run}]
    recovered = ", ".join(
        f"{format_micros(row['recovered_micros'] or 0, row['currency'])} paid,"
        f" {format_micros(row['outstanding_micros'] or 0, row['currency'])} outstanding"
        for row in currencies
    )
    of = f"{reliability.by_webhook:,} of {reliability.ended:,}"
    return [
        f"{window}: {with_interval(reliability)} by webhook, {of}",
        f"recovered {_count(run['recovered_calls'] or 0, 'call')}: {recovered}; {in_words(run['age'])} ago",
    ]


def _money(part: dict[str, Any] | None) -> list[str]:
    if (unread := _unread(part)) or part is None:
        return unread or []
    lines = [
        f"{_count(row['organizations'], 'organization')}: {format_micros(row['balance_micros'], row['currency'])}"
        f" in wallets, {format_micros(row['outstanding_micros'], row['currency'])} outstanding,"
        f" {row['recharge']} to recharge"
        for row in part["currencies"]
    ]
    for row in part["near_limit"]:
        owed = row["outstanding_micros"]
        lines.append(
            f"at its limit: {row['name']}, {format_micros(row['balance_micros'], row['currency'])}"
            f" of {format_micros(-row['debt_limit_micros'], row['currency'])}"
            + (f", {format_micros(owed, row['currency'])} outstanding" if owed else "")
        )
    return lines or ["no organization yet: calltally org create"]


def _messages(part: dict[str, Any] | None) -> list[str]:
    if (unread := _unread(part)) or part is None:
        return unread or []
    if not part["told"]:
        return ["none in 24 h"]
    ended = f"{part['told']:,} in 24 h: {part['failed']:,} of {part['ended']:,} that ended did not arrive"
    return [f"{ended}, {part['unmeasured']:,} not measured yet, {part['unattributed']:,} without an organization"]


def _alerts(part: dict[str, Any] | None) -> list[str]:
    if (unread := _unread(part)) or part is None:
        return unread or []
    lines = [f"{row['severity']}: {row['key']} since {row['opened_at']:%Y-%m-%d %H:%M}" for row in part["incidents"]]
    lines += [
        f"{row['opened_at']:%Y-%m-%d %H:%M} {row['key']}: {row['outcome'] or 'not sent yet'}"
        for row in part["alerts"][:3]
    ]
    return lines or ["none"]


def _books(part: dict[str, Any] | None) -> list[str]:
    if (unread := _unread(part)) or part is None:
        return unread or []
    broken = dict.fromkeys(row["name"] for row in part["broken"])
    return [f"broken: {name}" for name in broken] or ["every invariant holds"]


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
