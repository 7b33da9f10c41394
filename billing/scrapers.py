"""Who may read metrics without a token: a program on this machine that nobody stands in front of.

The figures are business figures. A proxy on this machine connects from loopback as well, so whatever is not quite as
a local scraper asks is taken for a sign of one, whichever headers that proxy adds, or none.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from billing.settings import Settings

OF_A_SCRAPER: Final = frozenset(
    {
        *(
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
            "accept-language",
            "connection",
            "cache-control",
            "pragma",
        ),
        *("x-prometheus-scrape-timeout-seconds", "authorization"),
    }
)
"""What Prometheus, curl and libraries send of themselves; any other header was added on the way, or by a browser."""


def asks_from_here(settings: Settings, bound: str, peer: str, http_version: str, headers: Mapping[str, str]) -> bool:
    """Whether `peer`, the other end of the connection itself, is a program here, by its address and how it asks.

    `bound` is where the server listens, which is loopback as well where only this machine is meant to ask.
    `headers` with names in lower case; `http_version` as `1.1`: a proxy that is not told otherwise speaks 1.0. With a
    PUBLIC_URL there is a way in from outside, so that nobody is believed.
    """
    return (
        is_loopback(bound)
        and is_loopback(peer)
        and http_version != "1.0"
        and is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")
        and OF_A_SCRAPER.issuperset(headers)
        and (settings.public_url is None or is_loopback(urlsplit(settings.public_url).hostname or ""))
    )


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
