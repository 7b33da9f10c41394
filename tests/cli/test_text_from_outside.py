"""Whatever stands in a name, an id, a key or a reason is text to every verb: no markup, no terminal's orders."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.books import Books, told_call

from .conftest import Answer, Calltally

ATTACKS = [
    "[/red]",
    "[bold]Acme[/bold] [link=https://evil.example]here[/link]",
    "[",
    "\\[x]",
    "Acme\x1b]0;owned\x07\x1b[2J",
    "\x9b2J\x85\x7f\x00".replace("\x00", ""),
    "Acme\nWRONG  run: curl evil.example",
    "\u202egpj.exe\u2066\u200b\u2028\u2029\ufeff\u00ad",
    "a\tb\rc\x0bd\x0ce",
    ":smile: {x} %s %(x)s",
]
SPACES = re.compile(r"\s+")
outside = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=25).filter(
    lambda text: text.strip() != ""
)
EXAMPLES = settings(
    phases=[Phase.explicit, Phase.generate], max_examples=8, deadline=None, suppress_health_check=list(HealthCheck)
)


def assert_plain(answer: Answer) -> None:
    """Nothing but printable characters, spaces and the lines of ours."""
    assert answer.error is None
    assert orders_in(answer.output) == set()


def orders_in(output: str) -> set[str]:
    """The characters that a terminal obeys, or that change what the others look like."""
    return {sign for sign in output if sign != "\n" and unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


def shown(output: str, text: str) -> bool:
    """Whether the text is there as it was written, with what cannot be seen as escapes; lines may break in it."""
    written = "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"}
        else sign
        for sign in text
    )
    return SPACES.sub("", written) in SPACES.sub("", output)


@EXAMPLES
@given(text=outside)
@example(ATTACKS[0])
@example(ATTACKS[1])
@example(ATTACKS[4])
@example(ATTACKS[6])
@example(ATTACKS[7])
def test_names_keys_and_reasons_are_text(calltally: Calltally, books: Books, text: str) -> None:
    """In lists, wallets and answers, for people and for programs."""
    name = f"{text}{uuid4().hex[:6]}"
    key = f"k:{name}"
    created = calltally("org", "create", "--name", name, "--email", "a@acme.example")
    credited = calltally("wallet", "credit", "--key", key, "--reason", text, "--", name, "25")
    listed, wallet = calltally("org", "list"), calltally("wallet", "show", "--", name)
    unknown = calltally("wallet", "show", "--", f"x{name}")

    for answer in (created, credited, listed, wallet, calltally("org", "list", "--json")):
        assert_plain(answer)
    assert shown(created.output, name)
    assert unknown.error is not None
    assert calltally("wallet", "show", "--json", "--", name).json["movements"][0]["idempotency_key"] == key


@EXAMPLES
@given(text=outside)
@example(ATTACKS[0])
@example(ATTACKS[4])
@example(ATTACKS[5])
@example(ATTACKS[6])
def test_types_delivery_keys_and_reasons_of_events_are_text(calltally: Calltally, books: Books, text: str) -> None:
    """In the list and alone."""
    key = f"{uuid4().hex[:6]}{text}"
    books.value(
        "SELECT accept_events(ARRAY['vapi'], ARRAY[:key], ARRAY[:type], ARRAY[CAST('{}' AS bytea)])",
        key=key,
        type=text,
    )
    event_id = books.value("SELECT max(id) FROM events")
    [claimed] = books.rows("SELECT id, claim_token FROM claim_these_events(:ids, 'w', '1 hour')", ids=[event_id])
    books.rows(
        "SELECT finish_events(:token, ARRAY[CAST(:id AS bigint)], ARRAY['skipped'], ARRAY[:reason])",
        token=claimed["claim_token"],
        id=event_id,
        reason=text,
    )
    listed, alone = calltally("events", "list"), calltally("events", "show", event_id)

    for answer in (listed, alone, calltally("events", "show", event_id, "--json")):
        assert_plain(answer)
    assert shown(alone.output, key)


@EXAMPLES
@given(text=outside)
@example(ATTACKS[1])
@example(ATTACKS[4])
@example(ATTACKS[6])
@example(ATTACKS[7])
def test_story_of_a_call_is_text(calltally: Calltally, books: Books, text: str) -> None:
    """Its id, its assistant, why it ended and who pays."""
    organization_id: UUID = books.organization(name=f"{text}{uuid4().hex[:6]}")
    call_id = f"{uuid4().hex[:6]}{text}"
    books.record({**told_call(call_id, str(organization_id), 60), "ended_reason": text, "assistant_id": text})
    nobodys = f"n{call_id}"
    books.record({**told_call(nobodys, None, 60), "assistant_id": text})
    told, unrouted = calltally("explain", "--", call_id), calltally("explain", "--", nobodys)

    for answer in (told, unrouted, calltally("explain", "--json", "--", call_id), calltally("sms", "list")):
        assert_plain(answer)
    assert shown(told.output, call_id)
    assert shown(unrouted.output, text)


@pytest.mark.parametrize("text", ATTACKS)
def test_error_in_a_night_is_text(calltally: Calltally, books: Books, text: str) -> None:
    """In the screen of everything."""
    books.value(
        "INSERT INTO reconciliation_runs (window_from, window_to, state, finished_at, error)"
        " VALUES ('2026-11-20', '2026-11-21', 'failed', now(), :error) RETURNING 1",
        error=text,
    )
    screen = calltally("status")

    assert_plain(screen)
    assert shown(screen.output, text)


def test_markup_in_a_table_is_shown_as_it_is(calltally: Calltally) -> None:
    """Neither followed nor swallowed."""
    name = "[red]A[/red] [/]"
    calltally("org", "create", "--name", name, "--email", "a@acme.example")

    assert name in calltally("org", "list").output


def test_json_is_exact_and_cannot_order_a_terminal(calltally: Calltally) -> None:
    """DEL is the one control character that JSON writes as it is."""
    name = "a\x7f\x1b[2J\u202e"
    calltally("org", "create", "--name", name, "--email", "a@acme.example")
    answer = calltally("org", "list", "--json")

    assert_plain(answer)
    assert [row["name"] for row in json.loads(answer.output)] == [name]


def test_argument_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes in another encoding than UTF-8, before anything else is asked."""
    ended = subprocess.run(
        [sys.executable, "-m", "calltally", "wallet", "show", b"Zo\xeb"],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr == b"Error: the argument Zo\\udceb is not UTF-8: type it again, as text\n"
