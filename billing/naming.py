"""How a person says whose calls are that nobody pays for: the same advice wherever one stands."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

NAMED_BY: Final = {
    "assistant_id": "--assistant",
    "squad_id": "--squad",
    "workflow_id": "--workflow",
    "phone_number_id": "--phone-number",
    "metadata": "--metadata",
}
"""What a call is known by, in the order in which routes decide, and the option that routes it."""


def naming_command(call: Mapping[str, Any]) -> str:
    """The command that names who pays for a call (a row of `calls`, or as much of it): a route, also for its like.

    A call that nothing is known of but its `id` is assigned alone. What came from outside is quoted for a shell.
    """
    for column, option in NAMED_BY.items():
        if call.get(column):
            return f"calltally route add ORG {option} {shlex.quote(str(call[column]))}"
    return f"calltally call assign {shlex.quote(str(call['id']))} ORG"
