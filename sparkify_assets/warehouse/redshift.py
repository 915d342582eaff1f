"""Amazon Redshift, through its own driver: one short-lived connection and one transaction a table.

Writers exclude each other by a lock on a small table that nobody reads: a lock on the table itself
would make readers wait. A table is built beside the published one, in a temporary table of the
same name without constraints, which Redshift would enforce where they should be counted. What
passed the audit replaces the published rows by DELETE and INSERT: grants, views and the table's
identity survive, and readers keep their snapshot until the commit.

Rows are loaded by way of a local DuckDB: as compressed files under a work folder in S3, and by one
COPY a table, of which nothing is left to chance: a manifest says which files, and the count of
rows must be right.
"""

import hashlib
import json
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from threading import Timer
from typing import Any, ClassVar
from uuid import uuid4

import boto3
import dagster as dg
import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError
from redshift_connector.error import Error

from sparkify_assets.catalog import Table
from sparkify_assets.dialect import type_named
from sparkify_assets.errors import SparkifyError, launch_command
from sparkify_assets.object_store import ObjectStore, s3_errors_in_words
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets.warehouse.base import (
    Landing,
    Row,
    Session,
    T,
    Warehouse,
    bare_columns,
    landed_columns,
    quote,
)

MUTEX = "sparkify_mutex"
CONNECT_SECONDS = 20
ATTEMPTS = 5  # of a whole transaction
FORGOTTEN_AT_ONCE = 10_000  # objects in one DELETE: a statement may have 16 MB
DELETED_AT_ONCE = 1_000  # files: S3 takes no more
ROWS_IN_ONE_FILE = 10_000  # so many or more are spread over all slices
WAIT_SECONDS = 5  # for another run, before that is said
WRITING = (
    "s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject there, and s3:ListBucket on the "
    "bucket"
)
CONFLICTS = re.compile(
    r"^1023$|Serializable isolation violation|conflict with concurrent transaction"
    r"|could not open relation with OID|deadlock detected"
)
IN_WORDS = {
    "28000": "the user or its password is wrong. Set REDSHIFT_USER and REDSHIFT_PASSWORD",
    "28P01": "the user or its password is wrong. Set REDSHIFT_USER and REDSHIFT_PASSWORD",
    "3D000": "there is no such database. Set REDSHIFT_DATABASE",
    "42501": "the user lacks a permission. Grant it, or choose another REDSHIFT_SCHEMA",
    "57014": "it took too long, or waited too long for another run. REDSHIFT_TIMEOUT_SECONDS sets "
    "how long it may",
}

COPY_IN_WORDS = {
    "not authorized to (assume|get credentials)": "Attach the role to the cluster or namespace, "
    "and let Redshift assume it. REDSHIFT_COPY_ROLE names it",
    "must be addressed using the specified endpoint": "The bucket of SPARKIFY_S3_WORK is in "
    "another region, and COPY was not told which. s3:ListBucket on it would have said",
    "S3ServiceException:Access Denied": "The role of REDSHIFT_COPY_ROLE lacks s3:GetObject on "
    "SPARKIFY_S3_WORK, or s3:ListBucket on its bucket",
}


class Interrupted(Exception):
    """A conflict or a broken connection: the transaction can be done again, even if committed."""


