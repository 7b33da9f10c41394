"""Decoding the providers' JSON, which may hold what strict decoders refuse although JavaScript writes it."""

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON or of another form, or nested so deeply that nobody means it."""

# Every escape, so that a backslash which is escaped itself is never taken for the beginning of one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    r"""What the decoder reads, with U+FFFD for halves of surrogate pairs.

    A text that was cut in the middle of an emoji ends in one (`\ud83d`); in a transcript that is nobody's business
    here, and must not cost the whole message.

    Raises:
        msgspec.ValidationError: JSON of another form.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: no JSON.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        raw = bytes(body)
        mended = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], raw)
        if mended == raw:
            raise
        return decoder.decode(mended)
