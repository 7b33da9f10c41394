"""Eleven types of events, six versions of Stripe's API, snapshot or thin: each means the same for the books."""

import json
from dataclasses import replace
from typing import Any

import pytest

from billing.events import Effect, Skip, interpret
from billing.payments import CreditPayment, Question
from calltally.sandbox.stripe_objects import thin_event
from tests.payloads import FOLDER, encode
from tests.payments.till import Till

VERSIONS = sorted(path.name for path in (FOLDER / "stripe").iterdir() if path.is_dir())
NEWEST = VERSIONS[-1]
TYPES = [
    *("checkout.session.completed", "checkout.session.async_payment_succeeded", "payment_intent.succeeded"),
    *("refund.created", "refund.updated", "refund.failed", "charge.refunded", "charge.refund.updated"),
    *("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.closed"),
]
ORGANIZATION = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
PAYMENT = "pi_Example00000000000000001"


def body(version: str, event_type: str) -> dict[str, Any]:
    """An event as an endpoint of that version gets it."""
    read: dict[str, Any] = json.loads((FOLDER / "stripe" / version / f"{event_type}.json").read_bytes())
    return read


def thin(version: str, event_type: str) -> tuple[dict[str, Any], Question, bytes]:
    """The same as a thin endpoint gets it, what has to be asked, and what Stripe answers in the version we ask in."""
    told = thin_event("evt_thin", body(version, event_type))
    related = told["related_object"]
    return told, Question(related["type"], related["id"]), encode(body(NEWEST, event_type)["data"]["object"])


def meaning(version: str, event_type: str, form: str) -> Effect:
    """What comes of it, in either form."""
    if form == "snapshot":
        return interpret("stripe", event_type, encode(body(version, event_type)), livemode=False)
    told, question, answer = thin(version, event_type)
    return interpret("stripe", told["type"], encode(told), livemode=False, answers={question: answer})


def told_alike(effect: Effect) -> object:
    """The effect, but for the name of a type that means nothing."""
    return "nothing" if isinstance(effect, Skip) and "is not used for billing" in effect.reason else effect


def test_matrix_is_whole() -> None:
    """One folder a version, and in each a body of every type, in that version."""
    assert VERSIONS[0] == "2022-11-15"
    assert len(VERSIONS) == 6
    for version in VERSIONS:
        bodies = [body(version, event_type) for event_type in TYPES]
        assert {(each["type"], each["api_version"]) for each in bodies} == {(name, version) for name in TYPES}


@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["snapshot", "thin"])
def test_event_means_the_same_in_every_version_and_form(version: str, event_type: str, form: str) -> None:
    """As the newest snapshot."""
    newest = meaning(NEWEST, event_type, "snapshot")

    assert told_alike(meaning(version, event_type, form)) == told_alike(newest)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["snapshot", "thin"])
def test_payment_means_its_net_in_every_version_and_form(version: str, form: str) -> None:
    """60.00 with 10.00 of tax by the Session, and 60.00 that arrived by the payment."""
    session = meaning(version, "checkout.session.completed", form)
    payment = meaning(version, "payment_intent.succeeded", form)

    assert isinstance(session, CreditPayment)
    assert isinstance(payment, CreditPayment)
    assert session.sale is not None
    assert (session.sale.total_micros, session.sale.tax_micros) == (60_000_000, 10_000_000)
    assert (payment.amount_micros, payment.sale) == (60_000_000, None)
    assert replace(payment, reference_kind=session.reference_kind).reference == session.reference == ORGANIZATION


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("form", ["snapshot", "thin"])
@pytest.mark.parametrize("backwards", [False, True])
def test_books_are_the_same_in_every_version_and_form(till: Till, version: str, form: str, backwards: bool) -> None:
    """All eleven events of one payment, in both orders: nothing is dead, and 50.00 are credited of 60.00."""
    organization_id = str(till.wallet("cus_Example0000001"))
    types = TYPES[::-1] if backwards else TYPES
    events = [json.loads(json.dumps(body(version, name)).replace(ORGANIZATION, organization_id)) for name in types]
    for event in [events[types.index("checkout.session.completed")], *events]:
        till.stripe.keep(event["data"]["object"])
    if form == "thin":
        events = [thin_event(f"evt_thin_{place}", event) for place, event in enumerate(events)]

    till.tell(*events)

    payment = till.payment(PAYMENT)
    assert (payment["charged_micros"], payment["credited_micros"]) == (60_000_000, 50_000_000)
    assert "dead" not in till.states()
    assert till.books.broken() == []
