"""Looking at services over the network without waiting for them: each answer has a second, all of them at once."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

SECONDS: Final = 1.0
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class NoAnswer(Exception):
    """Nothing there, or too late; the message says which."""


class Probe:
    """A look at something, under way in a thread that nobody has to wait for."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = look
        self._outcome: Any = None
        self._error: Exception | None = NoAnswer(f"no answer within {SECONDS:g} s")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, seconds: float = SECONDS) -> Any:
        """What was seen.

        Raises:
            NoAnswer: nothing within the time.
        """
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = self._look()
            self._error = None
        except NoAnswer as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it did not answer as it should
            self._error = NoAnswer(f"{type(error).__name__}: {error}")


def fetch(url: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of an address; asked with POST if there is a body.

    Raises:
        NoAnswer: no connection, too slow, or no JSON.
    """
    proxies = urllib.request.ProxyHandler({} if urlsplit(url).hostname in LOOPBACK else None)
    request = urllib.request.Request(  # noqa: S310 - addresses are settings
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.build_opener(proxies).open(request, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _json_or_nothing(error.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswer(getattr(reason, "strerror", None) or str(reason) or type(error).__name__) from error


def not_up(health: Any) -> str:
    """What a receiver's `GET /health` says is not up, such as `prefect down, worker down`; empty if all is.

    Raises:
        NoAnswer: that is not what a receiver says.
    """
    services = health.get("services") if isinstance(health, dict) else None
    if not isinstance(services, dict):
        raise NoAnswer("what answers is no receiver")
    return ", ".join(f"{name} {state}" for name, state in services.items() if state != "up")


def _json_or_nothing(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
