"""Writes docs/reference/messages.md: every message to Slack as text, from the builders that Slack gets it from."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from billing.alert_messages import WORDS, write_message
from billing.alerts import Alert, Severity
from billing.figures import Finding, Night, NightMoney, Recovered, Reliability, Window
from billing.night_messages import night_facts
from calltally.sandbox.slack import refusal
from calltally.sandbox.wire import encode_json

BEGAN = datetime(2026, 11, 22, 3, 4, tzinfo=UTC)
ENDED = BEGAN + timedelta(hours=24)
CRITICAL = {"broken_books", "prefect_down", "waiting_events", "worker_paused"}
"""Those whose example is a severe one."""
SINCE = "2026-11-22T03:04:00+00:00"

HEAD = """# Messages to Slack

{by_hand}

What people read, as text: a title, figures side by side, paragraphs and a button. The name of each is its section in
the [runbook](../runbook.md). A message is sent when a condition begins, still while it lasts (the night's after each
bad night, others once a day), and as an all-clear when it is over. Critical ones say so, and go out in quiet hours
too. When Slack takes a message and gives no answer, `calltally status` calls it "possibly sent", and it is not
repeated.
"""

CHANNEL: Mapping[str, Mapping[str, Any]] = {
    "summary": {
        "week": "2026-11-16 to 2026-11-22",
        "calls": 1250,
        "ended": 1180,
        "by_webhook": 1162,
        "recovered": 18,
        "billed": 1180,
        "money": [
            {
                "currency": "USD",
                "charged_micros": 1_652_000_000,
                "outstanding_micros": 12_600_000,
                "topups_micros": 2_000_000_000,
            }
        ],
        "incidents": 1,
        "first": [{"key": "webhook_reliability", "severity": "warning", "times_seen": 2, "open": False}],
    },
    "heartbeat": {"day": "2026-11-23", "incidents": 0, "first": []},
}

FACTS: Mapping[str, Mapping[str, Any]] = {
    "broken_books": {
        "rows": 2,
        "invariants": [{"name": "wallet_balance", "rows": 2}],
        "organizations": ["7290f3f6-b024-4458-bf35-81ece7c99ed8"],
    },
    "prefect_down": {"trouble": "it does not answer in time", "reached": "2026-11-22 02:53 UTC"},
    "worker_paused": {
        "worker": "host:17",
        "trouble": "InstallationBroken, 42883: function record_calls(jsonb) does not exist",
        "since": "2026-11-22 02:53 UTC",
    },
    "waiting_events": {"events": 3, "claimed": 1, "first_ids": [812, 813, 814], "minutes": 17},
    "dead_events": {
        "provider": "vapi",
        "error": "UnreadablePayload",
        "events": 2,
        "first_ids": [901, 907],
        "example": "UnreadablePayload: endedAt is no time",
        "last_died_at": SINCE,
    },
    "parked_events": {
        "provider": "stripe",
        "reason": "unknown_organization",
        "events": 2,
        "first_ids": [731, 745],
        "minutes": 95,
    },
    "applied_events": {"provider": "stripe", "since": SINCE, "applied": 80, "accepted": 100, "first_ids": [41, 42]},
    "billed_calls": {
        "since": SINCE,
        "billed": 80,
        "ended": 100,
        "first_ids": ["call-041", "call-042"],
        "commands": [
            "calltally route add ORG --workflow 018a1445-3b1e-425a-9eae-e9c40b60d323",
            "calltally call assign call-042 ORG",
        ],
    },
    "held_calls": {
        "calls": 2,
        "reasons": [{"reason": "it lasted longer than it could", "calls": 2}],
        "first_ids": ["call-043", "call-044"],
        "unkept": 0,
        "example": "",
    },
    "missing_night": {"due": "2026-11-22", "reached": "2026-11-21 02:45 UTC", "error": "Vapi did not answer (503)"},
    "held_billing": {
        "days": 1,
        "parts": ["2026-11-20 00:00 to 2026-11-21 00:00 UTC"],
        "forgotten_at": "2026-12-04 00:00 UTC",
    },
    "silence": {"provider": "vapi", "last_at": "2026-11-21 23:10 UTC", "minutes": 234, "usual_minutes": 41},
    "wallet_limits": {
        "wallets": 2,
        "past": 1,
        "owing": 1,
        "first": [
            {
                "name": "Acme Dental",
                "currency": "USD",
                "balance_micros": -5_200_000,
                "debt_limit_micros": 5_000_000,
                "outstanding_micros": 2_100_000,
            },
            {
                "name": "Globex",
                "currency": "EUR",
                "balance_micros": -4_600_000,
                "debt_limit_micros": 5_000_000,
                "outstanding_micros": 0,
            },
        ],
    },
    "outstanding_money": {
        "limit_micros": 50_000_000,
        "totals": [{"currency": "USD", "micros": 62_300_000, "organizations": 2}],
        "first": [
            {"name": "Acme Dental", "currency": "USD", "micros": 60_200_000},
            {"name": "Globex", "currency": "USD", "micros": 2_100_000},
        ],
    },
    "beyond_payments": {
        "payments": 1,
        "first": [
            {"payment_id": "pi_Example", "name": "Acme Dental", "currency": "USD", "micros": 1_240_000},
        ],
    },
    "undelivered_webhooks": {"events": 4, "since": "2026-11-22 00:10 UTC"},
    "undelivered_messages": {
        "groups": [{"organization": "Acme Dental", "error_code": 30007, "messages": 9, "ended": 40}],
        "count": 1,
        "failed": 9,
        "unmeasured": 0,
        "first_sids": [],
    },
}
"""An example of what each rule's look finds."""

