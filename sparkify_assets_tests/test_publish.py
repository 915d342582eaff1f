"""The audited publish: a table that fails a blocking check stays as it was, like all after it."""

import re
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sparkify_assets.settings import Settings
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets_tests.platform import (
    Platform,
    RedshiftPlatform,
    failed_checks,
    failure_of,
)

ENDING = "WHERE e.page = 'NextSong';"  # of the INSERT into songplays


@pytest.fixture(params=["duckdb", "redshift", pytest.param("live", marks=pytest.mark.redshift)])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Platform:
    """Every test here is one of both engines."""
    if request.param == "duckdb":
        return Platform(tmp_path)
    redshift: RedshiftPlatform = request.getfixturevalue(request.param)
    return redshift


def address_of(platform: Platform) -> str:
    return warehouse_of(Settings(**platform.settings)).address


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


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
        "delivered_once",
        "one_version",
    }
    assert {check for table, check in evaluations if table == "staging_events"} == {
        "row_count",
        "null_keys",
        "foreign_keys",
        "records_accounted",
        "files_read",
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
        "WHERE latest.recency = 1",
        "WHERE latest.recency <= 2",
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
        "    m.song_id,",
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
        r"\d\d:\d\d:\d\d ERROR   songplays was not published. "
        r"Check every_play_once: 1 miscounted play. "
        r".* For example: event_id = 1-2-1541105999796-7, events = 1, plays = 0. "
        r"It is unchanged in .*",
        lines[-1],
    )
    assert not any(word in line for line in lines for word in ("Traceback", "DEBUG", "Executing"))


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


def test_a_check_is_evaluated_alone(published: Platform) -> None:
    result = published.run_check("songplays", "unique_key")
    assert result.success
    assert materialized(result) == set()
    assert [e.check_name for e in result.get_asset_check_evaluations()] == ["unique_key"]


# what somebody does to the published tables
CHANGES = (
    "INSERT INTO users SELECT u.* FROM users AS u, songplays AS p WHERE u.user_id = 7",
    "INSERT INTO staging_events SELECT * FROM staging_events WHERE sessionid = 1",
    "INSERT INTO events SELECT * FROM events WHERE session_id = 1",
    "UPDATE events SET deliveries = 2 WHERE session_id = 2",
    "UPDATE staging_events SET object_id = -1",
    "UPDATE songplays SET song_id = 'SO?', artist_id = CASE WHEN user_id = 7 THEN 'AR?' END",
    "INSERT INTO user_levels SELECT user_id, 'gold', valid_from, valid_to, is_current "
    "FROM user_levels WHERE user_id = 8",
)
# what a check alone must find then, in its own unit, and some of its samples
FOUND: dict[tuple[str, str], tuple[str, int, list[dict[str, Any]]]] = {
    ("users", "unique_key"): ("surplus_rows", 4, [{"user_id": 7, "copies": 5}]),
    ("events", "unique_key"): (
        "surplus_rows",
        4,
        [
            {"event_id": f"1-{item}-{ts}-7", "copies": 2}
            for item, ts in enumerate((1541105830796, 1541105831796, 1541105999796, 1541106000796))
        ],
    ),
    ("events", "every_delivery_counted"): (
        "wrong_sums",
        1,
        [{"deliveries": 10, "staging_events": 9}],
    ),
    ("staging_events", "foreign_keys"): (
        "orphan_references",
        9,
        [{"column_name": "object_id", "orphan": "-1", "copies": 9}],
    ),
    ("staging_events", "records_accounted"): (
        "wrong_balances",
        1,
        [
            {
                **{"records_read": 5, "rows_loaded": 5, "rows_rejected": 0},
                **{"rows_found": 9, "rejected_found": 0},
            }
        ],
    ),
    ("songplays", "foreign_keys"): (
        "orphan_references",
        7,
        [
            {"column_name": "artist_id", "orphan": "AR?", "copies": 3},
            {"column_name": "song_id", "orphan": "SO?", "copies": 4},
        ],
    ),
    ("user_levels", "current_level"): (
        "inconsistent_users",
        2,
        [
            {"user_id": 7, "level": "free", "current_stretches": 5, "current_level": "free"},
            {"user_id": 8, "level": "paid", "current_stretches": 2, "current_level": "gold"},
        ],
    ),
}


