"""Amazon Redshift: one short-lived connection and one transaction per table.

A derived table is built in a temporary table of the same name, without NOT NULL, which Redshift
would enforce instead of counting violations. The audited rows replace the published ones by DELETE
and INSERT: grants and views survive, and readers keep their snapshot until the commit. Writers lock
a small mutex table: a lock on the table itself would block readers.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any, ClassVar

import dagster as dg
from redshift_connector.error import Error

from sparkify_assets.dialect import quote, type_named
from sparkify_assets.errors import SparkifyError, TransientError
from sparkify_assets.formats import slug
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Session, T, Warehouse
from sparkify_assets.warehouse.landing import Landing, bare_columns
from sparkify_assets.warehouse.redshift_connection import Interrupted, connect, translate_error
from sparkify_assets.warehouse.redshift_copy import copy_landed, literal

MUTEX = "sparkify_mutex"
ATTEMPTS = 5  # of a whole transaction
WAIT_SECONDS = 5  # for another run, before a message is logged


class RedshiftSession(Session):
    """A transaction on Redshift, begun and ended by `RedshiftWarehouse`."""

    def __init__(
        self, warehouse: "RedshiftWarehouse", connection: Any, *, read_only: bool, recreate: bool
    ) -> None:
        self._settings, self._work_uri = warehouse.settings, warehouse.work_uri
        super().__init__(self._settings.address, recreate=recreate)
        self._connection, self._read_only = connection, read_only

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """Executes one statement; raises `Interrupted` if the transaction may run again."""
        cursor = self._connection.cursor()
        cursor.paramstyle = "qmark"
        try:
            return cursor.execute(statement, list(parameters) or None)
        except (Error, OSError) as error:
            raise translate_error(error, self.address) from None

    def published(self, table: str) -> str:
        """The table's name with its schema, so that no temporary table hides it."""
        return f"{quote(self._settings.schema_name)}.{quote(table)}"

    def columns(self, table: str) -> list[str]:
        """As in base; also drops keys of the table, in a transaction that writes."""
        if not self._read_only:
            self._drop_keys(table)
        found = self.rows(
            "SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type "
            "FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = ? AND a.attnum > 0 AND NOT a.attisdropped "
            "ORDER BY a.attnum",
            [self._settings.schema_name, table],
        )
        return [f"{row['name']} {type_named(row['type'])}" for row in found]

    def drop(self, table: str) -> None:
        """Drops a table and logs the grants lost with it."""
        grants = self.rows(
            "SELECT privilege_type AS privilege, grantee "
            "FROM information_schema.table_privileges "
            "WHERE table_schema = ? AND table_name = ? AND grantee <> grantor "
            "ORDER BY grantee, privilege_type",
            [self._settings.schema_name, table],
        )
        lost = ", ".join(f"{row['privilege']} to {row['grantee']}" for row in grants) or "none"
        dg.get_dagster_logger().warning(f"{table}: dropped; it had these grants: {lost}")
        super().drop(table)

    def insert(self, landing: Landing, after_id: int = 0) -> None:
        copy_landed(self, landing, after_id, self._work_uri, self._settings)

    def candidate(self, table: Table) -> str:
        return f"CREATE TEMP TABLE {quote(table.name)} ({bare_columns(table)})"

    def publish(self, table: Table) -> None:
        if table.insert:
            self.merge(table, table.name, "true")
        else:
            self.written.append(table)

    def _drop_keys(self, table: str) -> None:
        """Drops keys that someone declared: Redshift would trust them."""
        keys = self.rows(
            "SELECT n.nspname AS schema_name, c.relname AS table_name, k.conname AS name "
            "FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "JOIN pg_class AS t ON t.oid = k.conrelid OR t.oid = k.confrelid "
            "JOIN pg_namespace AS s ON s.oid = t.relnamespace "
            "WHERE k.contype IN ('f', 'p', 'u') AND s.nspname = ? AND t.relname = ? "
            "ORDER BY k.contype, n.nspname, c.relname, k.conname",  # foreign keys first
            [self._settings.schema_name, table],
        )
        for key in keys:
            owner = f"{quote(key['schema_name'])}.{quote(key['table_name'])}"
            self.execute(f"ALTER TABLE {owner} DROP CONSTRAINT {quote(key['name'])}")
            dg.get_dagster_logger().info(f"{owner}: dropped its constraint {key['name']}")


class RedshiftWarehouse(Warehouse):
    """A schema of a Redshift database.

    Its settings are not fields: those would put a password into run configs.
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
    def schema_address(self) -> str:
        return f"{self.settings.database}.{self.settings.schema_name}"

    @property
    def work_uri(self) -> str:
        """This schema's part of `SPARKIFY_S3_WORK`."""
        return f"{self.s3_work}/{slug(f'{self.address}:{self.settings.port}')}"

    def in_transaction(self, work: Callable[[Session], T], label: str, **options: bool) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return super().in_transaction(work, label, **options)
            except Interrupted as interruption:
                reason = str(interruption)
            if attempt < ATTEMPTS:
                dg.get_dagster_logger().info(f"{label}: {reason}: trying again")
                time.sleep(random.random() * 2**attempt)  # noqa: S311  # no secret
        raise TransientError(
            f"{self.address}: {reason}, {ATTEMPTS} times. Run it again: nothing is loaded twice."
        )

    @contextmanager
    def transaction(
        self, label: str = "", *, read_only: bool = False, recreate: bool = False
    ) -> Iterator[Session]:
        settings = self.settings
        connection = connect(settings, label)
        session = RedshiftSession(self, connection, read_only=read_only, recreate=recreate)
        try:
            asset = label.partition(" ")[0]  # without the run id, so that WLM rules can name it
            session.execute(f"SET statement_timeout TO {settings.timeout_seconds * 1_000}")
            session.execute(f"SET query_group TO {literal(f'sparkify {asset}'.rstrip())}")
            session.execute(f"SET search_path TO {quote(settings.schema_name)}")
            if read_only:  # a snapshot needs no lock
                session.execute("BEGIN READ ONLY")
            else:
                _begin_locked(session, settings.schema_name, label)
            yield session
            if not read_only:
                session.execute("COMMIT")
            for table in session.written:  # Redshift skips tables that changed little
                with suppress(Interrupted, SparkifyError):
                    session.execute(f"ANALYZE {session.published(table.name)}")
        finally:
            with suppress(Error, OSError):
                connection.close()  # rolls back what was not committed


def _begin_locked(session: Session, schema_name: str, label: str) -> None:
    """Begins a transaction and takes the lock; creates a missing schema and mutex."""
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
            raise Interrupted(f"another run has just created {session.address}") from None
        raise
    session.execute("BEGIN")
    message = f"{label}: waiting for another run that writes to {session.address}"
    waiting = Timer(WAIT_SECONDS, dg.get_dagster_logger().info, [message])
    waiting.start()
    try:
        session.execute(f"LOCK {mutex}")  # before anything takes the transaction's snapshot
    finally:
        waiting.cancel()
