"""What the documentation holds: fenced blocks, code spans, links and headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [
    ROOT / "README.md",
    TUTORIAL,
    *sorted(ROOT.glob("docs/how-to/*.md")),
    ROOT / "docs" / "runbook.md",
    ROOT / "docs" / "scale.md",
    ROOT / "sql" / "README.md",
    ROOT / "calltally" / "sandbox" / "README.md",
]
"""The pages that tell people what to type."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
HEREDOC = re.compile(r"<<'(\w+)'\n.*?^\1$", re.MULTILINE | re.DOTALL)
SUBSTITUTION = re.compile(r"\$\(([^()]*|[^()]*\([^()]*\)[^()]*)\)")
SEPARATORS = {"&&", "||", "|", ";", "(", ")"}


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is in, what it says, and under which heading."""

    language: str
    text: str
    heading: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of these languages, in order."""
    whole = page.read_text(encoding="utf-8")
    found = [
        Block(
            match["language"],
            "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True)),
            HEADING.findall(FENCE.sub("", whole[: match.start()]))[-1],
        )
        for match in FENCE.finditer(whole)
    ]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands between single backticks in the prose; one that is broken over two lines is one."""
    return SPAN.findall(re.sub(r"(?<=\S)\n *(?=\S)", " ", prose(page)))


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, each as words; those within `$(…)` come first."""
    joined = HEREDOC.sub("", script).replace("\\\n", " ")
    for line in joined.splitlines():
        for inner in SUBSTITUTION.findall(line):
            yield from commands(inner)
        words: list[str] = []
        lexer = shlex.shlex(SUBSTITUTION.sub("$OUTPUT", line), posix=True, punctuation_chars="()|&;<>")
        lexer.whitespace_split = True
        for word in lexer:
            if word in SEPARATORS:
                yield from _simple(words)
                words = []
            else:
                words.append(word)
        yield from _simple(words)


def _simple(words: list[str]) -> Iterator[list[str]]:
    """Without what stands in front, as in `DATABASE_URL=… calltally migrate`."""
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words:
        yield words


def anchors(page: Path) -> set[str]:
    """The fragments that lead to a heading, as GitHub makes them."""
    found = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found
