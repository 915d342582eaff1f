"""The stand-in for Redshift does what the tests of the warehouse take for granted."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redshift_connector.cursor import Cursor
from redshift_connector.error import Error, InterfaceError, ProgrammingError

from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.dialect import statements_of
from sparkify_assets_tests.processes import PATIENCE
from sparkify_assets_tests.redshift_client import connect, copy, error_of, value
from sparkify_assets_tests.redshift_server import (
    CONFLICT,
    DROP_AFTER,
    DROP_BEFORE,
    Fault,
    RedshiftServer,
    Statement,
)
from sparkify_assets_tests.s3_server import S3Server

pytestmark = pytest.mark.filterwarnings(  # of the driver, which also leaves sockets to collect
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:ssl:DeprecationWarning"
)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_statements_are_recorded_when_executed_not_when_prepared(stand_in: RedshiftServer) -> None:
    first, second = (connect(stand_in, application_name=f"run:{n}") for n in "12")
    cursor = first.cursor()
    for number in (1, 2):
        cursor.execute("SELECT %s", (number,))
    with pytest.raises(ProgrammingError):
        cursor.execute("SELECT nonsense")  # fails when it is prepared
    second.autocommit = False
    second.cursor().execute("SELECT 3")
    assert stand_in.rows("SELECT 4") == [(4,)]
    assert stand_in.statements == [
        Statement(1, "SELECT $1", "run:1"),
        Statement(1, "SELECT $1", "run:1"),
        Statement(2, "begin transaction", "run:2"),
        Statement(2, "SELECT 3", "run:2"),
    ]


@pytest.mark.parametrize(("fault", "kept"), [(DROP_AFTER, [(1,)]), (DROP_BEFORE, [])])
def test_a_connection_dropped_at_its_commit(
    fault: Fault, kept: list[tuple[int]], stand_in: RedshiftServer, cursor: Cursor
) -> None:
    stand_in.fail(fault, "commit")
    cursor.execute("BEGIN")
    cursor.execute("INSERT INTO plays (id) VALUES (1)")
    with pytest.raises(InterfaceError, match="BrokenPipe"):
        cursor.execute("COMMIT")
    assert [s.sql for s in stand_in.statements][-1] == "COMMIT"
    assert stand_in.rows("SELECT id FROM plays") == kept


@pytest.mark.parametrize("is_copy", [True, False])
def test_an_error_that_was_made_aborts_the_transaction(
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor, is_copy: bool
) -> None:
    s3_server.put("in/1", b'{"id": 1}')
    sql = copy("in/") if is_copy else "INSERT INTO plays (id) VALUES (1)"
    stand_in.fail(CONFLICT, sql, after=1)
    cursor.execute("BEGIN")
    cursor.execute(sql)
    error = error_of(cursor, sql)
    assert (error["C"], error["M"]) == ("XX000", "1023")
    assert error["D"].startswith("Serializable isolation violation on table - ")
    assert error_of(cursor, "SELECT 1")["C"] == "25P02"
    cursor.execute("ROLLBACK")
    cursor.execute(sql)  # it happens once
    assert stand_in.rows("SELECT COUNT(*) FROM plays") == [(1,)]


def test_faults_wait_for_one_statement_each(stand_in: RedshiftServer, cursor: Cursor) -> None:
    stand_in.fail(Fault("57014", "first"), "select")
    stand_in.fail(Fault("57014", "second"), "select")
    stand_in.fail(Fault(delay=0.2), "select 3")
    assert stand_in.rows("SELECT 0") == [(0,)]
    assert error_of(cursor, "SELECT 1")["M"] == "first"
    assert error_of(cursor, "SELECT 2")["M"] == "second"
    start = time.monotonic()
    assert value(cursor, "SELECT 3") == 3
    assert time.monotonic() - start >= 0.2


def test_every_shipped_table_can_be_created_as_it_is_written(
    stand_in: RedshiftServer, cursor: Cursor
) -> None:
    """By hand, with its keys; and by the platform, without."""
    tables = list(Catalog.load(SQL).tables.values())
    assert tables
    for schema in ("by_hand", "by_platform"):
        cursor.execute(f"CREATE SCHEMA {schema}")
        cursor.execute(f"SET search_path TO {schema}")
        for table in tables:
            ((_, written), *_) = statements_of(table.path, table.path.read_text())
            cursor.execute(written if schema == "by_hand" else table.create)
            cursor.execute(table.create.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    for table in tables:
        cursor.execute(table.create.replace("CREATE TABLE", "CREATE TEMP TABLE"))
    keys = (
        "SELECT n.nspname, COUNT(k.oid) FROM pg_namespace AS n JOIN pg_class AS c "
        "ON c.relnamespace = n.oid LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid "
        "AND k.contype IN ('p', 'f', 'u') WHERE n.nspname LIKE 'by_%' GROUP BY 1 ORDER BY 1"
    )
    declared = sum(len(t.references) + bool(t.primary_key) for t in tables)
    assert stand_in.rows(keys) == [("by_hand", declared), ("by_platform", 0)]


def test_what_a_table_declares_is_enforced(stand_in: RedshiftServer, cursor: Cursor) -> None:
    cursor.execute(
        """CREATE TABLE public.songs (
            id BIGINT NOT NULL ENCODE az64,
            title VARCHAR(4),
            lyrics VARCHAR(MAX),
            note VARCHAR,
            year INTEGER DEFAULT 1999
        ) BACKUP NO DISTSTYLE KEY DISTKEY (id) COMPOUND SORTKEY (id, title)"""
    )
    cursor.paramstyle = "qmark"
    insert = "INSERT INTO songs (id, title, lyrics, note) VALUES (?, ?, ?, ?)"
    row = [1, "éé", "x" * 65_535, "y" * 256]
    cursor.executemany(insert, [row, row])
    assert stand_in.rows("SELECT COUNT(*), MIN(year) FROM songs") == [(2, 1999)]
    for position, wrong, limit in ((1, "ééx", 4), (2, "x" * 65_536, 65_535), (3, "y" * 257, 256)):
        with pytest.raises(ProgrammingError) as raised:
            cursor.execute(insert, [*row[:position], wrong, *row[position + 1 :]])
        error = raised.value.args[0]
        assert error["C"] == "22001"
        assert error["M"] == f"value too long for type character varying({limit})"
    with pytest.raises(ProgrammingError, match="23502"):
        cursor.execute(insert, [None, *row[1:]])


@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_statements_of_a_warehouse_work_inside_and_outside_of_a_transaction(
    stand_in: RedshiftServer, cursor: Cursor, begin: str
) -> None:
    for sql in (
        *filter(None, [begin]),
        "SET query_group TO 'run:plays'",
        "SET statement_timeout TO 10000",
        "CREATE SCHEMA work",
        "CREATE TABLE work.songs DISTSTYLE ALL SORTKEY (id) AS SELECT 1 AS id",
        "SET search_path TO work, public",
        "ANALYZE songs",
        "CREATE VIEW public.old AS SELECT * FROM plays",
        "GRANT SELECT ON plays TO PUBLIC",
        "DROP SCHEMA work CASCADE",
        "DROP TABLE IF EXISTS songs",
    ):
        cursor.execute(sql)
    assert value(cursor, "SHOW query_group") == "run:plays"
    cursor.execute("RESET query_group")
    assert value(cursor, "SHOW query_group") == ""


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"password": "x"}, "28000", 'password authentication failed for user "analyst"'),
        ({"user": "who"}, "28000", 'password authentication failed for user "who"'),
        ({"database": "prod"}, "3D000", 'database "prod" does not exist'),
    ],
)
def test_logins_that_are_refused(
    stand_in: RedshiftServer, changes: dict[str, str], code: str, message: str
) -> None:
    with pytest.raises(Error) as raised:
        connect(stand_in, **changes)
    error = raised.value.args[0]
    assert (error["S"], error["C"], error["M"]) == ("FATAL", code, message)
    assert stand_in.statements == []


def test_users_of_iam_have_passwords_of_the_day(stand_in: RedshiftServer) -> None:
    assert value(connect(stand_in, user="IAM:etl", password="any").cursor(), "SELECT 1") == 1


def test_a_reset_leaves_nothing(stand_in: RedshiftServer, cursor: Cursor) -> None:
    cursor.execute("CREATE SCHEMA work")
    cursor.execute("CREATE TABLE work.songs (id BIGINT)")
    cursor.execute("BEGIN")
    cursor.execute("LOCK plays")
    stand_in.fail(CONFLICT)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(connect(stand_in).cursor().execute, "DROP TABLE plays")
        eventually(lambda: stand_in.statements[-1].sql == "DROP TABLE plays")
        stand_in.reset()
        with pytest.raises(Error):
            waiting.result()
    with pytest.raises(InterfaceError):
        cursor.execute("SELECT 1")
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information)'"
    assert stand_in.rows(schemas) == [("public",)]
    assert stand_in.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    assert value(connect(stand_in).cursor(), "SELECT 1") == 1
    assert stand_in.statements == [Statement(1, "SELECT 1", "tests")]


def test_tls_of_whoever_asks(
    stand_in: RedshiftServer,
    s3_server: S3Server,
    certificates: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InterfaceError, match="Server refuses SSL"):
        connect(stand_in, ssl=True)
    authority, certificate = certificates
    other = RedshiftServer(s3_server, tls=(certificate, certificate))
    verified = {"ssl": True, "sslmode": "verify-full"}
    with pytest.raises(InterfaceError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(other, **verified)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with pytest.raises(InterfaceError, match="Hostname mismatch"):
        connect(other, host="localhost", **verified)
    cursor = connect(other, **verified).cursor()
    other.fail(DROP_BEFORE, "SELECT 2")
    assert value(cursor, "SELECT 1") == 1
    with pytest.raises(InterfaceError):
        cursor.execute("SELECT 2")
    assert other.rows("SELECT 3") == [(3,)]
    assert stand_in.statements == []
    other.stop()


def publish(stand_in: RedshiftServer, *first: str) -> None:
    """Replaces all plays by as many and one more."""
    cursor = connect(stand_in).cursor()
    for sql in (
        "BEGIN",
        *first,
        "CREATE TEMP TABLE candidate AS SELECT * FROM plays",
        "DELETE FROM plays",
        "INSERT INTO plays SELECT * FROM candidate UNION ALL SELECT 1, 1, 'x', NULL",
        "COMMIT",
    ):
        cursor.execute(sql)


def test_writers_that_lock_a_mutex_first_exclude_each_other_and_no_reader(
    stand_in: RedshiftServer, cursor: Cursor
) -> None:
    cursor.execute("CREATE TABLE mutex (nothing INTEGER)")
    cursor.execute("BEGIN")
    cursor.execute("LOCK mutex")
    cursor.execute("DELETE FROM plays")
    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(publish, stand_in, "LOCK mutex") for _ in range(5)]
        eventually(lambda: sum(s.sql == "LOCK mutex" for s in stand_in.statements) == 6)
        assert stand_in.rows("SELECT COUNT(*) FROM plays") == [(0,)]
        assert not any(writer.done() for writer in writers)
        cursor.execute("COMMIT")
        for writer in writers:
            writer.result()
    assert stand_in.rows("SELECT COUNT(*) FROM plays") == [(5,)]


def test_writers_that_lock_nothing_meet_a_conflict(
    stand_in: RedshiftServer, cursor: Cursor
) -> None:
    cursor.execute("INSERT INTO plays (id) VALUES (1)")
    other = connect(stand_in).cursor()
    for each in (cursor, other):
        each.execute("BEGIN")
        assert value(each, "SELECT COUNT(*) FROM plays") == 1
    cursor.execute("DELETE FROM plays")
    cursor.execute("COMMIT")
    error = error_of(other, "DELETE FROM plays")
    assert (error["C"], error["M"], error["D"]) == ("XX000", "1023", CONFLICT.detail)
    assert error_of(other, "SELECT 1")["C"] == "25P02"


# Starts PostgreSQL, and says where: when it is up, or as soon as it is coming up.
START = """
import sys
from sparkify_assets_tests.redshift_postgres import Postgres

def say(postgres):
    print(postgres.folder, flush=True)
    input()

if sys.argv[1] == "coming":
    Postgres.wait = say
say(Postgres())
"""


@pytest.mark.parametrize("moment", ["coming", "up"])
def test_nothing_stays_behind_a_process_that_is_killed(moment: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", START, moment]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        pid = (folder / "data" / "postmaster.pid").read_text().split()[0] if moment == "up" else ""
        process.kill()
    eventually(lambda: not folder.exists())
    if pid:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
