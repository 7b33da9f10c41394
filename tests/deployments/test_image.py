"""The image: what it says, and its build steps carried out by an unprivileged user on this machine."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from zipfile import ZipFile

import pytest
from packaging.utils import canonicalize_name

from calltally.stack.postgres import EmbeddedPostgres
from calltally.stack.prefect_server import client_environment
from calltally.stack.service_account import ServiceAccount

from .dockerfile import copy_context, read_stages, run_steps
from .places import DEPLOYMENTS, ROOT, unknown_settings, verbs

BUILD, IMAGE = read_stages(DEPLOYMENTS / "Dockerfile")
OF_THE_SYSTEM = {"PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def image(word: str) -> str:
    """The arguments of the only instruction of this kind in the final stage."""
    (found,) = [instruction.arguments for instruction in IMAGE if instruction.word == word]
    return found


def environment() -> dict[str, str]:
    """What the image sets."""
    (found,) = [instruction.environment for instruction in IMAGE if instruction.word == "ENV"]
    return found


@pytest.mark.parametrize("name", ["requirements.lock", "build-requirements.lock"])
def test_locks_of_the_image_are_part_of_the_projects_lock(name: str) -> None:
    """What the tests ran with is what is shipped, each file with its hash, from no named place."""
    ours, known = (DEPLOYMENTS / name).read_text(), (ROOT / "requirements.lock").read_text()
    pins = PIN.findall(ours)

    assert pins
    assert set(pins) <= set(PIN.findall(known)), "run `make lock`"
    assert not re.search(r"^[a-z].*[^\\]$", ours, re.MULTILINE), "each of them goes on with its hashes"
    assert "://" not in ours
    assert "--index" not in ours
    assert {"pytest", "ruff", "mypy", "jupyterlab"}.isdisjoint(package for package, _ in pins)


def test_image_is_unprivileged_and_sets_what_every_process_needs() -> None:
    """A fixed user who is not root, only settings that exist, and the same ones as `calltally up` gives."""
    shared = client_environment("", Path("/var/lib/calltally"))
    ours = environment()

    assert image("USER") == "10001:10001"
    assert unknown_settings(set(ours) - OF_THE_SYSTEM) == set()
    assert {name: ours.get(name) for name in shared.keys() - {"PREFECT_API_URL", "PREFECT_HOME"}} == {
        name: content for name, content in shared.items() if name not in {"PREFECT_API_URL", "PREFECT_HOME"}
    }
    assert image("VOLUME") == ours["CALLTALLY_HOME"]
    assert image("ENTRYPOINT") == '["calltally"]'
    assert image("CMD").strip('[]"') in verbs()
    assert '"calltally", "healthy", "receiver"' in image("HEALTHCHECK")


def test_base_is_pinned_to_the_python_of_the_tests() -> None:
    """Both stages stand on the same one."""
    bases = {stage[0].arguments.removesuffix(" AS build") for stage in (BUILD, IMAGE)}

    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.1[123]-slim-\w+", bases.pop())


def test_wheel_and_image_carry_the_license(tmp_path: Path) -> None:
    """The text of Apache-2.0 unchanged, in the repository, in what is built of it, and so in the image."""
    text = (ROOT / "LICENSE").read_text()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as packed:
        (name,) = [one for one in packed.namelist() if one.endswith(".dist-info/licenses/LICENSE")]
        carried = packed.read(name).decode()
        metadata = packed.read(name.replace("licenses/LICENSE", "METADATA")).decode()

    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert carried == text
    assert "License-Expression: Apache-2.0" in metadata
    copy_context(ROOT, tmp_path / "context")
    assert (tmp_path / "context" / "LICENSE").read_text() == text


@pytest.mark.slow
def test_bill_of_materials_names_all_that_the_image_installs(tmp_path: Path) -> None:
    """As `make sbom` writes it: valid CycloneDX, each package of the lock at its version, under our license."""
    (recipe,) = re.findall(r"\$\(BIN\)/cyclonedx-py (.+) -o sbom", (ROOT / "Makefile").read_text())
    (options,) = re.findall(r"^SBOM := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    file = tmp_path / "sbom.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", *recipe.replace("$(SBOM)", options).split(), "-o", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    assert components(file) == set(PIN.findall((DEPLOYMENTS / "requirements.lock").read_text()))


def components(file: Path) -> set[tuple[str, str]]:
    """Name and version of each package in a bill of ours, which is valid."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - it takes a second
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    text = file.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    ours = bill["metadata"]["component"]
    assert (ours["name"], ours["licenses"][0]["license"]["id"]) == ("calltally", "Apache-2.0")
    return {(canonicalize_name(one["name"]), one["version"]) for one in bill["components"]}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not one of pytest's, whose parents pip wants to read and an unprivileged user may not."""
    with tempfile.TemporaryDirectory(prefix="ct-image-") as directory:
        yield Path(directory)


