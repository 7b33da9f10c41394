"""Money that comes in, and what it settles."""

import json
from uuid import UUID, uuid4

import pytest

from billing.errors import ConstraintBroken, CurrencyMismatch, IdempotencyConflict, InvalidAmount, UnknownOrganization
from tests.books import Books


def owing(books: Books, tag: str, *amounts_micros: int) -> UUID:
    """An organization without debt limit that owes these charges, oldest first."""
    organization_id = books.organization(debt_limit_micros=0)
    for place, amount_micros in enumerate(amounts_micros):
        books.rows(
            "SELECT * FROM deduct_call_credits(:id, :call, :amount, CAST(:at AS timestamptz))",
            id=organization_id,
            call=f"{tag}-{place}",
            amount=amount_micros,
            at=f"2026-07-01 00:00:{place:02}+00",
        )
    return organization_id


def test_credit_adds_to_balance(shared: Books, tag: str) -> None:
    """A top-up is a transfer from the stripe account into the wallet."""
    organization_id = shared.organization()

    answer = shared.credit(organization_id, 5_000_000, f"topup:{tag}")

    assert answer == {
        "success": True,
        "duplicate": False,
        "balance_before_micros": 0,
        "balance_after_micros": 5_000_000,
        "settled_outstanding_micros": 0,
    }
    assert shared.transfers(organization_id)[0]["payment_id"] == tag


@pytest.mark.parametrize(("kind", "account"), [("topup", "stripe"), ("adjustment", "adjustments")])
def test_credit_kind_names_its_source(shared: Books, tag: str, kind: str, account: str) -> None:
    """A top-up comes from Stripe, an adjustment from the reseller."""
    organization_id = shared.organization()

    shared.credit(organization_id, 1, f"credit:{tag}", kind)

    source = "SELECT kind FROM accounts WHERE id = (SELECT from_account FROM transfers WHERE idempotency_key = :key)"
    assert shared.value(source, key=f"credit:{tag}") == account


def test_credit_settles_outstanding_oldest_first(shared: Books, tag: str) -> None:
    """A top-up pays the oldest charges, as far as it reaches, and says how much."""
    organization_id = owing(shared, tag, 3_000, 2_000, 4_000)

    answer = shared.credit(organization_id, 6_000, f"topup:{tag}")

    assert answer["settled_outstanding_micros"] == 5_000
    assert (answer["balance_before_micros"], answer["balance_after_micros"]) == (0, 1_000)
    assert list(shared.states(organization_id).values()) == ["settled", "settled", "outstanding"]


def test_credit_never_lets_young_small_charge_overtake(shared: Books, tag: str) -> None:
    """Settling stops at the first charge that does not fit, even if a later one would."""
    organization_id = owing(shared, tag, 5_000, 1_000)

    answer = shared.credit(organization_id, 4_000, f"topup:{tag}")

    assert answer["settled_outstanding_micros"] == 0
    assert list(shared.states(organization_id).values()) == ["outstanding", "outstanding"]


def test_credit_settles_into_the_debt_limit(shared: Books, tag: str) -> None:
    """What a credit settles may use the debt limit again, as any charge may."""
    organization_id = shared.organization()
    shared.deduct(organization_id, f"{tag}-1", 5_000_000)
    shared.deduct(organization_id, f"{tag}-2", 2_000_000)

    answer = shared.credit(organization_id, 2_000_000, f"topup:{tag}")

    assert answer["settled_outstanding_micros"] == 2_000_000
    assert shared.balance(organization_id) == -5_000_000


def test_credit_twice_answers_with_first_outcome(shared: Books, tag: str) -> None:
    """A duplicate repeats the first answer, with what was settled then, and moves nothing."""
    organization_id = owing(shared, tag, 3_000)
    first = shared.credit(organization_id, 5_000, f"topup:{tag}")

    second = shared.credit(organization_id, 5_000, f"topup:{tag}")

    assert second == {**first, "duplicate": True}
    assert shared.balance(organization_id) == 2_000


@pytest.mark.parametrize(("amount_micros", "kind"), [(2, "topup"), (1, "adjustment")])
def test_credit_same_key_other_facts_conflicts(shared: Books, tag: str, amount_micros: int, kind: str) -> None:
    """The same key with another amount or kind is an error, not a duplicate."""
    organization_id = shared.organization()
    shared.credit(organization_id, 1, f"credit:{tag}")

    with pytest.raises(IdempotencyConflict):
        shared.credit(organization_id, amount_micros, f"credit:{tag}", kind)

    assert shared.balance(organization_id) == 1


@pytest.mark.parametrize("key", ["", "call:c1", "sms:s1", "refund:re_1", "dispute:dp_1:withdrawn"])
def test_credit_under_key_of_another_movement_is_refused(shared: Books, key: str) -> None:
    """A credit may not take the key of a charge or refund, which it would block for ever."""
    organization_id = shared.organization()

    with pytest.raises(InvalidAmount):
        shared.credit(organization_id, 1, key)


def test_adjustment_under_key_of_a_payment_is_refused(shared: Books, tag: str) -> None:
    """Stripe's own credit of that payment would be refused for ever."""
    with pytest.raises(InvalidAmount):
        shared.credit(shared.organization(), 1, f"topup:pi_{tag}", "adjustment")


