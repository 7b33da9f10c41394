"""What a verb imports: nobody waits for Prefect or pandas to see a balance."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from calltally.cli import VERBS, app, load_verb
from calltally.cli.reference import FILE, reference

HEAVY = {"alembic", "altair", "httpx", "pandas", "prefect", "psutil", "pyarrow", "sqlalchemy", "starlette", "uvicorn"}
SHOW_IMPORTS = """
import sys
from calltally.cli import main
try:
    main()
finally:
    sys.stderr.write("IMPORTED " + " ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("org", "list"),
        ("wallet", "show", "Acme"),
        ("events", "list"),
        ("events", "replay", "--help"),
        ("books", "check"),
        ("sms", "list"),
        ("sms", "failures"),
        ("explain", "0199a3f2"),
        ("route", "add", "Acme", "--assistant", "a-1"),
        ("status",),
    ],
    ids=" ".join,
)
def test_short_verbs_import_nothing_heavy(tmp_path: Path, database_url: str, arguments: tuple[str, ...]) -> None:
    """As a process of its own, up to its last line."""
    ended = subprocess.run(
        [sys.executable, "-c", SHOW_IMPORTS, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "DATABASE_URL": database_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    said, _, imported = ended.stderr.rpartition("IMPORTED ")

    assert "Traceback" not in said
    assert HEAVY & set(imported.split()) == set()
    assert "psycopg" in imported or arguments[-1].startswith("--")


@pytest.mark.parametrize(("verb", "collects"), [("worker", True), ("sandbox", True), ("org", False), ("sms", False)])
def test_only_brief_verbs_do_without_collecting_garbage(verb: str, collects: bool) -> None:
    """What runs for long would grow for ever."""
    gc.disable()
    try:
        CliRunner().invoke(app, [verb, "--help"])
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def test_list_of_verbs_says_what_each_says_itself() -> None:
    """The first line of its help, and no verb of a module is forgotten."""
    registered: set[str] = set()
    for name, verb in VERBS.items():
        assert (load_verb(name).help or "").partition("\n")[0] == verb.help
        module = typer.Typer()
        __import__(f"calltally.cli.{verb.module}", fromlist=["register"]).register(module)
        registered |= set(typer.main.get_group(module).commands)

    assert registered == set(VERBS)


def test_reference_is_current() -> None:
    """`python -m calltally.cli.reference` writes it anew."""
    assert FILE.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize(
    ("words", "offers"),
    [("calltally ev", "events"), ("calltally events re", "replay"), ("calltally events list --st", "--state")],
)
def test_shell_completes_verbs_and_options(tmp_path: Path, words: str, offers: str) -> None:
    """What `--install-completion` sets up: verbs from the list, options from their module."""
    ended = subprocess.run(
        [sys.executable, "-c", "from calltally.cli import app; app(prog_name='calltally')"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "_CALLTALLY_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert ended.stdout.split() == [offers]


def test_program_offers_to_install_completion() -> None:
    """For the shells that typer knows."""
    options = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}

    assert {"--install-completion", "--show-completion", "--version"} <= options
