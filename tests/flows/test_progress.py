"""How far a night is can be seen in Prefect and on the terminal, and is no reason for a night to fail."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import ConnectError
from prefect.artifacts import aupdate_progress_artifact
from rich.progress import Progress as Bar
from typer.testing import CliRunner

from billing.night_windows import Span
from calltally.cli import app
from tasks import progress
from tasks.progress import Progress, listeners, progress_shown

from .stage import Stage


@pytest.fixture
def artifact(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What Prefect's artifact is told, as often as something changes; Prefect itself hears of the end."""
    told: list[float] = []

    async def note(artifact_id: UUID, progress: float) -> UUID:
        told.append(progress)
        return artifact_id if progress < 100 else await aupdate_progress_artifact(artifact_id, progress)

    monkeypatch.setattr(progress, "aupdate_progress_artifact", note)
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.005)
    return told


@pytest.mark.slow
def test_terminal_and_artifact_follow_a_night(
    stage: Stage, prefect_api: str, artifact: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`calltally reconcile` moves a bar through all steps, with values between none and all while it lists."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    bar: list[tuple[float, str]] = []
    usual = Bar.update

    def note(self: Bar, task: Any, **changes: Any) -> None:
        bar.append((changes["completed"], changes["description"]))
        usual(self, task, **changes)

    monkeypatch.setattr(Bar, "update", note)
    stage.place_calls(250)
    answer = CliRunner().invoke(app, ["reconcile"])
    shares, words = [share for share, _ in bar], dict.fromkeys(text for _, text in bar)

    assert answer.exit_code == 0, answer.output
    assert shares == sorted(shares)
    assert len({share for share in shares if 0 < share < 0.7}) > 3
    assert [text for text in words if not text.endswith("listed")] == ["comparing", "booking", "publishing", "done"]
    assert "250 calls listed" in words
    assert artifact == sorted(artifact)
    assert len({share for share in artifact if 0 < share < 100}) > 1
    assert artifact[-1] == 100
    assert listeners == []


def test_night_goes_on_without_its_bar(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A Prefect that cannot keep the artifact is noted in the log; the run is told of its progress all the same."""

    async def fail(*_arguments: Any, **_options: Any) -> UUID:
        raise ConnectError("nobody there")

    monkeypatch.setattr(progress, "acreate_progress_artifact", fail)
    told: list[float] = []
    monkeypatch.setattr(progress, "listeners", [lambda share, _words: told.append(share)])
    asyncio.run(_through_a_run())

    assert told == [0.8, 1.0]
    assert "ConnectError" in caplog.text


def test_night_ends_though_its_bar_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that was made and cannot be brought up to date any more, not even at the end."""
    tried: list[float] = []

    async def made(*_arguments: Any, **_options: Any) -> UUID:
        return uuid4()

    async def fail(_artifact_id: UUID, progress: float) -> UUID:
        tried.append(progress)
        raise ConnectError("nobody there")

    monkeypatch.setattr(progress, "acreate_progress_artifact", made)
    monkeypatch.setattr(progress, "aupdate_progress_artifact", fail)
    asyncio.run(_through_a_run())

    assert tried[-1] == 100


async def _through_a_run() -> None:
    async with progress_shown(uuid4()) as shown:
        shown.reached("booking")
        await asyncio.sleep(0)


def test_listing_is_weighed_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time that is to be listed is half of the listing; what is told again is not counted twice."""
    start, half = datetime(2026, 11, 3, tzinfo=UTC), timedelta(hours=9)
    spans = [Span("createdAt", start, start + half), Span("createdAt", start + half, start + 2 * half)]
    told: list[tuple[float, str]] = []
    monkeypatch.setattr(progress, "listeners", [lambda share, words: told.append((share, words))])
    shown = Progress(None)
    shown.expect(spans)
    shown.listed(spans[0], half / 2, 10)
    shown.listed(spans[0], half, 20)
    shown.listed(spans[1], half, 1_500)
    shown.reached("comparing")

    assert [round(share, 3) for share, _ in told] == [0.175, 0.35, 0.7, 0.7]
    assert [words for _, words in told] == ["10 calls listed", "20 calls listed", "1,520 calls listed", "comparing"]