def test_checks_alone_find_what_is_wrong_in_published_tables(published: Platform) -> None:
    """Whatever a planner believes of keys that were proved once."""
    for change in CHANGES:
        published.change(change)
    for (table, check), (unit, violations, samples) in FOUND.items():
        result = published.run_check(table, check)
        assert failed_checks(result) == {(table, check)}
        (found,) = result.get_asset_check_evaluations()
        assert found.metadata[unit].value == violations
        shown = [r.data for r in found.metadata["samples"].value.records]  # type: ignore[union-attr]
        assert len(shown) == min(len(samples), 3)
        for row in shown:
            assert {k: _plain(v) for k, v in row.items()} in samples


def _plain(value: object) -> object:
    return int(str(value)) if isinstance(value, str) and value.isdigit() else value


def test_a_check_of_a_table_that_is_not_there_says_what_to_do(made: Platform) -> None:
    result = made.run_check("users", "row_count")
    assert "does not exist yet" in failure_of(result)
    assert "dg launch --assets" in failure_of(result)


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
    assert made.table_names() == {*made.sql_tables(), "load_history", "rejected_records"}
    assert made.make("events").success
    before = made.rows("SELECT * FROM events ORDER BY event_id")
    assert create.execute_in_process().success
    assert made.rows("SELECT * FROM events ORDER BY event_id") == before != []


def test_a_table_whose_file_gained_a_column_is_rebuilt(published: Platform) -> None:
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
        assert f"users in {address_of(published)} has another shape than its file" in said
        assert """--config-json '{"ops": {"users": {"config": {"recreate": true}}}}'""" in said
    recreate = {"ops": {"users": {"config": {"recreate": True}}}}
    result = published.run("users", config=recreate)
    assert result.success, failure_of(result)
    assert published.rows("SELECT user_id, initial FROM users ORDER BY 1") == [(7, "A"), (8, "B")]


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


def test_too_many_rejected_records_publish_nothing(made: Platform) -> None:
    made.write_events([{"ts": "yesterday"}] * 11, name="bad.json")
    result = made.run("staging_events", "events")
    said = failure_of(result)
    assert "11 of 16 records of event_files cannot be read" in said
    assert "bad.json, line 1: ts is" in said
    assert "SPARKIFY_MAX_REJECTED_SHARE" in said
    assert not materialized(result)
    made.settings["max_rejected_share"] = 0.7
    result = made.run("staging_events")
    assert result.success
    assert failed_checks(result) == {("staging_events", "files_read")}  # and it warns
    assert made.rows("SELECT COUNT(*) FROM rejected_records WHERE column_name = 'ts'") == [(11,)]
    assert made.rows("SELECT count(*) FROM staging_events") == [(5,)]


def test_files_without_a_record_are_told_as_such(platform: Platform) -> None:
    platform.log_data.mkdir()
    (platform.log_data / "empty.json").touch()
    said = failure_of(platform.run("staging_events"))
    assert "Check row_count" in said
    assert said.endswith("Make sure that the files of event_files hold records.")


def test_lost_rows_of_staging_are_found_and_can_be_loaded_anew(published: Platform) -> None:
    published.change("DELETE FROM staging_events WHERE iteminsession = 2")
    result = published.run("staging_events", "events")
    assert failed_checks(result) == {("staging_events", "records_accounted")}
    assert "events" not in materialized(result)
    said = failure_of(result)
    assert re.search("If somebody changed the rows of these tables, load all anew: dg launch", said)


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
        "star/users.sql", "    latest.gender,", "    CAST(latest.gender AS INTEGER) AS gender,"
    )
    result = published.run("users")
    assert "users was not published: the INSERT of" in failure_of(result)
    assert "users.sql" in failure_of(result)


def test_a_check_that_does_not_run_is_named(published: Platform) -> None:
    published.edit("checks/songplays__known_user.sql", "p.user_id IS NULL", "p.nobody IS NULL")
    result = published.run("songplays")
    assert "check known_user does not run" in failure_of(result)
    assert "songplays" not in materialized(result)


def test_run_config_of_a_load(made: Platform) -> None:
    """A prefix loads a part, a full reload forgets what vanished, both together are refused."""

    def load(**config: object) -> dg.ExecuteInProcessResult:
        return made.run("staging_events", config={"ops": {"staging_events": {"config": config}}})

    def files() -> list[str]:
        rows = made.rows("SELECT uri FROM load_history ORDER BY uri")
        return sorted(Path(uri).name for (uri,) in rows)

    made.write_events([{"sessionId": 50}], "2018/11/day.json")
    assert load(prefix="2018").success
    assert files() == ["day.json"]
    assert load().success
    assert files() == ["day.json", "events.json"]
    (made.log_data / "2018/11/day.json").unlink()
    assert "Choose one" in failure_of(load(prefix="2018", full_reload=True))
    assert files() == ["day.json", "events.json"]
    assert load(full_reload=True).success
    assert files() == ["events.json"]
