"""What the provider answers instead of its list, and whether another try is worth it."""

import pytest
from pydantic import SecretStr

from billing.errors import BillingError, ProviderRefused, ProviderUnavailable, RateLimited
from billing.settings import Settings
from calltally.sandbox.faults import Fault, broken_connection, html_fault, text_fault
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi import vapi_fault

from .listing import ONE_TRY, read


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (vapi_fault(401, "Invalid Key"), ProviderRefused, "VAPI_API_KEY"),
        (vapi_fault(400, "limit must be a number"), ProviderRefused, "400"),
        (vapi_fault(403, "Forbidden"), ProviderRefused, "403"),
        (vapi_fault(404, "Not Found"), ProviderRefused, "404"),
        (text_fault(302, "elsewhere"), ProviderRefused, "302"),
        (vapi_fault(408, "Request Timeout"), ProviderUnavailable, "408"),
        (vapi_fault(409, "Conflict"), ProviderUnavailable, "409"),
        (vapi_fault(429, "Rate limit exceeded"), RateLimited, "429"),
        (vapi_fault(500, "Internal server error"), ProviderUnavailable, "500"),
        (vapi_fault(503, "Service Unavailable"), ProviderUnavailable, "503"),
        (html_fault(521), ProviderUnavailable, "521"),
        (html_fault(200), ProviderUnavailable, "no list"),
        (text_fault(200, ""), ProviderUnavailable, "no list"),
        (text_fault(200, '{"results": []}'), ProviderUnavailable, "no list"),
        (text_fault(200, "[" * 100_000), ProviderUnavailable, "no list"),
        (text_fault(200, '[{"id": "cut'), ProviderUnavailable, "no list"),
        (Fault(200, b"[\xff\xfe]"), ProviderUnavailable, "no list"),
        (broken_connection(), ProviderUnavailable, "RemoteProtocolError"),
    ],
)
def test_spoiled_answer_is_an_error_of_its_own(
    sandbox: RunningSandbox, settings: Settings, fault: Fault, error: type[BillingError], says: str
) -> None:
    """Each answer is either worth another try or final, and says what it was without quoting the page."""
    sandbox.vapi.faults.add(fault)

    with pytest.raises(error, match=says) as caught:
        read(settings, patience=ONE_TRY)

    assert type(caught.value) is error
    assert "<html" not in str(caught.value).lower()


def test_rate_limit_passes_on_how_long_to_wait(sandbox: RunningSandbox, settings: Settings) -> None:
    """What `Retry-After` says is among the facts, in seconds."""
    sandbox.vapi.faults.add(vapi_fault(429, "Rate limit exceeded", retry_after_seconds=7))

    with pytest.raises(RateLimited) as caught:
        read(settings, patience=ONE_TRY)

    assert caught.value.facts == {"retry_after_seconds": 7}


def test_wrong_key_says_which_setting_is_wrong(settings: Settings) -> None:
    """The message names the setting and where to find the right key, and never shows the key."""
    wrong = settings.model_copy(update={"vapi_api_key": SecretStr("the-public-one")})

    with pytest.raises(ProviderRefused, match=r"VAPI_API_KEY .*private key") as caught:
        read(wrong, patience=ONE_TRY)

    assert "the-public-one" not in str(caught.value)


def test_nobody_at_the_address_is_an_outage(settings: Settings) -> None:
    """A refused connection may be a restart."""
    nowhere = settings.model_copy(update={"vapi_base_url": "http://127.0.0.1:9"})

    with pytest.raises(ProviderUnavailable, match="ConnectError"):
        read(nowhere, patience=ONE_TRY)
