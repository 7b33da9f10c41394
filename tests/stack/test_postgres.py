"""The embedded PostgreSQL survives what laptops do to it, and processes share one."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from calltally.stack.postgres import EmbeddedPostgres, PostgresError
from calltally.stack.sharing import embedded_postgres

FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "16MB"}

NOBODY = 65534
USER_OF_A_SHARED_SERVER = """
import sys
from pathlib import Path
from calltally.stack.sharing import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), options={"fsync": "off"}) as server:
    print(server.url("postgres"), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: pytest's own are too long for sockets on some systems."""
    with tempfile.TemporaryDirectory(prefix="ct-") as directory:
        yield Path(directory)


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    """A started cluster that forgets about the disk."""
    cluster = EmbeddedPostgres(home / "postgres", options=FAST)
    cluster.start()
    yield cluster
    cluster.stop("immediate")


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement and commit it."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def postmaster(server: EmbeddedPostgres) -> int:
    """The process id of the running server."""
    return int((server.data_directory / "postmaster.pid").read_text().splitlines()[0])


def kill_hard(server: EmbeddedPostgres) -> None:
    """kill -9 for the server and all its processes."""
    process = psutil.Process(postmaster(server))
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=10)


def start_user(home: Path) -> subprocess.Popen[str]:
    """Another process that uses the server in `home` until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", USER_OF_A_SHARED_SERVER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def url_of(user: subprocess.Popen[str]) -> str:
    """The URL that the other process prints once it is connected."""
    assert user.stdout is not None
    return user.stdout.readline().strip()


def leave(user: subprocess.Popen[str]) -> None:
    """Let the other process finish in order."""
    user.communicate("\n", timeout=30)
    assert user.returncode == 0


def test_first_start_makes_a_durable_private_utf8_cluster(home: Path) -> None:
    """Without options, commits reach the disk, nobody else reaches the server, and times are UTC."""
    with embedded_postgres(home) as server:
        server.ensure_database("calltally")
        server.ensure_database("calltally")
        names = ["fsync", "synchronous_commit", "data_checksums", "listen_addresses", "timezone"]
        settings = [execute(server.url(), f"SHOW {name}")[0][0] for name in names]

        assert settings == ["on", "on", "on", "", "UTC"]
        assert execute(server.url(), "SHOW server_encoding") == [("UTF8",)]
        assert server.socket_directory.stat().st_mode & 0o077 == 0
    assert not server.is_running()


def test_restart_keeps_data(server: EmbeddedPostgres) -> None:
    """What was committed before a stop is there after the next start."""
    execute(server.url("postgres"), "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert not server.is_running()
    server.start()

    assert execute(server.url("postgres"), "SELECT answer FROM kept") == [(42,)]


def test_kill_9_of_every_process_keeps_committed_data(home: Path) -> None:
    """A durable cluster replays its log after all its processes were killed, over its stale pid file."""
    server = EmbeddedPostgres(home / "postgres")
    server.start()
    execute(server.url("postgres"), "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    kill_hard(server)
    assert not server.is_running()
    assert (server.data_directory / "postmaster.pid").exists()
    server.start()

    assert execute(server.url("postgres"), "SELECT count(*) FROM kept") == [(1000,)]
    server.stop("immediate")


@pytest.mark.slow
def test_stale_pid_file_naming_a_strangers_process_does_not_block_the_start(
    server: EmbeddedPostgres,
) -> None:
    """A process id that was given to somebody else since the crash is not taken for the server."""
    kill_hard(server)
    pid_file = server.data_directory / "postmaster.pid"
    # The stranger must have the server's own user: PostgreSQL ignores other users' processes by itself.
    owner = pid_file.stat()
    stranger = subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None)
    _, *rest = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{stranger.pid}\n", *rest]))
    try:
        server.start()
        assert server.is_running()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.slow
def test_interrupted_initdb_leaves_no_half_cluster(home: Path) -> None:
    """Killed while the cluster is being made, the next start makes a whole one and clears the rest away."""
    starter = subprocess.Popen([sys.executable, "-c", USER_OF_A_SHARED_SERVER, str(home)])
    while not any(home.glob(".postgres-unfinished-*/base")):
        assert starter.poll() is None
    family = [psutil.Process(starter.pid), *psutil.Process(starter.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            member.send_signal(signal.SIGKILL)
    starter.wait()
    assert not (home / "postgres").exists()

    with embedded_postgres(home, options=FAST) as server:
        assert execute(server.url("postgres"), "SELECT 1") == [(1,)]
    assert not list(home.glob(".postgres-unfinished-*"))


@pytest.mark.slow
def test_two_processes_share_one_server_and_the_last_stops_it(home: Path) -> None:
    """The server outlives the process that started it while another one uses it."""
    first = start_user(home)
    url = url_of(first)
    second = start_user(home)
    assert url_of(second) == url
    started_at = execute(url, "SELECT pg_postmaster_start_time()")
    leave(first)
    assert execute(url, "SELECT pg_postmaster_start_time()") == started_at
    leave(second)

    assert not EmbeddedPostgres(home / "postgres").is_running()


@pytest.mark.slow
def test_server_of_a_killed_process_is_reused_then_stopped(home: Path) -> None:
    """A user killed with -9 leaves its server to the next one, and no claim on it."""
    killed = start_user(home)
    started_at = execute(url_of(killed), "SELECT pg_postmaster_start_time()")
    killed.kill()
    killed.communicate()
    with embedded_postgres(home) as server:
        assert execute(server.url("postgres"), "SELECT pg_postmaster_start_time()") == started_at

    assert not server.is_running()


@pytest.mark.slow
def test_many_processes_at_once_get_the_same_server(home: Path) -> None:
    """Starting together makes one cluster; leaving together stops it once."""
    users = [start_user(home) for _ in range(4)]
    urls = {url_of(user) for user in users}
    for user in users:
        leave(user)

    assert len(urls) == 1
    assert not EmbeddedPostgres(home / "postgres").is_running()


@pytest.mark.slow
def test_long_path_puts_the_socket_elsewhere(home: Path) -> None:
    """A directory whose path is too long for a socket gets a short private one, always the same."""
    deep = home / "a directory with spaces and a + sign" / ("x" * 80)
    with embedded_postgres(deep, options=FAST) as server:
        assert server.socket_directory != server.data_directory
        assert EmbeddedPostgres(deep / "postgres").url() == server.url()
        assert server.socket_directory.stat().st_mode & 0o077 == 0
        assert execute(server.url("postgres"), "SELECT 1") == [(1,)]
    server.socket_directory.rmdir()


def test_directory_with_other_files_is_refused(home: Path) -> None:
    """Files that aren't a database are never overwritten."""
    (home / "postgres").mkdir()
    (home / "postgres" / "thesis.txt").write_text("years of work")

    with pytest.raises(PostgresError, match="move it away"):
        EmbeddedPostgres(home / "postgres").start()


