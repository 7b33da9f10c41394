"""What the notebook stands on: the books as an analyst sees them, and the files of the newest night, as tables.

An analyst reads views that show no personal data, and can change nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
from sqlalchemy import Engine

from billing.database import open_engine, transaction
from billing.errors import PermanentError
from billing.figures import Reliability
from billing.money import MICROS
from billing.report import CALLS, report_place
from billing.report_history import DayReliability
from billing.settings import get_settings

ANALYST_ROLE: Final = "calltally_analyst"
TYPES: Final = {
    **dict.fromkeys((20, 21, 23), "Int64"),
    25: "str",
    701: "float64",
    1184: "datetime64[us, UTC]",
}
"""By PostgreSQL's number of a type (int8, int2, int4, text, float8, timestamptz); others hold objects."""


class NothingToAnalyse(PermanentError):
    """There is no database or no night yet; the message says how to get one."""


def open_books() -> Engine:
    """An engine on `DATABASE_URL` that may read the views of schema `reporting`, and nothing else.

    Raises:
        NothingToAnalyse: it is unset.
    """
    url = get_settings().database_url
    if url is None:
        raise NothingToAnalyse("DATABASE_URL is not set: open the notebook with `make notebook`, or set it")
    return open_engine(url, role=ANALYST_ROLE, pool_size=2)


def read(engine: Engine, query: str) -> pd.DataFrame:
    """The rows of a query: integers and money as exact `Int64`, times in UTC."""
    with transaction(engine) as connection:
        answer = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
        types = {column[0]: int(str(column[1])) for column in answer.cursor.description or ()}
        rows = answer.all()
    columns: Mapping[str, list[Any]] = (
        dict(zip(types, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    )
    return pd.DataFrame({name: _typed(columns.get(name, []), type_id) for name, type_id in types.items()})


def newest_calls() -> pd.DataFrame:
    """Every call that the newest night compared, from the file that its report keeps.

    Raises:
        NothingToAnalyse: no night has written a report yet.
    """
    files, root = report_place()
    found = sorted(files.glob(f"{root.rstrip('/')}/*/{CALLS}"))  # folders begin with the end of their window
    if not found:
        raise NothingToAnalyse(f"no night has written {CALLS} below {root} yet: run one with `calltally reconcile`")
    with files.open(found[-1], "rb") as file:
        return pd.read_parquet(file)


def as_history(days: pd.DataFrame) -> list[DayReliability]:
    """Rows of `reporting.reliability_by_day` for the chart that reports show."""
    return [
        DayReliability(day, Reliability(int(by_webhook), int(ended)))
        for day, by_webhook, ended in days[["day", "by_webhook", "ended"]].itertuples(index=False)
    ]


def in_units(micros: "pd.Series[Any]") -> "pd.Series[Any]":
    """Micros as currency units for an axis: floats, so never to be reckoned with."""
    return micros.astype("Float64").div(MICROS)


def _typed(values: list[Any], type_id: int) -> "pd.Series[Any]":
    """Whole numbers stay whole, whatever is absent beside them; a column without any value has its type, too."""
    present = [value for value in values if value is not None]
    if not present:
        return pd.Series(values, dtype=TYPES.get(type_id, "object"))
    if all(type(value) is int for value in present):
        return pd.Series(values, dtype="Int64")
    return pd.Series(values)
