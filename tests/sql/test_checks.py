"""Each check sees exactly the damage that it is for."""

from pathlib import Path

import psycopg
import pytest

from tests import messages
from tests.books import Books, told_call
from tests.messages import SERVICE, looked_up, told

CHECKS = sorted(file.stem for file in (Path(__file__).parents[2] / "sql" / "checks").glob("*.sql"))
OTHER = "11111111-1111-1111-1111-111111111111"
USED = "WHERE last_sequence > 0"
"""Of the organization that has something of everything."""
DAMAGE: dict[str, str] = {
    "stored_balance_equals_transfers": f"UPDATE wallets SET balance_micros = balance_micros + 1 {USED}",
    "sequences_without_gaps": (
        "UPDATE transfers SET wallet_sequence = 11 WHERE wallet_sequence = 9;"
        f"UPDATE wallets SET last_sequence = 11 {USED}"
    ),
    "transfers_sum_to_zero": (f"UPDATE transfers SET from_account = '{OTHER}' WHERE kind = 'topup'"),
    "one_charge_per_call": (
        "ALTER TABLE charges DROP CONSTRAINT charges_pkey CASCADE;"
        "INSERT INTO charges SELECT * FROM charges WHERE idempotency_key = 'call:free'"
    ),
    "one_credit_per_payment": (
        "DROP INDEX transfers_one_credit_per_payment;"
        "UPDATE transfers SET payment_id = 'pi_1', kind = 'topup' WHERE kind = 'adjustment';"
        "UPDATE payments SET charged_micros = 12000000, credited_micros = 12000000 WHERE payment_id = 'pi_1'"
    ),
    "payments_as_booked": ("UPDATE payments SET credited_micros = 1, tax_micros = 999999 WHERE payment_id = 'pi_2'"),
    "taken_back_within_credited": (
        "DELETE FROM movements; UPDATE transfers SET payment_id = 'pi_other' WHERE kind = 'refund'"
    ),
    "every_movement_is_booked": (
        "INSERT INTO movements (id, kind, source_id, payment_id, amount_micros, currency, event_at)"
        " VALUES ('re_2', 'refund', 're_2', 'pi_2', -1, 'USD', now())"
    ),
    "taken_back_as_due": ("UPDATE movements SET amount_micros = -9999999"),
    "no_usage_beyond_debt_limit": ("UPDATE transfers SET debt_limit_micros = 0 WHERE idempotency_key = 'call:last'"),
    "charges_equal_transfers": ("DELETE FROM charges WHERE idempotency_key = 'call:amount'"),
    "charges_follow_from_their_prices": (
        "UPDATE charges SET per_minute_micros = per_minute_micros + 60 WHERE idempotency_key = 'call:priced'"
    ),
    "every_ended_call_is_charged": ("DELETE FROM charges WHERE idempotency_key = 'call:free'"),
    "every_event_in_a_known_state": (
        "UPDATE events SET state = 'active', claim_token = gen_random_uuid(), lease_until = now() - interval '1 hour'"
    ),
    "no_routed_call_in_quarantine": ("UPDATE calls SET assistant_id = 'a1' WHERE id = 'nobody'"),
    "references_lead_somewhere": ("UPDATE charges SET price_id = 999999 WHERE idempotency_key = 'call:priced'"),
    "every_billable_message_is_charged": ("UPDATE sms_messages SET carrier_accepted = true WHERE sid = 'SM-failed'"),
    "message_charges_follow_from_their_prices": ("UPDATE sms_messages SET num_segments = 3 WHERE sid = 'SM-sent'"),
    "no_routed_message_in_quarantine": (
        f"UPDATE sms_messages SET messaging_service_sid = '{SERVICE}' WHERE sid = 'SM-nobody'"
    ),
}

