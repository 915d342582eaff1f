"""Tables whose file of `sql/` is gone: named by each refresh, and dropped only on request."""

import re

import dagster as dg
import pytest

from sparkify_assets_tests.platform import Platform, RedshiftPlatform, failure_of
from sparkify_assets_tests.test_new_tables import NEW_TABLE

REPORT = "listening_report"
REBUILD = {"ops": {"users": {"config": {"rebuild": True}}}}


@pytest.fixture
def platform(either_engine: Platform) -> Platform:
    return either_engine


@pytest.fixture
def orphaned(published: Platform) -> Platform:
    """A published table without a file, beside a table that Sparkify knows nothing of."""
    file = published.sql / "marts" / "plays_by_user.sql"
    file.write_text(NEW_TABLE, encoding="utf-8")
    result = published.run("plays_by_user")
    assert result.success, failure_of(result)
    published.change("CREATE TABLE mine (n INTEGER)")
    file.unlink()
    return published


def named(result: dg.ExecuteInProcessResult) -> object:
    assert result.success, failure_of(result)
    (event,) = result.asset_materializations_for_node(REPORT)
    found = event.metadata.get("tables_without_a_file")
    return found and found.value


def drop(platform: Platform) -> dg.ExecuteInProcessResult:
    job = platform.defs().resolve_job_def("drop_removed_tables")
    return job.execute_in_process(raise_on_error=False)


def test_a_table_without_a_file_is_named_and_dropped_on_request(
    orphaned: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    tables = orphaned.table_names()
    for _ in range(2):  # in every run, even after others were published without it
        assert named(orphaned.run(REPORT)) == "plays_by_user"
        said = capfd.readouterr().err
        assert said.count("no file in sql/ for plays_by_user: still in ") == 1
        assert "To drop: dg launch --job drop_removed_tables" in said
        assert orphaned.run("users", config=REBUILD).success
    assert orphaned.table_names() == tables
    assert orphaned.rows("SELECT COUNT(*) FROM plays_by_user") == [(2,)]

    assert drop(orphaned).success
    assert orphaned.table_names() == tables - {"plays_by_user"}
    assert re.search(": dropped plays_by_user\n", capfd.readouterr().err)
    assert named(orphaned.run(REPORT)) is None
    assert drop(orphaned).success
    assert re.search(": dropped nothing\n", capfd.readouterr().err)
    assert orphaned.table_names() == tables - {"plays_by_user"}


def test_a_table_that_somebody_else_dropped_is_no_longer_named(orphaned: Platform) -> None:
    orphaned.change("DROP TABLE plays_by_user")
    assert named(orphaned.run(REPORT)) is None
    assert drop(orphaned).success


def test_nothing_is_dropped_where_nothing_was_published(platform: Platform) -> None:
    assert drop(platform).success
    assert platform.run(REPORT).success is False


def test_what_a_view_of_somebody_reads_is_not_dropped(orphaned: Platform) -> None:
    orphaned.change("CREATE VIEW seen AS SELECT plays FROM plays_by_user")
    done = drop(orphaned)
    if isinstance(orphaned, RedshiftPlatform):  # DuckDB does not know what a view reads
        assert "cannot drop table" in failure_of(done)
        assert orphaned.rows("SELECT COUNT(*) FROM seen") == [(2,)]
        assert named(orphaned.run(REPORT)) == "plays_by_user"
    else:
        assert done.success
