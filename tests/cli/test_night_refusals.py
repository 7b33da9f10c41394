"""What a reconciliation by hand cannot do is refused before there is a run of it."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from billing.errors import PermanentError
from billing.process import NotConfigured
from billing.settings import get_settings
from calltally.cli import app, night


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Flows that would have been run."""
    flows: list[str] = []
    monkeypatch.setenv("VAPI_API_KEY", "key")
    monkeypatch.setattr(night, "_run", lambda deployment, *_, **__: flows.append(deployment))
    get_settings.cache_clear()
    yield flows
    get_settings.cache_clear()


@pytest.mark.parametrize("verb", ["reconcile", "backfill"])
def test_window_that_ends_before_it_begins_is_refused_at_once(begun: list[str], verb: str) -> None:
    """With both ends, as the flow would say."""
    answer = CliRunner().invoke(app, [verb, "--from", "2026-11-20", "--to", "2026-11-19"])

    assert isinstance(answer.exception, PermanentError)
    assert "the window is empty: 2026-11-20 00:00 is not before 2026-11-19" in str(answer.exception)
    assert begun == []


@pytest.mark.parametrize("verb", ["reconcile", "backfill"])
def test_missing_key_is_told_at_once(begun: list[str], monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """No run is there to fail for it."""
    monkeypatch.delenv("VAPI_API_KEY")
    get_settings.cache_clear()
    answer = CliRunner().invoke(app, [verb])

    assert isinstance(answer.exception, NotConfigured)
    assert begun == []


def test_backfill_from_before_the_provider_s_memory_says_what_it_skips(begun: list[str]) -> None:
    """And does the rest; one that lies before it altogether is refused."""
    answer = CliRunner().invoke(app, ["backfill", "--from", "2020-01-01"])
    in_vain = CliRunner().invoke(app, ["backfill", "--from", "2020-01-01", "--to", "2020-01-02"])

    assert answer.exit_code == 0
    assert answer.stderr.startswith("Skipped: 2020-01-01 00:00 to 20")
    assert "Vapi keeps calls for 14 days" in str(in_vain.exception)
    assert begun == ["backfill_calls"]
