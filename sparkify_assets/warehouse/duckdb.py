"""The embedded warehouse: one DuckDB file, one writing process at a time.

A transaction attaches the file, and waits for another process that has it open.
A table is replaced in place, in one transaction: readers see the old rows until the commit, and
they survive a rollback or a kill. Keys are audited, not declared: a DuckDB constraint would abort
the INSERT and leave no count and no sample of the violations.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import Any, ClassVar

import dagster as dg
import duckdb

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.output_files import writable
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Session, Warehouse
from sparkify_assets.warehouse.landing import (
    DUCKDB_SETTINGS,
    Landing,
    bare_columns,
    connect,
    landed_columns,
)

# Names of the attached files; detaching a file checkpoints it and frees its lock.
WAREHOUSE, LANDING = "warehouse", "landing"


class DuckDBSession(Session):
    """A transaction on a DuckDB file. No grants depend on a table, so it may be dropped."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, address: str) -> None:
        super().__init__(address, recreate=True)
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        try:
            return self._connection.execute(statement, list(parameters))
        except duckdb.Error as error:
            raise SparkifyError(f"{self.address} refused a statement", f": {error}") from None

    def columns(self, table: str) -> list[str]:
        found = self.rows(  # information_schema is slow
            "SELECT column_name AS name, data_type AS type FROM duckdb_columns() "
            "WHERE database_name = current_database() AND schema_name = 'main' AND table_name = ? "
            "ORDER BY column_index",
            [table],
        )
        return [f"{row['name']} {row['type']}" for row in found]

    def declared(self, table: Table) -> list[str]:
        return [f"{column.name} {duckdb.sqltype(column.type)}" for column in table.columns]

    def definition(self, table: Table) -> str:
        return f"CREATE TABLE {quote(table.name)} ({bare_columns(table)})"

    def insert(self, landing: Landing, after_id: int = 0) -> None:
        landing.connection.close()  # a process can open a file only once
        self.execute(_attach(landing.path, LANDING, "READ_ONLY"))
        for table in landing.tables:
            columns, name = landed_columns(after_id), quote(table.name)
            self.execute(f"INSERT INTO {name} SELECT {columns} FROM {LANDING}.{name}")

    def candidate(self, table: Table) -> str:
        return f"DELETE FROM {quote(table.name)}"  # in place

    def publish(self, table: Table) -> None:
        """Does nothing: the candidate was built in place."""


class DuckDBWarehouse(Warehouse):
    """A DuckDB file; a transaction waits `lock_wait_seconds` for a process that has it open."""

    kind: ClassVar[str] = "duckdb"
    path: str
    lock_wait_seconds: float = 60

    @property
    def address(self) -> str:
        return printable(self.path)

    @property
    def schema_address(self) -> str:
        return f"{Path(self.address).stem}.main"

    @contextmanager
    def transaction(
        self, label: str = "", *, read_only: bool = False, recreate: bool = False
    ) -> Iterator[Session]:
        engine = _engine(f"{self.path}.tmp", os.getpid(), get_ident())
        connection = engine.cursor()
        try:
            connection.execute(DUCKDB_SETTINGS)
            self._attach_warehouse(connection, read_only)
            connection.begin()
            yield DuckDBSession(connection, self.path)
            try:
                connection.commit()
            except duckdb.Error as error:
                raise SparkifyError(
                    f"{self.path} refused the commit: nothing was changed", f": {error}"
                ) from error
        finally:
            connection.close()  # rolls back what was not committed
            try:
                for name in (WAREHOUSE, LANDING):
                    engine.execute(f"DETACH DATABASE IF EXISTS {name}")
            except duckdb.Error:  # after a fatal error an engine does nothing any more
                _engine.cache_clear()
                engine.close()

    def _attach_warehouse(self, connection: duckdb.DuckDBPyConnection, read_only: bool) -> None:
        """Attaches the file and makes it the default; a missing one is empty for readers."""
        path = Path(self.path)
        head = b""
        try:  # on a pipe DuckDB would hang
            if read_only and not path.exists():
                return
            writable(Path(f"{self.path}.wal"))
            with suppress(FileNotFoundError), writable(path).open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise self._cannot_open(str(error.strerror)) from None
        if head and head[8:12] != b"DUCK":  # DuckDB would open a CSV file, and lose all writes
            raise self._cannot_open(f"it is not a DuckDB file, but begins with {head!r}")
        deadline = time.monotonic() + self.lock_wait_seconds
        holder = ""
        mode = "READ_ONLY" if read_only else "READ_WRITE"
        while True:
            try:
                connection.execute(f"{_attach(path, WAREHOUSE, mode)}; USE {WAREHOUSE}")
                return
            except duckdb.Error as error:
                problem = str(error)
            if "Could not set lock" not in problem:
                raise self._cannot_open(problem)
            match = re.search(r"held in (.+?) \(PID (\d+)\)", problem)
            found = f"process {match[2]} ({match[1]})" if match else "another process"
            if time.monotonic() >= deadline:
                raise SparkifyError(
                    f"{self.path} has been open in {found} for {self.lock_wait_seconds:g} s. Only "
                    "one process at a time can write to it: close that one, or let its run end, "
                    "and run this again. Nothing was changed."
                )
            if found != holder:
                dg.get_dagster_logger().info(f"{self.address} is open in {found}: waiting for it")
                holder = found
            time.sleep(0.2)

    def _cannot_open(self, problem: str) -> SparkifyError:
        return SparkifyError(
            f"{self.path} cannot be opened, and was left as it is: {problem}. Set "
            "SPARKIFY_DUCKDB_PATH to a DuckDB file, or to a new one in an existing folder."
        )


@lru_cache(1)
def _engine(spill_folder: str, process: int, thread: int) -> duckdb.DuckDBPyConnection:
    """DuckDB with no file yet: starting it takes ten times as long as attaching one."""
    return connect(temp_directory=spill_folder)


def _attach(path: Path, name: str, mode: str) -> str:
    quoted = str(path).replace("'", "''")
    return f"ATTACH '{quoted}' AS {name} (TYPE duckdb, {mode})"
