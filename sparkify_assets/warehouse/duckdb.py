"""The embedded warehouse: one DuckDB file, one writing process at a time.

A table is replaced in place inside its transaction: others see the old rows until the commit, and
a rollback or a kill leaves them. Keys are not declared to DuckDB: they are audited instead, because
its constraints would raise on INSERT and leave no count and no sample of what is wrong.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import dagster as dg
import duckdb

from sparkify_assets.catalog import Table
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.files import writable
from sparkify_assets.warehouse.base import (
    DUCKDB_SETTINGS,
    OFFLINE,
    Landing,
    Row,
    Session,
    Warehouse,
    bare_columns,
    landed_columns,
    quote,
)

# Of a new file: shells and BI tools lag behind.
CONFIG = {"storage_compatibility_version": "v1.4.0", **OFFLINE}
NOT_ITS_OWN = "not a valid DuckDB database"  # in its own words


class DuckDBSession(Session):
    """A transaction on a DuckDB file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, address: str) -> None:
        self._connection = connection
        self._address = address

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        try:
            cursor = self._connection.execute(query, list(parameters))
        except duckdb.Error as error:
            raise SparkifyError(f"{self._address}: {error}") from None
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def shape(self, table: Table) -> str | None:
        # the cheapest way to ask, several times faster than information_schema on a new connection
        known = "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'main' AND table_name = ?"
        if not self.rows(known, [table.name]):
            return None
        columns = self.rows("SELECT name, type FROM pragma_table_info(?)", [table.name])
        found = ", ".join(f"{row['name']} {row['type']}" for row in columns)
        declared = ", ".join(f"{c.name} {duckdb.sqltype(c.type)}" for c in table.columns)
        if found == declared:
            return ""
        return f"it has ({found}), {table.path.name} declares ({declared})"

    def create(self, table: Table) -> None:
        try:
            self._connection.execute(f"CREATE TABLE {quote(table.name)} ({bare_columns(table)})")
        except duckdb.Error as error:
            raise SparkifyError(f"{table.path}: the table cannot be created: {error}") from None

    def empty(self, table: Table, *, recreate: bool) -> None:
        if self.shape(table) == "":
            self._connection.execute(f"DELETE FROM {quote(table.name)}")
        else:  # nothing hangs on a table of DuckDB
            self._connection.execute(f"DROP TABLE IF EXISTS {quote(table.name)}")
            self.create(table)

    def forget(self, table: Table, object_ids: Sequence[int]) -> None:
        self._connection.execute(
            f"DELETE FROM {quote(table.name)} WHERE object_id IN (SELECT unnest(?))",
            [list(object_ids)],
        )

    def insert(self, landing: Landing, after_id: int = 0) -> None:
        landing.close()  # a file is open once in a process
        path = str(landing.path).replace("'", "''")
        self._connection.execute(f"ATTACH '{path}' AS landing (READ_ONLY)")
        for table in landing.tables:
            self._connection.execute(
                f"INSERT INTO {quote(table.name)} SELECT {landed_columns(table, after_id)} "
                f"FROM landing.{quote(table.name)}"
            )

    def build(self, table: Table, *, recreate: bool) -> None:
        self.empty(table, recreate=recreate)
        try:
            self._connection.execute(table.insert or "")
        except duckdb.Error as error:
            raise SparkifyError(
                f"{table.name} was not published: the INSERT of {table.path} failed on "
                f"{self._address}: {error}"
            ) from None

    def publish(self, table: Table) -> None:
        """Nothing to do: the candidate was built in place."""


class DuckDBWarehouse(Warehouse):
    """A DuckDB file; `lock_wait_seconds` bounds the wait for another process that holds it."""

    kind: ClassVar[str] = "duckdb"
    path: str
    lock_wait_seconds: float = 60

    @property
    def address(self) -> str:
        return printable(self.path)

    @contextmanager
    def transaction(self, label: str = "", *, read_only: bool = False) -> Iterator[Session]:
        connection = self._connect(read_only)
        try:
            connection.execute(DUCKDB_SETTINGS)
            connection.begin()
            yield DuckDBSession(connection, self.path)
            connection.commit()
        except duckdb.Error as error:
            raise SparkifyError(f"{self.path}: {error}. Nothing was changed.") from error
        finally:
            connection.close()  # rolls back what was not committed

    def _connect(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        if read_only and not Path(self.path).exists():
            return duckdb.connect(config=OFFLINE)  # as empty as the file will be
        head = b""
        try:  # at a pipe DuckDB would wait for ever
            writable(Path(f"{self.path}.wal"))
            with suppress(FileNotFoundError), writable(Path(self.path)).open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise SparkifyError(self._why_not(str(error.strerror))) from None
        if head and head[8:12] != b"DUCK":  # it would open a CSV file, and keep what we write apart
            raise SparkifyError(self._why_not(f"{NOT_ITS_OWN}, but {head!r}"))
        deadline = time.monotonic() + self.lock_wait_seconds
        holder = ""
        while True:
            try:
                return duckdb.connect(self.path, read_only, config=OFFLINE if read_only else CONFIG)
            except duckdb.Error as error:
                problem = str(error)
            if "Could not set lock" not in problem:
                raise SparkifyError(self._why_not(problem))
            found = _holder(problem)
            if time.monotonic() >= deadline:
                raise SparkifyError(
                    f"{self.path} is held by {found}, and was for {self.lock_wait_seconds:g} s: "
                    "a process that writes a DuckDB file is the only one that has it open. Close "
                    "that program or let its run end, and run this again. This table was not "
                    "changed."
                )
            if found != holder:
                dg.get_dagster_logger().info(f"{self.address} is held by {found}: waiting for it")
                holder = found
            time.sleep(0.2)

    def _why_not(self, problem: str) -> str:
        path = Path(self.path)
        hint = "SPARKIFY_DUCKDB_PATH names the file."
        if path.is_dir():
            return f"{path} is a folder, not a DuckDB file. {hint}"
        if not path.parent.is_dir():
            return f"{path} cannot be made: the folder {path.parent} does not exist. {hint}"
        if NOT_ITS_OWN in problem:
            kind = "an SQLite file, " if "SQLite" in problem else ""
            return (
                f"{path} is {kind}not a DuckDB file, and was left as it is. {hint} Choose another."
            )
        return f"{path} cannot be opened: {problem}. {hint}"


def _holder(problem: str) -> str:
    """Who holds the lock, from DuckDB's message."""
    match = re.search(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)", problem)
    if not match:
        return "another process"
    return f"process {match['pid']} ({match['program']})"
