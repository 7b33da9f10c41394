"""Applies what is claimed: books and ends it in one transaction, and leaves alone what cannot be, with its reason."""

import logging
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine

from billing.database import transaction, value
from billing.errors import BillingError, DatabaseUnavailable, PermanentError, UnexpectedError
from billing.events import NO_ANSWERS, Effect, interpret
from billing.inbox import ClaimedEvent, Failure
from billing.metrics import count_applied
from billing.payments import Answers, Question
from billing.posting import Outcome, Terms, post
from billing.settings import Settings, get_settings

log = logging.getLogger("billing.inbox")

_FORGOTTEN = Outcome("dead", "PermanentError: its body is forgotten; reconcile or backfill its time instead")


@dataclass(frozen=True, slots=True)
class Asked:
    """An event that stays claimed until Stripe has answered a question."""

    event: ClaimedEvent
    question: Question

    @property
    def name(self) -> str:
        """For people, in run names."""
        return f"{self.question.kind.replace('_', ' ')} {self.question.id}"


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch: how many events ended in each state, those that are to be tried again, and those about
    which Stripe is to be asked."""

    ended: Counter[str]
    failures: list[Failure]
    asked: list[Asked] = field(default_factory=list)
    held: BillingError | None = None
    """Why others are back in line: nothing like them can be applied now."""

    def __add__(self, other: "Applied") -> "Applied":
        return Applied(
            self.ended + other.ended,
            self.failures + other.failures,
            self.asked + other.asked,
            self.held or other.held,
        )


def apply_batch(engine: Engine, events: Sequence[ClaimedEvent]) -> Applied:
    """Apply events together; if one of them spoils the batch, find it by halves, so that it fails alone.

    So what can be applied is, also while something of ours is missing that the others need.

    Raises:
        DatabaseUnavailable: nothing can be applied now.
    """
    try:
        return attempt(engine, events)
    except DatabaseUnavailable:
        raise
    except BillingError as refused:
        error = refused
    except Exception as defect:  # noqa: BLE001 - what we did not think of must not hold up the others for ever
        error = UnexpectedError(_where(defect))
        log.error("event.defect count=%d error=%s", len(events), error)  # noqa: TRY400 - a message may quote a body
    if len(events) == 1:
        return Applied(Counter(), [Failure(events[0], error)])
    half = len(events) // 2
    return apply_batch(engine, events[:half]) + apply_batch(engine, events[half:])


def attempt(engine: Engine, events: Sequence[ClaimedEvent], answers: Answers = NO_ANSWERS) -> Applied:
    """Book what the events mean, with what Stripe has answered, and end them, all in one transaction. Those about
    which it is to be asked stay ours, with nothing booked.

    Raises:
        ClaimLost: another worker holds one of them now; nothing was committed.
        BillingError: an effect was refused; nothing was committed.
    """
    with transaction(engine) as connection:
        outcomes = _apply(connection, events, answers)
    ended = Counter(outcome.state for outcome in outcomes.values() if outcome.question is None)
    calls = Counter(outcome.charge for outcome in outcomes.values() if outcome.charge)
    asked = [Asked(event, question) for event in events if (question := outcomes[event.id].question) is not None]
    left = {each.event.id for each in asked}
    count_applied([(event.provider, event.received_at) for event in events if event.id not in left], ended, calls)
    return Applied(ended, [], asked)


def apply(engine: Engine, events: Sequence[ClaimedEvent]) -> Counter[str]:
    """The same; how many ended in each state."""
    return attempt(engine, events).ended


def apply_within(connection: Connection, events: Sequence[ClaimedEvent]) -> Counter[str]:
    """The same within a transaction of the caller's, who may take it back. Nobody is asked there: what would have to
    be waits for a worker."""
    return Counter(outcome.state for outcome in _apply(connection, events, NO_ANSWERS, parks_questions=True).values())


def _apply(
    connection: Connection, events: Sequence[ClaimedEvent], answers: Answers, *, parks_questions: bool = False
) -> dict[int, Outcome]:
    settings = get_settings()
    outcomes: dict[int, Outcome] = {}
    effects: dict[int, Effect] = {}
    for event in events:
        if event.body is None:
            outcomes[event.id] = _FORGOTTEN
            continue
        try:
            effects[event.id] = interpret(
                event.provider,
                event.type,
                event.body,
                livemode=settings.stripe_expects_livemode,
                answers=answers,
                asks=settings.stripe_api_key is not None,
            )
        except PermanentError as error:
            outcomes[event.id] = Outcome("dead", f"{type(error).__name__}: {error}")
    outcomes |= post(connection, effects, _terms(settings))
    if parks_questions:
        outcomes |= {
            event_id: Outcome("parked", outcome.reason)
            for event_id, outcome in outcomes.items()
            if outcome.question is not None
        }
    _finish(connection, [event for event in events if outcomes[event.id].question is None], outcomes)
    return outcomes


def _terms(settings: Settings) -> Terms:
    return Terms(
        linked_customers_suffice=settings.stripe_credit_linked_customers,
        client_reference_suffices=settings.stripe_trust_client_reference,
        tax_percent=settings.stripe_tax_percent,
    )


def _finish(connection: Connection, events: Sequence[ClaimedEvent], outcomes: dict[int, Outcome]) -> None:
    for token in {event.claim_token for event in events}:
        ids = [event.id for event in events if event.claim_token == token]
        value(
            connection,
            "SELECT finish_events(:token, :ids, :states, :reasons)",
            token=token,
            ids=ids,
            states=[outcomes[event_id].state for event_id in ids],
            reasons=[outcomes[event_id].reason for event_id in ids],
        )


def _where(defect: Exception) -> str:
    """Class and place of an exception, without its message."""
    frame = traceback.extract_tb(defect.__traceback__)[-1]
    return f"{type(defect).__name__} in {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
