"""Messages in the books: each function is one transaction, or a part of one of the caller's."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine

from billing.database import rows, transaction, value
from billing.twilio import ToldMessage


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A message that Twilio has to be asked about."""

    sid: str
    account_sid: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What Twilio answered about some messages; the latter two by their sids."""

    told: Sequence[ToldMessage]
    gone: Sequence[str] = ()
    unreadable: Sequence[str] = ()


def record_messages(connection: Connection, told: Sequence[ToldMessage]) -> dict[str, str]:
    """Store what was told and charge what can be charged; the outcome per message, as the SQL function names it."""
    if not told:
        return {}
    answers = rows(
        connection,
        "SELECT message_sid, outcome FROM record_messages(CAST(:told AS jsonb))",
        told=json.dumps([_facts(message) for message in told]),
    )
    return {answer["message_sid"]: answer["outcome"] for answer in answers}


def settle(engine: Engine, answers: Answers) -> dict[str, str]:
    """Record what Twilio answered; the outcome of each message that it told of."""
    with transaction(engine) as connection:
        outcomes = record_messages(connection, answers.told)
        for sids, gone in ((answers.gone, True), (answers.unreadable, False)):
            if sids:
                value(connection, "SELECT note_messages_asked(:sids, :gone)", sids=list(sids), gone=gone)
    return outcomes


def messages_to_poll(engine: Engine, stale: timedelta, limit: int) -> list[Unsettled]:
    """The messages to ask Twilio about, longest unasked first; `stale` is how long one may take to come to an end."""
    with transaction(engine) as connection:
        due = rows(connection, "SELECT * FROM messages_to_poll(:stale, :limit)", stale=stale, limit=limit)
    return [Unsettled(**row) for row in due]


def _facts(message: ToldMessage) -> dict[str, object]:
    return {**asdict(message), "sent_at": message.sent_at and message.sent_at.isoformat()}
