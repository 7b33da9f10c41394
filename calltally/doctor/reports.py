"""Where the files of each night go: is its driver installed, and does it take a file?"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from billing.errors import PermanentError
from billing.report import report_place
from calltally.doctor.findings import Area, Finding

if TYPE_CHECKING:
    from billing.settings import Settings

AREA = Area("reports")
PROBE = ".calltally-doctor"
"""An empty file that is written to an object store, and removed: nothing else proves that it may be written to."""


def check_reports(settings: "Settings") -> list[Finding]:
    """Look at REPORTS_URL, or at the folder in CALLTALLY_HOME that stands in for it."""
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415 - costs time

    try:
        files, root = report_place(settings)
    except PermanentError as error:
        what, _, fix = str(error).partition(": ")
        return [AREA.problem(what, fix)]
    where = str(files.unstrip_protocol(root))  # without the credentials that REPORTS_URL may hold
    if isinstance(files, LocalFileSystem):
        is_writable, why = _takes_files(Path(root)), "this user may not write there"
    else:
        probe = f"{root.rstrip('/')}/{PROBE}"
        try:
            files.pipe_file(probe, b"")
            files.rm_file(probe)
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            is_writable, why = False, type(error).__name__
        else:
            is_writable, why = True, ""
    if is_writable:
        return [AREA.ok(f"{where} takes files")]
    return [
        AREA.problem(
            f"{where} takes no files ({why}): nights complete, but leave no report",
            "check REPORTS_URL, its credentials and permissions",
        )
    ]


def _takes_files(folder: Path) -> bool:
    """The folder, or, while there is none, the one in which it would be made."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
