"""Amazon Redshift, through its own driver: one short-lived connection and one transaction a table.

Writers exclude each other by a lock on a small table that nobody reads: a lock on the table itself
would make readers wait.
"""

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import ClassVar

import dagster as dg
from redshift_connector.error import Error

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets.warehouse.base import Session, T, Warehouse
from sparkify_assets.warehouse.redshift_copy import literal
from sparkify_assets.warehouse.redshift_errors import Interrupted
from sparkify_assets.warehouse.redshift_login import connect
from sparkify_assets.warehouse.redshift_session import RedshiftSession

MUTEX = "sparkify_mutex"
ATTEMPTS = 5  # of a whole transaction
WAIT_SECONDS = 5  # for another run, before a message says so


class RedshiftWarehouse(Warehouse):
    """A schema of a Redshift database.

    Its settings are read from the environment when they are needed: as fields of a resource, they
    would put a password into run configs.
    """

    kind: ClassVar[str] = "redshift"
    s3_work: str

    @property
    def settings(self) -> RedshiftSettings:
        return RedshiftSettings.from_environment()

    @property
    def address(self) -> str:
        return self.settings.address

    @property
    def work_uri(self) -> str:
        """The part of `SPARKIFY_S3_WORK` that belongs to this schema."""
        settings = self.settings
        place = f"{settings.address}:{settings.port}"
        legible = re.sub("[^a-z0-9]+", "-", place.lower())  # but not unique
        return f"{self.s3_work}/{legible}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    def in_transaction(self, work: Callable[[Session], T], label: str, **options: bool) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return super().in_transaction(work, label, **options)
            except Interrupted as interruption:
                reason = str(interruption)
            if attempt < ATTEMPTS:
                dg.get_dagster_logger().info(f"{label}: {reason}: trying again")
                time.sleep(random.random() * 2**attempt)  # noqa: S311  # no secret
        raise SparkifyError(
            f"{self.address}: {reason}, {ATTEMPTS} times. Run it again: nothing is loaded twice."
        )

    @contextmanager
    def transaction(
        self, label: str = "", *, read_only: bool = False, recreate: bool = False
    ) -> Iterator[Session]:
        settings = self.settings
        connection = connect(settings, label)
        session = RedshiftSession(
            connection, settings, work_uri=self.work_uri, read_only=read_only, recreate=recreate
        )
        try:
            asset = label.partition(" ")[0]  # a queue can name it, as it cannot name a run
            session.execute(f"SET statement_timeout TO {settings.timeout_seconds * 1_000}")
            session.execute(f"SET query_group TO {literal(f'sparkify {asset}'.rstrip())}")
            session.execute(f"SET search_path TO {quote(settings.schema_name)}")
            if read_only:  # a snapshot, and no lock
                session.execute("BEGIN READ ONLY")
            else:
                _begin_locked(session, settings.schema_name, label)
            yield session
            if not read_only:
                session.execute("COMMIT")
            for table in session.written:  # Redshift skips those that changed little
                with suppress(Interrupted, SparkifyError):
                    session.execute(f"ANALYZE {session.published(table)}")
        finally:
            with suppress(Error, OSError):
                connection.close()  # rolls back what was not committed


def _begin_locked(session: Session, schema_name: str, label: str) -> None:
    """Begins the transaction under the lock; makes the schema and the mutex if they are missing."""
    schema, mutex = quote(schema_name), f"{quote(schema_name)}.{MUTEX}"
    found = session.rows(
        "SELECT c.relname FROM pg_namespace AS n LEFT JOIN pg_class AS c "
        "ON c.relnamespace = n.oid AND c.relname = ? WHERE n.nspname = ?",
        [MUTEX, schema_name],
    )
    try:
        if not found:
            session.execute(f"CREATE SCHEMA {schema}")
        if not (found and found[0]["relname"]):
            session.execute(f"CREATE TABLE {mutex} (never_written BOOLEAN)")
    except SparkifyError as error:
        if re.search("already exists|duplicate key", str(error)):
            raise Interrupted(f"another run has just made {session.address}") from None
        raise
    session.execute("BEGIN")
    message = f"{label}: waits for another run that writes to {session.address}"
    waiting = Timer(WAIT_SECONDS, dg.get_dagster_logger().info, [message])
    waiting.start()
    try:
        session.execute(f"LOCK {mutex}")  # before anything takes the transaction's snapshot
    finally:
        waiting.cancel()
