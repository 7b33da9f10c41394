"""The story: three organizations, a day of calls, some lost webhooks, a debt limit, and the night that finds them.

Every figure that is shown is read back from the database, and every sentence that is claimed is checked.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from billing.messages import percent
from billing.money import format_micros
from billing.settings import get_settings
from calltally.demo.stage import Stage, open_stage
from calltally.sandbox.calls import Route
from calltally.sandbox.deliveries import Weather
from calltally.sandbox.signing import forged_stripe_signature
from calltally.sandbox.stripe_objects import Payment
from calltally.sandbox.traffic import Traffic
from calltally.stack.supervisor import cancelled_by_signals

CALLS = 300
LOST_SHARE = 0.08


@dataclass(frozen=True)
class Organization:
    """One of the cast."""

    name: str
    route_kind: str
    external_id: str
    topup_cents: int
    route: Route
    id: str = ""


CAST = (
    Organization("Acme Dental", "assistant", "asst-dental", 10_000, Route(assistant_id="asst-dental")),
    Organization("Bright Realty", "squad", "squad-realty", 8_000, Route(squad_id="squad-realty")),
    Organization("Corner Cafe", "phone_number", "line-cafe", 1_000, Route(phone_number_id="line-cafe")),
)


@dataclass
class Narrator:
    """Prints the story and remembers whether all of it came true."""

    console: Console = field(default_factory=Console)
    came_true: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def chapter(self, title: str) -> None:
        """Begin a part."""
        self.console.print(f"\n[bold]{title}[/bold]")

    def claim(self, sentence: str, *, true: bool) -> None:
        """Say something that is checked."""
        self.console.print(f"  [green]✓[/green] {sentence}" if true else f"  [red]✗ {sentence}[/red]")
        (self.came_true if true else self.broken).append(sentence)


async def tell(*, keep: bool, seed: int, report: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Tell the story; the exit code: 0 if all of it came true.

    `report` gets, at its end, what came true and what did not; the story itself then goes to stderr.
    """
    narrator = Narrator(Console(stderr=report is not None))
    status = narrator.console.status(
        "Starting PostgreSQL, Prefect, worker and receiver, and a sandbox of the providers"
    )
    status.start()
    with cancelled_by_signals():
        async with open_stage(seed) as stage:
            status.stop()
            prefect = f"{stage.stack.prefect_ui_url}, with the password {stage.stack.prefect_auth_string}"
            narrator.console.print(f"Everything runs. Prefect: {prefect}")
            await tell_chapters(narrator, stage)
            if report is not None:
                report({"came_true": narrator.came_true, "broken": narrator.broken, **stage.stack.addresses})
            if keep:
                where = f"Prefect at {prefect}, receiver at {stage.stack.receiver_url}"
                narrator.console.print(f"\nStill running: {where}. Ctrl-C stops it all.")
                await asyncio.Event().wait()
    return 1 if narrator.broken else 0


async def tell_chapters(narrator: Narrator, stage: Stage) -> None:
    """All of it, on a stage that is open."""
    cast = _open_wallets(narrator, stage)
    await _pay(narrator, stage, cast)
    lost = await _call(narrator, stage, cast)
    _show_wallets(narrator, stage)
    await _night(narrator, stage, lost)
    await _same_night_again(narrator, stage)
    narrator.chapter("The proof")
    narrator.claim("check_books() finds nothing", true=stage.ask("SELECT * FROM check_books()") == [])


def _open_wallets(narrator: Narrator, stage: Stage) -> list[Organization]:
    narrator.chapter("Three organizations, each with a wallet and a route for its calls")
    cast = []
    for organization in CAST:
        organization_id = stage.figure(
            "SELECT create_organization(:name, 'billing@example.com')", name=organization.name
        )
        stage.ask(
            "SELECT * FROM add_route(:id, :kind, :external_id)",
            id=organization_id,
            kind=organization.route_kind,
            external_id=organization.external_id,
        )
        cast.append(Organization(**{**vars(organization), "id": str(organization_id)}))
        narrator.console.print(
            f"  {organization.name}: calls of {organization.route_kind} {organization.external_id}"
        )
    return cast


