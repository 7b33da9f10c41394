"""The files of a night: complete or not there, exact, and harmless to whoever opens them."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import fsspec
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from billing import report
from billing.call_frames import KNOWN_COLUMNS, PROVIDER_COLUMNS, ROUTE_COLUMNS, frame
from billing.errors import PermanentError, ProviderUnavailable
from billing.figures import (
    Completeness,
    Finding,
    FindingKind,
    GroupReliability,
    Night,
    NightMoney,
    Reliability,
    Totals,
    Window,
)
from billing.findings_csv import COLUMNS
from billing.literal import in_spreadsheet
from billing.night_report import KINDS, findings_rows, summary_markdown
from billing.reconcile import KINDS as COMPARED
from billing.reconcile import Tolerances, find_differences
from billing.report import CALLS, FINDINGS, MAX_FINDINGS, PAGE, report_html, write_report
from billing.report_history import DayReliability, load_currencies, load_history
from billing.settings import get_settings
from tests.books import Books, told_call

ACME, EVIL = UUID(int=1), UUID(int=2)
END = datetime(2026, 11, 22, 2, 45, tzinfo=UTC)
FORMULA = '=HYPERLINK("http://evil.example","x")'
HISTORY = [DayReliability(date(2026, 11, 21), Reliability(9, 10))]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Sets REPORTS_URL; CALLTALLY_HOME is an empty folder whose name has a space."""
    monkeypatch.setenv("CALLTALLY_HOME", str(tmp_path / "my home"))
    monkeypatch.delenv("REPORTS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()

    def change(url: str) -> None:
        monkeypatch.setenv("REPORTS_URL", url)
        get_settings.cache_clear()

    yield change
    get_settings.cache_clear()


def night(*findings: Finding, **changes: Any) -> Night:
    """A night in which 2 of 10 calls were lost."""
    window = Window(END - timedelta(hours=24), END, END - timedelta(hours=96))
    told = Night(
        run_id=UUID("1f0c9a3b-0000-4000-8000-000000000000"),
        kind="night",
        window=window,
        as_of=END + timedelta(minutes=15),
        dry_run=False,
        organization=None,
        counts={"matched": 8, "missing": 2},
        reliability=Reliability(8, 10),
        by_organization=[GroupReliability("Acme <b>", Reliability(8, 10))],
        by_assistant=[GroupReliability("asst|1", Reliability(8, 10))],
        money=[NightMoney("USD", 1_400_000, 250_000, 700_000, -12_000, 49_504_999)],
        recovered=[],
        lost_ids=["c-1", "c-2"],
        completeness=[Completeness(window.start, END, Totals(10, 90_000), Totals(10, 90_000), "complete")],
        organizations={ACME: "Acme Dental", EVIL: FORMULA},
        cause="2 of 2 lost calls went through assistant <script>",
        run_url="http://127.0.0.1:4200/runs/flow-run/1",
        findings=findings,
        currencies={ACME: "USD", EVIL: "EUR"},
    )
    return replace(told, **changes)


def missing(call_id: str, organization_id: UUID | None = ACME, amount: int | None = 700_000) -> Finding:
    """A recovered call."""
    detail = {"assistant_id": "a-1", "ended_at": "2026-11-21T12:00:05+00:00", "provider_cost_micros": 61_234}
    return Finding("missing", call_id, organization_id, amount, "settled", detail)


def differences(*call_ids: str) -> pd.DataFrame:
    """What a comparison says of calls that nobody told us of, beside one that all agree on."""
    at = END - timedelta(hours=14, minutes=45)
    told = {"status": "ended", "assistant_id": "a-1", "created_at": at, "updated_at": at, "started_at": at}
    told |= {"ended_at": at + timedelta(seconds=5), "duration_ms": 5_000, "cost_micros": 61_234}
    provider = frame([{**told, "call_id": call_id} for call_id in ["agreed", *call_ids]], PROVIDER_COLUMNS)
    known = frame([{**told, "call_id": "agreed", "by_webhook": True, "organization_id": str(ACME)}], KNOWN_COLUMNS)
    route = {"kind": "assistant", "external_id": "a-1", "organization_id": str(ACME)}
    return find_differences(
        provider,
        known,
        frame([route], ROUTE_COLUMNS),
        END,
        kept_since=END - timedelta(days=14),
        tolerances=Tolerances(),
    )


def read_findings(text: str) -> list[dict[str, str]]:
    """The rows as a spreadsheet reads them."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def folder_of(url: str) -> Path:
    """Where a `file://` address leads."""
    return Path(fsspec.core.strip_protocol(url.replace("%20", " ")))


def test_three_files_appear_in_a_folder_named_after_window_and_run(
    place: Callable[[str], None], tmp_path: Path
) -> None:
    """Below CALLTALLY_HOME unless told otherwise; a second time replaces them, and nothing else is left."""
    for _ in range(2):
        url = write_report(differences("c-1"), night(missing("c-1")), HISTORY)
    folder = tmp_path / "my home" / "reports" / "2026-11-22T0245Z-1f0c9a3b"

    assert url == folder.as_uri()
    assert {path.name for path in folder.iterdir()} == {CALLS, FINDINGS, PAGE}


@pytest.mark.parametrize("url", ["memory://reports-{}", "{}/plain folder", "file://{}/deep/er"])
def test_files_go_where_reports_url_says(place: Callable[[str], None], tmp_path: Path, url: str) -> None:
    """Any place that fsspec knows."""
    place(url.format(tmp_path))
    answer = write_report(differences("c-1"), night(missing("c-1")), HISTORY)
    files, root = fsspec.url_to_fs(url.format(tmp_path))
    folder = f"{root}/2026-11-22T0245Z-1f0c9a3b"

    assert sorted(Path(path).name for path in files.ls(folder, detail=False)) == [CALLS, FINDINGS, PAGE]
    assert answer.endswith("/2026-11-22T0245Z-1f0c9a3b")
    assert "://" in answer


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("abfs://key:hush@bucket/path", "pip install adlfs"),
        ("oci://bucket", "pip install ocifs"),
        ("nope://x", "no known kind"),
    ],
)
def test_place_that_cannot_be_used_says_what_to_do(place: Callable[[str], None], url: str, advice: str) -> None:
    """Which package is missing, and never the credentials in the address."""
    place(url)

    with pytest.raises(PermanentError, match=advice) as refused:
        write_report(differences("c-1"), night(missing("c-1")), HISTORY)
    assert "hush" not in str(refused.value)


def test_file_that_cannot_be_written_may_be_tried_again(place: Callable[[str], None], tmp_path: Path) -> None:
    """A full or forbidden place is worth another try, and leaves no half files."""
    (tmp_path / "occupied").write_text("a file where a folder should be")
    place(str(tmp_path / "occupied"))

    with pytest.raises(ProviderUnavailable, match="REPORTS_URL"):
        write_report(differences("c-1"), night(missing("c-1")), HISTORY)


def test_failure_half_way_leaves_no_half_file(
    place: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads a file reads all of it."""
    place(str(tmp_path / "out"))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(ProviderUnavailable, match="disk full"):
        write_report(differences("c-1"), night(missing("c-1")), HISTORY)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_parquet_holds_every_call_with_exact_types(
    place: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written in several groups of rows, it reads back as the same table."""
    monkeypatch.setattr(report, "ROW_GROUP", 2)
    compared = differences(*(f"c-{number}" for number in range(6)))
    report.write_calls(compared, tmp_path / CALLS)

    assert pq.ParquetFile(tmp_path / CALLS).num_row_groups == 4
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / CALLS), compared, check_categorical=False)


def test_parquet_of_no_calls_is_a_table_too(tmp_path: Path) -> None:
    """A day without calls has its columns all the same."""
    empty = differences().iloc[:0]
    report.write_calls(empty, tmp_path / CALLS)

    assert list(pd.read_parquet(tmp_path / CALLS).columns) == list(empty.columns)


def test_findings_say_who_what_when_and_how_much(place: Callable[[str], None]) -> None:
    """Amounts in units and micros, what the call cost us, and what was done."""
    rows = [
        missing("c-1"),
        Finding("drift", "c-2", ACME, -12_345, "corrected", {"duration": [60_000, None]}),
        Finding("unattributed", "c-3", None, None, "unattributed"),
        Finding("unreadable", None, outcome="noted", detail={"problem": "no id"}),
    ]
    url = write_report(differences("c-1", "c-2", "c-3"), night(*rows), HISTORY)
    content = (folder_of(url) / FINDINGS).read_bytes()
    first, second, third, last = read_findings(content.decode("utf-8-sig"))

    assert content.startswith(b"\xef\xbb\xbf")
    assert tuple(first) == COLUMNS
    assert first == {
        "finding": "missing",
        "call_id": "c-1",
        "organization": "Acme Dental",
        "organization_id": str(ACME),
        "ended_at_utc": "2026-11-21 12:00:05",
        "assistant_id": "a-1",
        "done": "charged",
        "currency": "USD",
        "amount": "0.700000",
        "amount_micros": "700000",
        "provider_cost_usd": "0.061234",
        "provider_cost_micros": "61234",
        "detail": "",
    }
    assert (second["amount"], second["amount_micros"]) == ("-0.012345", "-12345")
    assert "60000" in second["detail"]
    assert (third["organization"], third["amount"], third["currency"]) == ("unknown: add a route", "", "")
    assert (last["call_id"], last["detail"]) == ("", "problem: no id")


@pytest.mark.parametrize(
    "text",
    [FORMULA, "+1", "-1+1", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "x;=1", "x,\n=1", "x|@y", "\uff1d1", "\x00=1"],
)
def test_text_never_begins_a_formula(text: str) -> None:
    """Not in the cell, nor in what another separator would make a cell of."""
    assert not re.search("(^|[;,|\t\r\n\x00])\\s*[=+\\-@\uff1d]", in_spreadsheet(text))


def test_harmless_text_stays_as_it_is() -> None:
    """Ids, names with umlauts, dates with hyphens."""
    for text in ("019a-7c", "Zürich Vélos & Söhne", "2026-11-22", "a = b", "Müller; Maier", ""):
        assert in_spreadsheet(text) == text


def test_spreadsheet_gets_no_formula_from_any_text(place: Callable[[str], None]) -> None:
    """Names, ids and problems come from people and providers."""
    rows = [
        replace(missing("=cmd()", EVIL), detail={"problem": "@x"}),
        Finding("unreadable", "+1", outcome="=1", detail={"=a": "=b"}),
    ]
    url = write_report(differences("=cmd()"), night(*rows), HISTORY)
    told = read_findings((folder_of(url) / FINDINGS).read_text("utf-8-sig"))

    assert [cell for row in told for cell in row.values() if cell[:1] in {"=", "+", "@", "-"}] == []
    assert [row["currency"] for row in told] == ["EUR", ""]


def test_page_opens_offline_and_shows_no_foreign_markup(place: Callable[[str], None]) -> None:
    """No script, nothing to load; names are text."""
    html = report.report_html(night(missing("<img src=x>", EVIL)), HISTORY)

    assert set(re.findall(r"<(script|img|link|iframe|object)\b", html)) == set()
    assert re.findall(r'(?:src|href)="([^"]*)"', html) == ["http://127.0.0.1:4200/runs/flow-run/1"]
    assert "@import" not in html
    assert "url(http" not in html
    assert "&lt;img src=x&gt;" in html
    assert "Acme &lt;b&gt;" in html


def test_page_says_what_the_night_found(place: Callable[[str], None]) -> None:
    """Reliability with its interval, money, completeness, cause, chart and how it was reckoned."""
    html = report.report_html(night(missing("c-1")), HISTORY)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))

    for expected in (
        "2 of 10 ended calls did not tell us by webhook",
        "80.00 %",
        "49.01 % to 94.33 %",
        "$1.40",
        "$0.25 outstanding",
        "$49.50",
        "Proven complete",
        "went through assistant &lt;script&gt;",
        "Webhooks fell below 95 % on 1 of 1 day",
        "How it was reckoned",
        "2026-11-21 12:00:05",
    ):
        assert expected in text, expected
    assert "Rehearsal" not in text


def test_page_of_a_rehearsal_says_that_nothing_was_booked(place: Callable[[str], None]) -> None:
    """In words that nobody overlooks."""
    html = report.report_html(night(missing("c-1"), dry_run=True), HISTORY)

    assert "Rehearsal: nothing was booked." in html
    assert "would be charged" in html


def test_page_of_a_night_without_calls_is_complete(place: Callable[[str], None]) -> None:
    """No money, no history, no findings: still a page."""
    empty = night(
        reliability=Reliability(0, 0), money=[], by_organization=[], by_assistant=[], completeness=[], cause=None
    )
    html = report.report_html(empty, [])

    assert "No call ended in this window" in html
    assert "no calls" in html
    assert "None: both lists say the same" in html


def test_page_shows_the_first_findings_and_counts_the_others(place: Callable[[str], None]) -> None:
    """The table of all is beside it."""
    html = report.report_html(night(*(missing(f"c-{n:04}") for n in range(MAX_FINDINGS + 1234))), HISTORY)

    assert html.count("<code>c-") == MAX_FINDINGS
    assert "and 1,234 more in findings.csv" in html


def test_summary_shows_the_chart_and_escapes_what_is_not_ours() -> None:
    """A name with markup in it stays a name, and makes no new cell."""
    text = summary_markdown(night(missing("c-1")), chart="data:image/svg+xml;base64,AAAA")

    assert "![Webhook reliability over 30 days](data:image/svg+xml;base64,AAAA)" in text
    assert "**80.00 %** of 10 ended calls" in text
    assert "asst\\|1" in text
    assert "\\<script\\>" in text
    assert "Rehearsal" not in text
    assert "Rehearsal: nothing was booked." in summary_markdown(night(dry_run=True))


def test_rows_for_prefect_are_limited_and_say_what_was_done() -> None:
    """A call of nobody asks for a route."""
    told = night(missing("c-1"), Finding("unattributed", "c-2", outcome="unattributed"), missing("c-3"))
    rows = findings_rows(told, 2)

    assert [(row["call"], row["organization"], row["amount"], row["what was done"]) for row in rows] == [
        ("c-1", "Acme Dental", "$0.70", "charged"),
        ("c-2", "unknown: add a route", "", "in quarantine: add a route"),
    ]


def test_history_sums_organizations_by_day(books: Books, engine: Engine) -> None:
    """The last 30 days, oldest first; not what ended earlier or tomorrow, nor, of one of them, what is another's."""
    now = datetime.now(UTC)
    ids = {name: books.organization(name) for name in ("a", "b")}
    for name, organization_id in ids.items():
        books.route(organization_id, f"asst-{name}")
    for age in (-2, 0, 0, 1, 29, 30):
        for name in ("a", "b"):
            at = (now - timedelta(days=age)).replace(hour=0, minute=0, second=1)
            told = told_call(f"{name}-{age}-{len(books.rows('SELECT 1 FROM calls'))}", f"asst-{name}", 1, at)
            books.record(told, reconciled=name == "b" and age == 0)
    history, of_b = load_history(engine), load_history(engine, ids["b"])

    assert [((now.date() - day.day).days, day.reliability) for day in history] == [
        (29, Reliability(2, 2)),
        (1, Reliability(2, 2)),
        (0, Reliability(2, 4)),
    ]
    assert [day.reliability for day in of_b] == [Reliability(1, 1), Reliability(1, 1), Reliability(0, 2)]
    assert set(load_currencies(engine).values()) == {"USD"}


def test_calls_that_are_not_charged_yet_are_counted_by_their_reason() -> None:
    """A missing route, a missing price, a refusal and an unproved list ask for different things to be done."""
    outcomes = ["settled", "unattributed", "unattributed", "unpriced", "refused", "held", "noted", None]
    shown = night(*(Finding("missing", str(place), None, None, how) for place, how in enumerate(outcomes)))

    assert shown.unbilled == {"unattributed": 2, "unpriced": 1, "refused": 1, "held": 1, "held_call": 0}


def test_every_kind_of_finding_has_words(place: Callable[[str], None]) -> None:
    """What a comparison counts, and what is wrong with a run itself; the page and the summary say what it means."""
    failed = night(missing("c-1")).with_problem("alert", "could not alert: TimeoutError")
    page, summary = report_html(failed, []), summary_markdown(failed)

    assert set(KINDS) == {*COMPARED, *get_args(FindingKind)}
    assert KINDS["alert"] in page
    assert KINDS["alert"] in summary
    assert "could not alert: TimeoutError" in page
