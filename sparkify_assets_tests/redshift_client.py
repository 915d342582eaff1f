"""A client of the stand-in for Redshift, for its own tests: the driver, and nothing of ours."""

import json
from typing import Any

import pytest
import redshift_connector
from redshift_connector.core import Connection
from redshift_connector.cursor import Cursor
from redshift_connector.error import ProgrammingError

from sparkify_assets_tests.redshift_server import (
    RedshiftServer,
)
from sparkify_assets_tests.s3_server import BUCKET

ROLE = "IAM_ROLE 'arn:aws:iam::123456789012:role/loader'"


PLAYS = "CREATE TABLE plays (id BIGINT NOT NULL, userid BIGINT, song VARCHAR(8), ts TIMESTAMP)"


COLUMNS = "(id, userId, song, ts)"


def connect(stand_in: RedshiftServer, **changes: Any) -> Connection:
    """Commits each statement, unless it says BEGIN."""
    arguments: dict[str, Any] = {
        "host": stand_in.host,
        "port": stand_in.port,
        "database": stand_in.database,
        "user": stand_in.user,
        "password": stand_in.password,
        "application_name": "tests",
        "ssl": False,
    }
    connection = redshift_connector.connect(**arguments | changes)
    connection.autocommit = True
    return connection


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
