"""The stand-in for Redshift does what the tests of the warehouse take for granted."""

import datetime
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redshift_connector
from redshift_connector.core import Connection
from redshift_connector.cursor import Cursor
from redshift_connector.error import Error, InterfaceError, ProgrammingError

from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.dialect import statements_of
from sparkify_assets_tests.redshift_server import (
    CONFLICT,
    DROP_AFTER,
    DROP_BEFORE,
    Fault,
    RedshiftServer,
    Statement,
)
from sparkify_assets_tests.s3_server import BUCKET, DENIED, SHORT, S3Server

pytestmark = pytest.mark.filterwarnings(  # of the driver, which also leaves sockets to collect
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:ssl:DeprecationWarning"
)

ROLE = "IAM_ROLE 'arn:aws:iam::123456789012:role/loader'"
PLAYS = "CREATE TABLE plays (id BIGINT NOT NULL, userid BIGINT, song VARCHAR(8), ts TIMESTAMP)"
COLUMNS = "(id, userId, song, ts)"


@pytest.fixture(scope="session")
def server_of_the_session(s3_server: S3Server) -> Iterator[RedshiftServer]:
    server = RedshiftServer(s3_server)
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server) -> S3Server:
    s3_server.reset()
    return s3_server


@pytest.fixture
def server(server_of_the_session: RedshiftServer, s3: S3Server) -> RedshiftServer:
    server_of_the_session.reset()
    return server_of_the_session


def connect(server: RedshiftServer, **changes: Any) -> Connection:
    """Commits each statement, unless it says BEGIN."""
    arguments: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "database": server.database,
        "user": server.user,
        "password": server.password,
        "application_name": "tests",
        "ssl": False,
    }
    connection = redshift_connector.connect(**arguments | changes)
    connection.autocommit = True
    return connection


@pytest.fixture
def cursor(server: RedshiftServer) -> Cursor:
    """Over an empty table of plays."""
    cursor = connect(server).cursor()
    cursor.execute(PLAYS)
    server.statements.clear()
    return cursor


def copy(path: str, options: str = "FORMAT AS JSON 'auto'") -> str:
    return f"COPY plays {COLUMNS} FROM 's3://{BUCKET}/{path}' {ROLE} {options}"


def manifest(*paths: str, **more: Any) -> str:
    return json.dumps({"entries": [{"url": f"s3://{BUCKET}/{path}", **more} for path in paths]})


def error_of(cursor: Cursor, sql: str) -> dict[str, str]:
    with pytest.raises(ProgrammingError) as raised:
        cursor.execute(sql)
    error: dict[str, str] = raised.value.args[0]
    return error


def row(cursor: Cursor, sql: str) -> list[Any]:
    return cursor.execute(sql).fetchone() or []


def value(cursor: Cursor, sql: str) -> Any:
    return row(cursor, sql)[0]


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_statements_are_recorded_when_executed_not_when_prepared(server: RedshiftServer) -> None:
    first, second = (connect(server, application_name=f"run:{n}") for n in "12")
    cursor = first.cursor()
    for number in (1, 2):
        cursor.execute("SELECT %s", (number,))
    with pytest.raises(ProgrammingError):
        cursor.execute("SELECT nonsense")  # fails when it is prepared
    second.autocommit = False
    second.cursor().execute("SELECT 3")
    assert server.rows("SELECT 4") == [(4,)]
    assert server.statements == [
        Statement(1, "SELECT $1", "run:1"),
        Statement(1, "SELECT $1", "run:1"),
        Statement(2, "begin transaction", "run:2"),
        Statement(2, "SELECT 3", "run:2"),
    ]


def test_json_becomes_rows_as_copy_reads_it(
    server: RedshiftServer, s3: S3Server, cursor: Cursor
) -> None:
    s3.put(
        "in/1",
        r"""{"id": 1, "userid": "7", "song": "a\tb\\\n", "ts": "2018-11-01 21:01:46.796"}{"id": 2}
        {"id": 3, "userId": 7, "SONG": "x",
            "unknown": [{}]} {"userid": "", "song": "", "id": 4, "ts": ""}

        {"song": true, "id": 5}{"song": ["é"], "id": 6}""",
    )
    cursor.execute(copy("in/"))
    assert cursor.rowcount == -1
    assert value(cursor, "SELECT pg_last_copy_count()") == 6
    assert server.rows("SELECT * FROM plays ORDER BY id") == [
        (1, 7, "a\tb\\\n", datetime.datetime(2018, 11, 1, 21, 1, 46, 796_000)),
        (2, None, None, None),
        (3, None, None, None),  # keys are case-sensitive
        (4, None, "", None),
        (5, None, "true", None),
        (6, None, '["é"]', None),
    ]


