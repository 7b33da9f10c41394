"""Posts what events mean: each kind of effect by one SQL function, within a transaction of the caller's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from billing.database import answers_to, rows, value
from billing.events import Ask, Effect, Park, RecordCall, RecordMessage, RecordReversals, Skip
from billing.named_money import NamedMoney
from billing.payments import CANNOT_ASK, INVOICE, CreditPayment, Question
from billing.sms import record_messages
from billing.taking_back import record_reversals


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state in which an event ends, with the reason unless it is done."""

    state: str
    reason: str | None = None
    charge: str | None = None
    """What became of the charge of a call, for the metrics."""
    question: Question | None = None
    """What Stripe has to be asked first: nothing is booked, and the event does not end yet. Where nobody can ask, it
    is parked for the reason."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of payments."""

    linked_customers_suffice: bool = False
    client_reference_suffices: bool = False
    tax_percent: Decimal = Decimal(0)


DONE = Outcome("done")
OF_INVOICE = Outcome("skipped", INVOICE)
SKIPPED_MONEY = "skipped_money"
"""Why an event waits that has no meaning, yet names money of ours."""

ASKED_FOR = {"refunds_of": "refunds_not_told", "charge": "payment_not_credited"}
"""Why a refund or dispute waits of which Stripe can say more, by the kind of the question."""

CALL_OUTCOMES = {
    "unattributed": Outcome("parked", "unknown_organization"),
    "unpriced": Outcome("parked", "no_price"),
}
"""What `record_calls` answers for a call that is stored but cannot be charged yet; all else is done."""


def post(connection: Connection, effects: Mapping[int, Effect], terms: Terms = Terms()) -> dict[int, Outcome]:
    """Book the effects of events, given by the events' ids; how each of these is to end.

    Raises:
        BillingError: an effect was refused; nothing may be committed.
    """
    outcomes: dict[int, Outcome] = {}
    calls: dict[int, RecordCall] = {}
    payments: dict[int, CreditPayment] = {}
    reversals: dict[int, RecordReversals] = {}
    messages: dict[int, RecordMessage] = {}
    skipped: dict[int, Skip] = {}
    asked: dict[int, tuple[Question, str | None]] = {}
    for event_id, effect in effects.items():
        match effect:
            case Skip():
                outcomes[event_id] = Outcome("skipped", effect.reason)
                skipped[event_id] = effect
            case Park(reason):
                outcomes[event_id] = Outcome("parked", reason)
            case Ask(question, twin):
                asked[event_id] = (question, twin)
            case RecordCall():
                calls[event_id] = effect
            case CreditPayment():
                payments[event_id] = effect
            case RecordReversals():
                reversals[event_id] = effect
            case RecordMessage():
                messages[event_id] = effect
    seen = _seen_payments([*payments.values(), *skipped.values()])
    money = {event_id: effect.money for event_id, effect in skipped.items() if effect.money}
    _lock_payments(connection, seen, reversals, _subjects(payments, money))
    outcomes |= _record_messages(connection, messages)
    outcomes |= _record_calls(connection, calls)
    outcomes |= _leave_to_twins(connection, asked)
    credited = _credit_payments(connection, payments, terms)
    of_invoices = [payments[event_id] for event_id, outcome in credited.items() if outcome == OF_INVOICE]
    outcomes |= credited
    _note_payments(connection, [*seen, *(_seen(effect, INVOICE) for effect in of_invoices)])
    outcomes |= _park_unbooked_money(connection, money)
    outcomes |= _record_reversals(connection, reversals)
    return outcomes


def _lock_payments(
    connection: Connection,
    seen: list[dict[str, Any]],
    reversals: dict[int, RecordReversals],
    subjects: set[str],
) -> None:
    """All payments at once and before any wallet, so that two workers with the same ones cannot deadlock.

    Calls and messages lock wallets, and a worker that waits for a payment may hold none of them.
    """
    named = {(told["payment_id"], told["charge_id"]) for told in seen}
    for effect in reversals.values():
        named |= {(movement.payment_id, movement.charge_id) for movement in effect.told.movements}
        if effect.told.charge:
            named.add((effect.told.charge.payment_id, effect.told.charge.charge_id))
    ids = sorted(subjects | {name for names in named for name in names if name})
    if ids:
        value(connection, "SELECT count(*) FROM (SELECT lock_payments(:ids)) AS locked", ids=ids)


def _subjects(payments: dict[int, CreditPayment], money: dict[int, NamedMoney]) -> set[str]:
    """What events without a meaning may name instead of the payment."""
    sales = {effect.sale.id for effect in payments.values() if effect.sale}
    return sales | {told.subject for told in money.values()}


def _note_payments(connection: Connection, seen: list[dict[str, Any]]) -> None:
    answers_to(connection, "SELECT count(*) FROM (SELECT note_payments(CAST(:facts AS jsonb))) AS noted", seen)


