"""Why a call costs what it costs: everything that the books know of it, and the arithmetic done again beside them."""

from typing import Any

from billing.errors import PermanentError
from billing.money import format_micros
from billing.organizations import Ask
from billing.reckoning import duration_ms, reckon

Row = dict[str, Any]

STATUSES = ("scheduled", "queued", "ringing", "in-progress", "forwarding", "ended", "not-found", "deletion-failed")
MESSAGES = ("end-of-call-report", "hang", *(f"status-update:{status}" for status in STATUSES))
"""What the keys of a call's webhooks end with (billing/deliveries.py)."""


class UnknownCall(PermanentError):
    """The books know no such call; the message says what is known of it elsewhere, and where to look."""


def explain_call(ask: Ask, call_id: str) -> Row:
    """The story of a call, by its parts: `call`, `payer`, `price`, `charges`, `arithmetic`, `transfers` and so on.

    Amounts are micros; `verdict` says whether the arithmetic, the charges and the transfers agree.

    Raises:
        UnknownCall: neither a call nor a charge of that id.
    """
    call = _first(ask("SELECT *, organization_id::text AS payer_id FROM calls WHERE id = :id", id=call_id))
    charges = _charges(ask, call_id)
    events = _events(ask, call_id)
    nights = _nights(ask, call_id)
    if call is None and not charges:
        raise UnknownCall(_where_to_look(call_id, events, nights))
    payer = _payer(ask, call, charges)
    transfers = _transfers(ask, [charge["idempotency_key"] for charge in charges])
    for place, charge in enumerate(charges):
        charge["why"] = _why(charge, call, payer["currency"], transfers)
        charge["because"] = _because(charges[place - 1], charge) if place else None
    basis = _in_force(charges)
    arithmetic = reckon(basis, call) if basis else []
    return {
        "call": call and {**call, "source": _source(call, nights)},
        "payer": payer,
        "price": basis and _price(ask, basis),
        "charges": charges,
        "arithmetic": arithmetic,
        "transfers": transfers,
        "events": events,
        "nights": nights,
        "decisions": _decisions(ask, call_id),
        "compared": call and _compared(ask, call),
        "verdict": _verdict(call, charges, transfers, arithmetic, payer["currency"]),
    }


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _charges(ask: Ask, call_id: str) -> list[Row]:
    """The call's own charge, then its corrections in their order."""
    return ask(
        "SELECT charges.*, settler.idempotency_key AS settled_by_key, settler.kind AS settled_by_kind,"
        " settler.amount_micros AS settled_by_micros, settler.booked_at AS settled_at"
        " FROM charges LEFT JOIN transfers AS settler ON settler.id = settled_by_transfer_id"
        " WHERE charges.idempotency_key = :key OR corrects = :key"
        " ORDER BY length(charges.idempotency_key), charges.idempotency_key",
        key=f"call:{call_id}",
    )


def _transfers(ask: Ask, keys: list[str]) -> list[Row]:
    return ask(
        "SELECT id, idempotency_key, kind, CASE WHEN to_account = organization_id THEN amount_micros"
        " ELSE -amount_micros END AS amount_micros, balance_after_micros, wallet_sequence, overrun,"
        " corrects_transfer_id, event_at, booked_at FROM transfers WHERE idempotency_key = ANY(:keys) ORDER BY id",
        keys=keys,
    )


def _events(ask: Ask, call_id: str) -> list[Row]:
    return ask(
        "SELECT events.id, type, delivery_key, state, reason, deliveries, received_at, last_received_at, attempts,"
        " finished_at, coalesce(jsonb_agg(jsonb_build_object('attempt', attempt, 'failed_at', failed_at, 'error',"
        " error_class || ': ' || message) ORDER BY attempt) FILTER (WHERE attempt IS NOT NULL), '[]') AS failures"
        " FROM events LEFT JOIN event_attempts ON event_id = events.id"
        " WHERE provider = 'vapi' AND delivery_key = ANY(:keys) GROUP BY events.id ORDER BY received_at, events.id",
        keys=[f"{call_id}:{message}" for message in MESSAGES],
    )


def _decisions(ask: Ask, call_id: str) -> list[Row]:
    """What people decided of it, in their order."""
    return ask(
        "SELECT decision, name AS organization, duration_ms, held, reason, decided_at, decided_by FROM call_decisions"
        " LEFT JOIN organizations ON organizations.id = organization_id WHERE call_id = :id"
        " ORDER BY call_decisions.id",
        id=call_id,
    )


