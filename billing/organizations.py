"""Finding the organization that a person means."""

from uuid import UUID

from sqlalchemy import Connection

from billing.database import rows, value
from billing.errors import UnknownOrganization


def find_organization(connection: Connection, name_or_id: str) -> UUID:
    """The organization of that name or id.

    Raises:
        UnknownOrganization: with the names that there are.
    """
    found: UUID | None = value(
        connection, "SELECT id FROM organizations WHERE id::text = :who OR name = :who", who=name_or_id
    )
    if found is not None:
        return found
    names = [row["name"] for row in rows(connection, "SELECT name FROM organizations ORDER BY name LIMIT 10")]
    known = f"There are: {', '.join(names)}" if names else "Create one with: calltally org create"
    raise UnknownOrganization(f"there is no organization {name_or_id!r}. {known}")
