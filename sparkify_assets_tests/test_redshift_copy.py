"""Loading into Redshift: what COPY is told, that it reads every row, and the work folder in S3."""

import gzip
import json
import re
from itertools import repeat
from typing import Any

import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse import redshift_copy
from sparkify_assets.warehouse.redshift_copy import literal
from sparkify_assets_tests.platform import (
    RedshiftPlatform,
)
from sparkify_assets_tests.redshift_server import DROP_BEFORE, Fault
from sparkify_assets_tests.redshift_work import WORK, load, sent, warehouse, work_files
from sparkify_assets_tests.s3_server import BUCKET, DENIED, LISTING, S3Server
from sparkify_assets_tests.s3_server import Fault as S3Fault


@pytest.fixture
def platform(redshift: RedshiftPlatform) -> RedshiftPlatform:
    return redshift


def test_copy_says_it_all(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redshift_copy, "ROWS_IN_ONE_FILE", 2)
    uploaded: dict[str, bytes] = {}

    def before(request: Any) -> None:
        if request.method == "GET" and request.key.startswith(WORK):
            uploaded[request.key] = s3_server.content(request.key)

    s3_server.before = before
    assert load(made).loaded == 5
    [copy, history] = [sql for sql in sent(made) if sql.startswith("COPY")]
    columns = [column.name for column in made.catalog.tables["staging_events"].columns]
    listed = ", ".join(f'"{name}"' for name in columns)
    match = re.fullmatch(
        re.escape(f'COPY "sparkify_test"."staging_events" ({listed}) FROM ')
        + rf"'(s3://{BUCKET}/{WORK}[\w-]+/\w+-manifest)' "
        + re.escape(
            "IAM_ROLE 'arn:aws:iam::123456789012:role/sparkify-copy' REGION 'us-east-1' MANIFEST "
            "FORMAT AS JSON 'auto' GZIP TIMEFORMAT 'auto' MAXERROR 0 COMPUPDATE OFF STATUPDATE OFF"
        ),
        copy,
    )
    assert match
    assert history.startswith('COPY "sparkify_test"."load_history" ("object_id", "table_name", ')
    manifest = json.loads(uploaded[match[1].removeprefix(f"s3://{BUCKET}/")])
    assert len(manifest["entries"]) == 4  # as many as slices
    assert all(entry["mandatory"] is True for entry in manifest["entries"])
    records = []
    for entry in manifest["entries"]:
        content = gzip.decompress(uploaded[entry["url"].removeprefix(f"s3://{BUCKET}/")])
        records += [json.loads(line) for line in content.splitlines()]
    assert len(records) == 5
    assert all(list(record) == columns for record in records)
    assert work_files(s3_server) == []
    readers = [r.headers["AUTHORIZATION"] for r in s3_server.reads if r.key.startswith(WORK)]
    assert readers
    assert all("Credential=redshift/" in reader for reader in readers)  # COPY, and nobody here


def test_the_default_role(made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDSHIFT_COPY_ROLE")
    load(made)
    assert all(" IAM_ROLE default REGION " in sql for sql in sent(made) if sql.startswith("COPY"))


@pytest.mark.parametrize(
    "message",
    [
        "User arn:aws:redshift:x is not authorized to assume IAM Role arn:y",
        "S3ServiceException:Access Denied,Status 403,Error AccessDenied",
        "The bucket must be addressed using the specified endpoint",
    ],
)
def test_what_copy_is_refused_for(message: str, made: RedshiftPlatform) -> None:
    made.server.fail(Fault("XX000", message), matching="COPY")
    with pytest.raises(
        SparkifyError, match=r"REDSHIFT_COPY_ROLE must be attached .* s3:GetObj"
    ) as error:
        load(made)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["s3://bucket/it's", "a\\b", "a\nb", "a\0b"])
def test_text_that_could_end_a_literal_is_refused(text: str) -> None:
    with pytest.raises(SparkifyError, match="cannot be part of a statement"):
        literal(text)
    assert literal("s3://bucket/a b/ü-1%") == "'s3://bucket/a b/ü-1%'"


def test_rows_that_copy_read_too_often_are_noticed(
    made: RedshiftPlatform, s3_server: S3Server
) -> None:
    def double(request: Any) -> None:
        if request.method == "GET" and request.key.endswith("-manifest"):
            manifest = json.loads(s3_server.content(request.key))
            s3_server.put(request.key, json.dumps({"entries": manifest["entries"] * 2}))

    s3_server.before = double
    with pytest.raises(SparkifyError, match="COPY read 10 rows of 5 that were written"):
        load(made)
    assert "staging_events" not in made.table_names()


