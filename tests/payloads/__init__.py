"""Bodies as the providers send them, with invented ids, names and numbers."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def names(provider: str) -> list[str]:
    """The names of all bodies of one provider; Stripe's are its event types."""
    return sorted(path.stem for path in (FOLDER / provider).glob("*.json"))


def body(provider: str, name: str) -> bytes:
    """One body, byte for byte."""
    return (FOLDER / provider / f"{name}.json").read_bytes()


def content(provider: str, name: str) -> Any:
    """One body, to be changed and encoded again."""
    return json.loads(body(provider, name))


def encode(changed: Any) -> bytes:
    """A changed body."""
    return json.dumps(changed).encode()
