"""The whole life of one event, for people: what arrived, what was tried, what was booked."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from billing.database import rows, transaction
from billing.errors import PermanentError
from billing.events import RecordCall, RecordMessage, RecordReversals, interpret
from billing.payments import CreditPayment


def event_life(engine: Engine, event_id: int, pages_url: str | None) -> dict[str, Any]:
    """The event without its body (that holds personal data), its failed attempts, and the transfers that it led to.

    `pages_url` is where Prefect's pages are; None: nobody knows.

    Raises:
        PermanentError: there is no such event.
    """
    with transaction(engine) as connection:
        found = rows(
            connection,
            "SELECT id, provider, type, delivery_key, state, reason, deliveries, events.received_at,"
            " last_received_at, attempts, suspected, expired_claims, claimed_by, lease_until, finished_at,"
            " flow_run_id, length(body) AS body_bytes, body"
            " FROM events LEFT JOIN event_bodies ON event_id = id AND event_bodies.received_at = events.received_at"
            " WHERE id = :id",
            id=event_id,
        )
        if not found:
            raise PermanentError(f"there is no event {event_id}; list them with: calltally events list")
        event = found[0]
        body = event.pop("body")
        event["flow_run_url"] = _run_url(pages_url, event["flow_run_id"])
        attempts = rows(
            connection,
            "SELECT attempt, failed_at, error_class, message, flow_run_id FROM event_attempts"
            " WHERE event_id = :id ORDER BY attempt",
            id=event_id,
        )
        keys = _keys(event["provider"], event["type"], body)
        return {**event, "failed_attempts": attempts, "transfers": _transfers(connection, keys)}


def _keys(provider: str, event_type: str, body: bytes | None) -> list[str]:
    """Under which idempotency keys the event books; none if it does not, or its body is forgotten."""
    try:
        effect = interpret(provider, event_type, body) if body else None
    except PermanentError:
        return []
    match effect:
        case RecordCall(call):
            return [f"call:{call.id}"]
        case CreditPayment():
            return [
                f"topup:{effect.payment_id}",
                *(f"topup:{effect.payment_id}:{why}" for why in ("corrected", "arrived")),
            ]
        case RecordReversals(told):
            sources = {movement.source_id for movement in told.movements if movement.kind == "refund"}
            returned = [f"refund:{source}{step}" for source in sources for step in ("", ":returned")]
            return [*returned, *(movement.key for movement in told.movements)]
        case RecordMessage(message):
            return [f"sms:{message.sid}"]
        case _:
            return []


def _transfers(connection: Connection, keys: list[str]) -> list[dict[str, Any]]:
    return rows(
        connection,
        "SELECT name AS organization, kind, amount_micros, balance_after_micros, statement.currency, booked_at,"
        " idempotency_key FROM wallet_statement AS statement JOIN organizations ON organizations.id = organization_id"
        " WHERE idempotency_key = ANY(:keys) ORDER BY booked_at, wallet_sequence",
        keys=keys,
    )


def _run_url(pages_url: str | None, flow_run_id: UUID | None) -> str | None:
    if pages_url is None or flow_run_id is None:
        return None
    return f"{pages_url}/runs/flow-run/{flow_run_id}"
