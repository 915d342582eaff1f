"""The audited publish: a table that fails a blocking check stays as it was, like all after it."""

import re

import dagster as dg
import pytest

from sparkify_assets.console import readable
from sparkify_assets.settings import Settings
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets_tests.platform import (
    Platform,
    RedshiftPlatform,
    failed_checks,
    failure_of,
    materialized,
)

ENDING = "WHERE e.page = 'NextSong';"  # of the INSERT into songplays


@pytest.fixture
def platform(either_engine: Platform) -> Platform:
    return either_engine


def address_of(platform: Platform) -> str:
    return warehouse_of(Settings(**platform.settings)).address


def test_everything_is_materialized_and_every_check_passes(made: Platform) -> None:
    result = made.run()
    assert result.success
    assert materialized(result) == {*made.sql_tables(), "listening_report"}
    assert failed_checks(result) == set()
    evaluations = {
        (e.asset_key.to_user_string(), e.check_name) for e in result.get_asset_check_evaluations()
    }
    assert {check for table, check in evaluations if table == "songplays"} == {
        "row_count",
        "null_keys",
        "unique_key",
        "foreign_keys",
        "every_play_once",
        "known_user",
    }
    assert {check for table, check in evaluations if table == "events"} == {
        "row_count",
        "null_keys",
        "unique_key",
        "every_delivery_counted",
        "one_version",
    }
    assert {check for table, check in evaluations if table == "staging_events"} == {
        "row_count",
        "null_keys",
        "foreign_keys",
        "records_accounted",
        "files_read",
        "delivered_once",
    }


