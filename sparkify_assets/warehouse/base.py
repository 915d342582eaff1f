"""The contract between the platform and an engine: transactions, tables, loading, publishing.

An engine is one subclass of `Warehouse` beside this file. Nothing here or there knows a particular
table or a Dagster asset.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import dagster as dg
from duckdb import DuckDBPyConnection

from sparkify_assets.catalog import Table

Row = dict[str, Any]
T = TypeVar("T")


def quote(identifier: str) -> str:
    """An identifier as SQL text, safe whatever its characters."""
    return '"' + identifier.replace('"', '""') + '"'


def bare_columns(table: Table) -> str:
    """The columns of a table for CREATE TABLE, with their types and without constraints."""
    return ", ".join(f"{quote(column.name)} {column.type}" for column in table.columns)


@dataclass(frozen=True)
class Landing:
    """A DuckDB connection on which rows are inserted.

    They reach the warehouse at the end; what was flushed before takes no memory until then.
    """

    connection: DuckDBPyConnection
    flush: Callable[[], None]

    def append(self, table: Table, rows: Sequence[Sequence[object]]) -> None:
        """Inserts rows, each with a value for every column."""
        if rows:
            values = ", ".join(f"unnest(CAST(? AS {column.type}[]))" for column in table.columns)
            self.connection.execute(
                f"INSERT INTO {quote(table.name)} SELECT {values}",
                [list(column) for column in zip(*rows, strict=True)],
            )


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
    def landing(self, tables: Sequence[Table]) -> AbstractContextManager[Landing]:
        """Where rows for tables that exist are inserted, for the time of the block."""

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
    def transaction(self, label: str = "") -> AbstractContextManager[Session]:
        """Opens a transaction: committed at the end of the block, rolled back by an exception.

        Args:
            label: what an administrator of the warehouse may know it by.

        Raises:
            SparkifyError: the warehouse cannot be reached or is held by somebody else.
        """

    def in_transaction(self, work: Callable[[Session], T], label: str) -> T:
        """Does some work in a transaction; again from its start, where that can help."""
        with self.transaction(label) as session:
            return work(session)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the warehouse is, without any secret."""