def _nights(ask: Ask, call_id: str) -> list[Row]:
    """What reconciliations found about it; calls that agree leave no finding."""
    return ask(
        "SELECT run.id AS run_id, run.kind AS run_kind, run.state, run.dry_run, run.started_at, run.window_from,"
        " run.window_to, findings.kind, findings.outcome, findings.amount_micros, findings.detail"
        " FROM findings JOIN reconciliation_runs AS run ON run.id = run_id"
        " WHERE findings.call_id = :id ORDER BY run.started_at, findings.id",
        id=call_id,
    )


def _compared(ask: Ask, call: Row) -> Row:
    """How many nights had it in their window, whether or not they found anything about it."""
    return ask(
        "SELECT count(*) AS nights, max(finished_at) AS last_at FROM reconciliation_runs"
        " WHERE state = 'completed' AND NOT dry_run AND window_from <= :ended AND window_to > :ended"
        " AND (organization_id IS NULL OR organization_id = :payer)",
        ended=call["ended_at"] or call["created_at"],
        payer=call["organization_id"],
    )[0]


def _payer(ask: Ask, call: Row | None, charges: list[Row]) -> Row:
    """Who pays, and by which route; a charge by amount alone names its organization itself."""
    organization_id = (call and call["organization_id"]) or (charges[0]["organization_id"] if charges else None)
    organization = _first(
        ask(
            "SELECT id, name, organizations.currency, charge_policy FROM organizations WHERE id = :id",
            id=organization_id,
        )
    )
    route = call and _first(
        ask(
            "SELECT kind, route.external_id, route.organization_id, nullif(lower(valid), '-infinity') AS valid_from,"
            " nullif(upper(valid), 'infinity') AS valid_to FROM calls CROSS JOIN LATERAL find_route(assistant_id,"
            " squad_id, workflow_id, phone_number_id, metadata, created_at) AS route WHERE calls.id = :id",
            id=call["id"],
        )
    )
    return {
        "organization_id": organization_id,
        "name": organization and organization["name"],
        "currency": organization["currency"] if organization else "USD",
        "charge_policy": organization and organization["charge_policy"],
        "route": route,
        "routed_elsewhere_now": bool(route and organization_id and route["organization_id"] != organization_id),
    }


def _price(ask: Ask, basis: Row) -> Row | None:
    return _first(
        ask(
            "SELECT id, organization_id IS NOT NULL AS own, currency, per_minute_micros, increment_seconds,"
            " minimum_seconds, free_seconds, nullif(lower(valid), '-infinity') AS valid_from,"
            " nullif(upper(valid), 'infinity') AS valid_to FROM prices WHERE id = :id",
            id=basis["price_id"],
        )
    )


def _source(call: Row, nights: list[Row]) -> str:
    """Who told us of the call and its times."""
    if call["reconciled"] and call["webhook_at"] == call["first_seen_at"]:
        told = "the end-of-call report, by webhook, which came after a night had seen the call in Vapi's list"
    elif call["reconciled"]:
        told = "Vapi's list: no webhook had told of it, a night found it"
        if call["webhook_at"]:
            told += "; its webhook came later, and changed nothing"
    elif call["reconciliation_run_id"]:
        told = "Vapi's list, while its webhook waited in the inbox"
    else:
        told = "the end-of-call report, by webhook"
    corrected = [night for night in nights if night["kind"] == "drift" and not night["dry_run"]]
    return f"{told}; corrected since by Vapi's list" if corrected else told


def _in_force(charges: list[Row]) -> Row | None:
    """The charge whose duration and price count: the last one that is not cancelled, or else the last."""
    standing = [charge for charge in charges if charge["state"] != "cancelled"]
    return standing[-1] if standing else charges[-1] if charges else None


