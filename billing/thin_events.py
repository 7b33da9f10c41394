"""Stripe's thin events: they say what changed, and the rest has to be fetched (`related_object`). Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from billing.payments import ObjectType, Question
from billing.provider_json import decode

PREFIX: Final = "v1."
"""Of the types of thin events about v1 resources; the rest of the name is the type of the snapshot event."""


class _RelatedObject(msgspec.Struct, frozen=True):
    id: str
    type: ObjectType


class _Notification(msgspec.Struct, frozen=True):
    id: str
    created: datetime
    related_object: _RelatedObject
    snapshot_event: str | None = None


_notification = msgspec.json.Decoder(_Notification)


@dataclass(frozen=True, slots=True)
class ThinEvent:
    """A notification: the object that it is about, and the snapshot event (`evt_…`) that says the same, if told."""

    id: str
    created: datetime
    question: Question
    twin: str | None

    def as_snapshot(self, event_type: str, content: bytes) -> bytes:
        """The snapshot event with the object as it is now."""
        event = {
            "id": self.id,
            "type": event_type,
            "created": int(self.created.timestamp()),
            "data": {"object": msgspec.Raw(content)},
        }
        return msgspec.json.encode(event)


def read_thin_event(body: bytes) -> ThinEvent:
    """What a thin event is about. Its `url` is not used: what is asked for is made of type and id.

    Raises:
        msgspec.DecodeError: not of that form, or about an object that no event of ours is about.
    """
    told = decode(_notification, body)
    question = Question(told.related_object.type, told.related_object.id)
    return ThinEvent(told.id, told.created, question, told.snapshot_event)
