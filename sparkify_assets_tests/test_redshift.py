"""What is special about Redshift: what is sent to it, and what becomes of it when it fails.

Verified against the stand-in of `redshift_server.py`, which says what it does not prove.
"""

import gzip
import itertools
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import redshift_connector
import sqlfluff
from moto.redshift.models import Cluster

from sparkify_assets import simulator
from sparkify_assets.catalog import Catalog
from sparkify_assets.errors import SparkifyError
from sparkify_assets.loading import Load, prepared_load
from sparkify_assets.settings import Settings
from sparkify_assets.sources import sources_of
from sparkify_assets.warehouse import redshift as engine
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets.warehouse.base import Session
from sparkify_assets.warehouse.redshift import RedshiftWarehouse, literal
from sparkify_assets_tests.conftest import write_made_data
from sparkify_assets_tests.platform import (
    LivePlatform,
    RedshiftPlatform,
    failed_checks,
    failure_of,
)
from sparkify_assets_tests.redshift_server import CONFLICT, DROP_AFTER, DROP_BEFORE, Fault
from sparkify_assets_tests.s3_server import BUCKET, DENIED, LISTING, S3Server
from sparkify_assets_tests.s3_server import Fault as S3Fault

WORK = "work/sparkify/"


@pytest.fixture
def made(redshift: RedshiftPlatform) -> RedshiftPlatform:
    """Made data, nothing of it loaded."""
    write_made_data(redshift)
    return redshift


@pytest.fixture
def platform(redshift: RedshiftPlatform) -> RedshiftPlatform:
    return redshift


@pytest.fixture(params=["redshift", pytest.param("live", marks=pytest.mark.redshift)])
def either(request: pytest.FixtureRequest) -> RedshiftPlatform:
    """Made data, nothing of it loaded: on the stand-in, and on a cluster that there may be."""
    found: RedshiftPlatform = request.getfixturevalue(request.param)
    write_made_data(found)
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits before it tries again."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def warehouse(platform: RedshiftPlatform) -> RedshiftWarehouse:
    found = warehouse_of(Settings(**platform.settings))
    assert isinstance(found, RedshiftWarehouse)
    return found


def load(platform: RedshiftPlatform, into: RedshiftWarehouse | None = None) -> Load:
    """Loads the events in a transaction of their own."""
    catalog = Catalog.load(platform.sql)
    source = sources_of(Settings(**platform.settings))["event_files"]
    table, into = catalog.tables["staging_events"], into or warehouse(platform)
    with prepared_load(
        into, catalog, table, source, max_rejected_share=1, run_id="run", log=print
    ) as prepared:

        def work(session: Session) -> Load:
            done = prepared.write(session)
            session.publish(table)
            return done

        return into.in_transaction(work, "staging_events run")


def publish(platform: RedshiftPlatform, into: RedshiftWarehouse | None = None) -> None:
    """Builds and publishes the users in a transaction of their own."""
    tables = Catalog.load(platform.sql).tables
    table, events = tables["users"], tables["events"]

    def work(session: Session) -> None:
        if session.shape(events) is None:
            session.create(events)
        session.build(table, recreate=False)
        session.publish(table)

    (into or warehouse(platform)).in_transaction(work, "users run")


def state(platform: RedshiftPlatform) -> dict[str, list[tuple[Any, ...]]]:
    """All that others see, but for when and by which run it was loaded."""
    found = {}
    for name in sorted(platform.table_names()):
        rows = platform.rows(f"SELECT * FROM {name}")
        cut = -2 if name == "load_history" else None
        found[name] = sorted((row[:cut] for row in rows), key=repr)
    return found


def work_files(s3: S3Server) -> list[str]:
    return s3.names(WORK)


def sent(platform: RedshiftPlatform) -> list[str]:
    return [statement.sql for statement in platform.server.statements]


# --- What is sent ----------------------------------------------------------------------------


