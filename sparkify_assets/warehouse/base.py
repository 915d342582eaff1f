"""The contract between the platform and an engine: transactions, tables, loading, publishing.

To add an engine, subclass `Warehouse` and `Session` in a file beside this one, and add it to
`warehouse_of` and to `Settings.target`. Nothing here knows a particular table or a Dagster asset.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

import dagster as dg

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.landing import Landing

FORGOTTEN_AT_ONCE = 10_000  # objects in one DELETE: a statement on Redshift may have 16 MB
Row = dict[str, Any]
T = TypeVar("T")


class ShapeDiffers(SparkifyError):
    """A table has other columns than its file declares, and may not be dropped."""


class Session(ABC):
    """One open transaction. Nobody else sees any of it before its end.

    `recreate` says whether a table may be dropped where its file declares another shape.
    """

    def __init__(self, address: str, *, recreate: bool) -> None:
        self.address = address
        self.recreate = recreate
        self.written: list[Table] = []

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """Executes one statement: the cursor, with its rows if it has any.

        Raises:
            SparkifyError: the engine refuses it, with the engine's reason.
        """

    @abstractmethod
    def columns(self, table: str) -> list[str]:
        """Name and type of each column, as the engine tells them; none if there is no table."""

    @abstractmethod
    def insert(self, landing: Landing, after_id: int = 0) -> None:
        """Inserts what landed into the tables; `after_id` is added to the numbers of objects."""

    @abstractmethod
    def candidate(self, table: Table) -> str:
        """The statement after which the table's name means an empty candidate."""

    @abstractmethod
    def publish(self, table: Table) -> None:
        """Makes the candidate the table that others see when the transaction ends."""

    def published(self, table: str) -> str:
        """The name of the published table in SQL."""
        return quote(table)

    def declared(self, table: Table) -> list[str]:
        """What `columns` is for a table that is as its file declares it."""
        return [f"{column.name} {column.type}" for column in table.columns]

    def definition(self, table: Table) -> str:
        """The statement that creates a table."""
        return table.create

    def create(self, table: Table) -> None:
        """Creates a table that does not exist, with its descriptions as comments."""
        self.execute(self.definition(table))
        name = self.published(table.name)
        described = {f"TABLE {name}": table.description} | {
            f"COLUMN {name}.{quote(column.name)}": column.description for column in table.columns
        }
        for what, description in described.items():
            if description:
                text = description.replace("'", "''")
                self.execute(f"COMMENT ON {what} IS '{text}'")

    def drop(self, table: str) -> None:
        """Drops a table."""
        self.execute(f"DROP TABLE {self.published(table)}")

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Runs a query: its rows, each a dict by column name."""
        cursor = self.execute(query, parameters)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def shape(self, table: Table) -> str | None:
        """How the existing table differs from its file: "" not at all; None: there is no table."""
        found, declared = self.columns(table.name), self.declared(table)
        if not found:
            return None
        if found == declared:
            return ""
        only = {
            "the table": [column for column in found if column not in declared],
            table.path.name: [column for column in declared if column not in found],
        }
        said = [
            f"only {place} has {', '.join(columns)}" for place, columns in only.items() if columns
        ]
        return "; ".join(said) or f"{table.path.name} has the same columns in another order"

    def ensure(self, table: Table) -> None:
        """Makes sure that a table is there, in the shape that its file declares, or raises."""
        difference = self.shape(table)
        if difference and not self.recreate:
            raise ShapeDiffers(
                f"{table.name} in {self.address} has another shape than its file: {difference}"
            )
        if difference:
            self.drop(table.name)
            dg.get_dagster_logger().info(
                f"{table.name}: recreated, because its columns differ: {difference}"
            )
        if difference != "":
            self.create(table)

    def empty(self, table: Table) -> None:
        """Makes sure that a table is there, as `ensure` does, and empty."""
        self.ensure(table)
        self.execute(f"DELETE FROM {self.published(table.name)}")

    def build(self, table: Table) -> None:
        """Runs the table's INSERT into an empty candidate: its name means the candidate from here.

        Raises:
            SparkifyError: the INSERT fails, with the engine's reason.
            ShapeDiffers: the published table has another shape.
        """
        self.ensure(table)
        self.execute(self.candidate(table))
        try:
            self.execute(table.insert or "")
        except SparkifyError as error:
            raise SparkifyError(
                f"{table.name} was not published: the INSERT of {table.path} failed", f": {error}"
            ) from None

    def merge(self, table: Table, rows: str, stale: str) -> None:
        """Puts the rows of another table in place of those for which a condition is true."""
        columns = ", ".join(quote(column.name) for column in table.columns)
        name = self.published(table.name)
        self.execute(f"DELETE FROM {name} WHERE {stale}")
        self.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {quote(rows)}")
        self.written.append(table)

    def forget(self, table: Table, object_ids: Sequence[int]) -> None:
        """Deletes the rows of a table that came from objects."""
        for start in range(0, len(object_ids), FORGOTTEN_AT_ONCE):
            ids = ", ".join(str(int(i)) for i in object_ids[start : start + FORGOTTEN_AT_ONCE])
            self.execute(f"DELETE FROM {self.published(table.name)} WHERE object_id IN ({ids})")

    def first(self, table: Table, limit: int) -> list[Row]:
        """The first rows of a table, in the order of its sort key."""
        order = f" ORDER BY {', '.join(map(quote, table.sort_key))}" if table.sort_key else ""
        return self.rows(f"SELECT * FROM {quote(table.name)}{order} LIMIT {int(limit)}")

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.rows(f"SELECT COUNT(*) AS n FROM {quote(table)}")[0]["n"])


class Warehouse(dg.ConfigurableResource[Any], ABC):
    """A database that holds the tables of `sql/`.

    After `audit_days` all rows of a table are audited, and not only those that are written.
    """

    kind: ClassVar[str]
    audit_days: float = 7

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the warehouse is, without any secret."""

    @property
    @abstractmethod
    def schema_address(self) -> str:
        """Database and schema of the tables, as a query may name them: dev.sparkify."""

    @abstractmethod
    def transaction(
        self, label: str = "", *, read_only: bool = False, recreate: bool = False
    ) -> AbstractContextManager[Session]:
        """Opens a transaction: committed at the end of the block, rolled back by an exception.

        An administrator sees its `label`. If `read_only`, it sees one state of the tables, changes
        nothing and keeps no writer waiting. For `recreate` see `Session`.

        Raises:
            SparkifyError: the warehouse cannot be reached, or somebody else has locked it.
        """

    def in_transaction(self, work: Callable[[Session], T], label: str, **options: bool) -> T:
        """Does some work in a transaction; an engine may do it again after a conflict."""
        with self.transaction(label, **options) as session:
            return work(session)
