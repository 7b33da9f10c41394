"""What Slack is told of events of one provider that died of one kind of error; never what they say."""

from collections.abc import Mapping
from typing import Any

from billing.incident_messages import Words
from billing.messages import cut, listing


def dead_event_words(facts: Mapping[str, Any]) -> Words:
    """`facts` as SQL's note_dead_events writes them."""
    provider, error, count = facts["provider"], facts["error"], facts["events"]
    replay = f"calltally events replay --state dead --error {error}"
    first = facts["first_ids"][0] if facts["first_ids"] else "ID"
    return Words(
        headline=f"{count} {provider} {'event' if count == 1 else 'events'} could not be applied: {error}",
        all_clear=f"No {provider} event is dead of {error} any more",
        next_step=(
            f"Look at one: `calltally events show {first}`. Nothing is lost: mend the cause, then "
            f"`{cut(replay, 500)} --dry-run`, and the same without `--dry-run`."
        ),
        paragraphs={"Events": listing(facts["first_ids"], count), "For example": cut(facts["example"], 500)},
    )