def test_a_publish_statement_by_statement(published: RedshiftPlatform) -> None:
    result = published.run("users")
    statements = published.server.statements
    label = f"users {result.run_id}"
    assert {s.application_name for s in statements} == {f"sparkify_assets {label}"}
    assert len({s.connection for s in statements}) == 1
    lines = [re.sub(r"\s+", " ", s.sql) for s in statements]
    changes = [line for line in lines if not line.startswith("SELECT ")]
    mutex = '"sparkify_test".sparkify_mutex'
    assert changes[:5] == [
        "SET statement_timeout TO 3600000",
        "SET query_group TO 'sparkify users'",
        'SET search_path TO "sparkify_test"',
        "BEGIN",
        f"LOCK {mutex}",
    ]
    assert lines.index(f"LOCK {mutex}") == lines.index("BEGIN") + 1
    assert changes[5].startswith('CREATE TEMP TABLE "users" ("user_id" BIGINT, "first_name" ')
    assert changes[6].startswith("INSERT INTO users (user_id, ")
    assert changes[7] == 'DELETE FROM "sparkify_test"."users"'
    assert changes[8].startswith('INSERT INTO "sparkify_test"."users" ("user_id", ')
    assert changes[9:] == ["COMMIT", 'ANALYZE "sparkify_test"."users"']
    audits = [n for n, line in enumerate(lines) if "AS violating" in line]
    assert lines.index(changes[6]) < min(audits)
    assert max(audits) < lines.index(changes[7])


def test_reading_locks_and_writes_nothing(published: RedshiftPlatform) -> None:
    """A check alone, the report, and what is fetched from a source need no other run to end."""
    published.change("BEGIN")
    published.change(f"LOCK {engine.MUTEX}")
    assert published.run_check("songplays", "unique_key").success
    result = published.run("listening_report")
    assert result.success, failure_of(result)
    published.change("ROLLBACK")
    lines = [re.sub(r"\s+", " ", sql).split("(")[0] for sql in sent(published)]
    assert {line.split()[0] for line in lines} == {"SET", "BEGIN", "SELECT"}
    assert lines.count("BEGIN READ ONLY") == 2


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


def test_tables_are_created_as_their_files_say_but_for_keys(made: RedshiftPlatform) -> None:
    """Redshift would not enforce a key, and might answer from the belief in it."""
    made.edit("star/users.sql", "NOT NULL PRIMARY KEY", "PRIMARY KEY ENCODE az64")
    assert made.defs().resolve_job_def("create_tables").execute_in_process().success
    created = [sql for sql in sent(made) if "CREATE TABLE" in sql and "mutex" not in sql]
    assert len(created) == len(Catalog.load(made.sql).tables)
    assert all("DISTSTYLE" in sql or "DISTKEY" in sql for sql in created)
    assert not any(re.search("PRIMARY|FOREIGN|REFERENCES|UNIQUE", sql) for sql in created)
    [users] = [sql for sql in created if sql.startswith("CREATE TABLE users ")]
    assert users == (
        "CREATE TABLE users (user_id BIGINT NOT NULL ENCODE az64, first_name VARCHAR(1024), "
        "last_name VARCHAR(1024), gender VARCHAR(16), level VARCHAR(16)) "
        "DISTSTYLE ALL SORTKEY(user_id)"
    )
    for sql in created:
        assert "unparsable" not in str(sqlfluff.parse(sql, dialect="redshift")), sql


def test_nothing_is_sent_that_commits_or_swaps_unseen(published: RedshiftPlatform) -> None:
    published.write_events([{"sessionId": 5}], "later.json")
    assert published.make("most_played_songs").success
    for sql in sent(published):
        assert not re.match(r"\s*(TRUNCATE|ALTER|VACUUM|DROP)\b", sql, re.IGNORECASE)


