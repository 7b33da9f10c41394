"""The table of what is watched."""

from sqlalchemy import Engine

from billing.alerts import Told
from billing.monitoring import health_rows


def test_table_says_whether_messages_go_out(engine: Engine) -> None:
    """A channel that is broken can tell nobody so."""
    sent = Told(1, "k", "raised", "sent", failed=False)
    refused = Told(2, "k", "raised", "could not alert: Slack answered 404 no_service", failed=True)
    held = Told(3, "k", "raised", "held back until 2026-11-18 06:00 UTC by quiet hours", failed=False)
    [well] = health_rows(engine, [], [sent, held])
    [broken] = health_rows(engine, [], [sent, refused])

    assert (well["state"], well["measured"]) == ("ok", "1 sent, 1 held back by quiet hours")
    assert (broken["state"], broken["measured"]) == ("FAILING", f"1 not sent, {refused.outcome}")
