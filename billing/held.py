"""Parts of the provider's list that disagreed with its own totals, so that billing their calls waits."""

from datetime import datetime

from sqlalchemy import Connection

from billing.database import rows

HELD = """
WITH parts AS (
    SELECT
        run.as_of,
        run.kind,
        run.organization_id IS NULL AS is_of_all,
        coalesce((part ->> 'held')::boolean, part ->> 'verdict' = 'incomplete') AS is_held,
        tstzrange(greatest((part ->> 'start')::timestamptz, :kept_since), (part ->> 'end')::timestamptz) AS created
    FROM reconciliation_runs AS run
    CROSS JOIN jsonb_array_elements(run.completeness) AS part
    WHERE run.state = 'completed' AND NOT run.dry_run AND run.as_of > :kept_since
        AND (part ->> 'end')::timestamptz > :kept_since
)

SELECT lower(held.created) AS start, upper(held.created) AS end
FROM unnest((
    SELECT range_agg(part.created) FROM parts AS part
    WHERE part.is_held AND part.kind <> 'recent' AND NOT coalesce(part.created <@ (
        SELECT range_agg(later.created) FROM parts AS later
        WHERE NOT later.is_held AND later.is_of_all AND later.as_of > part.as_of
    ), false)
)) AS held (created)
ORDER BY start
"""
"""What a light pass could not prove is the next night's, so it is not held yet."""


def held_parts(connection: Connection, kept_since: datetime) -> list[tuple[datetime, datetime]]:
    """Half-open ranges of creation whose calls are held back, the oldest first: no later run has listed them whole.

    The provider keeps no calls from before `kept_since`, so nothing of that time can be waited for.
    """
    return [(row["start"], row["end"]) for row in rows(connection, HELD, kept_since=kept_since)]