async def _pay(narrator: Narrator, stage: Stage, cast: list[Organization]) -> None:
    narrator.chapter("They top up through Stripe: two events per payment, one sent twice, and a forged one")
    url = f"{stage.stack.receiver_url}/webhooks/stripe"
    for organization in cast:
        payment = Payment(
            organization.topup_cents, client_reference_id=organization.id, metadata={"org_id": organization.id}
        )
        topup = stage.sandbox.stripe.pay_topup(payment, at=datetime.now(UTC))
        twice = Weather(duplicate_rate=1.0) if organization is cast[0] else Weather()
        await asyncio.to_thread(
            stage.sandbox.sandbox.deliver_events, topup.events, url=url, weather=twice, seed=len(cast)
        )
    forged = stage.sandbox.stripe.pay_topup(
        Payment(1_000_000, client_reference_id=cast[2].id, metadata={"org_id": cast[2].id}), at=datetime.now(UTC)
    )
    refused = await asyncio.to_thread(
        stage.sandbox.sandbox.deliver_events, forged.events[:1], url=url, signer=forged_stripe_signature()
    )
    await stage.until("SELECT count(*) = 6 FROM events WHERE state = 'done'", "the payments to be booked")
    repeated = stage.figure("SELECT count(*) FROM events WHERE deliveries > 1")
    narrator.claim("the forged event was refused with 401", true=refused.report.final_statuses == {"401": 1})
    narrator.claim(f"{repeated} events arrived twice and are stored once", true=repeated > 0)
    for organization in cast:
        credited = stage.ask(
            "SELECT amount_micros FROM wallet_statement WHERE organization_id = :id AND kind = 'topup'",
            id=organization.id,
        )
        expected = [{"amount_micros": organization.topup_cents * 10_000}]
        amount = format_micros(sum(row["amount_micros"] for row in credited))
        narrator.claim(f"{organization.name} is credited {amount}, once", true=credited == expected)


async def _call(narrator: Narrator, stage: Stage, cast: list[Organization]) -> set[str]:
    narrator.chapter(f"A day of {CALLS} calls; some webhooks are lost, doubled, late and out of order")
    now = datetime.now(UTC)
    calls = stage.sandbox.vapi.place_calls(
        Traffic(
            CALLS,
            tuple(organization.route for organization in cast),
            now - timedelta(hours=23),
            now - timedelta(hours=2),
            never_connected_share=0.04,
        )
    )
    weather = Weather(lost_reports_share=LOST_SHARE, duplicate_rate=0.05, delay_rate=0.1, disorder_rate=0.3)
    url = f"{stage.stack.receiver_url}/webhooks/vapi"
    delivery = asyncio.create_task(
        asyncio.to_thread(stage.sandbox.sandbox.deliver_calls, calls, url=url, weather=weather)
    )
    await _watch_inbox(narrator, stage, delivery)
    delivered = await delivery
    lost = set(delivered.plan.lost)
    stored, answered = (
        stage.figure("SELECT sum(deliveries)::int FROM events WHERE provider = 'vapi'"),
        delivered.report.final_statuses,
    )
    narrator.claim(f"{stored} deliveries were answered 200, stored and applied", true=answered == {"200": stored})
    narrator.claim(
        "every report that arrived is charged once",
        true=stage.figure(
            "SELECT (SELECT count(*) FROM events WHERE type = 'end-of-call-report' AND state = 'done')"
            " = (SELECT count(*) FROM charges WHERE kind = 'call')"
        ),
    )
    narrator.console.print(f"  {len(lost)} end-of-call reports never arrived; nobody knows of them yet")
    return lost


async def _watch_inbox(narrator: Narrator, stage: Stage, delivery: "asyncio.Task[Any]") -> None:
    columns = TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=narrator.console) as progress:
        shown = progress.add_task("applied to the books", total=None)
        finished = False
        while not finished:
            await asyncio.sleep(0.2)
            counts = await asyncio.to_thread(
                stage.ask,
                "SELECT count(*) AS stored, count(finished_at) AS ended FROM events WHERE provider = 'vapi'",
            )
            progress.update(shown, total=counts[0]["stored"], completed=counts[0]["ended"])
            finished = delivery.done() and counts[0]["stored"] == counts[0]["ended"]


