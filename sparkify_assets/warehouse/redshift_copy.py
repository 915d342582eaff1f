"""Copies rows into Redshift: one COPY per table, from compressed files in S3.

A manifest lists the files, so COPY loads all of them or none; then the rows are counted. The files
exist only while a load runs.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError
from dagster_aws.s3.sensor import get_objects

from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError
from sparkify_assets.s3_access import s3_client, s3_errors_explained
from sparkify_assets.settings import RedshiftSettings
from sparkify_assets.warehouse.base import Session
from sparkify_assets.warehouse.landing import Landing, landed_columns

DELETED_AT_ONCE = 1_000  # files per request, S3's limit
ROWS_IN_ONE_FILE = 10_000  # more rows are spread over all slices
WRITING = (
    "s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject, and s3:ListBucket on the bucket"
)


class WorkFolder:
    """One schema's part of `SPARKIFY_S3_WORK`, used under the schema's lock.

    Leftovers of a killed process are removed first. A process that lost its connection has also
    lost the lock without noticing, so `discard` removes only files of its own.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._bucket, _, self._prefix = uri.removeprefix("s3://").partition("/")
        self._keys: list[str] = []
        with self._explained():  # list first: an error of HEAD has no reason in it
            self._client = s3_client()
            left = get_objects(self._bucket, f"{self._prefix}/", client=self._client)
            self._delete([entry["Key"] for entry in left])
            answer = self._client.head_bucket(Bucket=self._bucket)
        self.region: str | None = answer.get("BucketRegion")

    def upload(self, path: Path) -> str:
        """Moves a file into the folder; returns its URI."""
        key = f"{self._prefix}/{uuid4().hex}-{path.name}"
        self._keys.append(key)
        with self._explained(), path.open("rb") as file:
            self._client.upload_fileobj(file, self._bucket, key)
        path.unlink()
        return f"s3://{self._bucket}/{key}"

    def discard(self) -> None:
        """Removes the files that this object uploaded."""
        with self._explained():
            self._delete(self._keys)

    def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            found = [{"Key": key} for key in keys[start : start + DELETED_AT_ONCE]]
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": found})
            for error in answer.get("Errors", []):  # S3 reports these without an exception
                raise ClientError({"Error": error}, "DeleteObjects")

    def _explained(self) -> Any:
        return s3_errors_explained(f"SPARKIFY_S3_WORK: {self.uri}", needs=WRITING)


def copy_landed(
    session: Session, landing: Landing, after_id: int, work_uri: str, settings: RedshiftSettings
) -> None:
    """Copies the landed rows into their tables; raises SparkifyError if any is missing."""
    work = WorkFolder(work_uri)
    role = "default" if settings.copy_role == "default" else literal(settings.copy_role)
    region = f" REGION {literal(work.region)}" if work.region else ""
    try:
        for table in landing.tables:
            name = quote(table.name)
            [[rows]] = landing.connection.execute(f"SELECT COUNT(*) FROM {name}").fetchall()
            if not rows:
                continue
            parts = settings.slices if rows >= ROWS_IN_ONE_FILE else 1
            entries = []
            for part in range(parts):
                path = landing.path.with_name(f"{table.name}-{part}.json.gz")
                landing.connection.execute(
                    f"COPY (SELECT {landed_columns(after_id)} FROM {name} "
                    f"WHERE rowid % {parts} = {part}) TO ? (FORMAT json, COMPRESSION gzip)",
                    [str(path)],
                )
                entries.append({"url": work.upload(path), "mandatory": True})
            path = landing.path.with_name("manifest")
            path.write_text(json.dumps({"entries": entries}))
            manifest = work.upload(path)
            columns = ", ".join(quote(column.name) for column in table.columns)
            session.execute(
                f"COPY {session.published(table.name)} ({columns}) FROM {literal(manifest)} "
                f"IAM_ROLE {role}{region} MANIFEST FORMAT AS JSON 'auto' GZIP TIMEFORMAT 'auto' "
                "MAXERROR 0 COMPUPDATE OFF STATUPDATE OFF"
            )
            copied = session.rows("SELECT pg_last_copy_count() AS n")[0]["n"]
            if copied != rows:
                raise SparkifyError(
                    f"{table.name} was not loaded: COPY read {copied:,} rows of {rows:,} that were "
                    f"written to {work.uri}"
                )
    finally:
        with suppress(SparkifyError):  # the next load removes leftovers, or says why it cannot
            work.discard()


def literal(text: str) -> str:
    """Text as an SQL literal, for statements that take no parameters; an error if unsafe."""
    if not text.isprintable() or "'" in text or "\\" in text:
        raise SparkifyError(f"{text!r} holds characters that cannot be part of a statement.")
    return f"'{text}'"
