"""The contract between the platform and an engine: transactions, tables, loading, publishing.

An engine is one subclass of `Warehouse` beside this file. Nothing here or there knows a particular
table or a Dagster asset.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import dagster as dg
from duckdb import DuckDBPyConnection

from sparkify_assets.catalog import Table

Row = dict[str, Any]


def quote(identifier: str) -> str:
    """An identifier as SQL text, safe whatever its characters."""
    return '"' + identifier.replace('"', '""') + '"'


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
    def drop(self, table: Table) -> None:
        """Drops a table if it exists."""

    @abstractmethod
    def landing(self) -> AbstractContextManager[DuckDBPyConnection]:
        """A DuckDB connection whose inserts into existing tables reach the warehouse."""

    @abstractmethod
    def build(self, table: Table) -> None:
        """Runs the table's INSERT into an empty candidate: its name means the candidate from here.

        Raises:
            SparkifyError: the INSERT does not run, with the engine's reason.
        """

    @abstractmethod
    def publish(self, table: Table) -> None:
        """Makes the candidate the table that others see when the transaction ends."""

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT COUNT(*) AS n FROM {quote(table)}")[0]["n"])


class Warehouse(dg.ConfigurableResource[Any], ABC):
    """A database that holds the tables of `sql/`."""

    kind: ClassVar[str]

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Session]:
        """Opens a transaction: committed at the end of the block, rolled back by an exception.

        Raises:
            SparkifyError: the warehouse cannot be reached or is held by somebody else.
        """

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the warehouse is, without any secret."""
