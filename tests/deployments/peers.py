"""Programs of others that check our files: Debian has them all, and .ci/run installs them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where the program is missing, unless `REQUIRE_PEERS` is set, as in CI: there it fails."""
    is_missing = shutil.which(program) is None and not os.environ.get("REQUIRE_PEERS")
    return pytest.mark.skipif(is_missing, reason=f"{program} is not on the path; .ci/run says how to install it")


def verdict(*command: str, folder: Path) -> tuple[int, str]:
    """The exit code of such a program, and all that it said."""
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    return answer.returncode, answer.stdout + answer.stderr
