"""What a batch of unlike events comes to, and in which order it takes its locks."""

from billing import inbox

from .stops import die, stopping
from .story import Story, payment, report

NEVER = 10**9


def test_payments_are_locked_before_the_wallets_of_calls(story: Story) -> None:
    """Another worker with the same payment may wait for that wallet, holding the payment."""
    story.accept(report("call-1"), *payment("pi_1", story.open_wallet()))
    claimed = inbox.claim(story.engine, "worker", 100)

    with stopping(story.engine, NEVER, die) as moments:
        inbox.apply(story.engine, claimed)

    functions = ("lock_payments", "record_calls", "credit_payments")
    asked = [name for moment in moments.seen for name in functions if moment.startswith("before") and name in moment]
    assert asked == ["lock_payments", "record_calls", "credit_payments"]