class RedshiftSession(Session):
    """A transaction on Redshift, begun by `RedshiftWarehouse`."""

    def __init__(
        self, warehouse: "RedshiftWarehouse", connection: Any, *, read_only: bool = False
    ) -> None:
        self._warehouse = warehouse
        self._connection = connection
        self._read_only = read_only
        self.written: list[Table] = []

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """Executes one statement: the cursor, with its rows if it has any.

        Raises:
            Interrupted: trying the whole transaction again can help.
            SparkifyError: Redshift refuses the statement.
        """
        cursor = self._connection.cursor()
        cursor.paramstyle = "qmark"
        try:
            return cursor.execute(statement, list(parameters) or None)
        except (Error, OSError) as error:
            raise self._warehouse.in_words(error) from None

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        cursor = self.execute(query, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def shape(self, table: Table) -> str | None:
        if not self._read_only:
            self._drop_keys(table)
        columns = self.rows(
            "SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type "
            "FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = ? AND a.attnum > 0 AND NOT a.attisdropped "
            "ORDER BY a.attnum",
            [self._warehouse.schema_name, table.name],
        )
        found = ", ".join(f"{row['name']} {type_named(row['type'])}" for row in columns)
        declared = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        if not found:
            return None
        if found == declared:
            return ""
        return f"it has ({found}), {table.path.name} declares ({declared})"

    def create(self, table: Table) -> None:
        self.execute(table.create)

    def empty(self, table: Table, *, recreate: bool) -> None:
        self._ensure(table, recreate=recreate)
        self.execute(f"DELETE FROM {self._warehouse.published(table)}")

    def forget(self, table: Table, object_ids: Sequence[int]) -> None:
        for start in range(0, len(object_ids), FORGOTTEN_AT_ONCE):
            ids = ", ".join(str(int(i)) for i in object_ids[start : start + FORGOTTEN_AT_ONCE])
            self.execute(
                f"DELETE FROM {self._warehouse.published(table)} WHERE object_id IN ({ids})"
            )

    def insert(self, landing: Landing, after_id: int = 0) -> None:
        work = WorkFolder(self._warehouse)
        work.clear()  # of what a killed process left: whoever writes holds the lock
        try:
            for table in landing.tables:
                self._copy(table, work, landing, after_id)
        except BaseException:
            with suppress(SparkifyError):
                work.discard()
            raise
        work.discard()

    def build(self, table: Table, *, recreate: bool) -> None:
        self._ensure(table, recreate=recreate)
        self.execute(f"CREATE TEMP TABLE {quote(table.name)} ({bare_columns(table)})")
        try:
            self.execute(table.insert or "")
        except SparkifyError as error:
            raise SparkifyError(
                f"{table.name} was not published: the INSERT of {table.path} failed: {error}"
            ) from None

    def publish(self, table: Table) -> None:
        if table.insert:
            columns = ", ".join(quote(column.name) for column in table.columns)
            self.execute(f"DELETE FROM {self._warehouse.published(table)}")
            self.execute(
                f"INSERT INTO {self._warehouse.published(table)} ({columns}) "
                f"SELECT {columns} FROM {quote(table.name)}"
            )
        self.written.append(table)

    def _ensure(self, table: Table, *, recreate: bool) -> None:
        """Makes sure that the published table is there, in the shape that its file declares."""
        difference = self.shape(table)
        if difference and not recreate:
            raise SparkifyError(
                f"{table.name} in {self._warehouse.address} has another shape than its file: "
                f"{difference}. To make it anew, which takes away the grants on it: "
                f"{launch_command(table.name, recreate=True)}"
            )
        if difference:
            self._drop(table)
        if difference != "":
            self.create(table)

    def _drop(self, table: Table) -> None:
        """Drops a table that is made anew: Redshift lets nobody change most of its shape."""
        grants = self.rows(
            "SELECT privilege_type AS privilege, grantee "
            "FROM information_schema.table_privileges "
            "WHERE table_schema = ? AND table_name = ? AND grantee <> grantor "
            "ORDER BY grantee, privilege_type",
            [self._warehouse.schema_name, table.name],
        )
        lost = ", ".join(f"{row['privilege']} to {row['grantee']}" for row in grants) or "none"
        dg.get_dagster_logger().warning(f"{table.name}: made anew; grants that were on it: {lost}")
        self.execute(f"DROP TABLE {self._warehouse.published(table)}")

    def _drop_keys(self, table: Table) -> None:
        """Drops the keys that an earlier version declared, from the table and to it.

        Whoever writes a table is about to audit it, and Redshift would believe them.
        """
        keys = self.rows(
            "SELECT n.nspname AS schema_name, c.relname AS table_name, k.conname AS name, "
            "pg_get_constraintdef(k.oid) AS definition "
            "FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "JOIN pg_class AS t ON t.oid = k.conrelid OR t.oid = k.confrelid "
            "JOIN pg_namespace AS s ON s.oid = t.relnamespace "
            "WHERE k.contype IN ('f', 'p', 'u') AND s.nspname = ? AND t.relname = ? "
            "ORDER BY k.contype, n.nspname, c.relname, k.conname",  # those that refer come first
            [self._warehouse.schema_name, table.name],
        )
        for key in keys:
            owner = f"{quote(key['schema_name'])}.{quote(key['table_name'])}"
            self.execute(f"ALTER TABLE {owner} DROP CONSTRAINT {quote(key['name'])}")
            dg.get_dagster_logger().info(f"{owner}: {key['definition']} is no longer declared")

    def _copy(self, table: Table, work: "WorkFolder", landing: Landing, after_id: int) -> None:
        """Writes the rows of a table into a few compressed files, and lets Redshift copy them."""
        counted = landing.connection.execute(f"SELECT COUNT(*) FROM {quote(table.name)}")
        (rows,) = counted.fetchone() or (0,)
        if not rows:
            return
        parts = self._warehouse.slices if rows >= ROWS_IN_ONE_FILE else 1
        files = []
        for part in range(parts):
            path = landing.path.with_name(f"{table.name}-{part}.json.gz")
            landing.connection.execute(
                f"COPY (SELECT {landed_columns(table, after_id)} FROM {quote(table.name)} "
                f"WHERE rowid % {parts} = {part}) TO ? (FORMAT json, COMPRESSION gzip)",
                [str(path)],
            )
            files.append(work.upload(path))
        columns = ", ".join(quote(column.name) for column in table.columns)
        role = self._warehouse.copy_role
        region = f" REGION {literal(work.region)}" if work.region else ""
        self.execute(
            f"COPY {self._warehouse.published(table)} ({columns}) "
            f"FROM {literal(work.manifest(files))} "
            f"IAM_ROLE {role if role == 'default' else literal(role)}{region} MANIFEST "
            "FORMAT AS JSON 'auto' GZIP TIMEFORMAT 'auto' MAXERROR 0 COMPUPDATE OFF STATUPDATE OFF"
        )
        copied = self.rows("SELECT pg_last_copy_count() AS n")[0]["n"]
        if copied != rows:
            raise SparkifyError(
                f"{table.name} was not loaded: COPY read {copied:,} rows of {rows:,} that were "
                f"written to {work.uri}"
            )


class WorkFolder:
    """The part of `SPARKIFY_S3_WORK` that belongs to one schema; who uses it holds its lock.

    Who lost the connection has lost the lock too, and does not know it yet: what is removed in the
    end is what was written here.
    """

    def __init__(self, warehouse: "RedshiftWarehouse") -> None:
        place = f"{warehouse.address}:{warehouse.port}"
        legible = re.sub("[^a-z0-9]+", "-", place.lower())  # but not unique
        digest = hashlib.sha256(place.encode()).hexdigest()
        self.uri = f"{warehouse.s3_work}/{legible}-{digest[:8]}"
        self._bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")
        self._keys: list[str] = []
        self._client = warehouse.s3_client

    @cached_property
    def region(self) -> str | None:
        """The region of the bucket; to be asked for late, since this answer never says why not."""
        with self._in_words():
            answer = self._client.head_bucket(Bucket=self._bucket)
        return str(answer["BucketRegion"]) if "BucketRegion" in answer else None

    def upload(self, path: Path) -> str:
        """Copies a file into the folder, and removes it here: its URI."""
        key = self._new_key(path.name)
        with self._in_words(), path.open("rb") as file:
            self._client.upload_fileobj(file, self._bucket, key)
        path.unlink()
        return f"s3://{self._bucket}/{key}"

    def manifest(self, files: list[str]) -> str:
        """Writes a manifest of files that must all be there: its URI."""
        entries = [{"url": uri, "mandatory": True} for uri in files]
        key = self._new_key("manifest")
        with self._in_words():
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=json.dumps({"entries": entries}).encode()
            )
        return f"s3://{self._bucket}/{key}"

    def clear(self) -> None:
        """Removes every file of the folder."""
        with self._in_words():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}/"):
                self._delete([entry["Key"] for entry in page.get("Contents", [])])

    def discard(self) -> None:
        """Removes the files that were written here."""
        with self._in_words():
            for start in range(0, len(self._keys), DELETED_AT_ONCE):
                self._delete(self._keys[start : start + DELETED_AT_ONCE])

    def _new_key(self, name: str) -> str:
        self._keys.append(f"{self._prefix}/{uuid4().hex}-{name}")
        return self._keys[-1]

    def _delete(self, keys: list[str]) -> None:
        if keys:
            found = {"Objects": [{"Key": key} for key in keys]}
            self._client.delete_objects(Bucket=self._bucket, Delete=found)

    def _in_words(self) -> Any:
        return s3_errors_in_words(f"SPARKIFY_S3_WORK: {self.uri}", needs=WRITING)


