"""What an engine must provide: transactions, tables, loading, publishing.

To add an engine, subclass `Warehouse` and `Session` in a new file here, and add it to
`warehouse_of` and `Settings.target`; `dialect.PORTABLE` lists the types. `Session.execute` takes
parameters as `?` and turns the driver's errors into messages; temporary tables hide others of their
name and end with the transaction. Nothing here knows a particular table or a Dagster asset.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

import dagster as dg

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.landing import Landing

IDS_AT_ONCE = 10_000  # Redshift limits a statement to 16 MB
Row = dict[str, Any]
T = TypeVar("T")


def id_lists(object_ids: Sequence[int]) -> Iterator[str]:
    """The ids as lists for IN, each short enough for one statement."""
    for start in range(0, len(object_ids), IDS_AT_ONCE):
        yield ", ".join(str(int(i)) for i in object_ids[start : start + IDS_AT_ONCE])


class ShapeDiffers(SparkifyError):
    """A table's columns differ from its file, and the table may not be dropped."""


class Session(ABC):
    """One open transaction; `recreate` allows dropping a table whose columns changed."""

    def __init__(self, address: str, *, recreate: bool) -> None:
        self.address = address
        self.recreate = recreate
        self.written: list[Table] = []
        self._shapes: dict[str, str | None] = {}  # of tables that this transaction looked at

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """Executes one statement and returns the cursor.

        Raises:
            SparkifyError: the engine refused it, with the engine's reason.
        """

    @abstractmethod
    def columns(self, table: str) -> list[str]:
        """Each column as "name TYPE" in the engine's spelling; empty if there is no table."""

    @abstractmethod
    def insert(self, landing: Landing, after_id: int = 0) -> None:
        """Inserts the landed rows into their tables, with `after_id` added to each object_id."""

    @abstractmethod
    def candidate(self, table: Table) -> str:
        """A statement that makes the table's name mean an empty candidate."""

    @abstractmethod
    def publish(self, table: Table) -> None:
        """Replaces the published rows by the candidate's."""

    def published(self, table: str) -> str:
        """The name of the published table in SQL."""
        return quote(table)

    def declared(self, table: Table) -> list[str]:
        """What `columns` returns for a table that matches its file."""
        return [f"{column.name} {column.type}" for column in table.columns]

    def definition(self, table: Table) -> str:
        return table.create

    def create(self, table: Table) -> None:
        """Creates a missing table, with its descriptions as comments."""
        self._shapes.pop(table.name, None)
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
        self._shapes.pop(table, None)
        self.execute(f"DROP TABLE {self.published(table)}")

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Runs a query and returns its rows, each a dict by column name."""
        cursor = self.execute(query, parameters)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def shape(self, table: Table) -> str | None:
        """How the existing table differs from its file: "" if it does not, None if missing."""
        if table.name not in self._shapes:
            self._shapes[table.name] = self._difference(table)
        return self._shapes[table.name]

    def _difference(self, table: Table) -> str | None:
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
        """Creates a missing table; recreates one whose columns changed, or raises ShapeDiffers."""
        difference = self.shape(table)
        if difference and not self.recreate:
            raise ShapeDiffers(
                f"{table.name} in {self.address} differs from its file: {difference}"
            )
        if difference:
            self.drop(table.name)
            dg.get_dagster_logger().info(
                f"{table.name}: recreated, because its columns differ: {difference}"
            )
        if difference != "":
            self.create(table)

    def empty(self, table: Table) -> None:
        """Deletes all rows of a table, created as by `ensure`."""
        self.ensure(table)
        self.execute(f"DELETE FROM {self.published(table.name)}")

    def build(self, table: Table) -> None:
        """Fills an empty candidate by the table's INSERT; its name means the candidate from now on.

        Raises:
            SparkifyError: the INSERT failed, with the engine's reason.
            ShapeDiffers: the published table has other columns than its file.
        """
        self.ensure(table)
        self.execute(self.candidate(table))
        self.fill(table, table.insert or "")

    def fill(self, table: Table, insert: str) -> None:
        """Executes the INSERT of a table; raises SparkifyError with its file and the reason."""
        try:
            self.execute(insert)
        except SparkifyError as error:
            raise SparkifyError(
                f"{table.name} was not published: the INSERT of {table.path} failed", f": {error}"
            ) from None

    def merge(self, table: Table, rows: str, stale: str) -> None:
        """Replaces the rows that satisfy the condition `stale` by those of the table `rows`."""
        columns = ", ".join(quote(column.name) for column in table.columns)
        name = self.published(table.name)
        self.execute(f"DELETE FROM {name} WHERE {stale}")
        self.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {quote(rows)}")
        self.written.append(table)

    def delete_objects(self, table: Table, object_ids: Sequence[int]) -> None:
        """Deletes the rows that were loaded from these objects."""
        for ids in id_lists(object_ids):
            self.execute(f"DELETE FROM {self.published(table.name)} WHERE object_id IN ({ids})")

    def first(self, table: Table, limit: int) -> list[Row]:
        """The first rows of a table, in the order of its sort key."""
        order = f" ORDER BY {', '.join(map(quote, table.sort_key))}" if table.sort_key else ""
        return self.rows(f"SELECT * FROM {quote(table.name)}{order} LIMIT {int(limit)}")

    def count(self, table: str) -> int:
        return int(self.rows(f"SELECT COUNT(*) AS n FROM {quote(table)}")[0]["n"])


class Warehouse(dg.ConfigurableResource[Any], ABC):
    """A database that holds the tables of `sql/`; every `audit_days` all rows are audited."""

    kind: ClassVar[str]
    audit_days: float = 7

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the warehouse is, without any secret."""

    @property
    @abstractmethod
    def schema_address(self) -> str:
        """Database and schema of the tables as a query names them, such as dev.sparkify."""

    @abstractmethod
    def transaction(
        self, label: str = "", *, read_only: bool = False, recreate: bool = False
    ) -> AbstractContextManager[Session]:
        """Opens a transaction that commits at the end of the block and rolls back on an exception.

        Administrators see its `label`. A `read_only` one reads a snapshot and blocks no writer.

        Raises:
            SparkifyError: the warehouse cannot be reached, or another process has locked it.
        """

    def in_transaction(self, work: Callable[[Session], T], label: str, **options: bool) -> T:
        """Runs `work` in a transaction; an engine may run it again after a conflict."""
        with self.transaction(label, **options) as session:
            return work(session)
