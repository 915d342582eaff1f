"""Readers of the warehouse that are not ours, as docs/bi.md connects them."""

import re
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, inspect, text

from sparkify_assets.definitions import PACKAGE
from sparkify_assets_tests.platform import Platform, RedshiftPlatform, failure_of
from sparkify_assets_tests.test_export import TABLES

BI = PACKAGE.parent / "docs" / "bi.md"


def programs() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", BI.read_text(), re.DOTALL | re.MULTILINE)


def test_a_tool_keeps_the_views_open_while_runs_write(
    published: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    published.settings["export_path"] = Path("export")
    assert published.run("parquet_files").success
    for program in programs():
        exec(program, {})
    assert "rank" in capfd.readouterr().out
    engine = create_engine(
        f"duckdb:///{Path('bi.duckdb').absolute()}", connect_args={"read_only": True}
    )
    with engine.connect() as tool:
        assert set(inspect(tool).get_view_names(schema="main")) == TABLES
        levels = text("SELECT user_id, level FROM users ORDER BY 1")
        assert tool.execute(levels).fetchall() == [(7, "free"), (8, "paid")]
        published.edit("star/users.sql", "    latest.level\n", "    UPPER(latest.level) AS level\n")
        result = published.run("users", "parquet_files")
        assert result.success, failure_of(result)
        assert tool.execute(levels).fetchall() == [(7, "FREE"), (8, "PAID")]
    engine.dispose()


def test_sqlalchemy_reads_redshift(redshift: RedshiftPlatform, published_once: Platform) -> None:
    redshift.copy_tables_of(published_once)
    server = redshift.server
    address = URL.create(
        "redshift+redshift_connector",
        server.user,
        server.password,
        server.host,
        server.port,
        server.database,
    )
    engine = create_engine(address)
    with engine.connect() as tool:
        found = tool.execute(text(f"SELECT user_id, level FROM {redshift.schema}.users ORDER BY 1"))
        assert found.fetchall() == [(7, "free"), (8, "paid")]
    engine.dispose()
