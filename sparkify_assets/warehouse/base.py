"""The contract between the platform and an engine: transactions, tables, loading, publishing.

An engine is one subclass of `Warehouse` beside this file. Nothing here or there knows a particular
table or a Dagster asset.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import dagster as dg
import duckdb
from duckdb import DuckDBPyConnection

from sparkify_assets.catalog import Table
from sparkify_assets.scratch import scratch_folder

# Every connection of DuckDB computes as Redshift does. (Order has no meaning in a table; keeping it
# costs.)
DUCKDB_SETTINGS = """
    SET integer_division = true;
    SET default_null_order = 'nulls_last_on_asc_first_on_desc';
    SET preserve_insertion_order = false;
    SET TimeZone = 'UTC';
    CREATE OR REPLACE TEMP MACRO octet_length(string) AS strlen(string);
"""

OFFLINE: dict[str, Any] = {  # nothing is downloaded at run time
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
Row = dict[str, Any]
T = TypeVar("T")


def quote(identifier: str) -> str:
    """An identifier as SQL text, safe whatever its characters."""
    return '"' + identifier.replace('"', '""') + '"'


def bare_columns(table: Table) -> str:
    """The columns of a table for CREATE TABLE, with their types and without constraints."""
    return ", ".join(f"{quote(column.name)} {column.type}" for column in table.columns)


class Landing:
    """Rows on their way into the warehouse: a DuckDB file of their own, without any lock on that.

    What is read and fetched lands here first, however long that takes. An object has a number of
    its own here, from 1; `Session.insert` adds to it.
    """

    def __init__(self, folder: Path, tables: Sequence[Table]) -> None:
        self.path = folder / "landing.duckdb"
        self.tables = tables
        self._connection: DuckDBPyConnection | None = None
        for table in tables:
            columns = bare_columns(table)
            self.connection.execute(f"CREATE TABLE {quote(table.name)} ({columns})")

    @property
    def connection(self) -> DuckDBPyConnection:
        """A connection to the file; it is opened where it is needed."""
        if self._connection is None:
            self._connection = duckdb.connect(self.path, config=OFFLINE)
            self._connection.execute(DUCKDB_SETTINGS)
        return self._connection

    def close(self) -> None:
        """Leaves the file to others, until the connection is asked for again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def append(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        """Inserts rows, each with a value for every column."""
        if rows:
            values = ", ".join(f"unnest(CAST(? AS {column.type}[]))" for column in table.columns)
            self.connection.execute(
                f"INSERT INTO {quote(table.name)} SELECT {values}",
                [list(column) for column in zip(*rows, strict=True)],
            )

    def forget(self, object_ids: Sequence[int]) -> None:
        """Deletes what landed from objects."""
        for table in self.tables if object_ids else ():
            self.connection.execute(
                f"DELETE FROM {quote(table.name)} WHERE object_id IN (SELECT unnest(?))",
                [list(object_ids)],
            )


def landed_columns(table: Table, after_id: int) -> str:
    """SELECT list for the landed rows of a table, with what is added to numbers of objects."""
    return ", ".join(
        f"{quote(c.name)} + {int(after_id)} AS {quote(c.name)}"
        if c.name == "object_id" and after_id
        else quote(c.name)
        for c in table.columns
    )


@contextmanager
def landing_for(tables: Sequence[Table]) -> Iterator[Landing]:
    """A place for rows of tables to land, for the time of the block."""
    with scratch_folder() as folder:
        landing = Landing(folder, tables)
        try:
            yield landing
        finally:
            landing.close()


class Session(ABC):
    """One open transaction. Nothing of it is seen by others before its end."""

    @abstractmethod
    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Runs a query: its rows, each a dict by column name."""

    @abstractmethod
    def shape(self, table: Table) -> str | None:
        """How the existing table differs from its file: "" not at all; None: there is no table."""

    @abstractmethod
    def create(self, table: Table) -> None:
        """Creates a table that does not exist."""

    @abstractmethod
    def empty(self, table: Table, *, recreate: bool) -> None:
        """Makes sure that a table is there, in the shape that its file declares, and empty.

        Args:
            table: the table.
            recreate: drop it where it has another shape, even if something hangs on it.

        Raises:
            SparkifyError: it has another shape, and `recreate` is needed to drop it.
        """

    @abstractmethod
    def forget(self, table: Table, object_ids: Sequence[int]) -> None:
        """Deletes the rows of a table that came from objects."""

    @abstractmethod
    def insert(self, landing: Landing, after_id: int = 0) -> None:
        """Inserts what landed into the tables, which exist.

        Args:
            landing: the rows.
            after_id: what is added to the numbers of their objects.
        """

    @abstractmethod
    def build(self, table: Table, *, recreate: bool) -> None:
        """Runs the table's INSERT into an empty candidate: its name means the candidate from here.

        Raises:
            SparkifyError: the INSERT does not run, with the engine's reason; or as `empty` does.
        """

    @abstractmethod
    def publish(self, table: Table) -> None:
        """Makes the candidate the table that others see when the transaction ends."""

    def first(self, table: Table, limit: int) -> list[Row]:
        """The first rows of a table, in the order of its sort key."""
        order = f" ORDER BY {', '.join(map(quote, table.sort_key))}" if table.sort_key else ""
        return self.rows(f"SELECT * FROM {quote(table.name)}{order} LIMIT {int(limit)}")

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT COUNT(*) AS n FROM {quote(table)}")[0]["n"])


class Warehouse(dg.ConfigurableResource[Any], ABC):
    """A database that holds the tables of `sql/`."""

    kind: ClassVar[str]

    @abstractmethod
    def transaction(
        self, label: str = "", *, read_only: bool = False
    ) -> AbstractContextManager[Session]:
        """Opens a transaction: committed at the end of the block, rolled back by an exception.

        Args:
            label: what an administrator of the warehouse may know it by.
            read_only: sees one state of the tables, changes nothing and keeps no writer waiting.

        Raises:
            SparkifyError: the warehouse cannot be reached or is held by somebody else.
        """

    def in_transaction(
        self, work: Callable[[Session], T], label: str, *, read_only: bool = False
    ) -> T:
        """Does some work in a transaction; again from its start, where that can help."""
        with self.transaction(label, read_only=read_only) as session:
            return work(session)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the warehouse is, without any secret."""
