"""Links lead to the dashboard of the API that we talk to, and to none where that is a sandbox."""

from typing import Any

import pytest
from pydantic import SecretStr

from billing.provider_pages import call_page, event_page, linked
from billing.settings import Settings

CALL = "0199a3f2-7c41-7d10-9a57-3d1f5e0b9c21"
EVENT = "evt_1PRXSwP2tu9ynZbp0JJeBBGs"


def settings(**changes: Any) -> Settings:
    """Settings from nowhere else."""
    return Settings(_env_file=None, **changes)


@pytest.mark.parametrize(
    ("base_url", "page"),
    [
        ("https://api.vapi.ai", f"https://dashboard.vapi.ai/calls/{CALL}"),
        ("https://api.eu.vapi.ai/", f"https://dashboard.eu.vapi.ai/calls/{CALL}"),
        ("http://127.0.0.1:3900/vapi", None),
    ],
)
def test_call_has_the_page_of_its_region(base_url: str, page: str | None) -> None:
    """A sandbox has no dashboard."""
    assert call_page(CALL, settings(vapi_base_url=base_url)) == page
    assert event_page("vapi", f"{CALL}:end-of-call-report", settings(vapi_base_url=base_url)) == page


@pytest.mark.parametrize(("key", "mode"), [("sk_live_x", ""), ("sk_test_x", "test/"), (None, "")])
def test_event_of_stripe_has_the_page_of_its_mode(key: str | None, mode: str) -> None:
    """Live and test events are on different pages."""
    ours = settings(stripe_api_key=key and SecretStr(key))

    assert event_page("stripe", EVENT, ours) == f"https://dashboard.stripe.com/{mode}events/{EVENT}"


@pytest.mark.parametrize(
    ("provider", "key"),
    [("stripe", "backfill:pi_1"), ("vapi", "no id](https://evil.example)"), ("twilio", "SM1:sent")],
)
def test_what_has_no_page_stays_text(provider: str, key: str) -> None:
    """What a stranger wrote into an id makes no link."""
    assert event_page(provider, key, settings()) is None
    assert (linked("x", None), linked("x", "https://y")) == ("x", "[x](https://y)")
