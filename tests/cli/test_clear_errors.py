"""Whatever is wrong at the start is a sentence that says what to do: no traceback, no secret, no success."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from billing.errors import DatabaseUnavailable
from billing.process import get_engine
from billing.settings import get_settings
from calltally.cli import app
from calltally.cli.complaints import in_words
from calltally.stack.prefect_server import ensure_prefect_database

from .conftest import Calltally
from .test_program import program

NOWHERE = "postgresql://somebody:hush-hush@127.0.0.1:9/books"
ASKS_DATABASE = [
    *(("org", "list"), ("wallet", "show", "Acme"), ("events", "list"), ("events", "show", "1"), ("sms", "list")),
    *(("events", "replay", "--state", "dead"), ("events", "dismiss", "1", "--reason", "x"), ("books", "check")),
    *(("explain", "c"), ("migrate",), ("healthy", "worker"), ("route", "add", "Acme", "--assistant", "a")),
    *(("prefect-server",), ("up",), ("reconcile",), ("backfill",), ("payments", "backfill"), ("sms", "backfill")),
    ("sms", "price", "0.02"),
]

Complaint = Callable[..., str]


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Complaint]:
    """What a command that fails says, with these settings alone."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {
            "RECEIVER_PORT": str(free.getsockname()[1]),
            "PREFECT_SERVER_API_PORT": str(other.getsockname()[1]),
        }

    def complain(*arguments: str, **settings: str) -> str:
        for cached in (get_settings, get_engine):
            cached.cache_clear()
        with monkeypatch.context() as patch:
            for name, port in ports.items():
                patch.setenv(name, port)
            patch.delenv("PREFECT_API_URL", raising=False)
            patch.setenv("VAPI_API_KEY", "key")
            for name, content in settings.items():
                patch.setenv(name, content)
            before = dict(os.environ)
            outcome = CliRunner().invoke(app, arguments)
            os.environ.clear()  # verbs that become Prefect's set what it reads when it is imported
            os.environ.update(before)
        assert outcome.exit_code == 1
        assert isinstance(outcome.exception, Exception)
        words = in_words(outcome.exception)
        assert words is not None, outcome.exception
        return words

    yield complain
    for cached in (get_settings, get_engine):
        cached.cache_clear()


@pytest.mark.parametrize(
    "address",
    [
        *("hello world", "mysql://u:hush-hush@h/db", "postgres", "postgresql:/u:hush-hush@h/db", "sqlite:///books"),
        *(
            "postgresql://u:hush/hush@h/db",
            "postgresql://u:hush-hush@h:port/db",
            "postgresql://u:hush-hush@h:99999/db",
        ),
        *("postgresql://u:hush#hush@h/db", "postgresql://u:hush-hush@h/db\nx", "host=h password=hush-hush"),
        "postgresql://u:hush-hush@[::1/db",
    ],
)
def test_address_of_no_database_is_refused_at_the_start(complaint: Complaint, address: str) -> None:
    """With what one looks like; nothing of it is repeated, as it may hold a password."""
    said = complaint("org", "list", DATABASE_URL=address)

    assert "DATABASE_URL: " in said
    assert "postgresql://USER:PASSWORD@HOST:5432/DATABASE" in said
    assert "hush" not in said


@pytest.mark.parametrize("arguments", ASKS_DATABASE, ids=" ".join)
def test_database_that_is_away_is_told_by_every_verb(complaint: Complaint, arguments: tuple[str, ...]) -> None:
    """With where it was looked for; nobody is told to create one there."""
    said = complaint(*arguments, DATABASE_URL=NOWHERE)

    assert "127.0.0.1" in said
    assert "Start the server" in said
    assert "CREATE DATABASE" not in said
    assert "hush" not in said


@pytest.mark.filterwarnings("error")
def test_up_leaves_nothing_undone_when_the_database_is_away(tmp_path: Path) -> None:
    """No word of Python's about steps that nobody awaited."""
    ended = program(tmp_path, "up", DATABASE_URL=NOWHERE, RECEIVER_PORT="39871", PREFECT_SERVER_API_PORT="39872")

    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: connection failed")
    assert "never awaited" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_database_that_is_not_there_is_to_be_created(database_url: str) -> None:
    """By its name, on a server that answers."""
    missing = database_url.replace("/test_", "/missing_")

    with pytest.raises(DatabaseUnavailable, match=r"(?s)missing_.* does not exist.*Create it"):
        ensure_prefect_database(missing)


@pytest.mark.parametrize("home", ["a-file", "a-file/below"])
def test_home_that_is_no_folder_is_named(complaint: Complaint, tmp_path: Path, home: str) -> None:
    """By the verbs that need the embedded database, and by the stack on another one."""
    (tmp_path / "a-file").touch()

    for said in (
        complaint("org", "list", DATABASE_URL="", CALLTALLY_HOME=home),
        complaint("up", DATABASE_URL=NOWHERE, CALLTALLY_HOME=home),
    ):
        assert said.startswith(f"CALLTALLY_HOME is {home}, and that, or what it would lie in, is no folder")