WELL: Mapping[str, Mapping[str, Any]] = {
    "webhook_reliability": {"by_webhook": 199},
    "applied_events": {"applied": 100, "first_ids": []},
    "billed_calls": {"billed": 100, "first_ids": []},
    "missing_night": {"reached": "2026-11-22 02:45 UTC"},
    "outstanding_money": {"totals": [{"currency": "USD", "micros": 2_100_000, "organizations": 1}]},
}
"""What the look that ends a condition finds otherwise, as far as its all-clear tells."""


def messages_page(by_hand: str) -> str:
    """Each condition with its three messages, then those about nothing that is wrong."""
    facts = {"webhook_reliability": night_facts(_night(), Decimal("0.95")), **FACTS}
    parts = [HEAD.format(by_hand=by_hand)]
    for name in WORDS:
        severity: Severity = "critical" if name in CRITICAL else "warning"
        parts.append(f"## {name}\n")
        parts += [
            f"{title}:\n\n{_as_text(_alert(kind, name, {**facts[name], **changes}, severity))}"
            for kind, title, changes in (
                ("raised", "Begins", {}),
                ("reminder", "Still", {}),
                ("cleared", "All-clear", WELL.get(name, {})),
            )
        ]
    for kind, title in (("summary", "Weekly summary"), ("heartbeat", "Heartbeat")):
        parts.append(f"## {title}\n\n{_as_text(_alert(kind, kind, CHANNEL[kind], 'info'))}")
    return "\n".join(parts)


def _alert(kind: Any, key: str, facts: Mapping[str, Any], severity: Severity) -> Alert:
    return Alert(
        1,
        key,
        kind,
        severity,
        facts,
        incident_id=12,
        since=BEGAN,
        until=ENDED if kind == "cleared" else None,
        times_seen=1 if kind == "raised" else 2,
        told=kind != "raised",
    )


def _as_text(alert: Alert) -> str:
    """A message as somebody reads it, from the blocks that Slack gets."""
    sent = write_message(alert)
    assert refusal(encode_json(sent)) is None
    lines = [line for block in sent["blocks"] for line in _lines(block)]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _lines(block: Mapping[str, Any]) -> list[str]:
    match block:
        case {"type": "header", "text": {"text": text}}:
            return [_plain(text)]
        case {"fields": fields}:
            return [_titled(field["text"]) for field in fields]
        case {"type": "section", "text": {"text": text}}:
            return [_titled(text)]
        case {"type": "actions", "elements": [{"text": {"text": text}, "url": url}]}:
            return [f"[{text}] {url}"]
        case {"type": "context", "elements": [{"text": text}]}:
            return [_plain(text)]
    raise AssertionError(block)


def _titled(text: str) -> str:
    """A bold title and its text on one line, or below it if there are several."""
    title, _, body = _plain(text).partition("\n")
    return f"{title.strip('*')}: {body}" if "\n" not in body else f"{title.strip('*')}:\n{body}"


def _plain(text: str) -> str:
    for escaped, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(escaped, sign)
    return re.sub(r"<[^|>]+\|([^>]+)>", r"\1", text)


def _night() -> Night:
    """A bad night: 12 of 200 calls told nobody, two of which have no route."""
    start = BEGAN.replace(hour=2, minute=45) - timedelta(days=1)
    unrouted = {"assistant_id": "a3d6c1f2-9b44-4e0b-8f52-6c1e7d90ab34"}
    return Night(
        run_id=UUID("1f0c9a3b-0000-4000-8000-000000000000"),
        kind="night",
        window=Window(start, start + timedelta(days=1), start - timedelta(days=3)),
        as_of=BEGAN,
        dry_run=False,
        organization=None,
        counts={"matched": 188, "missing": 12},
        reliability=Reliability(188, 200),
        by_organization=[],
        by_assistant=[],
        money=[NightMoney("USD", 5_600_000, 1_400_000, 1_400_000, 0, 252_000_000)],
        recovered=[Recovered(f"call-{place:03}", None, "settled", 560_000, known=False) for place in range(2, 12)],
        lost_ids=[f"call-{place:03}" for place in range(12)],
        completeness=[],
        organizations={},
        cause="9 of 12 lost calls went through assistant a3d6c1f2",
        run_url="https://prefect.example.com/runs/flow-run/0b5e5a0e-5a4c-4c43-9d39-0a3b1f0f7c11",
        findings=[Finding("unattributed", f"call-{place}", None, None, "unattributed", unrouted) for place in (1, 2)],
    )