def _show_wallets(narrator: Narrator, stage: Stage) -> None:
    narrator.chapter("The wallets in the evening")
    table = Table(box=None, padding=(0, 2))
    for heading in ("organization", "balance", "debt limit", "outstanding"):
        table.add_column(heading, justify="left" if heading == "organization" else "right")
    balances = stage.ask(
        "SELECT name, balance_micros, debt_limit_micros, outstanding_micros FROM organizations"
        " JOIN wallet_balances ON organization_id = id ORDER BY name"
    )
    for row in balances:
        table.add_row(row["name"], *(format_micros(row[column]) for column in list(row)[1:]))
    narrator.console.print(table)
    cafe = balances[2]
    narrator.claim(
        f"{cafe['name']} ran into its debt limit: {format_micros(cafe['outstanding_micros'])} stay outstanding,"
        " to be settled by its next top-up",
        true=cafe["outstanding_micros"] > 0 and -cafe["balance_micros"] <= cafe["debt_limit_micros"],
    )


async def _night(narrator: Narrator, stage: Stage, lost: set[str]) -> None:
    narrator.chapter("The night: Vapi's own list of calls is compared with the books")
    with narrator.console.status("  reconcile_calls runs in Prefect"):
        run = await stage.run_night()
    found = {
        row["call_id"]
        for row in stage.ask("SELECT call_id FROM findings WHERE run_id = :id AND kind = 'missing'", id=run["id"])
    }
    charged = stage.figure(
        "SELECT count(*)::int FROM charges WHERE right(idempotency_key, -5) = ANY(:ids)", ids=[*lost]
    )
    narrator.claim(f"it found exactly the {len(lost)} calls whose report was lost", true=found == lost)
    narrator.claim(
        f"they are charged now: {format_micros(run['recovered_micros'])} paid, "
        f"{format_micros(run['outstanding_micros'])} outstanding at a debt limit",
        true=charged == len(lost),
    )
    ratio, threshold = run["reliability_ratio"], get_settings().reliability_threshold
    narrator.claim(
        f"webhook reliability {percent(ratio)} ({run['ended_by_webhook']} of {run['ended_calls']} ended calls)"
        f" is below {percent(threshold)}",
        true=ratio < threshold,
    )
    # The watch may look in these minutes too, and tell of the wallet that reached its limit.
    messages = [message for message in stage.sandbox.slack.messages if "did not tell us" in message["text"]]
    narrator.claim("Slack was told, once", true=run["alert"] == "sent" and len(messages) == 1)
    for message in messages:
        narrator.console.print(Panel(_as_slack_shows(message), title="Slack", expand=False))


async def _same_night_again(narrator: Narrator, stage: Stage) -> None:
    narrator.chapter("The same night again")
    books = "SELECT count(*) AS transfers, sum(amount_micros) AS micros FROM transfers"
    before, ratio = (
        stage.ask(books),
        stage.figure("SELECT reliability_ratio FROM reconciliation_runs ORDER BY started_at LIMIT 1"),
    )
    with narrator.console.status("  reconcile_calls runs in Prefect"):
        run = await stage.run_night()
    narrator.claim("it changes nothing", true=stage.ask(books) == before and run["recovered_calls"] == 0)
    narrator.claim(
        f"and the ratio stays {percent(run['reliability_ratio'])}: a repair does not make the webhooks better",
        true=run["reliability_ratio"] == ratio,
    )


def _as_slack_shows(message: dict[str, Any]) -> str:
    """The message's blocks as plain text."""
    lines: list[str] = []
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else block.get("fields", [])
        lines += [text["text"].replace("*", "").replace("`", "") for text in texts]
        buttons = block.get("elements", []) if block["type"] == "actions" else []
        lines += [f"[{button['text']['text']}]" for button in buttons]
    return "\n".join(lines).replace("[", "\\[").replace(":rotating_light: ", "🚨 ")
