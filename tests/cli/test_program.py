"""The program as a whole: help, errors as one line, an empty database, and what it needs to run a night."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from billing.errors import InvalidAmount
from calltally.cli import VERBS, load_verb

from .conftest import Calltally


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb of the program, with those below it, as they are typed."""
    for name in VERBS:
        command = load_verb(name)
        below = getattr(command, "commands", None)
        yield from ((name, each) for each in below) if below else [(name,)]


def program(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`calltally …` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "calltally", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("verb", [*verbs()], ids=" ".join)
def test_verb_explains_itself_and_speaks_json(calltally: Calltally, verb: tuple[str, ...]) -> None:
    """Each verb has help, and an answer for programs."""
    answer = calltally(*verb, "--help")

    assert answer.exit_code == 0
    assert "Usage" in answer.output
    assert "--json" in answer.output


def test_health_of_a_service_is_told_as_json(calltally: Calltally, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same exit code as without."""
    monkeypatch.setenv("PREFECT_WORKER_WEBSERVER_PORT", "9")
    unwell = calltally("healthy", "nights", "--json")

    assert unwell.exit_code == 1
    assert (unwell.json["service"], unwell.json["healthy"]) == ("nights", False)
    assert "http://127.0.0.1:9/health does not answer" in unwell.json["problem"]


@pytest.mark.parametrize(("verb", "told"), [("sandbox", "vapi"), ("receiver", "url")])
def test_process_says_in_one_line_where_it_is(tmp_path: Path, database_url: str, verb: str, told: str) -> None:
    """Before anything else, and alone on the standard output."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    options = ["--port", port] if verb == "sandbox" else []
    with subprocess.Popen(
        [sys.executable, "-m", "calltally", verb, *options, "--json"],
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "DATABASE_URL": database_url, "RECEIVER_PORT": port},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        process.terminate()
        rest = process.stdout.read()

    assert line[told].startswith(f"http://127.0.0.1:{port}")
    assert rest == ""


def test_error_is_one_line_that_says_what_to_do(tmp_path: Path, database_url: str) -> None:
    """No traceback, exit code 1, nothing on the standard output."""
    ended = program(tmp_path, "wallet", "show", "Acne", "--json", DATABASE_URL=database_url)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: there is no organization 'Acne'")
    assert "calltally org create" in " ".join(ended.stderr.split())


def test_wrong_usage_exits_with_2(calltally: Calltally) -> None:
    """As every program does."""
    assert calltally("org", "create").exit_code == 2
    assert calltally("events", "show", "abc").exit_code == 2
    assert calltally("wallets").exit_code == 2


@pytest.mark.usefixtures("own_tables")
def test_empty_database_gets_its_schema_from_the_first_command(
    calltally: Calltally, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to know about migrations; applying them again changes nothing."""
    monkeypatch.setenv("DATABASE_URL", empty_url)

    assert calltally("org", "list", "--json").json == []
    assert calltally("migrate").output == "The database is up to date.\n"
    assert calltally("migrate", "--json").json["revision"] >= "0009"


def test_database_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    """The message of the driver, without a traceback."""
    ended = program(tmp_path, "org", "list", DATABASE_URL="postgresql://nobody@127.0.0.1:9/books")

    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_night_without_a_prefect_server_says_how_to_start_one(tmp_path: Path, database_url: str) -> None:
    """The address that was tried, and both ways out."""
    nowhere = "http://127.0.0.1:9/api"
    ended = program(
        tmp_path,
        "reconcile",
        DATABASE_URL=database_url,
        PREFECT_API_URL=nowhere,
        VAPI_API_KEY="key",
        PREFECT_CLIENT_MAX_RETRIES="0",
        PREFECT_HOME=str(tmp_path / "prefect"),
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: no Prefect server answers")
    assert nowhere in ended.stderr
    assert "calltally up" in ended.stderr


def test_wrong_settings_are_one_line_without_their_values(tmp_path: Path, database_url: str) -> None:
    """The name of the setting and what is wrong; a value may be a secret."""
    ended = program(tmp_path, "org", "list", DATABASE_URL=database_url, RECEIVER_PORT="very-secret")

    assert ended.returncode == 1
    assert "the settings are wrong: RECEIVER_PORT: " in ended.stderr
    assert "very-secret" not in ended.stderr


@pytest.mark.usefixtures("own_tables")
def test_database_of_a_newer_version_is_one_line(tmp_path: Path, database_url: str) -> None:
    """Migrating cannot help; another version of the program does."""
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_revision SET version_num = '9999'")
    ended = program(tmp_path, "migrate", DATABASE_URL=database_url)

    assert ended.returncode == 1
    assert "the database is newer than this calltally" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("own_tables")
def test_database_of_an_older_version_is_told_to_migrate(tmp_path: Path, database_url: str) -> None:
    """The message of the driver alone would not say what to do; migrating then answers with the revision."""
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER VIEW wallet_balances RENAME TO elsewhere")
    ended = program(tmp_path, "org", "list", DATABASE_URL=database_url)

    assert ended.returncode == 1
    assert "run calltally migrate" in ended.stderr


def test_choices_that_do_not_exist_are_wrong_usage(calltally: Calltally) -> None:
    """A state that no event can have would look like an empty inbox."""
    assert calltally("events", "list", "--state", "bogus").exit_code == 2
    assert calltally("events", "list", "--provider", "vappi").exit_code == 2
    assert calltally("events", "list", "--limit", 0).exit_code == 2


CREATE = ("org", "create", "--name", "Acme", "--email", "a@acme.example")
UNACCEPTABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "limit of a wallet": (("wallet", "show", "Acme", "--limit", "-1"), "--limit"),
    "limit of messages": (("sms", "list", "--limit", "-1"), "--limit"),
    "hours": (("sms", "failures", "--hours", "99999999999"), "--hours"),
    "no hours": (("sms", "failures", "--hours", "0"), "--hours"),
    "event id": (("events", "show", "99999999999999999999"), "ID"),
    "replayed state": (("events", "replay", "--state", "waiting"), "dead"),
    "minimum": ((*CREATE, "--minimum", "-5"), "--minimum"),
    "free seconds": ((*CREATE, "--free", "-5"), "--free"),
    "name": (("org", "create", "--name", " ", "--email", "a@acme.example"), "needs a name"),
    "email": (("org", "create", "--name", "Acme", "--email", "acme.example"), "no e-mail address"),
    "email with a space": (("org", "create", "--name", "Acme", "--email", "a b@acme.example"), "no e-mail address"),
    "currency": ((*CREATE, "--currency", "usdx"), "ISO code"),
    "currency of messages": (("sms", "price", "0.02", "--currency", "€"), "ISO code"),
}


@pytest.mark.parametrize(("arguments", "said"), UNACCEPTABLE.values(), ids=UNACCEPTABLE.keys())
def test_value_out_of_bounds_is_wrong_usage_that_names_it(
    calltally: Calltally, arguments: tuple[str, ...], said: str
) -> None:
    """Before the database is asked, whose words would be others."""
    answer = calltally(*arguments)

    assert answer.exit_code == 2
    assert said in answer.output


@pytest.mark.parametrize(
    "arguments",
    [
        (*CREATE, "--price-per-minute", "-1"),
        (*CREATE, "--debt-limit", "-0.01"),
        ("sms", "price", "--", "-0.01"),
    ],
    ids=["price", "limit", "price of messages"],
)
def test_negative_price_is_refused_in_plain_words(calltally: Calltally, arguments: tuple[str, ...]) -> None:
    """And no organization is left behind."""
    answer = calltally(*arguments)

    assert isinstance(answer.error, InvalidAmount)
    assert "is negative" in str(answer.error)
    assert calltally("org", "list", "--json").json == []


@pytest.mark.slow
def test_embedded_database_is_announced_before_it_starts(tmp_path: Path) -> None:
    """Starting takes seconds; the standard output stays JSON."""
    ended = program(tmp_path, "org", "list", "--json", DATABASE_URL="", CALLTALLY_HOME=str(tmp_path / "home"))

    assert ended.stderr.startswith("Starting the embedded database")
    assert (ended.stdout, ended.returncode) == ("[]\n", 0)


def test_help_flows_with_the_width_of_the_terminal() -> None:
    """Its paragraphs are one line each, which whoever shows them wraps: no line ends where a docstring's did."""
    commands = [load_verb(name) for name in VERBS]
    below = [each for command in commands for each in getattr(command, "commands", {}).values()]

    assert [each.name for each in (*commands, *below) if "\n" in each.help.replace("\n\n", "")] == []
