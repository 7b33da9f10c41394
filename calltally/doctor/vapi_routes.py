"""Who pays for which of Vapi's assistants, squads and numbers, as `find_route` in `sql/` decides it.

An assistant's own route goes before that of its squad, and the squad's before that of the number: so an assistant
that works in a squad is told apart from one that works alone, or the advice would move its squad's calls to somebody
else.
"""

from collections import defaultdict
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
    """Calls that nobody would pay for, and those that another one pays for than it looks."""
    squads_of = _squads_by_member(squads)
    by_number = {number.get("assistantId") for number in numbers if ("phone_number", number["id"]) in routed}
    for squad in squads:
        yield from _squad(squad, numbers, routed)
    for thing in assistants:
        payer = routed.get(("assistant", thing["id"]))
        if payer is not None:
            yield from _overruled(thing, payer, squads_of[thing["id"]], routed)
        elif squads_of[thing["id"]]:
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


def _squads_by_member(squads: list[Thing]) -> dict[str, list[Thing]]:
    """The squads of each saved assistant; one that is written into its squad has no id."""
    found: dict[str, list[Thing]] = defaultdict(list)
    for squad in squads:
        for member in squad.get("members") or []:
            if assistant_id := member.get("assistantId"):
                found[assistant_id].append(squad)
    return found


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


def _overruled(assistant: Thing, payer: str, squads: list[Thing], routed: Routed) -> Iterator[Finding]:
    """An assistant's route decides about the calls of its squads too."""
    for squad in squads:
        meant = routed.get(("squad", squad["id"]))
        if meant not in {None, payer}:
            yield AREA.problem(
                f"assistant {name_of(assistant)} has a route of its own, to {payer}, which goes before that of its"
                f" squad {name_of(squad)}, to {meant}",
                f"give the squad a copy of the assistant (Vapi dashboard > Squads): then {meant} pays for its calls",
                id=assistant["id"],
            )


def _alone_as_well(assistant: Thing, numbers: list[Thing], routed: Routed) -> Iterator[Finding]:
    """A member of squads that answers numbers by itself: it is the number that wants a route."""
    for number in numbers:
        if number.get("assistantId") == assistant["id"] and ("phone_number", number["id"]) not in routed:
            yield AREA.warning(
                f"phone number {name_of(number)} leads to assistant {name_of(assistant)}, and has no payer:"
                " such calls wait in quarantine",
                f"calltally route add ORG --phone-number {number['id']} (a route of the assistant would decide about"
                " its squads as well)",
                id=number["id"],
            )
