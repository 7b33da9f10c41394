"""Text from outside in each of the places where people read it."""

import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.literal import LiteralRecord, in_json, in_markdown, in_slack, in_spreadsheet, visible, visible_throughout
from billing.messages import Block, code, context, fields, header, message, section

UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}


def is_harmless(text: str) -> bool:
    """Whether everything in it can be seen."""
    return not any(unicodedata.category(sign) in UNSEEN for sign in text)


@given(st.text())
def test_everything_is_visible_on_one_line_and_stays_so(text: str) -> None:
    """Done twice, it is done once; what was visible is as it was."""
    assert is_harmless(visible(text))
    assert visible(visible(text)) == visible(text)
    assert is_harmless(visible(text, lines=True).replace("\n", ""))
    if is_harmless(text) and not set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") & set(text):
        assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë's Café, 山田\u3000太郎 🙂 100 %", "Zoë's Café, 山田\u3000太郎 🙂 100 %"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b]0;x\x07\x9b\x7f", r"\x1b]0;x\x07\x9b\x7f"),
        ("\u202ea\u2066b\u200e\u200f\u061c", r"\u202ea\u2066b\u200e\u200f\u061c"),
        ("\u200b\u200d\u2060\ufeff\u00ad\u3164", r"\u200b\u200d\u2060\ufeff\xad\u3164"),
        ("\u2028\u2029\x85\U000e0041\ud800", r"\u2028\u2029\x85\U000e0041\ud800"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    """Escapes that every programmer knows."""
    assert visible(text) == shown


@given(st.text())
def test_json_is_exact_and_ascii(text: str) -> None:
    """And nothing in it is for the terminal."""
    written = in_json({text: [text]})

    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == {text: [text]}


@given(st.text())
def test_slack_gets_neither_links_nor_calls(text: str) -> None:
    """A whole message, in each of its parts: no control sequence of Slack's, and no automatic link or mention."""
    blocks: list[Block] = [
        header(text),
        section(text, text),
        fields({text: text}),
        context(code(text).replace("<", "&lt;")),
    ]
    written = json.dumps(message(text, blocks), ensure_ascii=False)

    assert is_harmless(written)
    assert "<" not in json.dumps([*blocks[1:], message(text, [])["text"]])
    assert written.count('"verbatim": true') == written.count('"mrkdwn"') == 3
    assert '"unfurl_links": false' in written


def test_slack_shows_its_own_signs() -> None:
    """What calls everybody in a channel is text."""
    assert in_slack("<!channel> & <https://evil|x>") == "&lt;!channel&gt; &amp; &lt;https://evil|x&gt;"
    assert code("a`b") == "`a'b`"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](javascript:alert(1))", r"\[a\]\(javascript:alert\(1\)\)"),
        ("a|b`c`\n# d", r"a\|b\`c\`\\n\# d"),
        ("<img src=x onerror=y> &lt;", r"\<img src=x onerror=y\> \&lt;"),
        ("https://evil.example me@x www.evil.example", r"https\://evil.example me\@x www\.evil.example"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("    a", "a"),
        ("call-1 = 0.5 + 1.5: ok", "call-1 = 0.5 + 1.5: ok"),
    ],
)
def test_markdown_has_no_meaning(text: str, shown: str) -> None:
    """No links, pictures, tables, code, HTML, entities or addresses that become links."""
    assert in_markdown(text) == shown


@given(st.text())
def test_spreadsheet_calculates_nothing(text: str) -> None:
    """Whatever is before the sign."""
    cell = in_spreadsheet(text)

    assert is_harmless(cell)
    assert not cell.strip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =1", "\uff1d1", "a;=1"])
def test_formula_gets_an_apostrophe(text: str) -> None:
    """Which spreadsheets take for: this is text."""
    assert "'" in in_spreadsheet(text)


def test_facts_are_visible_throughout() -> None:
    """Texts in lists in facts; numbers and nothing stay."""
    assert visible_throughout({"a": ["b\n", {"c": "\x1b"}], "d": 1, "e": None}) == {
        "a": ["b\\n", {"c": "\\x1b"}],
        "d": 1,
        "e": None,
    }


@given(st.text())
def test_record_of_a_log_is_one_line(text: str) -> None:
    """So that nothing quoted in it looks like another record."""
    record = LiteralRecord("billing.x", logging.WARNING, __file__, 1, "refused reason=%s", (text,), None)

    assert is_harmless(logging.Formatter("%(levelname)s %(message)s").format(record))


def test_traceback_in_a_log_is_set_in() -> None:
    """The message of an error may hold lines that look like records."""
    error = ValueError("x\n2026-01-01 INFO all is well\x1b[2J")
    caught = (ValueError, error, None)
    record = LiteralRecord("billing.x", logging.ERROR, __file__, 1, "failed", (), caught)
    first, *more = logging.Formatter("%(message)s").format(record).split("\n")

    assert first == "failed"
    assert all(line.startswith("    ") for line in more)
    assert any("2026-01-01 INFO all is well\\x1b[2J" in line for line in more)