def _why(charge: Row, call: Row | None, currency: str, transfers: list[Row]) -> str:
    """The charge's state in a sentence."""
    if charge["state"] == "free":
        return _why_free(charge, call)
    if charge["state"] == "cancelled":
        return "cancelled: a correction took its place before it was paid"
    if charge["amount_micros"] < 0:
        return "given back to the wallet"
    before, limit = charge["balance_before_micros"], charge["debt_limit_micros"]
    after = format_micros(before - charge["amount_micros"], currency)
    refused = (
        f"{format_micros(charge['amount_micros'], currency)} would have taken the balance from"
        f" {format_micros(before, currency)} to {after}, past the debt limit of {format_micros(-limit, currency)}"
    )
    if not charge["accepted"]:
        return f"refused: {refused}; {_what_settled_it(charge, currency)}"
    moved = next((row for row in transfers if row["idempotency_key"] == charge["idempotency_key"]), None)
    if moved and moved["overrun"]:
        return f"paid although {refused}: the organization's policy allows it"
    limit_text = f"the debt limit was {format_micros(-limit, currency)}"
    return f"paid at once: the balance went from {format_micros(before, currency)} to {after}, {limit_text}"


def _because(before: Row, charge: Row) -> str:
    """What a correction corrects."""
    reasons = []
    if charge["duration_ms"] != before["duration_ms"]:
        reasons.append(f"the call lasted {charge['duration_ms']} ms, not {before['duration_ms']} ms")
    terms = ("per_minute_micros", "increment_seconds", "minimum_seconds", "free_seconds")
    if before["per_minute_micros"] is not None and any(charge[term] != before[term] for term in terms):
        reasons.append("the price was set right")
    return " and ".join(reasons) or "the charge before it was cancelled"


def _what_settled_it(charge: Row, currency: str) -> str:
    if charge["state"] == "outstanding":
        return "it is owed, and the next top-up settles what is owed, oldest first"
    if charge["settled_by_key"] is None:
        return "paid later, when the wallet had room again"
    amount = format_micros(charge["settled_by_micros"], currency)
    return f"paid by {charge['settled_by_key']} of {amount}, booked {charge['settled_at']:%Y-%m-%d %H:%M:%S} UTC"


def _why_free(charge: Row, call: Row | None) -> str:
    if charge["kind"] == "correction":
        return "nothing moved: the new price comes to the same amount, and later corrections go by it"
    if call is None or call["duration_ms"] == 0:
        return "free: it never connected"
    if charge["billed_seconds"] == 0:
        return f"free: it stayed within the {charge['free_seconds']} free seconds"
    return "free: a minute costs nothing at its price"


def _verdict(call: Row | None, charges: list[Row], transfers: list[Row], steps: list[Row], currency: str) -> Row:
    """Whether three sums agree: what the arithmetic says, what is charged, and what moved."""
    expected = steps[-1]["value"] if steps else None
    charged = sum(charge["amount_micros"] for charge in charges if charge["state"] != "cancelled")
    settled = sum(charge["amount_micros"] for charge in charges if charge["state"] == "settled")
    moved = -sum(transfer["amount_micros"] for transfer in transfers)
    wrong = []
    if call and duration_ms(call["started_at"], call["ended_at"]) != call["duration_ms"]:
        wrong.append(f"the stored duration is {call['duration_ms']} ms")
    if charges and expected is not None and expected != charged:
        difference = f"computed {format_micros(expected, currency)}, charged {format_micros(charged, currency)}"
        wrong.append(difference)
    if settled != moved:
        wrong.append(f"settled {format_micros(settled, currency)}, moved {format_micros(moved, currency)}")
    return {
        "matches": not wrong,
        "computed_micros": expected,
        "charged_micros": charged,
        "settled_micros": settled,
        "moved_micros": moved,
        "outstanding_micros": sum(row["amount_micros"] for row in charges if row["state"] == "outstanding"),
        "mismatches": wrong,
    }


def _where_to_look(call_id: str, events: list[Row], nights: list[Row]) -> str:
    parts = [f"the books know no call {call_id!r}"]
    for event in events:
        reason = f" ({event['reason']})" if event["reason"] else ""
        parts.append(f"event {event['id']} tells of it: {event['type']}, {event['state']}{reason}")
    for night in nights[-3:]:
        rehearsed = " in a rehearsal" if night["dry_run"] else ""
        parts.append(f"the night of {night['window_to']:%Y-%m-%d} found it {night['kind']}{rehearsed}")
    if events:
        parts.append(f"see: calltally events show {events[-1]['id']}")
    else:
        parts.append(
            "no webhook of it is in the inbox (its key would be <call id>:end-of-call-report). Ask Vapi for it"
            " (GET /call/<call id>); if it is there, run: calltally reconcile --from <its day> --to <the next>"
        )
    return ". ".join(parts)
