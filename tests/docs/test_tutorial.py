"""A new user follows the tutorial: every command, in order, in the terminals that it names."""

import fnmatch
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from calltally.stack.postgres import EmbeddedPostgres
from tests.scenarios.places import free_port

from .pages import ROOT, TUTORIAL, Block, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 120.0
READY = {
    "calltally sandbox": "Ctrl-C stops them",
    "calltally up": "Ctrl-C stops it",
    "make notebook": "/lab?token=",
}
"""Commands that run until Ctrl-C, and what they say once they serve."""
PROLOGUE = """
calltally() { command calltally "$@" || [ "$1" = status ]; }  # it exits with 1 to say that something is wrong
make() { command make --old-file .venv/.ready "$@"; }         # the environment is the one that runs this test
set -e
"""
DONE = "<<done>>"


class Laptop:
    """A folder with a checkout in it, and terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"3001": str(free_port()), "4010": str(free_port()), "4200": str(free_port())}
        for name in (".venv", "Makefile", "notebooks", "pyproject.toml", "requirements.lock"):
            (folder / name).symlink_to(ROOT / name)

    def here(self, text: str) -> str:
        """The same on ports on which nobody listens."""
        return re.sub("|".join(self.ports), lambda match: self.ports[match[0]], text)

    def environment(self, *, is_server: bool) -> dict[str, str]:
        """Without settings of this machine; the ports, and a home for what programs keep about their user."""
        kept = {name: content for name, content in os.environ.items() if name in {"PATH", "LANG", "TZ"}}
        port = self.ports["4200"]
        prefect = (
            {"PREFECT_SERVER_API_PORT": port}
            if is_server
            else {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_HOME": str(self.folder / ".prefect")}
        )
        return {
            **kept,
            **prefect,
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "RECEIVER_PORT": self.ports["3001"],
            "BROWSER": "true",
        }

    def shell(self) -> subprocess.Popen[str]:
        """A terminal at which commands are typed one after another."""
        return subprocess.Popen(
            ["bash"],
            env=self.environment(is_server=False),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def serving(self, script: str, ready: str) -> Iterator[str]:
        """What a server in a terminal of its own prints until it is ready; it is stopped at the end."""
        log = self.folder / f"{len(script)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"{PROLOGUE}{script}"],
                env=self.environment(is_server=True),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while ready not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield log.read_text()
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)
            _, alive = psutil.wait_procs(family, timeout=60)
            assert alive == []

    def wait_for_workers(self) -> None:
        """As long as a person takes to change to another terminal: until both workers are known to Prefect."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        command = ["bash", "-c", ". .venv/bin/activate; calltally doctor"]
        environment = self.environment(is_server=False)
        while (
            subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, check=False).returncode
            != 0
        ):
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def wait_for_inbox(self) -> None:
        """As long as a person takes to read on: until every webhook is applied."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        url = EmbeddedPostgres(self.folder / ".calltally" / "postgres").url("calltally")
        query = "SELECT count(*) FROM events WHERE state IN ('waiting', 'active', 'delayed')"
        with psycopg.connect(url, autocommit=True) as connection:
            while connection.execute(query).fetchone() != (0,):
                assert time.monotonic() < deadline
                time.sleep(0.1)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Everything printed up to the line with this text."""
    assert process.stdout is not None
    said: list[str] = []
    while text not in (said[-1] if said else ""):
        line = process.stdout.readline()
        assert line, "".join(said)
        said.append(line)
    return "".join(said)


def unseen(expected: str, printed: str) -> list[str]:
    """Lines that are promised and were not printed; `…` stands for anything, and spaces do not count."""
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]
    patterns = {
        line: fnmatch.translate(f"*{' '.join(line.split())}*".replace("[", "[[]").replace("…", "*"))
        for line in expected.splitlines()
    }
    return [line for line, pattern in patterns.items() if not any(re.match(pattern, seen) for seen in lines)]


def server_of(block: Block) -> str | None:
    """The command in it that runs until Ctrl-C."""
    return next((command for command in READY if re.search(rf"^{command}\b", block.text, re.MULTILINE)), None)


def table(seconds: Mapping[str, float]) -> str:
    """How long each section took, without a person's reading and typing."""
    rows = [f"{spent:8.1f} s  {heading}" for heading, spent in seconds.items()]
    return "\n".join(["", *rows, f"{sum(seconds.values()):8.1f} s  in all"])


def test_tutorial_works_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Every block runs without an error, and what the page shows is printed; the time of each section is told."""
    seconds: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="ct-") as directory, ExitStack() as servers:
        laptop = Laptop(Path(directory))
        shell = servers.enter_context(laptop.shell())
        assert shell.stdin is not None
        shell.stdin.write(PROLOGUE)
        printed, steps, wrong = "", blocks(TUTORIAL, "sh", "text"), []
        for block in steps:
            text, began = laptop.here(block.text), time.monotonic()
            command = server_of(block)
            if block.language == "text":
                wrong += unseen(text, printed)
            elif "git clone" in text:
                continue  # whoever runs this test has done that
            elif command:
                printed = servers.enter_context(laptop.serving(text, READY[command]))
                if command == "calltally up":
                    laptop.wait_for_workers()
            else:
                shell.stdin.write(f"{{ {text}\n}} 2>&1; echo '{DONE}'\n")
                shell.stdin.flush()
                printed = read_until(shell, DONE)
                if "/control/" in text:
                    laptop.wait_for_inbox()
            seconds[block.heading] += time.monotonic() - began

        with capsys.disabled():
            print(table(seconds))
        assert wrong == []
        assert len(steps) > 20
