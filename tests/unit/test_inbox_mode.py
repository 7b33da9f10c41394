"""Events of the other mode of Stripe end parked in the inbox."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from billing import applying, inbox
from billing.deliveries import identify_stripe
from billing.settings import get_settings
from tests.books import Books
from tests.payloads import body


@pytest.fixture
def live_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that expects real money."""
    monkeypatch.setenv("STRIPE_LIVEMODE", "true")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_event_of_test_mode_is_parked_at_a_live_endpoint(live_endpoint: None, engine: Engine, books: Books) -> None:
    """It stays in the inbox with its reason and moves no money."""
    inbox.accept(engine, [identify_stripe(body("stripe", "payment_intent.succeeded"))])

    ended = applying.apply(engine, inbox.claim(engine, "worker", 10))

    assert ended == {"parked": 1}
    assert books.rows("SELECT state, reason FROM events") == [{"state": "parked", "reason": "livemode_mismatch"}]
    assert books.value("SELECT count(*) FROM transfers") == 0