def test_a_prefix_loads_its_neighbours_and_a_manifest_what_it_lists(
    server: RedshiftServer, s3: S3Server, cursor: Cursor
) -> None:
    for number, key in enumerate(("log", "log/1", "log_old")):
        s3.put(key, json.dumps({"id": number}))
    s3.put("m", manifest("log/1", "log/1", "gone"))
    cursor.execute(copy("log"))
    cursor.execute(copy("m", "JSON 'auto' MANIFEST"))
    assert server.rows("SELECT id FROM plays ORDER BY id") == [(0,), (1,), (1,), (1,), (2,)]
    s3.put("m", manifest("log/1", "gone", mandatory=True))
    error = error_of(cursor, copy("m", "JSON 'auto' MANIFEST"))
    assert error["M"].startswith("S3ServiceException:The specified key does not exist.,Status 404")
    assert error_of(cursor, copy("nothing/"))["M"] == (
        "The specified S3 prefix 'nothing/' does not exist"
    )
    assert value(cursor, "SELECT COUNT(*) FROM plays") == 5


@pytest.mark.parametrize(
    "content",
    [
        b'{"id": "x"}',
        b'{"id": 1.0}',
        b'{"id": null}',
        b'{"userid": 1}',
        b'{"id": 2, "song": "123456789"}',
        '{"id": 2, "song": "ééééé"}'.encode(),  # 10 bytes
        b'{"id": 2, "song": "\xff"}',
        b'{"id": 2, "song": "\\u0000"}',
        b'{"id": 2, "userid": NaN}',
        b'{"id": 2, "ts": "noon"}',
        b'[{"id": 2}]',
        b'{"id": 2}, {"id": 3}',
        b'{"id": 2',
        gzip.compress(b'{"id": 2}', mtime=0),
    ],
)
def test_a_row_that_does_not_fit_fails_the_copy_and_the_transaction(
    server: RedshiftServer, s3: S3Server, cursor: Cursor, content: bytes
) -> None:
    s3.put("in/1", b'{"id": 1}')
    s3.put("in/2", content)
    cursor.execute("BEGIN")
    error = error_of(cursor, copy("in/"))
    assert (error["C"], error["M"]) == (
        "XX000",
        "Load into table 'plays' failed.  Check 'sys_load_error_detail' system table for details.",
    )
    assert error_of(cursor, copy("in/"))["C"] == "25P02"
    assert error_of(cursor, "SELECT 1")["C"] == "25P02"
    cursor.execute("ROLLBACK")
    assert value(cursor, "SELECT COUNT(*) FROM plays") == 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [(DENIED, "S3ServiceException:made,Status 403,Error AccessDenied"), (SHORT, "S3CurlException")],
)
def test_an_object_that_cannot_be_read_fails_the_copy(
    server: RedshiftServer, s3: S3Server, cursor: Cursor, fault: Any, message: str
) -> None:
    for key in ("in/1", "in/2"):
        s3.put(key, b'{"id": 1}')
    s3.fail([fault], key="in/2")
    error = error_of(cursor, copy("in/"))
    assert (error["C"], error["M"][: len(message)]) == ("XX000", message)
    assert server.rows("SELECT * FROM plays") == []


def test_copy_takes_its_options_in_any_order_and_case(
    server: RedshiftServer, s3: S3Server, cursor: Cursor
) -> None:
    s3.put("in/1", gzip.compress(b'{"id": 1}\n') + gzip.compress(b'{"id": 2}\n'))
    s3.put("m", manifest("in/1", mandatory=True))
    cursor.execute(
        f"""-- asset: plays
        copy public.plays {COLUMNS} from 's3://{BUCKET}/m' statupdate off manifest
        json as 'auto' maxerror 0 iam_role default timeformat 'auto' compupdate off gzip
        region 'us-east-1';
        """
    )
    assert server.rows("SELECT id FROM plays ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize(
    "options",
    [
        "",
        "CSV",
        "JSON 'AUTO'",
        "JSON 'auto' MAXERROR 5",
        "JSON 'auto' ACCEPTINVCHARS",
        "JSON 'auto' TIMEFORMAT 'epochmillisecs'",
    ],
)
def test_what_copy_is_not_known_to_do_is_an_error(
    server: RedshiftServer, cursor: Cursor, options: str
) -> None:
    cursor.execute("BEGIN")
    assert error_of(cursor, copy("in/", options))["C"] == "42601"
    assert error_of(cursor, "SELECT 1")["C"] == "25P02"