def test_a_copy_that_fails_is_said_and_nothing_is_loaded(
    made: RedshiftPlatform, s3_server: S3Server
) -> None:
    s3_server.fail(repeat(DENIED), key=".gz")
    with pytest.raises(SparkifyError, match=r"S3ServiceException.*Status 403"):
        load(made)
    assert "staging_events" not in made.table_names()
    assert work_files(s3_server) == []


def test_objects_are_read_before_the_lock(made: RedshiftPlatform, s3_server: S3Server) -> None:
    source = f"s3://{BUCKET}/log_data"
    s3_server.put("log_data/1.json", (made.log_data / "events.json").read_bytes())
    made.settings |= {"log_data": source, "song_data": source}
    locks: list[list[str]] = []

    def look(request: Any) -> None:
        if request.method == "GET" and request.key == "log_data/1.json":
            locks.append([sql for sql in sent(made) if sql.startswith("LOCK")])

    s3_server.before = look
    assert load(made).loaded == 5
    assert locks == [[]]


def test_a_source_object_that_goes_away(made: RedshiftPlatform, s3_server: S3Server) -> None:
    s3_server.put("raw/log_data/a.json", (made.log_data / "events.json").read_bytes())
    s3_server.put("raw/log_data/b.json", "")
    made.settings["log_data"] = f"s3://{BUCKET}/raw/log_data"
    s3_server.before = lambda request: (
        s3_server.delete("raw/log_data/b.json") if request.key.endswith("/b.json") else None
    )
    with pytest.raises(SparkifyError, match=r"b\.json: changed while it was being loaded"):
        load(made)
    assert "staging_events" not in made.table_names()
    assert load(made).loaded == 5


def test_every_schema_has_a_work_folder_of_its_own(
    made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = []
    for schema, port in (("a_1", "5439"), ("a__1", "5439"), ("a_1", "5440")):
        monkeypatch.setenv("REDSHIFT_SCHEMA", schema)
        monkeypatch.setenv("REDSHIFT_PORT", port)
        uris.append(warehouse(made).work_uri)
    assert re.fullmatch(rf"s3://{BUCKET}/{WORK}dev-a-1-on-127-0-0-1-5439-[0-9a-f]{{8}}", uris[0])
    assert len(set(uris)) == 3


def test_many_work_files_are_removed_in_parts(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redshift_copy, "ROWS_IN_ONE_FILE", 2)
    monkeypatch.setattr(redshift_copy, "DELETED_AT_ONCE", 2)
    assert load(made).loaded == 5
    assert work_files(s3_server) == []


def test_who_lost_the_lock_removes_only_its_own_work_files(
    made: RedshiftPlatform, s3_server: S3Server, impatient: None
) -> None:
    """The connection breaks off after the files are written: another run may have come since."""
    other: list[str] = []

    def before(request: Any) -> None:
        if request.method == "GET" and request.key.endswith("-manifest") and not other:
            other.append(f"{request.key}-of-another-run")
            s3_server.put(other[0], "")
            made.server.fail(DROP_BEFORE, matching="pg_last_copy_count")
            made.server.fail(Fault("42501", "permission denied"), matching="LOCK")

    s3_server.before = before
    with pytest.raises(SparkifyError, match="permission denied"):
        load(made)
    assert work_files(s3_server) == other
    load(made)
    assert work_files(s3_server) == []


def test_a_work_folder_that_cannot_be_written(made: RedshiftPlatform, s3_server: S3Server) -> None:
    s3_server.fail(repeat(DENIED), key=WORK, method="PUT")
    with pytest.raises(SparkifyError) as error:
        load(made)
    assert str(error.value).startswith(f"SPARKIFY_S3_WORK: s3://{BUCKET}/{WORK}")
    assert "This needs s3:PutObject" in str(error.value)
    assert "ANONYMOUS" not in str(error.value)
    assert "staging_events" not in made.table_names()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (DENIED, "S3 cannot be used: .*AccessDenied.* AWS_PROFILE.* This needs s3:PutObject, "),
        (S3Fault(400, "ExpiredToken"), "S3 cannot be used: .*made.* AWS_PROFILE, .* log in again"),
        (S3Fault(404, "NoSuchBucket"), "there is no such bucket. Check the address"),
    ],
)
def test_a_work_folder_that_cannot_be_listed(
    fault: S3Fault, said: str, made: RedshiftPlatform, s3_server: S3Server
) -> None:
    """What HEAD is refused for has no reason in words, so it is not the first thing to be asked."""
    for method in ("GET", "HEAD"):
        s3_server.fail(repeat(fault), key=LISTING, method=method)
    with pytest.raises(SparkifyError, match=rf"^SPARKIFY_S3_WORK: s3://{BUCKET}/{WORK}.*: {said}"):
        load(made)
    assert "staging_events" not in made.table_names()
