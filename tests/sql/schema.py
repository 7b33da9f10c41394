"""Writes `sql/schema.sql`, the schema that all files of `sql/` add up to: `python -m tests.sql.schema`.

It comes from the catalogue through SQL functions, not from `pg_dump`, whose output changes with its version.
"""

import tempfile
from pathlib import Path

import psycopg

from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres

SCHEMA_FILE = Path(__file__).parents[2] / "sql" / "schema.sql"
HEADER = "-- The resulting schema, for reviewers; written by `python -m tests.sql.schema`, never by hand.\n"

PARTS = [
    # Tables, column by column in the order of their definition.
    """
    SELECT format(E'TABLE %s (\\n%s\\n)', c.oid::regclass, string_agg(
        format('    %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
            CASE WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE '' END,
            coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
        ), E',\\n' ORDER BY a.attnum))
    FROM pg_class AS c
    INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    GROUP BY c.oid, c.relname
    ORDER BY c.relname
    """,
    """
    SELECT format('CONSTRAINT %s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND contype IN ('p', 'u', 'f', 'c', 'x')
    ORDER BY conrelid::regclass::text, conname
    """,
    """
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname
    """,
    """
    SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname
    """,
    """
    SELECT format('VIEW %s.%s %s', schemaname, viewname, array(
        SELECT format('%s %s', attname, format_type(atttypid, atttypmod)) FROM pg_attribute
        WHERE attrelid = format('%I.%I', schemaname, viewname)::regclass AND attnum > 0 ORDER BY attnum
    ))
    FROM pg_views WHERE schemaname IN ('public', 'checks', 'reporting') ORDER BY schemaname, viewname
    """,
    """
    SELECT format('FUNCTION %s RETURNS %s%s', p.oid::regprocedure, pg_get_function_result(p.oid),
        CASE WHEN prosecdef THEN ' SECURITY DEFINER' ELSE '' END)
    FROM pg_proc AS p
    WHERE pronamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    ORDER BY p.oid::regprocedure::text
    """,
    """
    SELECT format('POLICY %s ON %s TO %s USING (%s)', policyname, tablename, roles, qual)
    FROM pg_policies WHERE schemaname = 'public' ORDER BY tablename, policyname
    """,
    """
    SELECT format('GRANT %s ON %s TO %s', string_agg(DISTINCT privilege_type, ', ' ORDER BY privilege_type),
        table_schema || '.' || table_name, grantee)
    FROM information_schema.role_table_grants
    WHERE table_schema IN ('public', 'checks', 'reporting')
        AND grantee LIKE 'calltally\\_%' AND grantee <> 'calltally_owner'
    GROUP BY table_schema, table_name, grantee
    ORDER BY table_schema, table_name, grantee
    """,
    """
    SELECT format('GRANT EXECUTE ON %s TO %s', p.oid::regprocedure, string_agg(r.rolname, ', ' ORDER BY r.rolname))
    FROM pg_proc AS p
    CROSS JOIN LATERAL aclexplode(p.proacl) AS acl
    INNER JOIN pg_roles AS r ON r.oid = acl.grantee AND r.rolname LIKE 'calltally\\_%' AND acl.grantee <> p.proowner
    WHERE p.pronamespace = 'public'::regnamespace
    GROUP BY p.oid
    ORDER BY p.oid::regprocedure::text
    """,
]


def dump_schema(url: str) -> str:
    """The schema of a database as text that does not depend on the version of PostgreSQL."""
    with psycopg.connect(url) as connection:
        parts = [connection.execute(part.encode()).fetchall() for part in PARTS]
    return HEADER + "".join("\n" + "".join(f"{line};\n" for (line,) in part) for part in parts)


def main() -> None:
    """Write the file from a fresh database."""
    with tempfile.TemporaryDirectory(prefix="calltally-schema-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg", options={"fsync": "off"})
        server.start()
        server.ensure_database("schema")
        migrate(server.url("schema"))
        SCHEMA_FILE.write_text(dump_schema(server.url("schema")))
        server.stop("immediate")


if __name__ == "__main__":
    main()
