"""Twilio's world: outgoing messages, the callbacks about them, and the Message resource.

Built from https://www.twilio.com/docs/messaging: track outbound message status, webhooks security, Message resource.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Literal
from urllib.parse import parse_qs, urlencode

from calltally.sandbox.deliveries import FAIR_WEATHER, Weather, plan_deliveries
from calltally.sandbox.faults import FaultQueue
from calltally.sandbox.messages import Message
from calltally.sandbox.sending import Retries, SendReport, Target, send_now
from calltally.sandbox.wire import JsonObject, from_ms, to_ms

DEFAULT_AUTH_TOKEN = "twilio-sandbox-token"  # noqa: S105  # opens nothing but the sandbox
API_VERSION = "2010-04-01"
FORM = "application/x-www-form-urlencoded"

Outcome = Literal["delivered", "undelivered", "failed", "read", "sent", "canceled"]

_PATHS: dict[str, tuple[str, ...]] = {
    "delivered": ("sent", "delivered"),
    "undelivered": ("sent", "undelivered"),
    "failed": ("failed",),
    "read": ("sent", "delivered", "read"),
    "sent": ("sent",),  # the carrier gives no receipt
    "canceled": ("canceled",),
}
_TAKEN = {"sent", "delivered", "undelivered", "read"}
# By default one retry, and only when the connection fails.
TWILIO_RETRIES = Retries((0.05,), excluded_statuses=frozenset(range(100, 600)))


@dataclass(frozen=True, slots=True)
class TwilioSignature:
    """Twilio's header: base64 of HMAC-SHA1 over the URL and, sorted, the name and values of each parameter."""

    auth_token: str
    url: str
    """The URL as it is configured at Twilio, which need not be the one that is reached."""

    def headers(self, body: bytes, at_seconds: float) -> dict[str, str]:  # noqa: ARG002  # no time is signed
        """Return the signature, and what the body is."""
        parameters = parse_qs(body.decode(), keep_blank_values=True)
        signed = self.url.partition("#")[0]
        for name in sorted(parameters):
            for value in sorted(set(parameters[name])):
                signed += name + value
        digest = hmac.new(self.auth_token.encode(), signed.encode(), hashlib.sha1).digest()
        return {"X-Twilio-Signature": base64.b64encode(digest).decode(), "Content-Type": FORM}


@dataclass(frozen=True, slots=True)
class TextMessage:
    """An outgoing message; `reached` is the status it has come to, `outcome` the one it will come to."""

    sid: str
    account_sid: str
    sender: str
    recipient: str
    text: str
    created_ms: int
    outcome: Outcome
    reached: str
    num_segments: int = 1
    messaging_service_sid: str | None = None
    error_code: int | None = None
    price: str | None = "-0.00750"

    @property
    def initial(self) -> str:
        """The status that the answer to sending shows, of which no callback tells."""
        return "accepted" if self.messaging_service_sid else "queued"

    @property
    def told(self) -> tuple[str, ...]:
        """The statuses of which callbacks tell, up to the one it has reached."""
        path = _PATHS[self.outcome]
        return path[: path.index(self.reached) + 1] if self.reached in path else ()

    def error_of(self, status: str) -> int | None:
        """The error, if this status is one of failure."""
        return self.error_code if status in {"failed", "undelivered"} else None