def test_copy_into_what_is_not_there(server: RedshiftServer, cursor: Cursor) -> None:
    assert error_of(cursor, copy("in/").replace("plays", "playz"))["C"] == "42P01"
    assert error_of(cursor, copy("in/").replace("song", "sung"))["C"] == "42703"


def test_a_rollback_takes_back_a_copy_and_what_is_known_of_it(
    server: RedshiftServer, s3: S3Server, cursor: Cursor
) -> None:
    last = "SELECT pg_last_copy_count(), pg_last_copy_id()"
    assert row(cursor, last) == [0, -1]
    s3.put("in/1", b'{"id": 1}')
    cursor.execute(copy("in/"))
    before = row(cursor, last)
    s3.put("in/2", b'{"id": 2}')
    cursor.execute("BEGIN")
    cursor.execute(copy("in/"))  # prepared before
    assert value(cursor, "SELECT COUNT(*) FROM plays") == 3
    assert server.rows("SELECT COUNT(*) FROM plays") == [(1,)]
    count, copy_id = row(cursor, last)
    assert (count, copy_id > before[1]) == (2, True)
    cursor.execute("ROLLBACK")
    assert row(cursor, last) == before
    assert server.rows("SELECT id FROM plays") == [(1,)]
    assert [s.sql for s in server.statements].count(copy("in/")) == 2


def test_copy_into_a_temporary_table_in_the_drivers_own_transaction(
    server: RedshiftServer, s3: S3Server, cursor: Cursor
) -> None:
    connection = connect(server)
    connection.autocommit = False
    cursor = connection.cursor()
    s3.put("in/1", b'{"id": 1}')
    cursor.execute(PLAYS.replace("TABLE", "TEMP TABLE"))
    cursor.execute(copy("in/"))
    cursor.execute("INSERT INTO public.plays SELECT * FROM plays")
    assert cursor.rowcount == 1
    assert server.rows("SELECT * FROM plays") == []
    connection.commit()
    assert server.rows("SELECT id FROM plays") == [(1,)]


@pytest.mark.parametrize(("fault", "kept"), [(DROP_AFTER, [(1,)]), (DROP_BEFORE, [])])
def test_a_connection_dropped_at_its_commit(
    fault: Fault, kept: list[tuple[int]], server: RedshiftServer, cursor: Cursor
) -> None:
    server.fail(fault, "commit")
    cursor.execute("BEGIN")
    cursor.execute("INSERT INTO plays (id) VALUES (1)")
    with pytest.raises(InterfaceError, match="BrokenPipe"):
        cursor.execute("COMMIT")
    assert [s.sql for s in server.statements][-1] == "COMMIT"
    assert server.rows("SELECT id FROM plays") == kept


@pytest.mark.parametrize("is_copy", [True, False])
def test_an_error_that_was_made_aborts_the_transaction(
    server: RedshiftServer, s3: S3Server, cursor: Cursor, is_copy: bool
) -> None:
    s3.put("in/1", b'{"id": 1}')
    sql = copy("in/") if is_copy else "INSERT INTO plays (id) VALUES (1)"
    server.fail(CONFLICT, sql, after=1)
    cursor.execute("BEGIN")
    cursor.execute(sql)
    error = error_of(cursor, sql)
    assert (error["C"], error["M"]) == ("XX000", "1023")
    assert error["D"].startswith("Serializable isolation violation on table - ")
    assert error_of(cursor, "SELECT 1")["C"] == "25P02"
    cursor.execute("ROLLBACK")
    cursor.execute(sql)  # it happens once
    assert server.rows("SELECT COUNT(*) FROM plays") == [(1,)]


def test_faults_wait_for_one_statement_each(server: RedshiftServer, cursor: Cursor) -> None:
    server.fail(Fault("57014", "first"), "select")
    server.fail(Fault("57014", "second"), "select")
    server.fail(Fault(delay=0.2), "select 3")
    assert server.rows("SELECT 0") == [(0,)]
    assert error_of(cursor, "SELECT 1")["M"] == "first"
    assert error_of(cursor, "SELECT 2")["M"] == "second"
    start = time.monotonic()
    assert value(cursor, "SELECT 3") == 3
    assert time.monotonic() - start >= 0.2


