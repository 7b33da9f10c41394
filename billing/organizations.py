"""Finding the organization that a person means."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from billing.errors import UnknownOrganization

if TYPE_CHECKING:  # see billing/books.py
    from sqlalchemy import Connection

Ask = Callable[..., list[dict[str, Any]]]
"""Asks the books: a statement with `:name` parameters; its rows."""


def find_organization(connection: "Connection", name_or_id: str) -> UUID:
    """The organization of that name or id.

    Raises:
        UnknownOrganization: with the names that there are.
    """
    from billing.database import rows  # noqa: PLC0415 - see billing/books.py

    return look_up_organization(partial(rows, connection), name_or_id)


def look_up_organization(ask: Ask, name_or_id: str) -> UUID:
    """The same for whoever asks the books in another way."""
    found = ask("SELECT id FROM organizations WHERE id::text = :who OR name = :who", who=name_or_id)
    if found:
        organization_id: UUID = found[0]["id"]
        return organization_id
    names = [row["name"] for row in ask("SELECT name FROM organizations ORDER BY name LIMIT 10")]
    known = f"There are: {', '.join(names)}" if names else "Create one with: calltally org create"
    raise UnknownOrganization(f"there is no organization {name_or_id!r}. {known}")
