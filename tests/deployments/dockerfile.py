"""Reads a Dockerfile, as far as ours uses the language, and carries out a stage of it without a container."""

import fnmatch
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined."""

    word: str
    arguments: str

    @property
    def environment(self) -> dict[str, str]:
        """Of an ENV."""
        return dict(part.split("=", 1) for part in shlex.split(self.arguments))


def read_stages(path: Path) -> list[list[Instruction]]:
    """The stages, each from its FROM on."""
    stages: list[list[Instruction]] = []
    for instruction in _instructions(path.read_text()):
        if instruction.word == "FROM":
            stages.append([])
        stages[-1].append(instruction)
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\s*\\\n\s*", " ", lines).splitlines():
        if line.strip():
            word, _, arguments = line.strip().partition(" ")
            yield Instruction(word, arguments)


def copy_context(source: Path, target: Path) -> None:
    """What `.dockerignore` leaves of the repository; ours names what may come, then what may not."""
    lines = [line for line in (source / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    wanted = [line[1:] for line in lines if line[0] == "!"]
    unwanted = [line.removeprefix("**/") for line in lines[1:] if line[0] != "!"]

    def ignore(_folder: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in unwanted)}

    for name in wanted:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, place, ignore=ignore)
        else:
            shutil.copy(source / name, place)


def run_steps(stage: list[Instruction], execute: Callable[[str], object]) -> None:
    """Carry out the RUN instructions; the context lies there already, so COPY has nothing to do."""
    for instruction in stage:
        assert instruction.word in {"FROM", "ENV", "WORKDIR", "COPY", "RUN"}, instruction
        if instruction.word == "RUN":
            execute(instruction.arguments)