def test_what_is_sent_parses_as_redshift_sql(made: RedshiftPlatform) -> None:
    load(made)
    publish(made)
    made.write_events([{"sessionId": 1}], "events.json")
    load(made)
    statements = {re.sub(r"\$\d", "NULL", sql) for sql in sent(made)}
    assert len(statements) > 30
    for sql in statements:
        assert "unparsable" not in str(sqlfluff.parse(sql, dialect="redshift")), sql


def test_copy_says_it_all(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ROWS_IN_ONE_FILE", 2)
    uploaded: dict[str, bytes] = {}

    def before(request: Any) -> None:
        if request.method == "GET" and request.key.startswith(WORK):
            uploaded[request.key] = s3_server.content(request.key)

    s3_server.before = before
    assert load(made).loaded == 5
    [copy, history] = [sql for sql in sent(made) if sql.startswith("COPY")]
    columns = [column.name for column in Catalog.load(made.sql).tables["staging_events"].columns]
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
    ("message", "said"),
    [
        ("User arn:aws:redshift:x is not authorized to assume IAM Role arn:y", "Attach the role"),
        ("S3ServiceException:Access Denied,Status 403,Error AccessDenied", "lacks s3:GetObject"),
        ("The bucket must be addressed using the specified endpoint", "in another region"),
    ],
)
def test_what_copy_is_refused_for(message: str, said: str, made: RedshiftPlatform) -> None:
    made.server.fail(Fault("XX000", message), matching="COPY")
    with pytest.raises(SparkifyError, match=said) as error:
        load(made)
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["s3://bucket/it's", "a\\b", "a\nb", "a\0b"])
def test_text_that_could_end_a_literal_is_refused(text: str) -> None:
    with pytest.raises(SparkifyError, match="cannot be part of a statement"):
        literal(text)
    assert literal("s3://bucket/a b/ü-1%") == "'s3://bucket/a b/ü-1%'"


