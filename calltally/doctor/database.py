"""The database: version, schema, roles, durability and clock."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any

import psycopg
from alembic.script import ScriptDirectory

from calltally.doctor.findings import Area, Finding

AREA = Area("database")
OLDEST, NEWEST = 15, 18
ROLES = {"calltally_owner", "calltally_books", "calltally_app", "calltally_tenant", "calltally_analyst"}
SKEW_SECONDS = 2.0
"""More than this and times of ours cannot be compared with those of the database."""
BAD_SKEW_SECONDS = 60.0
"""Signatures are refused beyond 300 s."""
URL_FIX = "check DATABASE_URL (host, port, user, password, database) and that the server runs"


def check_database(url: str) -> list[Finding]:
    """Look at the server and at the schema; nothing is changed."""
    try:
        with psycopg.connect(url, connect_timeout=5, options="-c timezone=UTC") as connection:
            return [*_server(connection), *_schema(connection), *_roles(connection), *_clock(connection)]
    except psycopg.OperationalError as error:
        return [AREA.problem(f"it does not answer: {str(error).strip()}", URL_FIX)]


def routed_ids(url: str) -> dict[tuple[str, str], str] | None:
    """Who pays now, by kind and id of what is routed; None if the database cannot say."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            found = connection.execute(
                "SELECT kind, external_id, name FROM routes JOIN organizations ON organizations.id = organization_id"
                " WHERE upper_inf(valid)"
            ).fetchall()
    except psycopg.Error:
        return None
    return {(kind, external_id): name for kind, external_id, name in found}


def _server(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    major = connection.info.server_version // 10_000
    if major < OLDEST:
        yield AREA.problem(f"PostgreSQL {major} is too old", f"move to PostgreSQL {OLDEST} to {NEWEST}")
    elif major > NEWEST:
        yield AREA.warning(f"PostgreSQL {major} is newer than what calltally is tested with", f"use up to {NEWEST}")
    else:
        yield AREA.ok(f"PostgreSQL {major} answers")
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        if connection.execute("SELECT current_setting(%s)", [name]).fetchone() == ("off",):
            yield AREA.problem(
                f"{name} is off: a crash loses webhooks that were answered 200",
                f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
            )


def _schema(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    with as_file(files("sql") / "migrations") as folder:
        scripts = ScriptDirectory(str(folder))
        head, known = scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
    present = connection.execute("SELECT to_regclass('schema_revision') IS NOT NULL").fetchone()
    row = connection.execute("SELECT version_num FROM schema_revision").fetchone() if present == (True,) else None
    if row is None:
        yield AREA.problem("it has no schema", "calltally migrate")
    elif row[0] == head:
        yield AREA.ok(f"its schema is up to date (revision {head})")
    elif row[0] in known:
        yield AREA.problem(f"its schema is at revision {row[0]}, this calltally needs {head}", "calltally migrate")
    else:
        yield AREA.problem(f"its schema (revision {row[0]}) is newer than this calltally", "update calltally")


def _roles(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'calltally%'")}
    if missing := sorted(ROLES - there):
        yield AREA.problem(
            f"roles are missing: {', '.join(missing)}", "calltally migrate, as a user who may create roles"
        )
        return
    user = connection.info.user
    member = connection.execute("SELECT pg_has_role(current_user, 'calltally_app', 'MEMBER')").fetchone()
    if member != (True,):
        yield AREA.problem(f"user {user} may not act as calltally_app", f'GRANT calltally_app TO "{user}";')
    else:
        yield AREA.ok(f"its roles are there, and {user} may act as calltally_app")


def _clock(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    before = datetime.now(UTC)
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    after = datetime.now(UTC)
    if row is not None:
        ahead = max(0.0, (row[0] - after).total_seconds(), (before - row[0]).total_seconds())
        yield from clock_skew(AREA, "the database's clock", ahead)


def clock_skew(area: Area, whose: str, seconds: float) -> Iterator[Finding]:
    """What a difference between a clock and ours means."""
    if seconds > SKEW_SECONDS:
        speak = area.problem if seconds > BAD_SKEW_SECONDS else area.warning
        yield speak(
            f"{whose} and this machine's differ by {seconds:.0f} s; signatures are refused beyond 300 s",
            "set the clocks by NTP: timedatectl set-ntp true",
        )
