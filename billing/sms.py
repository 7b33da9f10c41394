"""Messages in the books: each function is one transaction, or a part of one of the caller's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine

from billing.database import answers_to, rows, transaction, value
from billing.twilio import ToldMessage


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A message that Twilio has to be asked about."""

    sid: str
    account_sid: str


SUSPICIOUS = 5
"""Messages of a batch, none of which Twilio knows: a few may all be deleted, more point at a wrong address."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What Twilio answered about some messages; all but the first by their sids."""

    told: Sequence[ToldMessage]
    gone: Sequence[str] = ()
    """It has no such message."""
    unreadable: Sequence[str] = ()
    refused: Sequence[str] = ()
    """It does not answer about this message."""

    @property
    def trouble(self) -> str | None:
        """What must be wrong, if not a single message of the batch was told of."""
        if self.told or self.unreadable:
            return None
        if self.refused:
            return (
                f"Twilio refused to tell of any of {len(self.refused) + len(self.gone)} messages: check that "
                "TWILIO_ACCOUNT_SID may read the accounts that sent them, and TWILIO_BASE_URL"
            )
        if len(self.gone) >= SUSPICIOUS:
            return (
                f"Twilio knows none of {len(self.gone)} messages: check TWILIO_BASE_URL (the region in which they "
                "were sent) and TWILIO_ACCOUNT_SID. If they were deleted at Twilio, this ends after a day"
            )
        return None


def record_messages(connection: Connection, told: Sequence[ToldMessage]) -> dict[str, str]:
    """Store what was told and charge what can be charged; the outcome per message, as the SQL function names it."""
    stored = answers_to(connection, "SELECT message_sid, outcome FROM record_messages(CAST(:facts AS jsonb))", told)
    return {answer["message_sid"]: answer["outcome"] for answer in stored}


def settle(engine: Engine, answers: Answers) -> dict[str, str]:
    """Record what Twilio answered; the outcome of each message that it told of."""
    with transaction(engine) as connection:
        outcomes = record_messages(connection, answers.told)
        for sids, gone in ((answers.gone, True), ([*answers.unreadable, *answers.refused], False)):
            if sids:
                value(connection, "SELECT note_messages_asked(:sids, :gone)", sids=list(sids), gone=gone)
    return outcomes


def messages_to_poll(engine: Engine, stale: timedelta, limit: int) -> list[Unsettled]:
    """The messages to ask Twilio about, those with an organization and longest unasked first.

    `stale` is how long one may take to come to an end.
    """
    with transaction(engine) as connection:
        due = rows(connection, "SELECT * FROM messages_to_poll(:stale, :limit)", stale=stale, limit=limit)
    return [Unsettled(**row) for row in due]


def accounts(engine: Engine, own: str) -> list[str]:
    """The Twilio accounts whose messages somebody pays for: our own, and those that have a route."""
    with transaction(engine) as connection:
        routed = rows(
            connection,
            "SELECT DISTINCT external_id FROM routes WHERE kind = 'twilio_account' AND valid @> now() ORDER BY 1",
        )
    return [own, *(row["external_id"] for row in routed if row["external_id"] != own)]


def news(engine: Engine, told: Sequence[ToldMessage]) -> list[ToldMessage]:
    """Those of the messages of which the books do not know all that is told: a list tells most things again.

    One in quarantine is always news: the books keep no sender, so only what is told can say whose it is by now.
    """
    with transaction(engine) as connection:
        known = rows(
            connection,
            "SELECT sid, status, num_segments, provider_price_micros FROM sms_messages"
            " WHERE sid = ANY(:sids) AND organization_id IS NOT NULL AND missing_since IS NULL AND gone_at IS NULL",
            sids=[message.sid for message in told],
        )
    stored = {row["sid"]: (row["status"], row["num_segments"], row["provider_price_micros"]) for row in known}
    return [
        message
        for message in told
        if stored.get(message.sid) != (message.status, message.num_segments, message.provider_price_micros)
    ]