def test_home_that_may_not_be_written_is_named(
    complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The superuser may write everywhere, so the answer of the system is made."""
    monkeypatch.setattr("calltally.stack.home.os.access", lambda *_: False)
    (tmp_path / "home").mkdir()

    said = complaint("org", "list", DATABASE_URL="", CALLTALLY_HOME="home")

    assert "CALLTALLY_HOME (home) is not writable by this user" in said
    assert "chown" in said


def test_port_that_is_taken_is_named(complaint: Complaint) -> None:
    """By each verb that listens, with what chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = {
            "RECEIVER_PORT": complaint("receiver", DATABASE_URL=NOWHERE, RECEIVER_PORT=port),
            "PREFECT_SERVER_API_PORT": complaint(
                "prefect-server", PREFECT_SERVER_API_PORT=port, DATABASE_URL=NOWHERE
            ),
            "--port": complaint("sandbox", "--port", port),
        }

    for choice, said in told.items():
        assert f"port {port}: it is in use" in said
        assert choice in said


@pytest.mark.parametrize("host", ["203.0.113.9", "nowhere.invalid", "2001:db8::9"])
def test_host_that_is_not_here_is_named(complaint: Complaint, host: str) -> None:
    """With addresses that are."""
    said = complaint("receiver", DATABASE_URL=NOWHERE, RECEIVER_HOST=host)

    assert f"the receiver cannot listen on {host}" in said
    assert "Set RECEIVER_HOST" in said


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *(
            ("PREFECT_API_URL", "nonsense"),
            ("PREFECT_API_URL", "http://h:port/api"),
            ("VAPI_BASE_URL", "api.vapi.ai"),
        ),
        *(("STRIPE_API_BASE", "ftp://x"), ("RUNBOOK_URL", "docs"), ("RECEIVER_HOST", "http://127.0.0.1")),
        *(("RECEIVER_HOST", "127.0.0.1 x"), ("RECEIVER_PORT", "70000"), ("WEBHOOK_READ_TIMEOUT", "soon")),
        *(("OUTSTANDING_LIMIT", "ten"), ("PREFECT_SERVER_API_PORT", "http"), ("PREFECT_SERVER_API_PORT", "0")),
    ],
)
def test_value_that_makes_no_sense_is_named(complaint: Complaint, name: str, written: str) -> None:
    """Before anything is started, without what was written."""
    said = complaint("status", DATABASE_URL=NOWHERE, **{name: written})

    assert name in said
    assert written not in said


def test_ipv6_host_may_stand_in_brackets(monkeypatch: pytest.MonkeyPatch, complaint: Complaint) -> None:
    """As in an address."""
    monkeypatch.setenv("RECEIVER_HOST", "[::1]")
    get_settings.cache_clear()

    assert get_settings().receiver_host == "::1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"OPERATOR_TOKEN=x\nVAPI_API_KEY hush\n", "lines that set nothing (2)"),
        (b"\n\nVAPI_API_KEY\n", "lines that set nothing (3)"),
        (b"VAPI_API_KEY=Zo\xeb\n", "is no text in UTF-8"),
    ],
)
def test_settings_file_that_is_wrong_is_named(
    complaint: Complaint, tmp_path: Path, content: bytes, said: str
) -> None:
    """With the number of the line, and nothing of what stands there."""
    (tmp_path / ".env").write_bytes(content)
    words = complaint("status", DATABASE_URL=NOWHERE)

    assert said in words
    assert "hush" not in words


def test_settings_file_that_may_not_be_read_is_named(
    complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The superuser may read everything, so the answer of the system is made."""
    (tmp_path / ".env").touch()

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)

    assert "the settings' file .env cannot be read: Permission denied" in complaint("status", DATABASE_URL=NOWHERE)


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize("verb", ["migrate", "up"])
def test_newer_database_is_a_sentence(complaint: Complaint, database_url: str, verb: str) -> None:
    """Also where the migration is a step of a start."""
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE schema_revision SET version_num = '9999'")
    said = complaint(verb, DATABASE_URL=database_url, PREFECT_API_URL="http://127.0.0.1:9/api")

    assert said.startswith("the database is newer than this calltally: it is at revision 9999")
    assert "run the version that migrated it, or a newer one" in said


def test_doctor_names_a_misspelt_setting(calltally: Calltally, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was meant."""
    monkeypatch.delenv("VAPI_API_KEY", raising=False)
    monkeypatch.setenv("VAPI_API_KY", "hush")
    answer = calltally("doctor", "--json")

    found = [finding["what"] for finding in answer.json["findings"] if finding["area"] == "settings"]
    assert "VAPI_API_KY is no setting, and VAPI_API_KEY is not set" in found
    assert "hush" not in answer.output
