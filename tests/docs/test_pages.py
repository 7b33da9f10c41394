"""What the pages tell people to type exists: verbs, options, targets, files, SQL and links."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml  # type: ignore[import-untyped]
from typer.core import TyperGroup

from billing.events import MEANINGS
from calltally.cli import VERBS, load_verb

from .pages import LINK, PAGES, ROOT, anchors, blocks, commands, prose, spans

PLACEHOLDER = re.compile(r"[$…]|^[A-Z]{2,}$")
"""A value that stands for another: `ORG`, `$plan`, `cus_…`."""
MADE_BY_PEOPLE = {"deployments/calltally.env", "deployments/.env"}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
ALL_PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def problem_with(words: list[str], *, whole: bool) -> str | None:
    """What is wrong with a `calltally …` command; unless it is `whole`, arguments may be missing."""
    if words[1:2] and words[1].startswith("-"):
        return None if words[1] in {"--help", "--version", "--install-completion"} else f"no option {words[1]}"
    name, rest = (words[1], words[2:]) if len(words) > 1 else ("", [])
    if name not in VERBS:
        return None if not name or PLACEHOLDER.search(name) else f"no verb {name}"
    command: Any = load_verb(name)
    while isinstance(command, TyperGroup):
        if not rest or PLACEHOLDER.search(rest[0]):
            return "a verb is missing"
        if rest[0] not in command.commands:
            return f"no verb {name} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    try:
        command.make_context(name, list(rest))
    except Exception as error:  # noqa: BLE001 - Typer keeps the classes to itself
        return complaint(error, rest, whole=whole)
    return None


def complaint(error: Exception, words: list[str], *, whole: bool) -> str | None:
    """Why Typer refuses a command; not for a value that only stands for another."""
    kind = type(error).__name__
    if kind == "Exit":
        return None  # --help
    if kind == "MissingParameter" and not whole:
        return None
    if kind == "BadParameter" and any(PLACEHOLDER.search(word) for word in words):
        return None
    return f"{kind}: {error}"


@pages
def test_commands_of_blocks_are_understood(page: Path) -> None:
    """Each `calltally …` in a block has the verbs, options and arguments of the real program."""
    found = [words for block in blocks(page, "sh") for words in commands(block.text)]
    ours = [ours for words in found if (ours := call(words))]

    assert {" ".join(words): told for words in ours if (told := problem_with(words, whole=True))} == {}


def call(words: list[str]) -> list[str]:
    """The `calltally …` of a command: itself, or in a container or a pod; nothing if it is none."""
    if words[0] == "calltally":
        return words
    inner = words[4:] if words[:3] == ["docker", "compose", "exec"] else []
    if words[0] == "kubectl" and "--" in words:
        inner = words[words.index("--") + 1 :]
    return inner if inner[:1] == ["calltally"] else []


@pages
def test_commands_in_sentences_are_understood(page: Path) -> None:
    """Each `calltally …` between backticks has verbs and options of the real program; arguments may be left out."""
    found = [words for span in spans(page) if span.startswith("calltally ") for words in commands(span)]

    assert {" ".join(words): told for words in found if (told := problem_with(words, whole=False))} == {}


@pages
def test_targets_of_make_exist(page: Path) -> None:
    """Each `make x`."""
    found = [
        words
        for text in (*(block.text for block in blocks(page, "sh")), *make_spans(page))
        for words in commands(text)
    ]
    named = {word for words in found if words[0] == "make" for word in words[1:] if "=" not in word}

    assert named - TARGETS == set()


def make_spans(page: Path) -> Iterator[str]:
    """`make x` between backticks."""
    return (span for span in spans(page) if span.startswith("make "))


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    """Files of ours in commands and between backticks; what they copy from, too."""
    assert {name for name in files_named(page) if not any(ROOT.glob(name)) and name not in MADE_BY_PEOPLE} == set()


def files_named(page: Path) -> Iterator[str]:
    """Paths from the root of the repository."""
    for span in spans(page):
        if re.fullmatch(r"[\w.-]+(/[\w.*-]+)+/?", span) and span.partition("/")[0] in FOLDERS:
            yield span.rstrip("/")
    for block in blocks(page, "sh"):
        here = ""
        for words in commands(block.text):
            if words[0] == "cd":
                here = words[1].removeprefix("calltally").strip("/")
            elif words[0] in {"cp", "install"} and "-d" not in words:
                source = next(word for word in words[1:-1] if not word.startswith("-") and not word.isdigit())
                yield str((ROOT / here / source).resolve().relative_to(ROOT))
            else:
                yield from (word for word in words if "/" in word and word.partition("/")[0] in FOLDERS)


def test_sql_is_valid(database_url: str) -> None:
    """Queries are prepared on a migrated database; the syntax of other statements is checked."""
    found = [statement for page in PAGES for statement in statements(page)]

    assert len(found) > 5
    assert {text: told for text in found if (told := sql_problem(text, database_url))} == {}


def statements(page: Path) -> list[str]:
    """What is in blocks of SQL, and between backticks."""
    blocked = re.sub(r"--.*", "", "\n".join(block.text for block in blocks(page, "sql"))).split(";")
    spanned = [span for span in spans(page) if re.match(r"(SELECT|ALTER|CREATE) ", span)]
    return [text.strip().rstrip(";") for text in (*blocked, *spanned) if text.strip()]


def sql_problem(statement: str, database_url: str) -> str | None:
    """What PostgreSQL has against a statement; nothing is executed."""
    checked = (
        f"PREPARE told AS {statement}"
        if statement.startswith("SELECT")
        else f"DO $check$ BEGIN RETURN; {statement}; END $check$"
    )
    with psycopg.connect(database_url) as connection:
        try:
            connection.execute(checked.encode())
        except psycopg.Error as error:
            return str(error)
    return None


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of ours, and to a heading in it."""
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_readme_lists_every_deployment() -> None:
    """Its table and prefect.yaml name the same flows."""
    deployed = {row["name"] for row in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    table = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## What runs in Prefect")[2].partition("\n## ")[0]
    )

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == deployed


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/onboard-an-organization.md"])
def test_page_names_every_event_of_stripes_that_is_needed(page: str) -> None:
    """An endpoint that is set up by it lacks none."""
    told = (ROOT / page).read_text(encoding="utf-8")

    assert [kind for provider, kind in MEANINGS if provider == "stripe" and f"`{kind}`" not in told] == []