ANOTHER = "(SELECT id FROM organizations WHERE name = 'Another')"
CLAIMED = "UPDATE events SET claim_token = gen_random_uuid()"
SOLD = "INSERT INTO payments (payment_id, organization_id, currency, charged_micros, credited_micros)"
ARMS = [
    (
        "stored_balance_equals_transfers",
        f"UPDATE wallets SET last_sequence = last_sequence + 1 {USED}",
    ),
    ("sequences_without_gaps", "UPDATE transfers SET balance_after_micros = 1 WHERE idempotency_key = 'call:last'"),
    ("transfers_sum_to_zero", "UPDATE transfers SET currency = 'EUR' WHERE idempotency_key = 'gift'"),
    ("transfers_sum_to_zero", f"UPDATE transfers SET from_account = '{OTHER}' WHERE idempotency_key = 'gift'"),
    (
        "charges_equal_transfers",
        f"UPDATE charges SET organization_id = {ANOTHER} WHERE idempotency_key = 'call:last'",
    ),
    ("charges_equal_transfers", "UPDATE charges SET amount_micros = 1 WHERE idempotency_key = 'call:last'"),
    ("charges_equal_transfers", "UPDATE charges SET state = 'settled' WHERE idempotency_key = 'call:owed'"),
    (
        "message_charges_follow_from_their_prices",
        "UPDATE sms_messages SET per_segment_micros = 1 WHERE sid = 'SM-sent'",
    ),
    ("message_charges_follow_from_their_prices", "DELETE FROM sms_messages WHERE sid = 'SM-sent'"),
    (
        "message_charges_follow_from_their_prices",
        "UPDATE sms_messages SET carrier_accepted = false WHERE sid = 'SM-sent'",
    ),
    (
        "message_charges_follow_from_their_prices",
        f"UPDATE sms_messages SET organization_id = {ANOTHER} WHERE sid = 'SM-sent'",
    ),
    (
        "every_event_in_a_known_state",
        f"{CLAIMED}, state = 'delayed', lease_until = now() - interval '601 seconds'",
    ),
    ("payments_as_booked", "DELETE FROM payments WHERE payment_id = 'pi_2'"),
    (
        "payments_as_booked",
        f"{SOLD} SELECT 'pi_3', organization_id, currency, 1, 1 FROM wallets LIMIT 1",
    ),
    ("payments_as_booked", "UPDATE payments SET charged_micros = 2, credited_micros = 2 WHERE payment_id = 'pi_2'"),
    ("payments_as_booked", "UPDATE payments SET charged_micros = 1000001, tax_micros = 1 WHERE payment_id = 'pi_2'"),
    ("payments_as_booked", "UPDATE payments SET charged_micros = 1000001, fee_micros = 1 WHERE payment_id = 'pi_2'"),
    ("taken_back_as_due", "UPDATE movements SET amount_micros = -11000000"),
    (
        "no_usage_beyond_debt_limit",
        "UPDATE transfers SET debt_limit_micros = -balance_after_micros - 1 WHERE idempotency_key = 'call:last'",
    ),
    *(
        (
            "no_usage_beyond_debt_limit",
            f"UPDATE transfers SET kind = '{kind}', debt_limit_micros = 0 WHERE idempotency_key = 'call:last'",
        )
        for kind in ("sms", "correction")
    ),
    ("references_lead_somewhere", f"UPDATE calls SET organization_id = '{OTHER}' WHERE id = 'free'"),
    (
        "references_lead_somewhere",
        f"UPDATE charges SET organization_id = '{OTHER}' WHERE idempotency_key = 'call:owed'",
    ),
    ("references_lead_somewhere", f"UPDATE sms_messages SET organization_id = '{OTHER}' WHERE sid = 'SM-failed'"),
]
"""What else each check is for, where its row above shows one kind of damage of several."""
SOUND = [
    "UPDATE transfers SET debt_limit_micros = -balance_after_micros WHERE idempotency_key = 'call:last'",
    "UPDATE transfers SET debt_limit_micros = 0, overrun = true WHERE idempotency_key = 'call:last'",
    f"{CLAIMED}, state = 'active', lease_until = now() - interval '599 seconds'",
    "UPDATE calls SET held = 'strange', assistant_id = 'a1' WHERE id = 'nobody'",
    "UPDATE sms_messages SET carrier_accepted = true, num_segments = NULL WHERE sid = 'SM-failed'",
]
"""What looks like damage and is none."""


