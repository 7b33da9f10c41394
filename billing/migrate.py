"""Brings a database to the newest schema."""

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config

from billing.database import open_engine


def migrate(database_url: str) -> None:
    """Apply the pending revisions and the functions, views, checks and grants of `sql/`, all or nothing.

    Safe to call from several starters at once: one lock keeps them apart, and the later ones find nothing to do.

    Raises:
        sqlalchemy.exc.DBAPIError: a statement failed; the database is as it was.
        alembic.util.CommandError: the database knows a revision that this version of calltally does not.
    """
    engine = open_engine(database_url, role=None, pool_size=1)
    try:
        with as_file(files("sql") / "migrations") as folder, engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(folder))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