class TwilioWorld:
    """Messages of one account and its subaccounts; may be changed from any thread while it is served."""

    def __init__(self, *, seed: int = 0, auth_token: str = DEFAULT_AUTH_TOKEN) -> None:
        self._random = Random(f"twilio {seed}")  # noqa: S311  # invented data, and it must repeat
        self.account_sid = self._new_sid("AC")
        self.auth_token = auth_token
        self.faults = FaultQueue()
        self.subaccounts: list[TwilioWorld] = []
        self.messaging_services: dict[str, str | None] = {}
        """Where each Messaging Service tells of its messages."""
        self._messages: dict[str, TextMessage] = {}
        self._lock = threading.RLock()

    def add_subaccount(self, auth_token: str) -> TwilioWorld:
        """Open a subaccount, which signs its callbacks with its own token and has messages of its own."""
        with self._lock:
            subaccount = TwilioWorld(seed=self._random.getrandbits(32), auth_token=auth_token)
            self.subaccounts.append(subaccount)
            return subaccount

    def send_message(
        self,
        *,
        at: datetime,
        outcome: Outcome = "delivered",
        sender: str = "+15005550006",
        recipient: str = "+15005550009",
        text: str = "Your appointment is on Friday.",
        num_segments: int = 1,
        messaging_service_sid: str | None = None,
        error_code: int | None = None,
        price: str | None = "-0.00750",
    ) -> TextMessage:
        """Send a message, which comes to its outcome at once; `hold` takes it back to an earlier status."""
        with self._lock:
            message = TextMessage(
                sid=self._new_sid("SM"),
                account_sid=self.account_sid,
                sender=sender,
                recipient=recipient,
                text=text,
                created_ms=to_ms(at),
                outcome=outcome,
                reached=_PATHS[outcome][-1],
                num_segments=num_segments,
                messaging_service_sid=messaging_service_sid,
                error_code=error_code,
                price=price if outcome not in {"failed", "canceled"} else None,
            )
            self._messages[message.sid] = message
            return message

    def hold(self, sid: str, status: str) -> TextMessage:
        """Let a message have come no further than this status."""
        return self._change(sid, reached=status)

    def fill_price(self, sid: str, price: str | None) -> TextMessage:
        """Give a message its price, which may come long after it was sent."""
        return self._change(sid, price=price)

    def delete_message(self, sid: str) -> None:
        """Delete a message from the account's record."""
        with self._lock:
            del self._messages[sid]

    def message(self, sid: str) -> TextMessage | None:
        """Return a message as it is now."""
        return self._messages.get(sid)

    def callbacks(self, messages: Iterable[TextMessage]) -> list[Message]:
        """Return the status callbacks about these messages so far, as forms."""
        return [
            Message(message.sid, status, message.created_ms + 1000 * (step + 1), self.form(message, status))
            for message in messages
            for step, status in enumerate(message.told)
        ]

    def form(self, message: TextMessage, status: str) -> bytes:
        """Return the body of one status callback."""
        error_code = message.error_of(status)
        fields = {
            "ApiVersion": API_VERSION,
            "AccountSid": message.account_sid,
            "MessageSid": message.sid,
            "MessageStatus": status,
            "SmsSid": message.sid,
            "SmsStatus": status,
            "From": message.sender,
            "To": message.recipient,
            **({"MessagingServiceSid": message.messaging_service_sid} if message.messaging_service_sid else {}),
            **({"ErrorCode": str(error_code)} if error_code else {}),
            **({"RawDlrDoneDate": f"{from_ms(message.created_ms):%y%m%d%H%M}"} if status == "delivered" else {}),
        }
        return urlencode(fields).encode()

    def resource(self, sid: str) -> JsonObject | None:
        """Return the Message resource as it is now; None if there is none."""
        message = self.message(sid)
        if message is None:
            return None
        taken = message.reached in _TAKEN
        created = from_ms(message.created_ms)
        unsent_by_service = message.messaging_service_sid is not None and message.reached == message.initial
        return {
            "account_sid": message.account_sid,
            "api_version": API_VERSION,
            "body": message.text,
            "date_created": _rfc_2822(created),
            "date_sent": _rfc_2822(created + timedelta(seconds=1)) if taken else None,
            "date_updated": _rfc_2822(created + timedelta(seconds=2)),
            "direction": "outbound-api",
            "error_code": message.error_of(message.reached),
            "error_message": None,
            "from": None if unsent_by_service else message.sender,
            "messaging_service_sid": message.messaging_service_sid,
            "num_media": "0",
            "num_segments": "0" if unsent_by_service else str(message.num_segments),
            "price": message.price if taken else None,
            "price_unit": "USD",
            "sid": message.sid,
            "status": message.reached,
            "subresource_uris": {"media": f"/{API_VERSION}/Accounts/{message.account_sid}/Messages/{sid}/Media.json"},
            "to": message.recipient,
            "uri": f"/{API_VERSION}/Accounts/{message.account_sid}/Messages/{sid}.json",
        }

    def sent_on(self, day: date) -> list[str]:
        """Return the messages that were sent on this day (GMT), newest first."""
        with self._lock:
            taken = [message for message in self._messages.values() if message.reached in _TAKEN]
        return [
            message.sid
            for message in sorted(taken, key=lambda message: message.created_ms, reverse=True)
            if (from_ms(message.created_ms) + timedelta(seconds=1)).date() == day
        ]

    def deliver(
        self,
        messages: Iterable[TextMessage],
        url: str,
        *,
        signed_url: str | None = None,
        weather: Weather = FAIR_WEATHER,
        seed: int | str = 0,
    ) -> SendReport:
        """Send the callbacks about these messages; `signed_url` is the public one if a proxy stands before `url`."""
        plan = plan_deliveries(self.callbacks(messages), weather, seed=seed)
        signer = TwilioSignature(self.auth_token, signed_url or url)
        return send_now(plan.deliveries, Target(url, signer, TWILIO_RETRIES, timeout_seconds=15.0))

    def _change(self, sid: str, **changes: object) -> TextMessage:
        with self._lock:
            changed = replace(self._messages[sid], **changes)  # type: ignore[arg-type]
            self._messages[sid] = changed
            return changed

    def _new_sid(self, prefix: str) -> str:
        return prefix + f"{self._random.getrandbits(128):032x}"


def _rfc_2822(moment: datetime) -> str:
    return format_datetime(moment)