def test_rows_that_copy_did_not_read_are_missed(
    made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = engine.WorkFolder.manifest
    monkeypatch.setattr(
        engine.WorkFolder, "manifest", lambda self, files: manifest(self, [*files, files[0]])
    )
    with pytest.raises(SparkifyError, match="COPY read 10 rows of 5 that were written"):
        load(made)
    assert "staging_events" not in made.table_names()


# --- What others see -------------------------------------------------------------------------


def test_grants_views_and_identity_survive(published: RedshiftPlatform) -> None:
    identity = "SELECT oid FROM pg_class WHERE relname = 'users' AND relkind = 'r'"
    published.change("CREATE VIEW seen AS SELECT user_id FROM users")
    published.change("GRANT SELECT ON users TO PUBLIC")
    before = published.rows(identity)
    assert published.make("songplays").success
    assert published.rows(identity) == before
    assert published.rows("SELECT COUNT(*) FROM seen") == [(2,)]
    granted = (
        "SELECT privilege_type FROM information_schema.table_privileges WHERE grantee = 'PUBLIC'"
    )
    assert ("SELECT",) in published.rows(f"{granted} AND table_name = 'users'")


def test_readers_neither_wait_nor_see_what_is_not_published(published: RedshiftPlatform) -> None:
    table = Catalog.load(published.sql).tables["users"]
    with warehouse(published).transaction("test") as session:
        session.build(table, recreate=False)
        session.publish(table)
        session.rows('DELETE FROM "sparkify_test"."users" WHERE user_id = 7 RETURNING user_id')
        started = time.monotonic()
        assert published.rows("SELECT COUNT(*) FROM users") == [(2,)]
        assert time.monotonic() - started < 2
    assert published.rows("SELECT COUNT(*) FROM users") == [(1,)]


def test_a_table_made_anew_tells_of_its_grants(
    published: RedshiftPlatform, capfd: pytest.CaptureFixture[str]
) -> None:
    published.change("GRANT SELECT ON users TO PUBLIC")
    published.edit("star/users.sql", "level VARCHAR(16)", "level VARCHAR(32)")
    config = {"ops": {"users": {"config": {"recreate": True}}}}
    assert "has another shape" in failure_of(published.run("users"))
    assert published.run("users", config=config).success
    assert "users: made anew; grants that were on it: SELECT to PUBLIC" in capfd.readouterr().err


def test_keys_that_an_earlier_version_declared_are_dropped(either: RedshiftPlatform) -> None:
    """By whatever writes a table first; nothing else is lost, nor anybody else's keys."""
    create_tables = either.defs().resolve_job_def("create_tables")
    assert create_tables.execute_in_process().success
    tables = Catalog.load(either.sql).tables.values()
    for table in tables:
        if table.primary_key:
            key = ", ".join(table.primary_key)
            either.change(f"ALTER TABLE {table.name} ADD PRIMARY KEY ({key})")
    for table in tables:
        for column, parent in table.references.items():
            either.change(
                f"ALTER TABLE {table.name} ADD FOREIGN KEY ({column}) "
                f"REFERENCES {parent.table} ({parent.column})"
            )
    either.change("CREATE TABLE mine (id BIGINT NOT NULL PRIMARY KEY)")
    either.change("CREATE VIEW seen AS SELECT user_id FROM users")

    def keys() -> set[str]:
        query = (
            "SELECT c.relname FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            f"WHERE n.nspname = '{either.schema}' AND k.contype IN ('p', 'f', 'u')"
        )
        return {name for (name,) in either.rows(query)}

    assert keys() == {"mine", *(t.name for t in tables if t.primary_key or t.references)}
    assert either.run("staging_events").success
    assert not {"staging_events", "load_history", "rejected_records"} & keys()
    assert create_tables.execute_in_process().success
    assert keys() == {"mine"}
    assert either.rows("SELECT COUNT(*) FROM seen") == [(0,)]
    either.change("INSERT INTO staging_events SELECT * FROM staging_events")
    assert ("staging_events", "records_accounted") in failed_checks(either.run("staging_events"))


def test_a_table_that_keys_refer_to_is_made_anew(published: RedshiftPlatform) -> None:
    """Redshift does not drop what others refer to, and CASCADE would take the views with it."""
    published.change("ALTER TABLE users ADD PRIMARY KEY (user_id)")
    published.change("ALTER TABLE songplays ADD FOREIGN KEY (user_id) REFERENCES users (user_id)")
    published.edit("star/users.sql", "level VARCHAR(16)", "level VARCHAR(32)")
    config = {"ops": {"users": {"config": {"recreate": True}}}}
    assert published.run("users", config=config).success
    changes = [sql for sql in sent(published) if sql.startswith(("BEGIN", "ALTER", "DROP"))]
    assert [sql.split()[0] for sql in changes] == ["BEGIN", "ALTER", "ALTER", "DROP"]
    for sql in {re.sub(r"\$\d", "NULL", sql) for sql in sent(published)}:
        assert "unparsable" not in str(sqlfluff.parse(sql, dialect="redshift")), sql


def test_a_view_over_a_table_made_anew_is_not_lost(published: RedshiftPlatform) -> None:
    published.change("CREATE VIEW seen AS SELECT user_id FROM users")
    published.edit("star/users.sql", "level VARCHAR(16)", "level VARCHAR(32)")
    config = {"ops": {"users": {"config": {"recreate": True}}}}
    assert "cannot drop table" in failure_of(published.run("users", config=config))
    assert published.rows("SELECT COUNT(*) FROM seen") == [(2,)]


def test_what_the_ui_shows_of_the_warehouse(made: RedshiftPlatform) -> None:
    specs = {spec.key.to_user_string(): spec for spec in made.defs().resolve_all_asset_specs()}
    assert specs["users"].kinds == {"redshift", "sql"}
    assert specs["staging_events"].kinds == {"redshift", "json"}
    assert made.server.password not in f"{warehouse(made)!r} {warehouse(made)}"


# --- What fails ------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("work", [load, publish])
def test_an_interruption_at_each_statement(
    work: Callable[..., Any], made: RedshiftPlatform, s3_server: S3Server, impatient: None
) -> None:
    """The first attempt is cut off before a statement, the next after it, the third meets 1023.

    Whichever statement that is, the work is done once, and no file is left in the work folder.
    """
    load(made)
    if work is publish:
        publish(made)
        made.change("DELETE FROM users")
    else:
        made.write_events([{"sessionId": 50}, {"sessionId": 50}], "later.json")
        made.write_events([{"sessionId": 1}], "events.json")
    made.change("CREATE TABLE kept AS SELECT * FROM staging_events")
    made.change("CREATE TABLE kept_history AS SELECT * FROM load_history")
    into = warehouse(made)
    expected = None
    for number in itertools.count():
        for attempt, fault in enumerate((DROP_BEFORE, DROP_AFTER, CONFLICT)):
            made.server.fail(fault, after=number + attempt * (number + 1))
        work(made, into)
        unmet = made.server.pending
        made.server.forget_faults()
        found = state(made)
        expected = expected or found
        assert found == expected, number
        assert work_files(s3_server) == []
        if unmet == 3:
            break
        if work is load:
            made.change("DELETE FROM staging_events")
            made.change("INSERT INTO staging_events SELECT * FROM kept")
            made.change("DELETE FROM load_history")
            made.change("INSERT INTO load_history SELECT * FROM kept_history")
        else:
            made.change("DELETE FROM users")
    assert number > 12


def test_what_was_committed_unheard_is_done_again_and_finds_nothing_to_do(
    made: RedshiftPlatform, impatient: None
) -> None:
    made.server.fail(DROP_AFTER, matching="COMMIT")
    again = load(made)
    assert (again.new, again.unchanged) == (0, 1)
    assert [sql[:4] for sql in sent(made)].count("COPY") == 2
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]