class RedshiftWarehouse(Warehouse):
    """A schema of a Redshift database; the fields are those of `RedshiftSettings`.

    The password is no field, so that it is in no run config: it is read when it is needed.
    """

    kind: ClassVar[str] = "redshift"
    host: str | None
    port: int
    database: str
    schema_name: str
    user: str | None
    cluster: str | None
    workgroup: str | None
    region: str | None
    sslmode: str
    copy_role: str
    slices: int
    timeout_seconds: int
    s3_work: str

    @property
    def address(self) -> str:
        place = self.host or self.cluster or self.workgroup
        return f"{self.database}.{self.schema_name} on {place}"

    def published(self, table: Table) -> str:
        """The name of a table that no temporary table can take."""
        return f"{quote(self.schema_name)}.{quote(table.name)}"

    @cached_property
    def s3_client(self) -> Any:
        """A client for the work folder: it takes long to make."""
        return ObjectStore().get_client()

    def in_transaction(
        self, work: Callable[[Session], T], label: str, *, read_only: bool = False
    ) -> T:
        """Does some work in a transaction; the whole of it again after a conflict."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return super().in_transaction(work, label, read_only=read_only)
            except Interrupted as interruption:
                reason = str(interruption)
            if attempt < ATTEMPTS:
                dg.get_dagster_logger().info(f"{label}: {reason}: trying again")
                time.sleep(random.random() * 2**attempt)  # noqa: S311  # no secret
        raise SparkifyError(
            f"{self.address}: {reason}, {ATTEMPTS} times. Run it again: nothing is loaded twice."
        )

    @contextmanager
    def transaction(self, label: str = "", *, read_only: bool = False) -> Iterator[Session]:
        connection = self.connect(label)
        session = RedshiftSession(self, connection, read_only=read_only)
        try:
            asset = label.partition(" ")[0]  # a queue can name it, as it cannot name a run
            session.execute(f"SET statement_timeout TO {self.timeout_seconds * 1_000}")
            session.execute(f"SET query_group TO {literal(f'sparkify {asset}'.rstrip())}")
            session.execute(f"SET search_path TO {quote(self.schema_name)}")
            if read_only:  # a snapshot, and no lock
                session.execute("BEGIN READ ONLY")
            else:
                self._begin(session, label)
            yield session
            if not read_only:
                session.execute("COMMIT")
            for table in session.written:  # Redshift skips those that changed little
                with suppress(Interrupted, SparkifyError):
                    session.execute(f"ANALYZE {self.published(table)}")
        finally:
            with suppress(Error, OSError):
                connection.close()  # rolls back what was not committed

    def connect(self, label: str) -> Any:
        """A connection of the driver, on which every statement is committed by itself.

        Raises:
            SparkifyError: there is no way in, and what to do about it.
        """
        ways: dict[str, Any] = {"iam": False, "user": self.user}
        if self.cluster:
            ways = {"iam": True, "cluster_identifier": self.cluster, "db_user": self.user}
        elif self.workgroup:
            ways = {"iam": True, "is_serverless": True, "serverless_work_group": self.workgroup}
        elif password := RedshiftSettings.from_environment().password:
            ways["password"] = password.get_secret_value()
        if ways["iam"]:
            ways["region"] = self._region_of_iam()
        if self.host:
            ways |= {"host": self.host, "port": self.port}
        try:
            if self.host:  # the driver's own timeout would go on to end long statements
                socket.create_connection((self.host, self.port), CONNECT_SECONDS).close()
            connection = redshift_connector.connect(
                database=self.database,
                sslmode=self.sslmode,
                application_name=f"sparkify_assets {label}",
                tcp_keepalive_idle=60,
                tcp_keepalive_interval=10,
                tcp_keepalive_count=5,
                **ways,
            )
        except (ClientError, BotoCoreError) as error:
            raise SparkifyError(
                f"{self.address}: the login by IAM failed: {error}. "
                "Check AWS_PROFILE and its permissions, or log in again."
            ) from None
        except (Error, OSError) as error:
            raise self._why_no_connection(error) from None
        connection.autocommit = True  # transactions are begun and ended here, in words
        return connection

    def _region_of_iam(self) -> str:
        """The region to log in: without one the driver would guess it from the host's names."""
        try:
            found = boto3.Session().region_name
        except BotoCoreError as error:
            raise SparkifyError(
                f"{self.address}: wrong AWS configuration: {error}. Set AWS_PROFILE."
            ) from None
        if region := self.region or found:
            return str(region)
        raise SparkifyError(
            f"{self.address}: the login by IAM needs a region. Set REDSHIFT_REGION, or "
            "AWS_DEFAULT_REGION."
        )

    def _why_no_connection(self, error: Exception) -> SparkifyError:
        causes = [error, *(arg for arg in error.args if isinstance(arg, OSError))]
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            words = "no machine has this name. Set REDSHIFT_HOST to the endpoint, without a port"
        elif any(isinstance(cause, TimeoutError) for cause in causes):
            limit = f" within {CONNECT_SECONDS} s" if self.host else ""
            words = (
                f"it does not answer{limit}. Its security group must let this machine in, and it "
                "must be reachable from here"
            )
        elif any(isinstance(cause, ssl.SSLError) for cause in causes):
            words = (
                f"its certificate is not trusted: {causes[-1]}. Set REDSHIFT_HOST to the endpoint "
                "itself, or, behind a tunnel, REDSHIFT_SSLMODE=verify-ca"
            )
        elif any(isinstance(cause, OSError) for cause in causes):
            words = f"it cannot be reached: {causes[-1]}. Set REDSHIFT_HOST and REDSHIFT_PORT"
        else:
            said = self.in_words(error)
            return said if isinstance(said, SparkifyError) else SparkifyError(f"{said}.")
        return SparkifyError(f"{self.address}: {words}.")

    def in_words(self, error: Exception) -> Exception:
        """What an error of the driver is: an interruption, or a message that says what to do."""
        said = error.args[0] if error.args and isinstance(error.args[0], dict) else None
        if said is None:
            return Interrupted(f"the connection to {self.address} broke off ({error})")
        message, detail = str(said.get("M", "")), str(said.get("D", ""))
        if CONFLICTS.search(message) or CONFLICTS.search(detail):
            return Interrupted(f"another transaction interfered ({detail or message})")
        words = IN_WORDS.get(said.get("C", ""))
        for pattern, remedy in COPY_IN_WORDS.items():
            if re.search(pattern, message):
                words = remedy
        text = f"{self.address}: {message} {detail}".rstrip()
        return SparkifyError(f"{text}: {words}." if words else text)

    def _begin(self, session: RedshiftSession, label: str) -> None:
        """Begins the transaction, under the lock."""
        schema = quote(self.schema_name)
        mutex = f"{schema}.{MUTEX}"
        found = session.rows(
            "SELECT n.nspname, c.relname FROM pg_namespace AS n LEFT JOIN pg_class AS c "
            "ON c.relnamespace = n.oid AND c.relname = ? WHERE n.nspname = ?",
            [MUTEX, self.schema_name],
        )
        try:
            if not found:
                session.execute(f"CREATE SCHEMA {schema}")
            if not (found and found[0]["relname"]):
                session.execute(f"CREATE TABLE {mutex} (never_written BOOLEAN)")
        except SparkifyError as error:
            if re.search("already exists|duplicate key", str(error)):
                raise Interrupted(f"another run has just made {self.address}") from None
            raise
        session.execute("BEGIN")
        waiting = Timer(
            WAIT_SECONDS,
            dg.get_dagster_logger().info,
            [f"{label}: waits for another run that writes to {self.address}"],
        )
        waiting.start()
        try:
            session.execute(f"LOCK {mutex}")  # before anything takes the transaction's snapshot
        finally:
            waiting.cancel()


def literal(text: str) -> str:
    """Text as an SQL literal, where no parameter can stand.

    Raises:
        SparkifyError: it has characters that end a literal or are changed in one.
    """
    if not text.isprintable() or "'" in text or "\\" in text:
        raise SparkifyError(f"{text!r} holds characters that cannot be part of a statement.")
    return f"'{text}'"
