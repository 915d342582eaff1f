"""COPY of the stand-in for Redshift does what the tests of the warehouse take for granted."""

import datetime
import gzip
import json
from typing import Any

import pytest
from redshift_connector.cursor import Cursor

from sparkify_assets_tests.redshift_client import (
    COLUMNS,
    PLAYS,
    connect,
    copy,
    error_of,
    manifest,
    row,
    value,
)
from sparkify_assets_tests.redshift_server import (
    RedshiftServer,
)
from sparkify_assets_tests.s3_server import BUCKET, DENIED, SHORT, S3Server

pytestmark = pytest.mark.filterwarnings(  # of the driver, which also leaves sockets to collect
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:ssl:DeprecationWarning"
)


def test_json_becomes_rows_as_copy_reads_it(
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor
) -> None:
    s3_server.put(
        "in/1",
        r"""{"id": 1, "userid": "7", "song": "a\tb\\\n", "ts": "2018-11-01 21:01:46.796"}{"id": 2}
        {"id": 3, "userId": 7, "SONG": "x",
            "unknown": [{}]} {"userid": "", "song": "", "id": 4, "ts": ""}

        {"song": true, "id": 5}{"song": ["é"], "id": 6}""",
    )
    cursor.execute(copy("in/"))
    assert cursor.rowcount == -1
    assert value(cursor, "SELECT pg_last_copy_count()") == 6
    assert stand_in.rows("SELECT * FROM plays ORDER BY id") == [
        (1, 7, "a\tb\\\n", datetime.datetime(2018, 11, 1, 21, 1, 46, 796_000)),
        (2, None, None, None),
        (3, None, None, None),  # keys are case-sensitive
        (4, None, "", None),
        (5, None, "true", None),
        (6, None, '["é"]', None),
    ]


def test_a_prefix_loads_its_neighbours_and_a_manifest_what_it_lists(
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor
) -> None:
    for number, key in enumerate(("log", "log/1", "log_old")):
        s3_server.put(key, json.dumps({"id": number}))
    s3_server.put("m", manifest("log/1", "log/1", "gone"))
    cursor.execute(copy("log"))
    cursor.execute(copy("m", "JSON 'auto' MANIFEST"))
    assert stand_in.rows("SELECT id FROM plays ORDER BY id") == [(0,), (1,), (1,), (1,), (2,)]
    s3_server.put("m", manifest("log/1", "gone", mandatory=True))
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
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor, content: bytes
) -> None:
    s3_server.put("in/1", b'{"id": 1}')
    s3_server.put("in/2", content)
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
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor, fault: Any, message: str
) -> None:
    for key in ("in/1", "in/2"):
        s3_server.put(key, b'{"id": 1}')
    s3_server.fail([fault], key="in/2")
    error = error_of(cursor, copy("in/"))
    assert (error["C"], error["M"][: len(message)]) == ("XX000", message)
    assert stand_in.rows("SELECT * FROM plays") == []


def test_copy_takes_its_options_in_any_order_and_case(
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor
) -> None:
    s3_server.put("in/1", gzip.compress(b'{"id": 1}\n') + gzip.compress(b'{"id": 2}\n'))
    s3_server.put("m", manifest("in/1", mandatory=True))
    cursor.execute(
        f"""-- asset: plays
        copy public.plays {COLUMNS} from 's3://{BUCKET}/m' statupdate off manifest
        json as 'auto' maxerror 0 iam_role default timeformat 'auto' compupdate off gzip
        region 'us-east-1';
        """
    )
    assert stand_in.rows("SELECT id FROM plays ORDER BY id") == [(1,), (2,)]


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
    stand_in: RedshiftServer, cursor: Cursor, options: str
) -> None:
    cursor.execute("BEGIN")
    assert error_of(cursor, copy("in/", options))["C"] == "42601"
    assert error_of(cursor, "SELECT 1")["C"] == "25P02"


def test_copy_into_what_is_not_there(stand_in: RedshiftServer, cursor: Cursor) -> None:
    assert error_of(cursor, copy("in/").replace("plays", "playz"))["C"] == "42P01"
    assert error_of(cursor, copy("in/").replace("song", "sung"))["C"] == "42703"


def test_a_rollback_takes_back_a_copy_and_what_is_known_of_it(
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor
) -> None:
    last = "SELECT pg_last_copy_count(), pg_last_copy_id()"
    assert row(cursor, last) == [0, -1]
    s3_server.put("in/1", b'{"id": 1}')
    cursor.execute(copy("in/"))
    before = row(cursor, last)
    s3_server.put("in/2", b'{"id": 2}')
    cursor.execute("BEGIN")
    cursor.execute(copy("in/"))  # prepared before
    assert value(cursor, "SELECT COUNT(*) FROM plays") == 3
    assert stand_in.rows("SELECT COUNT(*) FROM plays") == [(1,)]
    count, copy_id = row(cursor, last)
    assert (count, copy_id > before[1]) == (2, True)
    cursor.execute("ROLLBACK")
    assert row(cursor, last) == before
    assert stand_in.rows("SELECT id FROM plays") == [(1,)]
    assert [s.sql for s in stand_in.statements].count(copy("in/")) == 2


def test_copy_into_a_temporary_table_in_the_drivers_own_transaction(
    stand_in: RedshiftServer, s3_server: S3Server, cursor: Cursor
) -> None:
    connection = connect(stand_in)
    connection.autocommit = False
    cursor = connection.cursor()
    s3_server.put("in/1", b'{"id": 1}')
    cursor.execute(PLAYS.replace("TABLE", "TEMP TABLE"))
    cursor.execute(copy("in/"))
    cursor.execute("INSERT INTO public.plays SELECT * FROM plays")
    assert cursor.rowcount == 1
    assert stand_in.rows("SELECT * FROM plays") == []
    connection.commit()
    assert stand_in.rows("SELECT id FROM plays") == [(1,)]
