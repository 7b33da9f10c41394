"""What the files of deployments/ may name: our verbs, our settings, Prefect's, and where the files are."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import typer
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from billing.settings import Settings
from calltally.cli import app
from calltally.stack.prefect_server import SERVER_SETTINGS

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"


def verbs() -> set[str]:
    """The first words of the command line."""
    command = typer.main.get_command(app)
    return set(getattr(command, "commands", {}))


def unknown_settings(names: Iterable[str]) -> set[str]:
    """Those that neither calltally, Prefect nor the C library reads: a misspelt one would do nothing, in silence."""
    ours = {name.upper() for name in Settings.model_fields} | {
        "CALLTALLY_ENV_FILE",
        "CALLTALLY_PROCESS",
        "DO_NOT_TRACK",
        "MALLOC_ARENA_MAX",
    }
    return set(names) - ours - _get_valid_setting_names(PrefectSettings) - set(SERVER_SETTINGS)


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines; others are comments."""
    lines = re.finditer(r"^([A-Z][A-Z0-9_]*)=(.*)$", path.read_text(), re.MULTILINE)
    return {line[1]: line[2].strip("'") for line in lines}


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Compose's `${NAME:?}` and `${NAME:-default}`; KeyError for a required one that is absent or empty."""

    def replace(match: "re.Match[str]") -> str:
        name, default = match[1], match[2]
        found = variables.get(name)
        if found:
            return found
        if default is None:
            raise KeyError(name)
        return default

    return re.sub(r"\$\{([A-Z_]+)(?::\?|:-([^}]*))\}", replace, text)
