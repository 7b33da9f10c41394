"""Runs are named by what they are about."""

from billing.alerts import Told
from billing.inbox import Event, in_words
from billing.monitoring import run_name


def of(provider: str, kind: str, count: int) -> list[Event]:
    """So many events of a kind."""
    return [Event(number, provider, kind) for number in range(count)]


def test_burst_of_many_kinds_is_named_by_the_commonest_and_counts_the_rest() -> None:
    """No event is left out."""
    burst = of("vapi", "a", 4) + of("stripe", "b", 3) + of("twilio", "c", 2)

    assert in_words(burst) == "4 vapi a, 3 stripe b, 2 twilio c"
    assert (
        in_words(burst + of("vapi", "d", 1) + of("stripe", "e", 1)) == "4 vapi a, 3 stripe b, 2 twilio c and 2 more"
    )
    assert in_words([]) == "nothing waiting"


def test_look_at_the_books_is_named_by_what_fails_and_by_what_slack_was_not_told() -> None:
    """Held back by quiet hours is no failure."""
    refused = Told(1, "k", "raised", "could not alert: Slack answered 404 no_service", failed=True)
    held = Told(2, "k", "raised", "held back until 2026-11-18 06:00 UTC by quiet hours", failed=False)

    assert run_name(0, 9, [held]) == "all is well"
    assert run_name(2, 9, []) == "2 of 9 conditions fail"
    assert run_name(2, 9, [held, refused]) == (
        "2 of 9 conditions fail; 1 not told, could not alert: Slack answered 404 no_service"
    )
