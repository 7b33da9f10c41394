"""JSON as JavaScript writes it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.provider_json import decode

ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
# Backslashes, halves and whole pairs side by side, where a mistake in reading escapes would show.
TRICKY = st.text(
    st.sampled_from(["\\", "u", "d", "8", "\ud83d", "\ude00", "\U0001f600", '"', "x", "\n"]), max_size=12
)


@given(TRICKY)
def test_text_is_read_with_a_replacement_for_each_half_of_a_pair(text: str) -> None:
    """Whole pairs, backslashes and everything else stay as they are."""
    halves_replaced = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    assert decode(ANY, json.dumps(text).encode()) == halves_replaced


@given(st.text())
def test_text_without_halves_is_read_unchanged(text: str) -> None:
    """In either way of writing it."""
    assert decode(ANY, json.dumps(text).encode()) == text
    assert decode(ANY, json.dumps(text, ensure_ascii=False).encode()) == text


@pytest.mark.parametrize("broken", [b"", b"{", b'"\\ud83d', b'"\\u12"', b'"\\x"', b'{"a": "\\ud83d"'])
def test_what_is_no_json_stays_none(broken: bytes) -> None:
    """Mending touches halves of pairs and nothing else."""
    with pytest.raises(msgspec.DecodeError):
        decode(ANY, broken)


def test_json_of_another_form_is_refused_as_such() -> None:
    """Mending cannot help there."""
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.Decoder(int), b'"\\ud83d"')
