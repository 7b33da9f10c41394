"""The story of a call in sentences."""

from datetime import datetime
from typing import Any

from billing.money import format_micros
from billing.naming import NAMED_BY, naming_command

Story = dict[str, Any]


def sections(story: Story) -> list[tuple[str, list[str]]]:
    """A heading and its lines, in the order in which a person asks."""
    parts = [
        ("call", _call(story)),
        ("payer", _payer(story)),
        ("price", _price(story)),
        ("reckoning", _reckoning(story)),
        ("charge", _charges(story)),
        ("transfers", _transfers(story)),
        ("webhooks", _events(story)),
        ("nights", _nights(story)),
        ("decisions", _decisions(story)),
    ]
    return [(label, lines) for label, lines in parts if lines]


def closing(story: Story) -> str:
    """Whether the books are right about this call."""
    verdict, currency = story["verdict"], story["payer"]["currency"]
    if not verdict["matches"]:
        return f"MISMATCH: {'; '.join(verdict['mismatches'])}. Run: calltally books check"
    if not story["charges"]:
        return "Nothing is charged yet, and nothing has moved."
    charged = format_micros(verdict["charged_micros"], currency)
    owed = verdict["outstanding_micros"]
    paid = f"{format_micros(verdict['moved_micros'], currency)} moved"
    rest = f", {format_micros(owed, currency)} owed" if owed else ""
    if verdict["computed_micros"] is None:
        return f"Charged by amount alone, so there is nothing to compute again: {charged} charged, {paid}{rest}."
    return f"The arithmetic done again gives {charged}, which is what is charged: {paid}{rest}."


def _call(story: Story) -> list[str]:
    call = story["call"]
    if call is None:
        return ["its charge is there, but no call: it was charged by amount alone (deduct_call_credits)"]
    kind = f"{call['id']}" + (f" ({call['call_type']})" if call["call_type"] else "")
    reason = f", {call['ended_reason']}" if call["ended_reason"] else ""
    created, started, ended = (_time(call[f"{moment}_at"]) for moment in ("created", "started", "ended"))
    lines = [
        kind,
        f"created {created}, started {started}, ended {ended}{reason}",
        f"its times are from {call['source']}",
        *([f"held: {call['held']}"] if call["held"] else []),
        f"first heard of {_time(call['first_seen_at'])}, its webhook {_time(call['webhook_at'], 'never came')}",
    ]
    if call["provider_cost_micros"] is not None:
        lines.append(f"Vapi charges us {format_micros(call['provider_cost_micros'])} for it")
    return lines


def _payer(story: Story) -> list[str]:
    payer, call, route = story["payer"], story["call"], story["payer"]["route"]
    if payer["organization_id"] is None:
        if route is not None:
            return [f"nobody yet: {call['held']}", f"→ calltally call assign {call['id']} ORG"]
        ids = [(column, call[column]) for column in NAMED_BY if call[column]]
        named = ", ".join(f"{column.removesuffix('_id').replace('_', ' ')} {said}" for column, said in ids) or "it"
        lines = [f"nobody yet: no route is known for {named} at {_time(call['created_at'])}"]
        return [*lines, f"→ {naming_command(call)}"]
    lines = [f"{payer['name']} ({payer['organization_id']})"]
    if call is None:
        return [*lines, "as whoever charged it said"]
    if any(decision["decision"] == "assigned" for decision in story["decisions"]):
        return [*lines, "as a person said"]
    if route is None or payer["routed_elsewhere_now"]:
        return [*lines, "by a route that was changed since: a call stays with whom it was charged to"]
    valid = f"from {_time(route['valid_from'], 'ever')} to {_time(route['valid_to'], 'now on')}"
    return [*lines, f"by the route of {route['kind'].replace('_', ' ')} {route['external_id']}, valid {valid}"]