class Builder:
    """Executes shell commands as the account that runs PostgreSQL in tests, with the image's folders moved."""

    def __init__(self, folder: Path) -> None:
        self.account = ServiceAccount.for_directory(folder / "postgres")
        self.folder = folder
        self.account.open_way_to(folder / "src")

    def moved(self, text: str) -> str:
        """The text with paths of the image replaced."""
        for path in ("/src", "/opt/calltally", "/var/lib/calltally", "/tmp/prefect"):
            text = text.replace(f"{path}/", f"{self.folder}{path}/").replace(f"{path} ", f"{self.folder}{path} ")
            text = text if not text.endswith(path) else text.removesuffix(path) + f"{self.folder}{path}"
        return text

    def run(self, command: str, folder: Path, variables: Mapping[str, str] = MappingProxyType({})) -> str:
        """The output; AssertionError unless it succeeds."""
        kept = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_", "LANG"))}
        given = {**kept, "HOME": str(self.folder), "PATH": f"{self.tools}:/usr/bin:/bin", **variables}
        words = ["env", "-i", *(f"{name}={content}" for name, content in given.items())]
        result = self.account.run([*words, "sh", "-ec", f"cd {folder} && {command}"], timeout_seconds=600)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def find_python(self) -> Path:
        """The Python of the tests, or the system's of the same version if the account may not reach the former."""
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for place in (Path(sys.base_prefix) / "bin" / name, Path("/usr/bin") / name):
            if self.account.run(["env", str(place), "-c", "import ensurepip"], timeout_seconds=30).returncode == 0:
                return place
        pytest.skip(f"no {name} with ensurepip that an unprivileged user may execute")

    @property
    def tools(self) -> Path:
        """Where `python` is the one that the tests' environment was made from."""
        return self.folder / "tools"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(sys.platform != "linux", reason="the image's packages are for Linux")
def test_build_steps_make_a_program_that_migrates_and_writes_nothing(folder: Path) -> None:
    """The very commands of the Dockerfile, as somebody without rights, give a `calltally` that works read-only."""
    builder = Builder(folder)
    copy_context(ROOT, folder / "src")
    for place in ("opt", "var/lib/calltally", "tmp/prefect", "tools"):
        (folder / place).mkdir(parents=True)
    (builder.tools / "python").symlink_to(builder.find_python())
    for path in (folder, *folder.rglob("*")):
        builder.account.give(path)

    run_steps(BUILD, lambda command: builder.run(builder.moved(command), folder / "src"))
    program = folder / "opt/calltally"
    installed = components(program / "sbom.cdx.json") - {("calltally", "0.1.0")}
    assert installed
    assert installed <= set(PIN.findall((DEPLOYMENTS / "requirements.lock").read_text()))
    assert (program / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    before = {path: path.stat().st_mtime_ns for path in program.rglob("*")}
    for path in before:
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)

    postgres = EmbeddedPostgres(folder / "postgres", options={"fsync": "off"})
    postgres.start()
    try:
        postgres.ensure_database("calltally")
        settings = {name: builder.moved(content) for name, content in environment().items() if name != "PATH"}
        settings |= {"DATABASE_URL": postgres.url(), "HOME": settings["HOME"]}
        home = folder / "var/lib/calltally"
        run = f"{program}/bin/calltally"
        assert "migrate" in builder.run(f"{run} --help", home, settings)
        assert "up to date" in builder.run(f"{run} migrate", home, settings)
        assert builder.run(f"{run} books check --json", home, settings).strip() == "[]"
    finally:
        postgres.stop("immediate")
    assert {path: path.stat().st_mtime_ns for path in program.rglob("*")} == before
