"""Where people look calls and events up at the providers: pages of their dashboards, if these are the real ones.

The addresses of single calls and events are not documented; they are those that the dashboards themselves show.
"""

import re

from billing.literal import in_markdown
from billing.settings import Settings

VAPI = {
    "https://api.vapi.ai": "https://dashboard.vapi.ai",
    "https://api.eu.vapi.ai": "https://dashboard.eu.vapi.ai",
}
"""The dashboard of each region's API."""
STRIPE = {"https://api.stripe.com": "https://dashboard.stripe.com"}
CALL_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
EVENT_ID = re.compile(r"evt_\w+")


def call_page(call_id: str, settings: Settings) -> str | None:
    """The page of a call; None if its provider has none, as a sandbox."""
    dashboard = VAPI.get(settings.vapi_base_url.rstrip("/"))
    return f"{dashboard}/calls/{call_id}" if dashboard and CALL_ID.fullmatch(call_id) else None


def event_page(provider: str, delivery_key: str, settings: Settings) -> str | None:
    """The page of an event, or of the call that it is about."""
    if provider == "vapi":
        return call_page(delivery_key.partition(":")[0], settings)
    dashboard = STRIPE.get(settings.stripe_api_base.rstrip("/")) if provider == "stripe" else None
    if dashboard is None or not EVENT_ID.fullmatch(delivery_key):
        return None
    mode = "test/" if settings.stripe_expects_livemode is False else ""
    return f"{dashboard}/{mode}events/{delivery_key}"


def linked(text: str, page: str | None) -> str:
    """The text in Markdown, which Prefect's tables show: as a link if there is a page."""
    return f"[{in_markdown(text)}]({page})" if page else in_markdown(text)
