"""A temporary DuckDB file where rows land on their way into either warehouse.

It keeps the warehouse unlocked while objects are fetched and read. The settings of every DuckDB
connection are here, too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import duckdb

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.scratch import scratch_folder
from sparkify_assets.tables import Table

# Make DuckDB compute as Redshift does. (Preserving insertion order would only cost memory.)
DUCKDB_SETTINGS = """
    SET integer_division = true;
    SET default_null_order = 'nulls_last_on_asc_first_on_desc';
    SET preserve_insertion_order = false;
    SET TimeZone = 'UTC';
    CREATE OR REPLACE TEMP MACRO octet_length(string) AS strlen(string);
"""

CONFIG: dict[str, Any] = {
    "memory_limit": "3GB",  # DuckDB would take 80% of the machine; beyond, it uses the disk
    "storage_compatibility_version": "v1.4.0",  # shells and BI tools lag behind
    "autoinstall_known_extensions": False,  # nothing is downloaded at run time
    "autoload_known_extensions": False,
}
NO_ROOM = (duckdb.IOException, duckdb.TransactionException, duckdb.OutOfMemoryException)


def connect(path: str | Path = ":memory:", **config: Any) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB file that computes as Redshift does, and downloads nothing."""
    connection = duckdb.connect(path, config=CONFIG | config)
    connection.execute(DUCKDB_SETTINGS)
    return connection


def bare_columns(table: Table) -> str:
    """A table's columns for CREATE TABLE, without constraints."""
    return ", ".join(f"{quote(column.name)} {column.type}" for column in table.columns)


def insert_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Sequence[object]]
) -> None:
    """Inserts rows into a table, each with a value for every column."""
    if rows:
        values = ", ".join(f"unnest(CAST(? AS {column.type}[]))" for column in table.columns)
        connection.execute(
            f"INSERT INTO {quote(table.name)} SELECT {values}",
            [list(column) for column in zip(*rows, strict=True)],
        )


class Landing:
    """Rows of tables in a DuckDB file; object ids begin at 1."""

    def __init__(self, folder: Path, tables: Sequence[Table]) -> None:
        self.path = folder / "landing.duckdb"
        self.tables = tables
        self.connection = connect(self.path)
        for table in tables:
            columns = bare_columns(table)
            self.connection.execute(f"CREATE TABLE {quote(table.name)} ({columns})")


def landed_columns(after_id: int) -> str:
    """SELECT list for landed rows, with `after_id` added to each object_id."""
    return f"* REPLACE (object_id + {int(after_id)} AS object_id)" if after_id else "*"


@contextmanager
def landing_for(tables: Sequence[Table]) -> Iterator[Landing]:
    """A landing for rows of tables; raises SparkifyError if the temporary folder is full."""
    try:
        with scratch_folder() as folder:
            landing = Landing(folder, tables)
            with landing.connection:
                yield landing
    except (OSError, *NO_ROOM) as error:
        raise SparkifyError(
            f"Rows on their way into the warehouse cannot be kept in {gettempdir()}: {error}. Make "
            "room there, or set TMPDIR to another folder."
        ) from None
