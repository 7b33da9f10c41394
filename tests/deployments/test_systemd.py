"""The units for a single server: they parse, run known verbs, and are hardened alike."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from calltally.stack.prefect_server import client_environment

from .places import DEPLOYMENTS, read_env_file, unknown_settings, verbs

FOLDER = DEPLOYMENTS / "systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/calltally/bin/calltally"


def read_unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Sections, and for each key all its values; ValueError for a line that is none."""
    unit: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            unit[section] = {}
        elif line and not line.startswith("#"):
            key, equals, content = line.partition("=")
            if not equals or not section:
                raise ValueError(f"{path.name}: {line}")
            unit[section].setdefault(key, []).append(content)
    return unit


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: str(path.stem))
def test_service_runs_a_known_verb_as_nobody_special(path: Path) -> None:
    """Its own user, a verb of ours, settings from files, a memory limit and a closed system."""
    service = {key: values[-1] for key, values in read_unit(path)["Service"].items()}
    program, *arguments = service["ExecStart"].split()

    assert program == PROGRAM
    assert len(arguments) == 1
    assert arguments[0] in verbs()
    assert service["User"] == "calltally"
    assert service["MemoryMax"]
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert (service["ProtectSystem"], service["ProtectHome"], service["NoNewPrivileges"]) == ("strict", "yes", "yes")
    assert service["Type"] == "oneshot" or service["Restart"] == "always"


def test_all_services_are_hardened_alike() -> None:
    """What one of them may not do, none may."""
    hardening = [path.read_text().split("little of it seen.\n")[1].split("\n\n")[0].strip() for path in SERVICES]

    assert len(SERVICES) == 5
    assert len(set(hardening)) == 1


def test_target_starts_every_service_and_only_the_migration_has_the_owners_login() -> None:
    """The ones that touch the books wait for the migration."""
    wanted = read_unit(FOLDER / "calltally.target")["Unit"]["Wants"][0].split()
    units = {path.name: read_unit(path) for path in SERVICES}
    long_running = {name for name in units if name != "calltally-migrate.service"}

    assert set(wanted) == long_running
    for name, unit in units.items():
        assert ("/etc/calltally/owner" in unit["Service"]["EnvironmentFile"]) == (name == "calltally-migrate.service")
    for name in long_running - {"calltally-prefect.service"}:
        assert units[name]["Unit"]["Requires"] == ["calltally-migrate.service"]


@pytest.mark.parametrize("name", [path.name for path in FOLDER.glob("*.example")])
def test_settings_are_ones_that_are_read(name: str) -> None:
    """A misspelt one would do nothing, in silence."""
    assert unknown_settings(read_env_file(FOLDER / name)) == set()


def test_services_get_what_calltally_up_gives_its_processes() -> None:
    """Prefect's settings that every process shares."""
    shared = client_environment("http://127.0.0.1:4200/api", Path("/var/lib/calltally"))

    environment = read_env_file(FOLDER / "environment.example")

    assert shared.items() <= environment.items()
    assert ":" in environment["PREFECT_API_AUTH_STRING"]


def test_links_to_runs_lead_to_the_site_of_prefects_pages() -> None:
    """The site of nginx is where alerts and reports lead, it asks for a password, and the pages ask the API there."""
    environment = read_env_file(FOLDER / "environment.example")
    sites = (FOLDER / "nginx.conf").read_text().split("\nserver {")
    (pages,) = (site for site in sites if "server_name prefect.example.com;" in site)

    assert environment["PREFECT_UI_URL"] == "https://prefect.example.com"
    assert environment["PREFECT_SERVER_UI_API_URL"] == f"{environment['PREFECT_UI_URL']}/api"
    assert "proxy_pass http://127.0.0.1:4200;" in pages
    assert "auth_basic_user_file" in pages


def test_command_of_root_runs_calltally_as_the_services_do(tmp_path: Path) -> None:
    """Their program, user, folder and settings; arguments arrive as they were typed, and the exit code comes back."""
    stand_in = tmp_path / "systemd-run"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    stand_in.chmod(0o755)
    typed = ["org", "create", "--name", "Acme  Dental", "--email", ""]
    ended = subprocess.run(
        ["sh", FOLDER / "as-service.sh", *typed],
        env={"PATH": f"{tmp_path}:{os.defpath}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    words = ended.stdout.splitlines()
    options, program = words[: words.index(PROGRAM)], words[words.index(PROGRAM) :]
    service = read_unit(FOLDER / "calltally-worker.service")["Service"]

    assert program == [PROGRAM, *typed]
    assert {option for option in options if "=" in option} == {
        f"--uid={service['User'][0]}",
        f"--working-directory={service['WorkingDirectory'][0]}",
        f"--property=EnvironmentFile={service['EnvironmentFile'][0]}",
    }
    assert ended.returncode == 3


@pytest.mark.skipif(shutil.which("systemd-run") is None, reason="systemd-run is not on the path")
def test_systemd_knows_the_options_of_roots_command() -> None:
    """A misspelt one would be refused on the server alone."""
    told = subprocess.run(["systemd-run", "--help"], capture_output=True, text=True, check=True, timeout=50).stdout
    script = (FOLDER / "as-service.sh").read_text().partition("exec ")[2]

    assert set(re.findall(r"--[a-z-]+", script)) <= set(re.findall(r"--[a-z-]+", told))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on the path")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Its own check, with a program that exists in place of the installed one."""
    for path in [*SERVICES, FOLDER / "calltally.target"]:
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, sys.executable))
    checked = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )

    complaints = [line for line in checked.stderr.splitlines() if "calltally" in line]
    assert (checked.returncode, complaints) == (0, [])
