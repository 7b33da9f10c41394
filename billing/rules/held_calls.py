"""No call waits for a person: one that cannot be as it was told is held, and charged to nobody until one decides."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from billing.database import rows
from billing.incident_messages import Words
from billing.messages import cut, listing
from billing.rules.rule import EXAMPLES, Condition, Rule
from billing.settings import Settings

NAME = "held_calls"

HELD = """
SELECT
    held AS reason,
    count(*) AS calls,
    (array_agg(id ORDER BY first_seen_at, id))[1 : CAST(:examples AS integer)] AS first_ids
FROM calls
WHERE held IS NOT NULL
GROUP BY held
ORDER BY calls DESC, held
"""
# What the last night could not even keep is nowhere else: rows that could not be read, calls that the books refused,
# and changes of calls which cannot be.
UNKEPT = """
SELECT count(*) AS findings, coalesce((array_agg(detail ->> 'problem' ORDER BY id))[1], '') AS example
FROM findings
WHERE
    run_id = (
        SELECT id FROM reconciliation_runs
        WHERE
            state = 'completed' AND kind = 'night' AND NOT dry_run AND organization_id IS NULL AND finished_at < :now
        ORDER BY finished_at DESC LIMIT 1
    )
    AND (
        (kind = 'unreadable' AND NOT EXISTS (SELECT FROM calls WHERE calls.id = call_id))
        OR (outcome = 'refused' AND NOT EXISTS (SELECT FROM calls WHERE calls.id = call_id))
        OR (kind = 'drift' AND outcome = 'held' AND detail ? 'problem')
    )
"""


def look(connection: Connection, settings: Settings, now: datetime) -> list[Condition]:
    """One condition over all reasons."""
    found = rows(connection, HELD, examples=EXAMPLES)
    [unkept] = rows(connection, UNKEPT, now=now)
    calls = sum(group["calls"] for group in found)
    facts = {
        "calls": calls,
        "reasons": [{"reason": cut(group["reason"], 200), "calls": group["calls"]} for group in found[:EXAMPLES]],
        "first_ids": [call_id for group in found for call_id in group["first_ids"]][:EXAMPLES],
        "unkept": unkept["findings"],
        "example": cut(unkept["example"], 300),
    }
    measured = f"{calls} calls held, {unkept['findings']} rows of the last night not booked"
    return [Condition(NAME, calls + unkept["findings"] > 0, facts, measured)]


def words(facts: Mapping[str, Any]) -> Words:
    """Of the facts above."""
    calls, unkept = facts["calls"], facts["unkept"]
    troubles = [f"{calls} {'call is' if calls == 1 else 'calls are'} held: not as a call can be"] if calls else []
    troubles += [f"{unkept} of the last night's findings could not be booked"] if unkept else []
    return Words(
        headline="; ".join(troubles),
        all_clear="No call is held any more",
        next_step=(
            "`calltally call held` lists them, with the reason. Look each up at Vapi, then say how long it lasted: "
            "`calltally call release CALL --duration SECONDS` (0: it costs nothing), or whose it is: "
            "`calltally call assign CALL ORG`. Nothing is charged until then, and nothing is lost."
            if calls
            else "See the findings of the last night in its report: look these calls up at Vapi."
        ),
        paragraphs={
            "Why": "\n".join(f"{group['calls']}: {group['reason']}" for group in facts["reasons"]),
            "Calls": listing(facts["first_ids"], calls),
            "Not booked, for example": facts["example"],
        },
    )


RULE = Rule(NAME, look, words)
