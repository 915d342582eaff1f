"""Dagster's SQLite run history and launcher, made robust; `dagster.yaml` names both.

Processes that start together create the files one after the other, since a race would corrupt
them. The process of a run holds a lock until it ends, however it ends, so Dagster's monitoring can
detect a dead run, mark it as failed, and start the next one in the queue.
"""

import fcntl
import os
import sqlite3
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, ClassVar

import dagster as dg
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, IntegrityError

from sparkify_assets.console import quiet_daemons
from sparkify_assets.errors import SparkifyError
from sparkify_assets.formats import slug
from sparkify_assets.settings import Settings
from sparkify_assets.warehouse import warehouse_of

quiet_daemons()
DEFAULT = str(Settings.model_fields["duckdb_path"].default)


class RunHistory(DagsterSqliteStorage):
    """The databases in a folder, created if they are missing."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        folder = Path(base_dir).absolute()
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "opening.lock", timeout=60):
                super().__init__(str(folder), inst_data)
                self._run_storage = _Runs(self._run_storage._conn_string)
                self._event_log_storage = _Events(self._event_log_storage._base_dir)
            known = ScriptDirectory(str(Path(dg.__file__).parent / "_core/storage/alembic"))
            with self._run_storage.connect() as runs, self._event_log_storage.index_connection():
                known.get_revisions(MigrationContext.configure(runs).get_current_heads())

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "RunHistory":
        """The history in the folder of `dagster.yaml`, or a subfolder for another warehouse."""
        folder = Path(config_value["base_dir"])
        with suppress(SparkifyError):  # the definitions will report wrong settings
            place = warehouse_of(Settings.from_environment()).address
            folder /= slug(place) if place != DEFAULT else ""
        return cls(str(folder), inst_data)


class _Runs(SqliteRunStorage):
    """The runs, and which of them have a process.

    A run locks one byte of a file. Unlike `flock`, forked processes do not inherit this lock, but a
    process that closes the file loses all its locks, so the files stay open in `held`.
    """

    held: ClassVar[list[IO[bytes]]] = []

    @property
    def folder(self) -> Path:
        return Path(self._conn_string.removeprefix("sqlite:///")).parents[1]

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        if _is_missing(self.folder / "history" / "runs.db"):
            RunHistory(str(self.folder))
        with _explained(self.folder), super().connect() as connection:
            yield connection

    def handle_run_event(
        self, run_id: str, event: dg.DagsterEvent, update_timestamp: datetime | None = None
    ) -> None:
        if event.event_type == dg.DagsterEventType.RUN_START:  # handled in the run's own process
            self.held.append((self.folder / "running.lock").open("ab"))
            fcntl.lockf(self.held[-1], fcntl.LOCK_EX, 1, zlib.crc32(run_id.encode()))
        super().handle_run_event(run_id, event, update_timestamp)

    def has_process(self, run_id: str) -> bool:
        with (self.folder / "running.lock").open("ab") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, zlib.crc32(run_id.encode()))
            except BlockingIOError:
                return True
        return False


class _Events(SqliteEventLogStorage):
    """The events: one file per run, and one for all runs."""

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        path = Path(self.path_for_shard(shard))
        with _explained(path.parents[2]), self._db_lock:
            if is_new := _is_missing(path) or shard not in self._initialized_dbs:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            engine = _engine(str(path), path.stat().st_ino, os.getpid())
            if is_new:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection


class Launcher(dg.DefaultRunLauncher):
    """Dagster's launcher, which can also tell whether a run has died."""

    supports_check_run_worker_health = True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run is still alive."""
        runs = self._instance.run_storage
        if isinstance(runs, _Runs) and not runs.has_process(run.run_id):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process has ended")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


@lru_cache(16)
def _engine(path: str, inode: int, process: int) -> Engine:
    """The engine for a database file; a new file of the same name gets a new one."""
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        # a power failure may lose the last events, but never corrupts the file
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine


def _is_missing(database: Path) -> bool:
    """Whether a database does not exist, or is empty because it was deleted under a server."""
    return not (database.exists() and database.stat().st_size)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except IntegrityError:  # Dagster relies on it
        raise
    except (OSError, DatabaseError, CommandError) as error:
        sys.tracebacklimit = 0  # a traceback would hide the message
        raise SparkifyError(
            f"The run history in {folder} cannot be used: {getattr(error, 'orig', error)}. If the "
            "disk is full or the folder not writable, fix that. If it is damaged or of another "
            f"version of Dagster, move it away (mv {folder} {folder}.old): a new one is created. "
            "It only lists past runs."
        ) from None
