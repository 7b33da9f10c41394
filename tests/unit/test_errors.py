"""The tree of errors, as drawn and as it is."""

import re
from pathlib import Path

import pytest

from billing import errors
from billing.errors import BY_SQLSTATE, BillingError, PermanentError, TransientError

SQL = Path(__file__).parents[2] / "sql"
DRAWN = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: +(?P<remark>.+))?$", re.MULTILINE)


def drawn_parents() -> dict[str, str | None]:
    """Each class of the docstring's tree with the one above it."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in DRAWN.finditer((errors.__doc__ or "").partition("\n\n")[2]):
        depth = len(line["indent"]) // 3
        path[depth:] = [line["name"]]
        parents[line["name"]] = path[depth - 1] if depth else None
    return parents


def classes_of(base: type[BillingError]) -> dict[str, str | None]:
    """Each class of the module below this one, with its parent."""
    found: dict[str, str | None] = {}
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= {child.__name__: base.__name__} | classes_of(child)
    return found


def test_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """Whoever reads the module's head knows them all."""
    assert drawn_parents() == {"BillingError": None} | classes_of(BillingError)


@pytest.mark.parametrize("name", classes_of(BillingError))
def test_error_says_what_it_means(name: str) -> None:
    """One sentence each."""
    assert (getattr(errors, name).__doc__ or "").strip().endswith(".")


def test_every_error_is_either_permanent_or_transient() -> None:
    """So that one question decides about a retry."""
    assert BillingError.__subclasses__()
    for cls in map(errors.__dict__.__getitem__, classes_of(BillingError)):
        assert issubclass(cls, PermanentError) != issubclass(cls, TransientError)


def test_codes_that_sql_raises_are_those_that_are_known() -> None:
    """Walked from both sides."""
    raised = {code for path in SQL.rglob("*.sql") for code in re.findall(r"'(TY\d{3})'", path.read_text())}

    assert raised == set(BY_SQLSTATE)


def test_codes_in_the_docstring_are_those_of_the_table() -> None:
    """The tree names the code beside its class."""
    named = dict(re.findall(r"(\w+) +(TY\d{3})", errors.__doc__ or ""))

    assert named == {cls.__name__: code for code, cls in BY_SQLSTATE.items()}


def test_facts_are_kept_beside_the_message() -> None:
    """Programs read facts, people the message."""
    error = errors.RateLimited("wait", retry_after_seconds=3)

    assert (str(error), error.facts) == ("wait", {"retry_after_seconds": 3})
