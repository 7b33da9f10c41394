"""Many at once, and one bad among them: the others are done, and it is left alone with the reason."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from billing.errors import PermanentError, translate_database_error

T = TypeVar("T")
R = TypeVar("R")


def by_halves(
    connection: Connection,
    items: Sequence[T],
    do: Callable[[Sequence[T]], list[R]],
    refused: Callable[[T, PermanentError], list[R]],
) -> list[R]:
    """What `do` answers for all of them, in savepoints of ever fewer; for one refused alone, `refused` answers.

    Raises:
        DBAPIError: about the installation, not about the data; worth another try.
    """
    if not items:
        return []
    try:
        with connection.begin_nested():
            return do(items)
    except DBAPIError as error:
        reason = translate_database_error(error)
        if not isinstance(reason, PermanentError):
            raise
        if len(items) == 1:
            return refused(items[0], reason)
    half = len(items) // 2
    return by_halves(connection, items[:half], do, refused) + by_halves(connection, items[half:], do, refused)
