"""The page of field reports names tests and decisions that exist."""

import re

from .pages import ROOT

TEST = re.compile(r"^def (test_\w+)\(", re.MULTILINE)
PAGE = (ROOT / "docs" / "field-reports.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][1:]


def test_every_test_that_is_named_exists() -> None:
    """By its whole name, so that whoever renames one comes by here."""
    written = {
        name for path in ROOT.glob("tests/**/test_*.py") for name in TEST.findall(path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert len(named) > 30
    assert named - written == set()


def test_every_report_has_an_answer_and_something_that_shows_it() -> None:
    """A test or a decision; one without either says that it is not answered yet."""
    assert {len(row) for row in ROWS} == {3}
    assert [
        row[0] for row in ROWS if "test_" not in row[2] and "decisions/" not in row[2] and "yet" not in row[1]
    ] == []


def test_every_report_with_a_body_is_told_of() -> None:
    """By the number that its file begins with."""
    bodies = {
        path.name.partition("-")[0]
        for folder in ("calls", "stripe_reports")
        for path in (ROOT / "tests" / "payloads" / folder).glob("*.json")
    }
    told = {number for row in ROWS for number in re.findall(r"\b\d\d[a-z]?\b", row[0] + row[2].replace("_", " "))}

    assert bodies - told == set()
