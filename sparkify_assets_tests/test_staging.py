"""Staging tables as assets, on both engines: what stops a load, and its run config."""

from pathlib import Path

import dagster as dg
import pytest

from sparkify_assets_tests.platform import (
    GROUPS,
    Platform,
    failed_checks,
    failure_of,
    materialized,
)


@pytest.fixture
def platform(either_engine: Platform) -> Platform:
    return either_engine


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


def test_lost_rows_of_staging_are_found_and_can_be_loaded_anew(published: Platform) -> None:
    published.change("DELETE FROM staging_events WHERE iteminsession = 2")
    result = published.run("staging_events", "events")
    assert failed_checks(result) == {("staging_events", "records_accounted")}
    assert "events" not in materialized(result)
    said = failure_of(result)
    assert "If someone changed the rows of these tables, load everything again: dg launch" in said


def test_files_without_a_record_are_told_as_such(platform: Platform) -> None:
    platform.log_data.mkdir()
    (platform.log_data / "empty.json").touch()
    said = failure_of(platform.run("staging_events"))
    assert "Check row_count" in said
    assert said.endswith("Make sure that the files of event_files hold records.")


def test_another_source_is_refused_and_one_job_lets_it_replace_the_old_one(
    published: Platform,
) -> None:
    places = {name: published.settings[name] for name in ("song_data", "log_data")}
    before = published.rows("SELECT COUNT(*) FROM songplays")
    for name in places:
        published.settings[name] = None  # the sample data
    said = failure_of(published.run(*GROUPS["staging"]))
    assert said.count("without SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA the sample is loaded") == 2
    assert said.count("replace everything here: dg launch --job reload") == 2
    assert all(f"was loaded from {place}, but" in said for place in places.values())
    assert published.rows("SELECT COUNT(*) FROM songplays") == before == [(4,)]

    for name in places:
        published.settings[name] = str(getattr(published, name))
    published.write_songs([{"song_id": "SO9"}])
    published.write_events([{"userId": "9"}, {"userId": "9"}])
    said = failure_of(published.run(*GROUPS["staging"]))
    assert f"SPARKIFY_LOG_DATA now means {published.log_data}. " in said
    assert f"SPARKIFY_SONG_DATA now means {published.song_data}. " in said
    jobs = published.defs().resolve_job_def
    every = jobs("refresh").asset_layer.executable_asset_keys
    assert jobs("reload").asset_layer.executable_asset_keys == every
    few = [*GROUPS["staging"], "repaired_text", "artists", "songs", "events"]
    done = jobs("reload").execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in few], raise_on_error=False
    )
    assert done.success, failure_of(done)
    assert {root for (root,) in published.rows("SELECT source_root FROM load_history")} == {
        f"file://{published.settings[name]}" for name in places
    }
    assert published.rows("SELECT song_id FROM songs") == [("SO9",)]
    assert published.rows("SELECT user_id FROM events") == [(9,), (9,)]


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
