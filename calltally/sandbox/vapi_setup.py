"""What people set up at Vapi: assistants, squads and phone numbers, and where each sends its messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calltally.sandbox.wire import JsonObject, encode_json, iso

DEFAULT_LIMIT = 100
_FIRST_MS = 1_788_220_800_000  # 2026-09-01; each thing was made a second after the one before
_BOUNDS: dict[str, Callable[[str, str], bool]] = {
    "createdAtGt": str.__gt__,
    "createdAtGe": str.__ge__,
    "createdAtLt": str.__lt__,
    "createdAtLe": str.__le__,
}


@dataclass
class VapiSetup:
    """Lists that the API shows newest first, as bare arrays; change them at will."""

    assistants: list[JsonObject] = field(default_factory=list)
    squads: list[JsonObject] = field(default_factory=list)
    phone_numbers: list[JsonObject] = field(default_factory=list)

    def add_assistant(self, assistant_id: str, name: str, **fields: Any) -> JsonObject:
        """Add an assistant; `fields` are Vapi's, such as `server` and `serverMessages`."""
        return _added(self.assistants, {"id": assistant_id, "name": name, **fields})

    def add_squad(self, squad_id: str, name: str, *members: str | JsonObject, **fields: Any) -> JsonObject:
        """Add a squad; `fields` are Vapi's, such as `membersOverrides`.

        A member is the id of an assistant, or what Vapi holds of it: an `assistant` that is written into the squad,
        or an `assistantId` with `assistantOverrides`.
        """
        written = [{"assistantId": member} if isinstance(member, str) else member for member in members]
        return _added(self.squads, {"id": squad_id, "name": name, "members": written, **fields})

    def add_phone_number(self, number_id: str, name: str, **fields: Any) -> JsonObject:
        """Add a phone number; `fields` are Vapi's, such as `server`, `assistantId` and `squadId`."""
        return _added(self.phone_numbers, {"id": number_id, "name": name, "provider": "twilio", **fields})


def setup_routes(setup: VapiSetup, authorize: Callable[[Request], None]) -> list[Route]:
    """`GET /assistant`, `GET /squad` and `GET /phone-number`, with `limit` and bounds on `createdAt`."""

    def listing(things: list[JsonObject]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            authorize(request)
            limit = int(request.query_params.get("limit", DEFAULT_LIMIT))
            shown = [
                thing
                for thing in reversed(things)
                if all(
                    compare(thing["createdAt"], request.query_params[name])
                    for name, compare in _BOUNDS.items()
                    if name in request.query_params
                )
            ]
            return Response(encode_json(shown[:limit]), media_type="application/json")

        return answer

    return [
        Route("/assistant", listing(setup.assistants)),
        Route("/squad", listing(setup.squads)),
        Route("/phone-number", listing(setup.phone_numbers)),
    ]


def _added(things: list[JsonObject], thing: JsonObject) -> JsonObject:
    made_at = iso(_FIRST_MS + len(things) * 1000)
    shown = {"createdAt": made_at, "updatedAt": made_at, **thing}
    things.append(shown)
    return shown
