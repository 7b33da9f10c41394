"""The narrated examples of `sql/examples/` still say what they said: each `.sql` beside its recorded `.out`.

`RECORD_EXAMPLES=1` writes the records anew.
"""

import os
from pathlib import Path

import pytest
from psycopg import Cursor, errors
from sqlalchemy import Engine

from tests.books import Books

EXAMPLES = sorted((Path(__file__).parents[2] / "sql" / "examples").glob("*.sql"))


def shown(value: object) -> str:
    """A value as psql would print it."""
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case _:
            return str(value)


def table(cursor: Cursor[tuple[object, ...]]) -> str:
    """The rows of an answer under their names."""
    names = [column.name for column in cursor.description or ()]
    cells = [[shown(value) for value in row] for row in cursor.fetchall()]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [names, *cells]
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    count = f"({len(cells)} row{'' if len(cells) == 1 else 's'})"
    return "\n".join(line.rstrip() for line in [*lines, count])


def play(engine: Engine, script: str) -> str:
    """The script with each answer below its statement; paragraphs are divided by blank lines."""
    told = []
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.autocommit = True
        for paragraph in script.strip().split("\n\n"):
            told.append(paragraph)
            statement = "\n".join(line for line in paragraph.splitlines() if not line.startswith("--"))
            if not statement:
                continue
            try:
                told.append(table(raw.execute(statement.encode())))
            except errors.Error as error:
                told.append(f"ERROR {error.sqlstate}: {error.diag.message_primary}\nHINT: {error.diag.message_hint}")
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_says_what_is_recorded(owner: Books, example: Path) -> None:
    """Running an example on empty books gives its recorded output, word for word."""
    told = play(owner.engine, example.read_text())
    record = example.with_suffix(".out")
    if os.environ.get("RECORD_EXAMPLES"):
        record.write_text(told)

    assert told == record.read_text()
