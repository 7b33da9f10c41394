"""Whoever is woken by a message finds out what to do."""

import re
from pathlib import Path

import pytest

from billing.alert_messages import WORDS

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PROMETHEUS = set(re.findall(r"\bkey: (\w+)}", (ROOT / "deployments" / "prometheus" / "alerts.yaml").read_text()))
SECTIONS: dict[str, str] = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


def test_runbook_has_a_section_for_every_alert_and_no_other() -> None:
    """By the name that messages link, those of Prometheus among them."""
    assert set(SECTIONS) == set(WORDS) | PROMETHEUS


@pytest.mark.parametrize("name", SECTIONS)
def test_section_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    """In that order."""
    assert re.findall(r"^\*\*(.+?):\*\*", SECTIONS[name], re.MULTILINE) == ["It means", "Look here", "Do this"]
