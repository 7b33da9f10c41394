"""Brings a database to the newest schema."""

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from billing.database import open_engine
from billing.errors import PermanentError


class NewerDatabase(PermanentError):
    """A later version of calltally has migrated the database."""


def migrate(database_url: str) -> None:
    """Apply the pending revisions and the functions, views, checks and grants of `sql/`, all or nothing.

    Safe to call from several starters at once: one lock keeps them apart, and the later ones find nothing to do.

    Raises:
        sqlalchemy.exc.DBAPIError: a statement failed; the database is as it was.
        NewerDatabase: it knows a revision that this version of calltally does not.
    """
    engine = open_engine(database_url, role=None, pool_size=1)
    try:
        with as_file(files("sql") / "migrations") as folder, engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(folder))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            _require_known(ScriptDirectory.from_config(config), connection)
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def _require_known(scripts: ScriptDirectory, connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"version_table": "schema_revision"})
    known = {script.revision for script in scripts.walk_revisions()}
    for revision in context.get_current_heads():
        if revision not in known:
            raise NewerDatabase(
                f"the database is newer than this calltally: it is at revision {revision}, and this version knows"
                f" them up to {scripts.get_current_head()}. Nothing was changed; run the version that migrated it, or"
                " a newer one"
            )
