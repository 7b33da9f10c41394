"""The files of one night: every compared call, the findings for a spreadsheet, and a page that opens offline.

They lie in a folder per run below the setting `REPORTS_URL`, any address that fsspec knows: a folder, `s3://…`, `gs://…`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from billing.charts import chart_title, reliability_chart, svg
from billing.errors import PermanentError, ProviderUnavailable
from billing.figures import Night
from billing.findings_csv import in_units, write_findings
from billing.literal import visible
from billing.messages import percent
from billing.night_report import (
    REHEARSAL,
    completeness_in_words,
    findings_rows,
    headline,
    interval_in_words,
    kind_rows,
    money_rows,
)
from billing.report_history import DayReliability
from billing.settings import get_settings

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from billing.settings import Settings

CALLS, FINDINGS, PAGE = "calls.parquet", "findings.csv", "report.html"
MAX_FINDINGS = 500
"""On the page; findings.csv has them all."""
ROW_GROUP = 100_000
"""Rows that are converted and written at once, so that a million calls are not held twice."""
DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "oci": "ocifs",
}
"""The package that each kind of address needs."""


def write_report(differences: pd.DataFrame, night: Night, history: Sequence[DayReliability]) -> str:
    """Write the three files of a run, and answer with the address of their folder.

    Each file appears complete or not at all. Doing it again replaces them.

    Raises:
        PermanentError: REPORTS_URL names a place that cannot be used; the message says what to do.
        ProviderUnavailable: the place did not take the files; worth another try.
    """
    files, root = report_place()
    folder = f"{root.rstrip('/')}/{folder_name(night)}"
    with tempfile.TemporaryDirectory(prefix="calltally-report-") as scratch:
        drafts = [Path(scratch) / name for name in (CALLS, FINDINGS, PAGE)]
        write_calls(differences, drafts[0])
        with drafts[1].open("w", encoding="utf-8-sig", newline="") as file:  # the mark tells Excel that it is UTF-8
            write_findings(night, differences, file)
        drafts[2].write_text(report_html(night, history), encoding="utf-8")
        try:
            for draft in drafts:
                _publish(files, draft, f"{folder}/{draft.name}")
        except Exception as error:  # each driver has errors of its own
            raise ProviderUnavailable(
                f"the report could not be written to {_shown(files, folder)}: {error}. Check REPORTS_URL, "
                "its permissions, and that there is room"
            ) from error
    return _shown(files, folder)


def report_place(settings: Settings | None = None) -> tuple[AbstractFileSystem, str]:
    """Where reports are: a file system and a folder on it. Without settings, those of this process count.

    Raises:
        PermanentError: REPORTS_URL names a place that cannot be used; the message says what to do.
    """
    import fsspec  # noqa: PLC0415 - costs time

    settings = settings or get_settings()
    url = settings.reports_url or str(settings.calltally_home.absolute() / "reports")
    scheme = url.partition("://")[0] if "://" in url else "file"
    try:
        files, root = fsspec.url_to_fs(url)
    except ImportError as error:
        package = DRIVERS.get(scheme, f"the fsspec driver for {scheme}")
        raise PermanentError(
            f"REPORTS_URL begins with {scheme}://, and that needs a package which is not installed: "
            f"pip install {package}, or leave REPORTS_URL empty to keep reports in CALLTALLY_HOME"
        ) from error
    except ValueError as error:
        raise PermanentError(
            f"REPORTS_URL begins with {scheme}://, which is no known kind of place: use a folder, s3://, gs:// or "
            "another one of fsspec's, or leave it empty to keep reports in CALLTALLY_HOME"
        ) from error
    return files, str(root)


def folder_name(night: Night) -> str:
    """`2026-11-22T0245Z-1f0c9a3b`: the end of the window, and the beginning of the run's id."""
    return f"{night.window.end:%Y-%m-%dT%H%MZ}-{str(night.run_id)[:8]}"


def write_calls(differences: pd.DataFrame, path: Path) -> None:
    """The whole comparison as Parquet, some rows at a time."""
    import pyarrow as pa  # noqa: PLC0415 - costs time
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = pa.Schema.from_pandas(differences.iloc[:0], preserve_index=False)
    for place, field in enumerate(schema):  # a column without any value does not know that it holds text
        if pa.types.is_dictionary(field.type) and not pa.types.is_large_string(field.type.value_type):
            schema = schema.set(place, field.with_type(pa.dictionary(field.type.index_type, pa.large_string())))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, max(len(differences), 1), ROW_GROUP):
            part = differences.iloc[start : start + ROW_GROUP]
            writer.write_table(pa.Table.from_pandas(part, schema=schema, preserve_index=False))


def report_html(night: Night, history: Sequence[DayReliability]) -> str:
    """The page: one file without scripts, which asks no other server for anything."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - costs time

    threshold = get_settings().reliability_threshold
    environment = Environment(
        loader=PackageLoader("billing"),
        autoescape=True,
        finalize=_shown_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "units": in_units}
    environment.globals["interval"] = interval_in_words
    return environment.get_template("report.html").render(
        night=night,
        headline=headline(night),
        rehearsal=REHEARSAL,
        threshold=threshold,
        is_below=night.reliability.is_below(threshold),
        chart=svg(reliability_chart(history, threshold, night.organization)),
        chart_title=chart_title(history, threshold, night.organization),
        money=[(money.currency, money_rows(money, dry_run=night.dry_run)) for money in night.money],
        kinds=kind_rows(night),
        completeness=completeness_in_words(night),
        findings=findings_rows(night, MAX_FINDINGS),
        more=max(0, len(night.findings) - MAX_FINDINGS),
    )


def _shown_text(content: Any) -> Any:
    """What the template says, with text made visible; what is HTML already, as the chart, stays."""
    return visible(content) if type(content) is str else content


def _publish(files: AbstractFileSystem, draft: Path, target: str) -> None:
    """Move a finished file to its place: by renaming in a folder; an object store shows no half objects anyway."""
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

    if not isinstance(files, LocalFileSystem):
        files.put_file(str(draft), target)
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    shutil.copyfile(draft, unfinished)  # the scratch folder may be on another disk, where renaming is no single step
    os.replace(unfinished, path)  # noqa: PTH105 - says that it replaces


def _shown(files: Any, path: str) -> str:
    """The address of a path, without the credentials that REPORTS_URL may hold."""
    return Path(path).as_uri() if files.protocol == ("file", "local") else str(files.unstrip_protocol(path))
