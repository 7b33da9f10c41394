"""Late corrections: the difference, once."""

from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from billing.errors import InvalidAmount
from tests.books import Books, told_call

MINUTE = 700_000
MICROS = 1_000_000


def charged(books: Books, tag: str, seconds: float | None, debt_limit_micros: int = 5_000_000) -> UUID:
    """An organization whose call `tag` of that length was recorded."""
    organization_id = books.organization(debt_limit_micros=debt_limit_micros)
    books.route(organization_id, f"a-{tag}")
    books.record(told_call(tag, f"a-{tag}", seconds))
    return organization_id


@pytest.mark.parametrize(("seconds", "difference_micros"), [(120, MINUTE), (30, -MINUTE // 2), (0, -MINUTE)])
def test_correct_settled_call_books_signed_difference(
    shared: Books, tag: str, seconds: int, difference_micros: int
) -> None:
    """A longer call costs more, a shorter one gives back; the transfer names what it corrects."""
    organization_id = charged(shared, tag, 60)

    assert shared.correct(tag, seconds) == difference_micros

    first, correction = shared.transfers(organization_id)
    assert shared.balance(organization_id) == -MINUTE - difference_micros
    assert correction["corrects_transfer_id"] == first["id"]
    assert correction["idempotency_key"] == f"call:{tag}:correction:1"


def test_correct_twice_books_once(shared: Books, tag: str) -> None:
    """The same correction again finds nothing to do."""
    organization_id = charged(shared, tag, 60)

    assert [shared.correct(tag, 90), shared.correct(tag, 90)] == [MINUTE // 2, 0]
    assert len(shared.transfers(organization_id)) == 2


def test_correct_back_and_forth_keeps_every_step(shared: Books, tag: str) -> None:
    """Eleven corrections are eleven transfers, reckoned from the one before."""
    organization_id = charged(shared, tag, 60)

    for step in range(11):
        shared.correct(tag, 120 if step % 2 == 0 else 60)

    assert shared.correct(tag, 60) == -MINUTE
    assert len(shared.transfers(organization_id)) == 13
    assert shared.balance(organization_id) == -MINUTE


def test_correct_outstanding_call_replaces_what_is_owed(shared: Books, tag: str) -> None:
    """An outstanding charge is cancelled, and the whole new amount is owed instead."""
    organization_id = charged(shared, tag, 60, debt_limit_micros=0)

    assert shared.correct(tag, 120) == MINUTE

    assert shared.states(organization_id) == {f"call:{tag}": "cancelled", f"call:{tag}:correction:1": "outstanding"}
    assert shared.wallet(organization_id)["outstanding_micros"] == 2 * MINUTE
    assert shared.balance(organization_id) == 0


def test_correct_outstanding_call_to_what_fits_settles_it(shared: Books, tag: str) -> None:
    """A shorter call may fit below the limit at last."""
    organization_id = charged(shared, tag, 120, debt_limit_micros=MINUTE)

    assert shared.correct(tag, 60) == -MINUTE
    assert shared.balance(organization_id) == -MINUTE


def test_correct_outstanding_call_to_nothing_frees_the_queue(shared: Books, tag: str) -> None:
    """When the oldest debt vanishes, a younger one that fits is settled."""
    organization_id = charged(shared, tag, 120, debt_limit_micros=0)
    shared.record(told_call(f"{tag}-2", f"a-{tag}", 60) | {"ended_at": "2026-07-02T00:00:00Z"} | {"started_at": None})
    shared.deduct(organization_id, f"{tag}-3", MINUTE)
    shared.credit(organization_id, MINUTE, f"topup:{tag}")
    assert shared.states(organization_id)[f"call:{tag}-3"] == "outstanding"

    shared.correct(tag, 0)

    assert shared.states(organization_id)[f"call:{tag}-3"] == "settled"
    assert shared.balance(organization_id) == 0


def test_correct_beyond_limit_is_owed_and_can_be_undone(shared: Books, tag: str) -> None:
    """A correction that does not fit is outstanding; correcting back cancels it without moving money."""
    organization_id = charged(shared, tag, 60, debt_limit_micros=MINUTE)

    assert shared.correct(tag, 120) == MINUTE
    assert shared.wallet(organization_id)["outstanding_micros"] == MINUTE

    assert shared.correct(tag, 60) == -MINUTE
    assert shared.wallet(organization_id)["outstanding_micros"] == 0
    assert len(shared.transfers(organization_id)) == 1


def test_correct_downwards_settles_what_it_leaves_room_for(shared: Books, tag: str) -> None:
    """Money that comes back pays what is owed."""
    organization_id = charged(shared, tag, 60, debt_limit_micros=MINUTE)
    shared.deduct(organization_id, f"{tag}-2", MINUTE // 2)

    shared.correct(tag, 30)

    assert shared.states(organization_id)[f"call:{tag}-2"] == "settled"


def test_correct_call_that_never_connected_charges_it(shared: Books, tag: str) -> None:
    """A call that turns out to have connected is charged at the price of its time."""
    organization_id = charged(shared, tag, None)

    assert shared.correct(tag, 60) == MINUTE
    assert shared.balance(organization_id) == -MINUTE


def test_correct_keeps_the_price_of_the_charge(shared: Books, tag: str) -> None:
    """A price set since does not touch a correction of the duration."""
    organization_id = charged(shared, tag, 60)
    shared.price(organization_id, 10 * MINUTE)

    assert shared.correct(tag, 120) == MINUTE


def test_correct_unknown_call_answers_null(shared: Books, tag: str) -> None:
    """There is nothing to correct, and no error: the night will record the call."""
    assert shared.correct(tag, 60) is None


def test_correct_call_charged_by_amount_answers_null(shared: Books, tag: str) -> None:
    """A charge that was given as an amount does not depend on a duration."""
    organization_id = shared.organization()
    shared.deduct(organization_id, tag, 1_000)
    shared.route(organization_id, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", 60))

    assert shared.correct(tag, 90) is None
    assert shared.balance(organization_id) == -1_000


def test_correct_call_that_ends_before_it_starts_is_refused(shared: Books, tag: str) -> None:
    """Time does not run backwards."""
    charged(shared, tag, 60)

    with pytest.raises(InvalidAmount):
        shared.correct(tag, -1)


def reprice(books: Books, call_id: str) -> int | None:
    """What reprice_call answers."""
    difference: int | None = books.value("SELECT reprice_call(:id)", id=call_id)
    return difference


def test_reprice_books_difference_once_and_later_corrections_follow_it(shared: Books, tag: str) -> None:
    """A call charged at a wrong price is set right once; its duration is then reckoned at the new price."""
    organization_id = charged(shared, tag, 60)
    shared.price(organization_id, MINUTE // 2)

    assert [reprice(shared, tag), reprice(shared, tag)] == [-MINUTE // 2, 0]
    assert shared.correct(tag, 120) == MINUTE // 2
    assert shared.balance(organization_id) == -MINUTE


def test_reprice_undone_while_outstanding_returns_to_first_price(shared: Books, tag: str) -> None:
    """A cancelled repricing leaves no trace in later corrections."""
    organization_id = charged(shared, tag, 60, debt_limit_micros=MINUTE)
    shared.price(organization_id, 2 * MINUTE)
    assert reprice(shared, tag) == MINUTE
    shared.price(organization_id, MINUTE)
    assert reprice(shared, tag) == -MINUTE

    assert shared.correct(tag, 30) == -MINUTE // 2


def test_reprice_that_changes_no_amount_is_kept_for_later_corrections(shared: Books, tag: str) -> None:
    """By the minute or by the second, one minute costs the same; one second more does not."""
    organization_id = shared.organization(debt_limit_micros=100 * MICROS)
    shared.route(organization_id, f"a-{tag}")
    shared.price(organization_id, 60 * MICROS, increment=60)
    shared.record(told_call(tag, f"a-{tag}", 60))
    shared.price(organization_id, 60 * MICROS, increment=1)

    assert [reprice(shared, tag), reprice(shared, tag)] == [0, 0]
    assert shared.correct(tag, 61) == MICROS
    assert shared.states(organization_id)[f"call:{tag}:correction:1"] == "free"


def test_reprice_whose_difference_is_cancelled_is_kept_for_later_corrections(shared: Books, tag: str) -> None:
    """A shorter call costs at the new price what was paid at the old one; a longer one goes by the new."""
    organization_id = charged(shared, tag, 600, debt_limit_micros=10 * MINUTE)
    shared.price(organization_id, MINUTE * 3 // 2)
    assert reprice(shared, tag) == 5 * MINUTE
    assert shared.correct(tag, 400) == -5 * MINUTE

    assert shared.correct(tag, 500) == 1_750_000
    assert shared.broken() == []


def test_tenth_correction_is_the_last_one(shared: Books, tag: str) -> None:
    """Ten comes after nine, also where keys are compared as text: the price of the tenth stays."""
    organization_id = charged(shared, tag, 60, debt_limit_micros=100 * MICROS)
    for step in range(9):
        shared.correct(tag, 120 if step % 2 == 0 else 60)
    shared.price(organization_id, 2 * MINUTE)
    assert reprice(shared, tag) == 2 * MINUTE

    assert shared.correct(tag, 60) == -2 * MINUTE
    assert f"call:{tag}:correction:11" in shared.states(organization_id)
    assert shared.balance(organization_id) == -2 * MINUTE
    assert shared.broken() == []


def test_correction_and_repricing_go_by_the_price_at_the_start(shared: Books, tag: str) -> None:
    """Not at the creation of the call, which was five seconds earlier, as for the charge itself."""
    organization_id = shared.value(
        "SELECT create_organization(:name, 'a@example.com', 'NOK', 100000000)", name=f"Unpriced {tag}"
    )
    shared.route(organization_id, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", None))
    shared.price(organization_id, 2 * MINUTE, since="2026-07-01 00:00:03Z")

    assert shared.correct(tag, 60) == 2 * MINUTE
    shared.price(organization_id, 3 * MINUTE, since="2026-07-01 00:00:04Z")
    assert reprice(shared, tag) == MINUTE


@pytest.mark.parametrize(
    "statement",
    ["SELECT reprice_call(%s)", "SELECT correct_call(%s, '2026-07-01T00:00:05Z', '2026-07-01T00:01:35Z', NULL)"],
)
def test_correction_waits_for_a_price_that_is_being_set(
    shared: Books, shared_url: str, tag: str, statement: str
) -> None:
    """Otherwise the price would charge what is being changed, or the change would miss the price."""
    organization_id = charged(shared, tag, 60)
    options = "-c role=calltally_app -c lock_timeout=100ms"
    with shared.engine.begin() as connection, psycopg.connect(shared_url, options=options) as second:
        connection.exec_driver_sql("SELECT set_price(%s, 2)", (organization_id,))
        with pytest.raises(errors.LockNotAvailable):
            second.execute(statement.encode(), [tag])


def test_corrected_debt_keeps_its_place_in_line(shared: Books, tag: str) -> None:
    """The older call is paid first, although its length changed after the younger one was owed."""
    organization_id = charged(shared, tag, 60, debt_limit_micros=0)
    younger = told_call(f"{tag}-younger", f"a-{tag}", 60, datetime(2026, 7, 2, tzinfo=UTC))
    shared.record(younger)
    shared.correct(tag, 120)
    shared.credit(organization_id, 2 * MINUTE, f"topup:pi_{tag}")

    assert shared.states(organization_id) == {
        f"call:{tag}": "cancelled",
        f"call:{tag}:correction:1": "settled",
        f"call:{tag}-younger": "outstanding",
    }


def test_reprice_unknown_call_answers_null(shared: Books, tag: str) -> None:
    """There is nothing to reprice."""
    assert reprice(shared, tag) is None


def test_correct_call_that_is_not_over_answers_null(shared: Books, tag: str) -> None:
    """Without an end there is no length: what the call cost stays."""
    organization_id = charged(shared, tag, 60)

    answer = shared.value("SELECT correct_call(:id, '2026-07-01T00:00:05Z', NULL, 0)", id=tag)

    assert answer is None
    assert shared.balance(organization_id) == -MINUTE
    assert shared.value("SELECT duration_ms FROM calls WHERE id = :id", id=tag) == 60_000


def test_correct_call_without_a_price_takes_the_new_length(shared: Books, tag: str) -> None:
    """The price that comes later charges what the call turned out to be."""
    organization_id = shared.value(
        "SELECT create_organization(:name, 'a@example.com', 'NOK')", name=f"Unpriced {tag}"
    )
    shared.route(organization_id, f"a-{tag}")
    shared.record(told_call(tag, f"a-{tag}", 60))

    assert shared.correct(tag, 120) is None
    shared.price(organization_id, MINUTE, since="2026-06-01Z")

    assert shared.balance(organization_id) == -2 * MINUTE
