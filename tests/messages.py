"""Text messages as the books are told of them."""

import json
from typing import Any
from uuid import UUID

from tests.books import Books, Row

ACCOUNT = "AC" + "0" * 32
SERVICE = "MG" + "0" * 32
SENT_AT = "2026-11-01T12:00:00+00:00"


def told(sid: str, status: str, **facts: Any) -> Row:
    """What a callback says."""
    return {"sid": sid, "status": status, "account_sid": ACCOUNT, **facts}


def looked_up(sid: str, status: str, segments: int = 1, **facts: Any) -> Row:
    """What the Message resource says once a carrier has the message."""
    return told(sid, status, num_segments=segments, sent_at=SENT_AT, polled=True, **facts)


def record(books: Books, *messages: Row) -> dict[str, str]:
    """The outcome of each message, as record_messages answers."""
    answers = books.rows("SELECT * FROM record_messages(CAST(:told AS jsonb))", told=json.dumps(messages))
    return {answer["message_sid"]: answer["outcome"] for answer in answers}


def route(books: Books, organization_id: UUID, kind: str, external_id: str, since: str | None = None) -> Row:
    """What add_route answers."""
    return books.rows(
        "SELECT * FROM add_route(:id, :kind, :external_id, CAST(:since AS timestamptz))",
        id=organization_id,
        kind=kind,
        external_id=external_id,
        since=since,
    )[0]


def price(books: Books, organization_id: UUID | None, per_segment_micros: int, since: str = "-infinity") -> int:
    """Set the price of a segment; its id."""
    price_id: int = books.value(
        "SELECT set_sms_price(:id, :micros, CAST(:since AS timestamptz))",
        id=organization_id,
        micros=per_segment_micros,
        since=since,
    )
    return price_id


def message(books: Books, sid: str) -> Row:
    """The message as it is known."""
    return books.rows("SELECT * FROM sms_messages WHERE sid = :sid", sid=sid)[0]