def publish(server: RedshiftServer, *first: str) -> None:
    """Replaces all plays by as many and one more."""
    cursor = connect(server).cursor()
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
    server: RedshiftServer, cursor: Cursor
) -> None:
    cursor.execute("CREATE TABLE mutex (nothing INTEGER)")
    cursor.execute("BEGIN")
    cursor.execute("LOCK mutex")
    cursor.execute("DELETE FROM plays")
    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(publish, server, "LOCK mutex") for _ in range(5)]
        eventually(lambda: sum(s.sql == "LOCK mutex" for s in server.statements) == 6)
        assert server.rows("SELECT COUNT(*) FROM plays") == [(0,)]
        assert not any(writer.done() for writer in writers)
        cursor.execute("COMMIT")
        for writer in writers:
            writer.result()
    assert server.rows("SELECT COUNT(*) FROM plays") == [(5,)]


def test_writers_that_lock_nothing_meet_a_conflict(server: RedshiftServer, cursor: Cursor) -> None:
    cursor.execute("INSERT INTO plays (id) VALUES (1)")
    other = connect(server).cursor()
    for each in (cursor, other):
        each.execute("BEGIN")
        assert value(each, "SELECT COUNT(*) FROM plays") == 1
    cursor.execute("DELETE FROM plays")
    cursor.execute("COMMIT")
    error = error_of(other, "DELETE FROM plays")
    assert (error["C"], error["M"], error["D"]) == ("XX000", "1023", CONFLICT.detail)
    assert error_of(other, "SELECT 1")["C"] == "25P02"


def test_every_shipped_table_can_be_created_as_it_is_written(
    server: RedshiftServer, cursor: Cursor
) -> None:
    """By hand, with its keys; and by the platform, without."""
    tables = list(Catalog.load(SQL).tables.values())
    assert tables
    for schema in ("by_hand", "by_platform"):
        cursor.execute(f"CREATE SCHEMA {schema}")
        cursor.execute(f"SET search_path TO {schema}")
        for table in tables:
            ((_, written), *_) = statements_of(table.path)
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
    assert server.rows(keys) == [("by_hand", declared), ("by_platform", 0)]


def test_what_a_table_declares_is_enforced(server: RedshiftServer, cursor: Cursor) -> None:
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
    assert server.rows("SELECT COUNT(*), MIN(year) FROM songs") == [(2, 1999)]
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
    server: RedshiftServer, cursor: Cursor, begin: str
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
    server: RedshiftServer, changes: dict[str, str], code: str, message: str
) -> None:
    with pytest.raises(Error) as raised:
        connect(server, **changes)
    error = raised.value.args[0]
    assert (error["S"], error["C"], error["M"]) == ("FATAL", code, message)
    assert server.statements == []


def test_users_of_iam_have_passwords_of_the_day(server: RedshiftServer) -> None:
    assert value(connect(server, user="IAM:etl", password="any").cursor(), "SELECT 1") == 1


def test_a_reset_leaves_nothing(server: RedshiftServer, cursor: Cursor) -> None:
    cursor.execute("CREATE SCHEMA work")
    cursor.execute("CREATE TABLE work.songs (id BIGINT)")
    cursor.execute("BEGIN")
    cursor.execute("LOCK plays")
    server.fail(CONFLICT)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(connect(server).cursor().execute, "DROP TABLE plays")
        eventually(lambda: server.statements[-1].sql == "DROP TABLE plays")
        server.reset()
        with pytest.raises(Error):
            waiting.result()
    with pytest.raises(InterfaceError):
        cursor.execute("SELECT 1")
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information)'"
    assert server.rows(schemas) == [("public",)]
    assert server.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    assert value(connect(server).cursor(), "SELECT 1") == 1
    assert server.statements == [Statement(1, "SELECT 1", "tests")]


def test_tls_of_whoever_asks(
    server: RedshiftServer,
    s3: S3Server,
    certificates: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InterfaceError, match="Server refuses SSL"):
        connect(server, ssl=True)
    authority, certificate = certificates
    other = RedshiftServer(s3, tls=(certificate, certificate))
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
    assert server.statements == []
    other.stop()


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
