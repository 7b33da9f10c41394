"""Alembic's entry point: one transaction under one lock, then the re-runnable code of `sql/`.

Tables change by the numbered revisions in `versions/`, each a plain SQL file. Functions, views, checks and grants are
re-runnable files that describe how things are, not how they came to be; they are applied after every revision, in
the same transaction, so that a reader finds one definition of each.
"""

from pathlib import Path

from alembic import context
from sqlalchemy import Connection

SQL = Path(__file__).parent.parent
CODE_FOLDERS = ("functions", "views", "checks", "reporting")
LOCK = """
DO $$
BEGIN
    CREATE TABLE IF NOT EXISTS schema_revision (
        version_num varchar(32) NOT NULL CONSTRAINT schema_revision_pkc PRIMARY KEY -- as Alembic makes it
    );
EXCEPTION WHEN unique_violation OR duplicate_table THEN
    NULL; -- another starter has made it meanwhile
END;
$$;
LOCK TABLE schema_revision IN SHARE ROW EXCLUSIVE MODE;
"""
"""Keeps two starters apart, and lets readers read. An advisory lock could be taken by anybody with a login."""


def run(connection: Connection, sql: str) -> None:
    """Execute a file of statements as it stands: no bind parameters, so `:` and `%` mean themselves."""
    connection.exec_driver_sql(sql, execution_options={"no_parameters": True})


def apply_code(connection: Connection) -> None:
    """Make functions, views, checks and grants what the files say."""
    run(connection, (SQL / "before_code.sql").read_text())
    for folder in CODE_FOLDERS:
        for file in sorted((SQL / folder).glob("*.sql")):
            run(connection, file.read_text())
    for file in ("access.sql", "grants.sql"):
        run(connection, (SQL / file).read_text())


def migrate() -> None:
    """Bring the database of the connection that the caller passes in `attributes` to the newest revision."""
    connection: Connection = context.config.attributes["connection"]
    run(connection, LOCK)
    run(connection, (SQL / "roles.sql").read_text())
    context.configure(connection=connection, version_table="schema_revision", transaction_per_migration=False)
    context.run_migrations()
    apply_code(connection)
    run(connection, "SELECT ensure_partitions()")


migrate()
