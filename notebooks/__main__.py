"""`make notebook`: JupyterLab on the analysis of the reconciliations, with the books at hand."""

import os
import subprocess
import sys
from pathlib import Path

from calltally.cli.database import database_url

NOTEBOOK = Path(__file__).parent / "reconciliation.ipynb"


def main() -> int:
    """Open JupyterLab until it is closed; the embedded database is started if nobody else has."""
    with database_url() as url:
        lab = [sys.executable, "-m", "jupyterlab", str(NOTEBOOK), "--ServerApp.ip=127.0.0.1", *sys.argv[1:]]
        return subprocess.call(lab, env={**os.environ, "DATABASE_URL": url})


if __name__ == "__main__":
    sys.exit(main())