def test_commits_that_are_never_heard_of_are_said(made: RedshiftPlatform, impatient: None) -> None:
    for _ in range(engine.ATTEMPTS):
        made.server.fail(DROP_AFTER, matching="COMMIT")
    with pytest.raises(
        SparkifyError, match=r"broke off .*, 5 times. Run it again: nothing is loaded twice"
    ):
        load(made)
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]
    assert load(made).unchanged == 1


def test_a_conflict_that_stays_is_said(made: RedshiftPlatform, impatient: None) -> None:
    for _ in range(engine.ATTEMPTS):
        made.server.fail(CONFLICT, matching="COPY")
    with pytest.raises(SparkifyError, match=r"another transaction interfered.*5 times. Run it ag"):
        load(made)
    assert "staging_events" not in made.table_names()


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


def test_every_schema_has_a_work_folder_of_its_own(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = []
    for schema, port in (("a_1", "5439"), ("a__1", "5439"), ("a_1", "5440")):
        monkeypatch.setenv("REDSHIFT_SCHEMA", schema)
        monkeypatch.setenv("REDSHIFT_PORT", port)
        uris.append(engine.WorkFolder(warehouse(made)).uri)
    assert re.fullmatch(rf"s3://{BUCKET}/{WORK}dev-a-1-on-127-0-0-1-5439-[0-9a-f]{{8}}", uris[0])
    assert len(set(uris)) == 3


def test_many_work_files_are_removed_in_parts(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ROWS_IN_ONE_FILE", 2)
    monkeypatch.setattr(engine, "DELETED_AT_ONCE", 2)
    assert load(made).loaded == 5
    assert work_files(s3_server) == []


def test_a_copy_that_fails_is_said_and_nothing_is_loaded(
    made: RedshiftPlatform, s3_server: S3Server
) -> None:
    s3_server.fail(repeat(DENIED), key=".gz")
    with pytest.raises(SparkifyError, match=r"S3ServiceException.*Status 403"):
        load(made)
    assert "staging_events" not in made.table_names()
    assert work_files(s3_server) == []


def test_a_work_folder_that_cannot_be_written(made: RedshiftPlatform, s3_server: S3Server) -> None:
    s3_server.fail(repeat(DENIED), key=WORK, method="PUT")
    with pytest.raises(SparkifyError) as error:
        load(made)
    assert str(error.value).startswith(f"SPARKIFY_S3_WORK: s3://{BUCKET}/{WORK}")
    assert "access is denied. This needs s3:PutObject" in str(error.value)
    assert "ANONYMOUS" not in str(error.value)
    assert "staging_events" not in made.table_names()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (DENIED, "access is denied. This needs s3:PutObject, .* Set AWS_PROFILE, or [A-Z_ and]+"),
        (S3Fault(400, "ExpiredToken"), "the credentials have expired: log in again. .*"),
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


def test_two_loads_at_once(made: RedshiftPlatform) -> None:
    with ThreadPoolExecutor() as pool:
        done = [run.result() for run in [pool.submit(load, made) for _ in range(3)]]
    assert sorted(one.new for one in done) == [0, 0, 1]
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]


def test_waiting_for_another_run_is_said_and_bounded(
    published: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "WAIT_SECONDS", 0.2)
    said = "users run: waits for another run that writes to dev.sparkify_test on 127.0.0.1"
    with warehouse(published).transaction("the other one"):
        monkeypatch.setenv("REDSHIFT_TIMEOUT_SECONDS", "1")
        with (
            caplog.at_level(logging.INFO, logger="dagster"),
            pytest.raises(SparkifyError, match=r"waited too long for another run.*TIMEOUT_SECONDS"),
        ):
            publish(published)
    assert said in caplog.text


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["COPY", "COMMIT"])
def test_a_killed_load_leaves_the_state_before(
    moment: str, redshift: RedshiftPlatform, s3_server: S3Server
) -> None:
    """The next run removes the files that the killed one left, and does the work once."""
    simulator.write_song_files(redshift.song_data, simulator.Plan(songs=20))
    simulator.write_event_files(redshift.log_data, simulator.Plan(events=500))
    redshift.server.fail(Fault(delay=5), matching=moment)
    run = (
        "from pathlib import PosixPath; import dagster as dg; "
        "from sparkify_assets.definitions import build_defs; "
        "from sparkify_assets.settings import Settings; "
        f"defs = build_defs(settings=Settings(**{redshift.settings!r})); "
        "job = defs.resolve_implicit_global_asset_job_def(); "
        "job.execute_in_process(asset_selection=[dg.AssetKey('staging_events')])"
    )
    with subprocess.Popen([sys.executable, "-c", run], stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        while not any(sql.startswith(moment) for sql in sent(redshift)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert (work_files(s3_server) != []) == (moment == "COPY")
    assert "staging_events" not in redshift.table_names()
    load(redshift)
    assert redshift.rows("SELECT COUNT(*) FROM staging_events") == [(500,)]
    assert work_files(s3_server) == []


# --- No way in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"REDSHIFT_HOST": "no-such-host.invalid"}, "no machine has this name. Set REDSHIFT_HOST"),
        (
            {"REDSHIFT_PORT": "9"},
            "it cannot be reached: .*refused. Set REDSHIFT_HOST and REDSHIFT_P",
        ),
        (
            {"REDSHIFT_PASSWORD": "wrong-word"},
            "the user or its password is wrong. Set REDSHIFT_USER",
        ),
        ({"REDSHIFT_DATABASE": "nowhere"}, "there is no such database. Set REDSHIFT_DATABASE"),
        ({"REDSHIFT_HOST": "localhost"}, "certificate is not trusted.*REDSHIFT_SSLMODE=verify-ca"),
        ({"SSL_CERT_FILE": "/dev/null"}, "its certificate is not trusted: .*certificate"),
    ],
)
def test_no_connection(
    variables: dict[str, str], said: str, made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    failed = failure_of(made.run("staging_events"))
    assert re.search(said, failed), failed
    assert failed.startswith(f"{variables.get('REDSHIFT_DATABASE', 'dev')}.sparkify_test on ")
    assert failed.count("sparkify_test on ") == 1
    assert failed.endswith(".") and not failed.endswith("..")
    assert "wrong-word" not in failed
    assert made.server.password not in failed


def test_a_tunnel(made: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDSHIFT_HOST", "localhost")
    monkeypatch.setenv("REDSHIFT_SSLMODE", "verify-ca")
    assert load(made).loaded == 5


def test_no_permission(made: RedshiftPlatform) -> None:
    made.server.fail(
        Fault("42501", "permission denied for schema sparkify_test"), matching="CREATE TABLE"
    )
    with pytest.raises(SparkifyError, match=r"permission denied .*: the user lacks a permission"):
        load(made)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What the driver is told to connect by, in place of a connection."""
    told: list[dict[str, Any]] = []

    def connect(**arguments: Any) -> None:
        told.append(arguments)
        raise OSError("no cluster here")

    monkeypatch.setattr(redshift_connector, "connect", connect)
    yield told


@pytest.mark.parametrize(
    ("variables", "ways"),
    [
        (
            {"REDSHIFT_CLUSTER": "c", "REDSHIFT_USER": "u", "REDSHIFT_REGION": "us-west-2"},
            {"iam": True, "cluster_identifier": "c", "db_user": "u", "region": "us-west-2"},
        ),
        (
            {"REDSHIFT_WORKGROUP": "w", "REDSHIFT_USER": ""},
            {"iam": True, "is_serverless": True, "serverless_work_group": "w"},
        ),
    ],
)
def test_ways_in_by_iam(
    variables: dict[str, str],
    ways: dict[str, Any],
    made: RedshiftPlatform,
    caught: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=r"dev.sparkify_test on [cw]: it cannot be reached"):
        load(made)
    [told] = caught
    assert ways.items() <= told.items()
    assert not {"host", "password", "timeout"} & told.keys()
    assert told["sslmode"] == "verify-full"
    assert told["tcp_keepalive_idle"] == 60


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_PROFILE": "nope"}, "wrong AWS configuration: .*profile .nope.*. Set AWS_PROFILE."),
        (
            {"AWS_PROFILE": "nope", "REDSHIFT_REGION": "us-west-2"},
            "wrong AWS configuration: .*profile .nope.*. Set AWS_PROFILE.",
        ),
        ({"AWS_DEFAULT_REGION": ""}, "needs a region. Set REDSHIFT_REGION, or AWS_DEFAULT_REGION."),
    ],
)
def test_no_way_in_by_iam(
    variables: dict[str, str],
    said: str,
    made: RedshiftPlatform,
    caught: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    for name, value in {"REDSHIFT_WORKGROUP": "w", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=rf"^dev.sparkify_test on w: .*{said}$"):
        load(made)
    assert caught == []


@pytest.mark.parametrize("is_named", [True, False], ids=["host", "no host"])
def test_no_answer(
    is_named: bool,
    made: RedshiftPlatform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is that of the look at a host that is named; the driver has none."""

    def connect(*address: object, **arguments: object) -> None:
        raise TimeoutError("timed out")

    if is_named:
        monkeypatch.setattr(socket, "create_connection", connect)
    else:
        monkeypatch.delenv("REDSHIFT_HOST")
        monkeypatch.delenv("REDSHIFT_PASSWORD")
        monkeypatch.setenv("REDSHIFT_WORKGROUP", "w")
        monkeypatch.setattr(redshift_connector, "connect", connect)
    limit = " within 20 s" if is_named else ""
    with pytest.raises(SparkifyError, match=rf": it does not answer{limit}\. Its security group"):
        load(made)


def test_a_login_by_iam(
    made: RedshiftPlatform, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto hands out credentials for a cluster whose endpoint is the stand-in's."""
    for name in ("REDSHIFT_HOST", "REDSHIFT_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDSHIFT_CLUSTER", "listening")
    monkeypatch.setenv("REDSHIFT_USER", "etl")
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT", s3_server.url)
    with pytest.raises(SparkifyError, match=r"on listening: the login by IAM failed: .*NotFound"):
        load(made)
    boto3.client("redshift").create_cluster(
        ClusterIdentifier="listening",
        NodeType="ra3.large",
        MasterUsername="owner",
        MasterUserPassword="Password-1",
    )
    endpoint = {"Address": made.server.host, "Port": made.server.port}
    monkeypatch.setattr(Cluster, "endpoint", endpoint)
    assert load(made).loaded == 5


def test_nothing_secret_is_said(
    made: RedshiftPlatform, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="dagster"):
        result = made.run()
    assert result.success
    said = caplog.text + "".join(capfd.readouterr()) + repr(result.all_events)
    assert "staging_events" in said
    assert made.server.password not in said
    assert dg.serialize_value(result.dagster_run).find(made.server.password) == -1


# --- What only a cluster can tell ------------------------------------------------------------


@pytest.mark.redshift
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("EXTRACT(week FROM TIMESTAMP '2018-12-31 10:00:00')", 1),
        ("EXTRACT(week FROM TIMESTAMP '2021-01-03 10:00:00')", 53),
        ("EXTRACT(dow FROM TIMESTAMP '2018-11-04 10:00:00')", 0),
        ("CASE WHEN 'a ' = 'a' THEN 1 ELSE 0 END", 1),
        ("LEN(TRIM(BOTH ' ' FROM ' a ' || CHR(160) || ' '))", 3),
        ("7 / 2", 3),
    ],
)
def test_expressions(live: LivePlatform, expression: str, expected: int) -> None:
    assert int(live.rows(f"SELECT {expression}")[0][0]) == expected


@pytest.mark.redshift
def test_loads_at_once_do_not_conflict(live: LivePlatform) -> None:
    write_made_data(live)
    load(live)
    live.write_events([{"sessionId": 77}], "later.json")
    with ThreadPoolExecutor() as pool:
        done = [run.result() for run in [pool.submit(load, live) for _ in range(3)]]
    assert sorted(one.new for one in done) == [0, 0, 1]


# What the three tests below print is shown by `pytest -m redshift -rP`.


def test_what_a_failed_copy_says(either: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    def upload(folder: engine.WorkFolder, path: Path) -> str:
        path.write_bytes(gzip.compress(b'{"sessionid": "x"}'))
        return engine_upload(folder, path)

    engine_upload = engine.WorkFolder.upload
    monkeypatch.setattr(engine.WorkFolder, "upload", upload)
    with pytest.raises(SparkifyError) as said:
        load(either)
    print("said:", str(said.value))
    assert "staging_events" not in either.table_names()


def test_what_is_noticed_of_a_copy(
    either: RedshiftPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(session: engine.RedshiftSession, *arguments: Any) -> None:
        engine_copy(session, *arguments)
        print("notices:", list(session._connection.notices))

    engine_copy = engine.RedshiftSession._copy
    monkeypatch.setattr(engine.RedshiftSession, "_copy", copy)
    assert load(either).loaded == 5


@pytest.mark.redshift
def test_the_default_role_of_the_cluster(
    live: LivePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(role,)] = live.rows("SELECT default_iam_role()")
    print("role:", role)
    if not role or not str(role).startswith("arn:"):
        pytest.skip("the cluster or workgroup has no default role")
    write_made_data(live)
    monkeypatch.setenv("REDSHIFT_COPY_ROLE", "default")
    assert load(live).loaded == 5