@pytest.mark.slow
def test_failed_start_shows_the_end_of_the_log(home: Path) -> None:
    """The reason that PostgreSQL gave is in the error, not only in a file."""
    server = EmbeddedPostgres(home / "postgres", options={**FAST, "shared_buffers": "nonsense"})

    with pytest.raises(PostgresError, match="invalid value for parameter"):
        server.start()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_home_is_closed_to_others_and_what_was_open_is_mended(home: Path) -> None:
    """Folders 0700, files 0600; the account that root lends to PostgreSQL may pass through the home, and no more."""
    home.chmod(0o755)
    (home / "reports").mkdir(mode=0o755)
    (home / "reports" / "night.html").write_text("bills")
    (home / "link").symlink_to("/etc/hostname")
    before = Path("/etc/hostname").stat().st_mode
    with embedded_postgres(home, options=FAST) as server:
        with embedded_postgres(home, options=FAST):  # beside one that runs
            assert execute(server.url("postgres"), "SELECT 1") == [(1,)]
        found = {path.name: path.lstat() for path in (home, *home.rglob("*")) if not path.is_symlink()}
        account = (home / "postgres").stat()

    open_ones = {name: oct(status.st_mode & 0o777) for name, status in found.items() if status.st_mode & 0o077}
    lent = {home.name: "0o710"} if account.st_uid != os.geteuid() else {}
    assert open_ones == lent
    assert found[home.name].st_gid == (account.st_gid if lent else os.getegid())
    assert Path("/etc/hostname").stat().st_mode == before


def test_ordinary_user_runs_it_as_itself(home: Path) -> None:
    """Without root, the server belongs to who started it."""
    home.chmod(0o777)
    child = os.fork()  # a new interpreter might live where only root may look
    if child == 0:
        exit_code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with embedded_postgres(home, options=FAST) as server:
                exit_code = 0 if execute(server.url("postgres"), "SELECT 1") == [(1,)] else 2
        finally:
            os._exit(exit_code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert (home / "postgres").stat().st_uid == NOBODY