def _seen_payments(effects: list[CreditPayment | Skip]) -> list[dict[str, Any]]:
    """The payments that events are about, with their charges, and those that are none of ours."""
    return [
        _seen(effect, effect.reason if isinstance(effect, Skip) else None) for effect in effects if effect.payment_id
    ]


def _seen(effect: CreditPayment | Skip, skipped_because: str | None) -> dict[str, Any]:
    return {
        "payment_id": effect.payment_id,
        "charge_id": effect.charge_id,
        "skipped_because": skipped_because and f"payment skipped: {skipped_because}",
    }


def _record_calls(connection: Connection, calls: dict[int, RecordCall]) -> dict[int, Outcome]:
    answers = answers_to(
        connection,
        "SELECT call_id, outcome FROM record_calls(CAST(:facts AS jsonb))",
        [effect.call for effect in calls.values()],
    )
    outcomes = {
        answer["call_id"]: replace(CALL_OUTCOMES.get(answer["outcome"], DONE), charge=answer["outcome"])
        for answer in answers
    }
    return {event_id: outcomes[effect.call.id] for event_id, effect in calls.items()}


def _record_messages(connection: Connection, messages: dict[int, RecordMessage]) -> dict[int, Outcome]:
    told = record_messages(connection, [effect.message for effect in messages.values()])
    return {
        event_id: CALL_OUTCOMES["unattributed"] if told[effect.message.sid] == "unattributed" else DONE
        for event_id, effect in messages.items()
    }


def _leave_to_twins(connection: Connection, asked: dict[int, tuple[Question, str | None]]) -> dict[int, Outcome]:
    """A thin event whose snapshot event is here has nothing to add; the others are asked about."""
    if not asked:
        return {}
    known = rows(
        connection,
        "SELECT delivery_key FROM events WHERE provider = 'stripe' AND delivery_key = ANY(:twins)",
        twins=[twin for _, twin in asked.values() if twin is not None],
    )
    here = {row["delivery_key"] for row in known}
    return {
        event_id: Outcome("skipped", f"told by {twin} as well")
        if twin in here
        else Outcome("asked", f"{CANNOT_ASK}:{question.id}", question=question)
        for event_id, (question, twin) in asked.items()
    }


def _credit_payments(connection: Connection, payments: dict[int, CreditPayment], terms: Terms) -> dict[int, Outcome]:
    answers = answers_to(
        connection,
        "SELECT event_id, outcome, reason FROM credit_payments(CAST(:facts AS jsonb))",
        [_payment_facts(event_id, effect, terms) for event_id, effect in payments.items()],
    )
    outcomes = {}
    for answer in answers:
        effect = payments[answer["event_id"]]
        outcomes[answer["event_id"]] = {
            "ask": Outcome("asked", f"{CANNOT_ASK}:{effect.payment_id}", question=effect.question),
            "parked": OF_INVOICE
            if answer["reason"] == f"{INVOICE}:{effect.payment_id}"
            else Outcome("parked", answer["reason"]),
        }.get(answer["outcome"], DONE)
    return outcomes


def _park_unbooked_money(connection: Connection, money: dict[int, NamedMoney]) -> dict[int, Outcome]:
    """Events without a meaning that name an organization and money which is not booked wait until it is."""
    unbooked = answers_to(
        connection,
        "SELECT event_id FROM unbooked_money(CAST(:facts AS jsonb))",
        [{"event_id": event_id, **asdict(told)} for event_id, told in money.items()],
    )
    return {
        row["event_id"]: Outcome("parked", f"{SKIPPED_MONEY}:{money[row['event_id']].subject}") for row in unbooked
    }


def _record_reversals(connection: Connection, reversals: dict[int, RecordReversals]) -> dict[int, Outcome]:
    ended = record_reversals(connection, {event_id: effect.told for event_id, effect in reversals.items()})
    outcomes = {}
    for event_id, (state, reason) in ended.items():
        question = reversals[event_id].question
        asks = question is not None and reason == f"{ASKED_FOR[question.kind]}:{question.id}"
        outcomes[event_id] = Outcome("asked" if asks else state, reason, question=question if asks else None)
    return outcomes


def _payment_facts(event_id: int, effect: CreditPayment, terms: Terms) -> dict[str, Any]:
    """A `told_payment` of `sql/`."""
    return {
        "event_id": event_id,
        "payment_id": effect.payment_id,
        "reference": effect.reference,
        "reference_kind": effect.reference_kind,
        "customer_id": effect.customer_id,
        "amount_micros": effect.amount_micros,
        "currency": effect.currency,
        "sale": effect.sale,
        "event_at": effect.event_at,
        "undecided": effect.question is not None,
        "obstacle": effect.obstacle,
        "customer_suffices": terms.linked_customers_suffice and effect.is_one_off,
        "text_suffices": terms.client_reference_suffices,
        "tax_percent": str(terms.tax_percent),
    }
