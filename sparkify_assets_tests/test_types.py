"""Every type that a column may have: what is published of it, again and again, on both engines."""

from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal

import pytest

from sparkify_assets_tests.platform import (
    Platform,
    failure_of,
)


@pytest.fixture
def platform(either_engine: Platform) -> Platform:
    return either_engine


NOON = datetime(2018, 11, 1, 12, tzinfo=UTC)


# how a type may be declared, an expression that both engines understand, and what is then stored
TYPES: dict[str, tuple[str, object]] = {
    **dict.fromkeys(("SMALLINT", "INT2", "INTEGER", "INT", "INT4", "BIGINT", "INT8"), ("7", 7)),
    **dict.fromkeys(("DECIMAL", "NUMERIC", "DECIMAL(9)"), ("CAST(2.6 AS REAL)", Decimal(3))),
    "DECIMAL(18, 2)": ("12.34", Decimal("12.34")),
    "NUMERIC(38,10)": ("12.3456789012", Decimal("12.3456789012")),
    **dict.fromkeys(("REAL", "FLOAT4"), ("0.25", 0.25)),
    **dict.fromkeys(("DOUBLE PRECISION", "FLOAT8", "FLOAT"), ("0.1", 0.1)),
    **dict.fromkeys(("BOOLEAN", "BOOL"), ("true", True)),
    **dict.fromkeys(("CHAR", "CHARACTER", "NCHAR"), ("'x'", "x")),
    **dict.fromkeys(("CHAR(3)", "NCHAR(3)", "CHARACTER(3)", "BPCHAR"), ("'xyz'", "xyz")),
    "CHAR(MAX)": ("'xyz'", "xyz"),
    **dict.fromkeys(("VARCHAR(3)", "CHARACTER VARYING(3)", "NVARCHAR(3)"), ("'xyz'", "xyz")),
    **dict.fromkeys(("VARCHAR", "VARCHAR(MAX)", "NVARCHAR", "TEXT"), ("'xyz'", "xyz")),
    "DATE": ("CAST('2018-11-01' AS DATE)", date(2018, 11, 1)),
    **dict.fromkeys(("TIME", "TIME WITHOUT TIME ZONE"), ("CAST('12:00:00' AS TIME)", clock(12))),
    **dict.fromkeys(
        ("TIMETZ", "TIME WITH TIME ZONE"),
        ("CAST('12:00:00+00' AS TIMETZ)", clock(12, tzinfo=UTC)),
    ),
    **dict.fromkeys(
        ("TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE"),
        ("CAST('2018-11-01 12:00:00' AS TIMESTAMP)", NOON.replace(tzinfo=None)),
    ),
    **dict.fromkeys(
        ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"),
        ("CAST(CAST('2018-11-01 12:00:00' AS TIMESTAMP) AS TIMESTAMPTZ)", NOON),
    ),
}


def test_a_mart_of_every_type_is_published_again_and_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")  # a moment is the same wherever DuckDB runs
    named = {f"c{number}": each for number, each in enumerate(TYPES)}
    (platform.sql / "marts" / "every_type.sql").write_text(
        "-- One row in all.\nCREATE TABLE every_type ("
        + ", ".join(f"{name} {declared}" for name, declared in named.items())
        + f");\nINSERT INTO every_type ({', '.join(named)}) SELECT "
        + ", ".join(f"{TYPES[declared][0]} AS {name}" for name, declared in named.items())
    )
    for _ in range(2):
        result = platform.run("every_type")
        assert result.success, failure_of(result)
    [row] = platform.rows("SELECT * FROM every_type")
    stored = [value.rstrip() if isinstance(value, str) else value for value in row]
    assert dict(zip(TYPES, stored, strict=True)) == {k: value for k, (_, value) in TYPES.items()}