@pytest.mark.parametrize("first", ["pi_", "topup:pi_", "other-"])
def test_topup_under_bare_payment_id_is_the_payments_credit(shared: Books, tag: str, first: str) -> None:
    """Stripe's own event is its duplicate, and so is the bare id again; of other keys, the same key with `topup:`."""
    organization_id = shared.organization()
    shared.credit(organization_id, 5_000_000, f"{first}{tag}")
    bare = first.removeprefix("topup:") + tag
    told = {
        "payment_id": bare,
        "customer_id": None,
        "amount_micros": 5_000_000,
        "currency": "USD",
        "event_at": "2026-07-01T00:00:00Z",
    }
    query = "SELECT outcome FROM credit_payments(CAST(:told AS jsonb))"

    for reference in (str(organization_id), None):
        assert shared.value(query, told=json.dumps([{**told, "reference": reference}])) == "duplicate"
    assert shared.credit(organization_id, 5_000_000, bare)["duplicate"]
    assert shared.balance(organization_id) == 5_000_000


def test_topup_keeps_a_key_of_its_own(shared: Books, tag: str) -> None:
    """Only what is a payment intent's id becomes the payment's key."""
    organization_id = shared.organization()
    for key in (f"bank {tag}", f"pi_{tag}"):
        shared.credit(organization_id, 1, key)

    keys = [row["idempotency_key"] for row in shared.transfers(organization_id)]
    assert keys == [f"bank {tag}", f"topup:pi_{tag}"]


@pytest.mark.parametrize(("amount_micros", "kind"), [(0, "topup"), (-1, "topup"), (1, "refund")])
def test_credit_of_senseless_facts_is_refused(shared: Books, tag: str, amount_micros: int, kind: str) -> None:
    """A credit is positive, and a top-up or an adjustment."""
    organization_id = shared.organization()

    with pytest.raises(InvalidAmount):
        shared.credit(organization_id, amount_micros, f"topup:{tag}", kind)


def test_credit_of_other_currency_is_refused(shared: Books, tag: str) -> None:
    """Euros do not go into a wallet of dollars."""
    organization_id = shared.organization()

    with pytest.raises(CurrencyMismatch):
        shared.rows(
            "SELECT * FROM credit_wallet(:id, 1, :key, p_currency => 'EUR')", id=organization_id, key=f"topup:{tag}"
        )


def test_credit_unknown_organization_is_refused(shared: Books, tag: str) -> None:
    """There is no wallet to credit."""
    with pytest.raises(UnknownOrganization):
        shared.credit(uuid4(), 1, f"topup:{tag}")


def test_debt_limit_raised_settles_what_it_leaves_room_for(shared: Books, tag: str) -> None:
    """A higher limit is room, and room settles."""
    organization_id = owing(shared, tag, 3_000, 2_000)

    assert shared.debt_limit(organization_id, 4_000) == 3_000
    assert shared.balance(organization_id) == -3_000


def test_debt_limit_lowered_takes_nothing_back(shared: Books, tag: str) -> None:
    """A lower limit stops further usage and leaves booked usage alone."""
    organization_id = shared.organization()
    shared.deduct(organization_id, f"{tag}-1", 4_000_000)

    assert shared.debt_limit(organization_id, 1_000_000) == 0
    assert shared.balance(organization_id) == -4_000_000
    assert not shared.deduct(organization_id, f"{tag}-2", 1)["success"]


@pytest.mark.parametrize("key", ["", " ", "topup:", "topup: ", "adjustment:", ":", "topup::1"])
def test_key_that_names_nothing_is_no_key(shared: Books, key: str) -> None:
    """It would be the key of every payment without an id; not even the owner's tables hold it."""
    organization_id = shared.organization()

    for kind in ("topup", "adjustment"):
        with pytest.raises(InvalidAmount):
            shared.credit(organization_id, 1_000_000, key, kind)
    with pytest.raises(InvalidAmount):
        shared.value("SELECT debit_wallet(:id, 1, :key, 'why')", id=organization_id, key=key)
    with pytest.raises(InvalidAmount):
        shared.value("SELECT deduct_call_credits(:id, ' ', 1)", id=organization_id)
    assert shared.balance(organization_id) == 0


def test_payment_without_an_id_is_refused_before_anything_waits_for_it(shared: Books) -> None:
    """Also one that nobody is known for."""
    facts = '[{"payment_id": "", "amount_micros": 1, "currency": "USD", "event_at": "2026-07-01Z", "event_id": 1}]'

    with pytest.raises(InvalidAmount):
        shared.rows("SELECT * FROM credit_payments(CAST(:facts AS jsonb))", facts=facts)


@pytest.mark.parametrize("function", ["set_price", "set_sms_price"])
def test_price_in_what_is_no_currency_is_refused(shared: Books, function: str) -> None:
    """No wallet holds it, so it would never be anybody's price."""
    with pytest.raises(ConstraintBroken):
        shared.value(f"SELECT {function}(NULL, 1, p_currency => 'u\u017fd')")
