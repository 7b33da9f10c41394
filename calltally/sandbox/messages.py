"""One webhook message, of whichever provider, before it is sent."""

from __future__ import annotations

from dataclasses import dataclass

END_OF_CALL_REPORT = "end-of-call-report"
STATUS_UPDATE = "status-update"


@dataclass(frozen=True, slots=True)
class Message:
    """A body to deliver.

    `subject_id` is the call id at Vapi and the event id at Stripe; `at_ms` is when the provider would
    send it, in milliseconds since 1970. Every delivery of a message has the same bytes.
    """

    subject_id: str
    type: str
    at_ms: int
    body: bytes

    @property
    def is_report(self) -> bool:
        """Whether this message carries what a call cost."""
        return self.type == END_OF_CALL_REPORT