# what is broken, in which file, and which check must see it: how much, and in which words
BREAKS = {
    "a null key": (
        "star/users.sql",
        "    latest.user_id,",
        "    NULLIF(latest.user_id, 8) AS user_id,",
        ("users", "null_keys", 1, "violating row"),
    ),
    "a duplicate key": (
        "star/users.sql",
        " AND e.ts = x.ts\n) AS latest\nWHERE latest.recency = 1",
        "\n) AS latest\nWHERE latest.recency <= 2",
        ("users", "unique_key", 1, "surplus row"),
    ),
    "no row": (
        "star/users.sql",
        "WHERE latest.recency = 1",
        "WHERE latest.recency = 0",
        ("users", "row_count", 1, "empty table"),
    ),
    "an orphan key": (
        "star/songplays.sql",
        "    COALESCE(o.song_id, n.song_id) AS song_id,",
        "    'SO?' AS song_id,",
        ("songplays", "foreign_keys", 4, "orphan reference"),
    ),
    "a lost play": (
        "star/songplays.sql",
        ENDING,
        f"{ENDING[:-1]} AND e.item_in_session <> 2;",
        ("songplays", "every_play_once", 1, "miscounted play"),
    ),
    "an invented play": (
        "star/songplays.sql",
        "WHERE e.page = 'NextSong'",
        "WHERE e.page IN ('NextSong', 'Home')",
        ("songplays", "every_play_once", 1, "miscounted play"),
    ),
    "an uncounted play": (
        "marts/most_played_songs.sql",
        "FROM songplays AS p\n",
        "FROM songplays AS p WHERE p.song_id IS NOT NULL\n",
        ("most_played_songs", "every_play_counted", 1, "wrong sum"),
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_table_is_not_published(published: Platform, case: str) -> None:
    file, old, new, (table, check, violations, unit) = BREAKS[case]
    before = sorted(published.rows(f"SELECT * FROM {table}"), key=str)
    published.edit(file, old, new)
    result = published.run("users", "songplays", "most_played_songs")
    assert not result.success
    assert (table, check) in failed_checks(result)
    found = {e.check_name: e for e in result.get_asset_check_evaluations() if not e.passed}[check]
    assert found.metadata[f"{unit.replace(' ', '_')}s"].value == violations
    samples = found.metadata["samples"].value
    assert len(samples.records) == 1  # type: ignore[union-attr]
    assert sorted(published.rows(f"SELECT * FROM {table}"), key=str) == before
    said = failure_of(result)
    assert f"{table} was not published" in said
    assert f"Check {check}: {violations} {unit}{'s' if violations > 1 else ''}. (" in said
    assert f"unchanged in {address_of(published)}, and nothing downstream was touched" in said
    order = ["users", "songplays", "most_played_songs"]
    assert not materialized(result) & set(order[order.index(table) :])


def test_a_failed_refresh_ends_with_the_paragraph(
    published: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    published.edit(*BREAKS["a lost play"][:3])
    job = published.defs().resolve_job_def("refresh")
    assert not job.execute_in_process(raise_on_error=False).success
    lines = capfd.readouterr().err.strip().splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d ERROR   songplays was not published. It is unchanged in .*, "
        r"and nothing downstream was touched. Check every_play_once: 1 miscounted play. "
        r".* For example: event_id = 1-2-1541105999796-7, events = 1, plays = 0.",
        lines[-2],
    )
    _, skipped = lines[-1].split(" INFO    skipped after that: ")
    assert {"most_played_songs", "listening_report"} < set(skipped.split(", "))
    assert not any(word in line for line in lines for word in ("Traceback", "DEBUG", "Executing"))


def test_the_summary_counts_the_warnings_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    @dg.op
    def warns(context: dg.OpExecutionContext) -> None:
        context.log.warning("2 records rejected")
        context.log.warning("no file in sql/ for mine")

    @dg.job(logger_defs={"readable": readable}, config={"loggers": {"readable": {}}})
    def loads() -> None:
        warns()

    assert loads.execute_in_process().success
    *lines, summary = capfd.readouterr().err.strip().splitlines()
    assert sum(" WARNING " in line for line in lines) == 2
    assert ": 0 assets materialized, 0 checks passed, 2 warnings, " in summary


def test_the_report_does_not_need_a_mart_that_it_does_not_draw(published: Platform) -> None:
    (published.sql / "marts" / "mine.sql").write_text(
        "-- One.\nCREATE TABLE mine (a INTEGER);\n"
        "INSERT INTO mine (a) SELECT 1 AS a FROM users AS u WHERE u.user_id < 0;"
    )
    job = published.defs().resolve_job_def("refresh")
    result = job.execute_in_process(raise_on_error=False)
    assert failure_of(result).startswith("mine was not published.")
    assert published.report.exists()
    published.edit("marts/mine.sql", "WHERE u.user_id < 0", "")
    assert published.defs().resolve_job_def("refresh").execute_in_process().success


def test_every_check_of_a_failed_table_is_recorded(published: Platform) -> None:
    published.edit(*BREAKS["a null key"][:3])
    published.change("DROP TABLE songplays")
    published.change("DROP TABLE users")
    result = published.run("users")
    recorded = {
        e.check_name
        for e in result.get_asset_check_evaluations()
        if e.asset_key.to_user_string() == "users"
    }
    assert recorded == {"row_count", "null_keys", "unique_key"}
    assert "users" not in published.table_names()


@pytest.mark.parametrize("empty", [False, True], ids=["no table", "an empty table"])
def test_a_table_without_its_staging_says_what_to_materialize_first(
    made: Platform, empty: bool
) -> None:
    if empty:
        assert made.defs().resolve_job_def("create_tables").execute_in_process().success
    result = made.run("events")
    assert not result.success
    assert "Materialize it first: dg launch --assets staging_events" in failure_of(result)


def test_one_table_alone_is_materialized(published: Platform) -> None:
    result = published.run("users")
    assert result.success
    assert materialized(result) == {"users"}


def test_create_tables_touches_no_data(made: Platform) -> None:
    create = made.defs().resolve_job_def("create_tables")
    assert create.execute_in_process().success
    assert made.table_names() == set(made.catalog.tables)
    assert made.make("events").success
    before = made.rows("SELECT * FROM events ORDER BY event_id")
    assert create.execute_in_process().success
    assert made.rows("SELECT * FROM events ORDER BY event_id") == before != []


def test_a_table_whose_file_gained_a_column_is_rebuilt(
    published: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    published.edit(
        "star/users.sql",
        "level VARCHAR(16) --",
        "level VARCHAR(16), -- x\n    initial VARCHAR(1) --",
    )
    published.edit("star/users.sql", "gender, level)", "gender, level, initial)")
    published.edit(
        "star/users.sql",
        "    latest.level\n",
        "    latest.level,\n    SUBSTRING(latest.first_name, 1, 1) AS initial\n",
    )
    if isinstance(published, RedshiftPlatform):  # where something may hang on a table
        said = failure_of(published.run("users"))
        assert f"users in {address_of(published)} differs from its file" in said
        assert ": only users.sql has initial " in said
        assert """--config-json '{"ops": {"users": {"config": {"recreate": true}}}}'""" in said
    recreate = {"ops": {"users": {"config": {"recreate": True}}}}
    result = published.run("users", config=recreate)
    assert result.success, failure_of(result)
    assert published.rows("SELECT user_id, initial FROM users ORDER BY 1") == [(7, "A"), (8, "B")]
    said = "users: recreated, because its columns differ: only users.sql has initial "
    assert said in capfd.readouterr().err


def test_a_warning_does_not_stop_a_table(published: Platform) -> None:
    published.edit(
        "checks/songplays__every_play_once.sql", "-- Every Next", "-- severity: warn\n-- Every Next"
    )
    published.edit(*BREAKS["a lost play"][:3])
    result = published.run("songplays")
    assert ("songplays", "every_play_once") in failed_checks(result)
    assert "songplays" in materialized(result)


def test_an_insert_that_the_engine_refuses_is_explained(published: Platform) -> None:
    published.edit(
        "star/users.sql",
        "    latest.gender,",
        "    CAST(CAST(latest.gender AS INTEGER) AS VARCHAR(16)) AS gender,",
    )
    result = published.run("users")
    assert "users was not published: the INSERT of" in failure_of(result)
    assert "users.sql" in failure_of(result)


def test_an_insert_that_is_refused_for_new_rows_is_explained_too(made: Platform) -> None:
    number = "CAST(CASE WHEN latest.gender = 'F' THEN '1' ELSE latest.gender END AS INTEGER)"
    made.edit(
        "star/users.sql", "    latest.gender,", f"    CAST({number} AS VARCHAR(16)) AS gender,"
    )
    assert made.make("users").success
    before = made.rows("SELECT * FROM users ORDER BY user_id")
    made.write_events([{"userId": "9", "gender": "M", "sessionId": 9}], "new.json")
    said = failure_of(made.make("users"))
    assert "users was not published: the INSERT of" in said
    assert "users.sql" in said
    assert made.rows("SELECT * FROM users ORDER BY user_id") == before


def test_a_check_that_does_not_run_is_named(published: Platform) -> None:
    published.edit(
        "checks/songplays__known_user.sql", "p.user_id IS NULL", "CAST(p.artist AS INTEGER) IS NULL"
    )
    result = published.run("songplays")
    assert "check known_user does not run" in failure_of(result)
    assert "songplays" not in materialized(result)
