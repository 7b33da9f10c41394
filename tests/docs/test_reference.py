"""The reference pages say what the code says."""

from collections.abc import Callable

import pytest

from billing.alert_messages import WORDS
from billing.settings import Settings
from receiver.openapi import OPENAPI

from .pages import ROOT
from .reference import FOLDER, PAGES, events_table, http_page, settings_page, slack_page, sql_page


@pytest.mark.parametrize(("page", "write"), PAGES.items())
def test_page_is_current(page: str, write: Callable[[], str]) -> None:
    """`python -m tests.docs.reference` writes it anew."""
    assert (FOLDER / page).read_text(encoding="utf-8") == write()


def test_readme_has_the_events_of_the_code() -> None:
    """The same command writes its table; an event more or less in the code is one there."""
    assert events_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_is_left_out() -> None:
    """Every setting, every path, and every function of the contract has its place."""
    settings, http, sql, messages = settings_page(), http_page(), sql_page(), slack_page()

    assert [name for name in Settings.model_fields if f"| `{name.upper()}` |" not in settings] == []
    assert [path for path in OPENAPI["paths"] if f" {path}\n" not in http] == []
    for name in ("create_organization", "credit_wallet", "deduct_call_credits", "check_books", "round_to_micros"):
        assert f"### {name}\n\n`{name}(" in sql
    assert "CREATE" not in sql
    assert [name for name in WORDS if f"## {name}\n" not in messages] == []