def _price(story: Story) -> list[str]:
    basis = story["charges"][-1] if story["charges"] else None
    if basis is None and story["call"]["held"]:
        return [f"not asked for: the call is held, {story['call']['held']}"]
    if basis is None:
        attributed = story["payer"]["organization_id"] is not None
        return ["none was in force: set one, and the call is charged"] if attributed else []
    price, currency = story["price"], story["payer"]["currency"]
    if price is None:
        return []
    whose = "its own" if price["own"] else f"the default in {price['currency']}"
    valid = f"valid from {_time(price['valid_from'], 'ever')} to {_time(price['valid_to'], 'now on')}"
    free = f"the first {price['free_seconds']} s free"
    return [
        f"{format_micros(price['per_minute_micros'], currency)} a minute, {whose}, {valid}",
        f"in increments of {price['increment_seconds']} s, at least {price['minimum_seconds']} s, {free}",
    ]


def _reckoning(story: Story) -> list[str]:
    lines = []
    for step in story["arithmetic"]:
        value = f"{step['value']:,} {step['unit']}".strip()
        if step["unit"] == "micros":
            value = f"{value} = {format_micros(step['value'], story['payer']['currency'])}"
        lines.append(f"{step['step']:<12} {step['how']:<44} {value}")
    return lines


def _charges(story: Story) -> list[str]:
    currency = story["payer"]["currency"]
    lines = []
    for charge in story["charges"]:
        amount = format_micros(charge["amount_micros"], currency)
        because = f" because {charge['because']}" if charge["because"] else ""
        lines.append(f"{charge['idempotency_key']}: {amount}, {charge['state']}{because}")
        lines.append(f"  {charge['why']}")
        lines.append(f"  charged {_time(charge['charged_at'])}")
    return lines


def _transfers(story: Story) -> list[str]:
    currency = story["payer"]["currency"]
    lines = []
    for row in story["transfers"]:
        amount, after = (format_micros(row[f"{name}_micros"], currency) for name in ("amount", "balance_after"))
        place = f"number {row['wallet_sequence']} of the wallet, balance after {after}"
        lines.append(f"{row['id']}  {amount}  {row['idempotency_key']}, {place}, booked {_time(row['booked_at'])}")
    return lines


def _events(story: Story) -> list[str]:
    lines = []
    for row in story["events"]:
        deliveries = "once" if row["deliveries"] == 1 else f"{row['deliveries']} times"
        reason = f" ({row['reason']})" if row["reason"] else ""
        done = f", {row['state']}{reason} {_time(row['finished_at'], '')} after {row['attempts']} attempt(s)"
        lines.append(
            f"{row['id']}  {row['type']}, received {_time(row['received_at'])}, delivered {deliveries}{done}"
        )
        lines += [f"  attempt {failure['attempt']} failed: {failure['error']}" for failure in row["failures"]]
    return lines or ["none in the inbox"]


def _nights(story: Story) -> list[str]:
    currency, compared = story["payer"]["currency"], story["compared"]
    lines = []
    if compared and compared["nights"]:
        lines.append(f"it was in the window of {compared['nights']} night(s), the last {_time(compared['last_at'])}")
    if compared and not story["nights"]:
        lines.append("no difference was found" if compared["nights"] else "not compared with Vapi's list yet")
    for row in story["nights"]:
        worth = "" if row["amount_micros"] is None else f", {format_micros(row['amount_micros'], currency)}"
        rehearsed = " (a rehearsal: nothing was booked)" if row["dry_run"] else ""
        outcome = f", {row['outcome']}" if row["outcome"] else ""
        window = f"{row['window_from']:%Y-%m-%d %H:%M} to {row['window_to']:%Y-%m-%d %H:%M}"
        lines.append(f"{row['run_id']} of {window}: {row['kind']}{outcome}{worth}{rehearsed}")
    return lines


def _decisions(story: Story) -> list[str]:
    lines = []
    for row in story["decisions"]:
        said = (
            f"it is {row['organization']}'s"
            if row["decision"] == "assigned"
            else f"it lasted {row['duration_ms']} ms"
        )
        held = f"; it was held: {row['held']}" if row["held"] else ""
        because = f" because {row['reason']}" if row["reason"] else ""
        lines.append(f"{_time(row['decided_at'])}, {row['decided_by']}: {said}{because}{held}")
    return lines


def _time(moment: datetime | None, otherwise: str = "never") -> str:
    """To the millisecond where there are any, in UTC."""
    if moment is None:
        return otherwise
    return f"{moment:%Y-%m-%d %H:%M:%S}{f'.{moment.microsecond // 1000:03}' if moment.microsecond else ''} UTC"
