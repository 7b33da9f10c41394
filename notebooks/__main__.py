"""`make notebook`: JupyterLab on the analysis of the reconciliations, with the books at hand."""

import os
import subprocess
import sys
from pathlib import Path

from billing.settings import ENV_FILE_VARIABLE, get_settings
from calltally.cli.database import database_url

NOTEBOOK = Path(__file__).parent / "reconciliation.ipynb"


def main() -> int:
    """Open JupyterLab until it is closed; the embedded database is started if nobody else has.

    The notebook works in its own folder, so what is relative to this one is passed on as absolute.
    """
    with database_url() as url:
        env = {
            "DATABASE_URL": url,
            "CALLTALLY_HOME": str(get_settings().calltally_home.absolute()),
            ENV_FILE_VARIABLE: os.environ.get(ENV_FILE_VARIABLE, str(Path(".env").absolute())),
        }
        lab = [sys.executable, "-m", "jupyterlab", str(NOTEBOOK), "--ServerApp.ip=127.0.0.1", *sys.argv[1:]]
        if os.geteuid() == 0:
            lab.append("--allow-root")  # it is nobody's but this machine's, and asks for a token
        return subprocess.call(lab, env={**os.environ, **env})


if __name__ == "__main__":
    sys.exit(main())
