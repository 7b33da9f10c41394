"""Who pays for which of Vapi's assistants, squads and numbers, as `find_route` in `sql/` decides it.

A squad's calls name no assistant, so the squad's own route pays for them, else that of the number, whatever routes
its members have: an assistant that works in squads alone needs none.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from calltally.doctor.findings import Area, Finding

AREA = Area("vapi")

Thing = dict[str, Any]
Routed = Mapping[tuple[str, str], str]
"""The organization that pays, by kind and id of what is routed."""


def check_routes(
    assistants: list[Thing], squads: list[Thing], numbers: list[Thing], routed: Routed
) -> Iterator[Finding]:
    """Calls that nobody would pay for."""
    members = _members(squads)
    by_number = {number.get("assistantId") for number in numbers if ("phone_number", number["id"]) in routed}
    for squad in squads:
        yield from _squad(squad, numbers, routed)
    for thing in assistants:
        if ("assistant", thing["id"]) in routed:
            continue
        if thing["id"] in members:
            yield from _alone_as_well(thing, numbers, routed)
        elif thing["id"] not in by_number:
            yield AREA.warning(
                f"assistant {name_of(thing)} has no payer: its calls wait in quarantine",
                f"calltally route add ORG --assistant {thing['id']}",
                id=thing["id"],
            )


def name_of(thing: Thing) -> str:
    """For people."""
    return f"{thing.get('name') or 'without a name'} ({thing['id']})"


def _members(squads: list[Thing]) -> set[str]:
    """The saved assistants that work in squads; one that is written into its squad has no id."""
    return {
        member["assistantId"]
        for squad in squads
        for member in squad.get("members") or []
        if member.get("assistantId")
    }


def _squad(squad: Thing, numbers: list[Thing], routed: Routed) -> Iterator[Finding]:
    """Its own route, or one of each number that leads to it, pays for its calls."""
    leading = [number for number in numbers if number.get("squadId") == squad["id"]]
    by_numbers = leading and all(("phone_number", number["id"]) in routed for number in leading)
    if ("squad", squad["id"]) not in routed and not by_numbers:
        yield AREA.warning(
            f"squad {name_of(squad)} has no payer: its calls wait in quarantine",
            f"calltally route add ORG --squad {squad['id']}",
            id=squad["id"],
        )


def _alone_as_well(assistant: Thing, numbers: list[Thing], routed: Routed) -> Iterator[Finding]:
    """A member of squads that answers numbers by itself: these calls want a route."""
    for number in numbers:
        if number.get("assistantId") == assistant["id"] and ("phone_number", number["id"]) not in routed:
            yield AREA.warning(
                f"phone number {name_of(number)} leads to assistant {name_of(assistant)}, and has no payer:"
                " such calls wait in quarantine",
                f"calltally route add ORG --phone-number {number['id']}",
                id=number["id"],
            )
