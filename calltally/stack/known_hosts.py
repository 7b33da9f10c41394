"""Which browsers Prefect's server listens to: those that opened it by its own name, not a stranger's page."""

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_NAMES: Final = ("127.0.0.1", "localhost")


class KnownHosts:
    """Refuses credentials and websockets that come under a foreign name.

    A page that lets its own name resolve to our address may ask us as if it were ours. Without credentials it gets
    Prefect's 401; with guessed ones it is not even told whether they are right.
    """

    def __init__(self, app: ASGIApp, names: Collection[str | None]) -> None:
        """`names` are those that the installation is known by, beside addresses and names without a dot."""
        self._app = app
        self._names = {name.lower() for name in names if name}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            if not self._knows(headers.get("host", "")):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008, "reason": "unknown host"})
                    return
                if "authorization" in headers:
                    refusal = {"exception_message": "This host is unknown here: set PREFECT_UI_URL to it"}
                    await JSONResponse(refusal, 421)(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        """Nobody else can own an address, or a name without a dot such as `localhost` or a container's."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return "." not in name or name in self._names or _is_address(name)


def origins(addresses: Iterable[str]) -> Sequence[str]:
    """The origins of these addresses; one of this machine has two names."""
    found = set()
    for parts in map(urlsplit, filter(None, addresses)):
        names = LOCAL_NAMES if parts.hostname in LOCAL_NAMES else (parts.hostname,)
        port = f":{parts.port}" if parts.port else ""
        found |= {f"{parts.scheme}://{f'[{name}]' if ':' in (name or '') else name}{port}" for name in names}
    return sorted(found)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