@pytest.fixture
def healthy(books: Books) -> Books:
    """Books with something of everything."""
    books.organization("Another")
    organization_id = books.organization()
    books.route(organization_id, "a1")
    books.credit(organization_id, 10_000_000, "topup:pi_1")
    books.credit(organization_id, 1_000_000, "topup:pi_2")
    books.value("SELECT debit_wallet(:id, 1000000, 'mistake', 'paid twice')", id=organization_id)
    books.credit(organization_id, 1_000_000, "gift", "adjustment")
    books.deduct(organization_id, "amount", 500_000)
    books.record(told_call("priced", "a1", 60), told_call("free", "a1", None), told_call("nobody", "a9", 60))
    messages.price(books, organization_id, 20_000)
    messages.route(books, organization_id, "messaging_service", SERVICE)
    messages.record(
        books,
        looked_up("SM-sent", "sent", 2, messaging_service_sid=SERVICE),
        looked_up("SM-failed", "failed", messaging_service_sid=SERVICE),
        told("SM-nobody", "sent"),
    )
    books.refund("pi_1", "re_1", 10_000_000)
    books.deduct(organization_id, "last", 1_000_000)
    books.deduct(organization_id, "owed", 9_000_000)
    books.value("SELECT accept_events(ARRAY['vapi'], ARRAY['e'], ARRAY['t'], ARRAY[CAST('{}' AS bytea)])")
    assert books.broken() == []
    return books


def broken_by(url: str, statements: str) -> list[str]:
    """The checks that see a damage which no function would do: triggers and foreign keys look away."""
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statements.encode())
        names = [name for (name,) in connection.execute("SELECT name FROM check_books()")]
        connection.rollback()
    return names


@pytest.mark.parametrize("check", CHECKS)
def test_check_sees_its_damage_alone(healthy: Books, database_url: str, check: str) -> None:
    """One broken invariant is one row, from the check that is for it."""
    assert broken_by(database_url, DAMAGE[check]) == [check]


@pytest.mark.parametrize(("check", "damage"), ARMS)
def test_each_arm_of_a_check_sees_damage_of_its_own(
    healthy: Books, database_url: str, check: str, damage: str
) -> None:
    """Nothing else would say it."""
    assert broken_by(database_url, damage) == [check]


@pytest.mark.parametrize("statements", SOUND)
def test_checks_see_nothing_where_nothing_is_broken(healthy: Books, database_url: str, statements: str) -> None:
    """Up to the limit, and for those who are allowed to."""
    assert broken_by(database_url, statements) == []


@pytest.mark.parametrize("check", CHECKS)
def test_check_says_what_a_row_means(check: str) -> None:
    """The first line of each file is for the person who finds a row at night."""
    text = (Path(__file__).parents[2] / "sql" / "checks" / f"{check}.sql").read_text()

    assert text.startswith("-- A row: ")


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(
            "ALTER TABLE events DROP CONSTRAINT events_state_check; UPDATE events SET state = 'lost'", id="unknown"
        ),
        pytest.param(
            "ALTER TABLE events DROP CONSTRAINT events_check2; UPDATE events SET state = 'parked'", id="no reason"
        ),
    ],
)
def test_check_of_events_sees_states_that_constraints_forbid(
    healthy: Books, database_url: str, statements: str
) -> None:
    """Even without its constraints, an event in no state is noticed."""
    assert broken_by(database_url, statements) == ["every_event_in_a_known_state"]


def test_checks_are_readable_by_analyst(healthy: Books, database_url: str) -> None:
    """Who reports on the books can check them."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET ROLE calltally_analyst")
        assert connection.execute("SELECT * FROM check_books()").fetchall() == []


def test_books_remain_healthy_after_policy_allowed_overrun(healthy: Books) -> None:
    """Usage past the limit that the policy allowed is no damage."""
    organization_id = healthy.organization()
    healthy.policy(organization_id, "allow_overrun")
    healthy.deduct(organization_id, "far", 50_000_000)

    assert healthy.broken() == []
