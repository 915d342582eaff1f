"""What runs by itself: the sensor of new files tick by tick, changed tables, the daily schedule."""

import shutil
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._utils.schedules import schedule_execution_time_iterator

from sparkify_assets.errors import SparkifyError
from sparkify_assets_tests.daemon import Daemon
from sparkify_assets_tests.lineage import GROUPS, UPSTREAM
from sparkify_assets_tests.platform import EVENT, Platform, materialized
from sparkify_assets_tests.s3_server import BUCKET, DENIED, LISTING, S3Server

NEW = "Files are new or changed. They may not be complete yet."
BUSY = "Files are new or changed. Waiting for a refresh to end."
NOTHING = "No file is new or changed."
A_RUN = ""
OTHER = dg.DagsterRun(job_name="refresh", status=dg.DagsterRunStatus.STARTED)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def daemon(made: Platform, instance: dg.DagsterInstance) -> Daemon:
    """Of a platform whose first files have come, have settled, and are being loaded."""
    daemon = Daemon(made, instance)
    assert looks(daemon, 3) == [NEW, A_RUN, NOTHING]
    return daemon


def looks(daemon: Daemon, count: int) -> list[str]:
    return [daemon.look() for _ in range(count)]


def test_a_batch_that_has_settled_is_one_run(daemon: Daemon) -> None:
    platform = daemon.platform
    platform.write_events([{"sessionId": 2}], "a.json")
    assert looks(daemon, 1) == [NEW]
    platform.write_events([{"sessionId": 3}], "b.json")  # while the batch is still coming
    assert looks(daemon, 1) == [NEW]
    platform.write_songs([{}] * 5)
    assert looks(daemon, 4) == [NEW, A_RUN, NOTHING, NOTHING]


def test_a_file_that_grows_is_not_loaded_before_it_is_whole(daemon: Daemon) -> None:
    for size in range(1, 4):
        daemon.platform.write_events([{"sessionId": 2}] * size, "a.json")
        assert looks(daemon, 1) == [NEW]
    assert looks(daemon, 2) == [A_RUN, NOTHING]


def test_changed_bytes_of_the_same_size_and_a_deleted_file_are_seen(daemon: Daemon) -> None:
    file = daemon.platform.log_data / "events.json"
    file.write_text(file.read_text().replace('"free"', '"paid"'))
    assert looks(daemon, 3) == [NEW, A_RUN, NOTHING]
    shutil.copy(file, file.with_name("copy.json"))
    assert looks(daemon, 3) == [NEW, A_RUN, NOTHING]
    file.unlink()
    assert looks(daemon, 3) == [NEW, A_RUN, NOTHING]


def test_what_is_no_data_is_no_reason_to_run(daemon: Daemon) -> None:
    for name in (".DS_Store", "_SUCCESS", ".ipynb_checkpoints/a.json"):
        daemon.platform.write_events([{}], name)
    assert looks(daemon, 2) == [NOTHING, NOTHING]


def test_a_missing_folder_is_said_and_the_batch_is_not_lost(daemon: Daemon) -> None:
    platform, away = daemon.platform, daemon.platform.folder / "away"
    platform.write_events([{"sessionId": 2}], "a.json")
    assert looks(daemon, 1) == [NEW]
    platform.log_data.rename(away)
    for said in looks(daemon, 2):
        assert said.startswith("The sources cannot be listed; trying again soon. event_files: ")
        assert f"{platform.log_data} does not exist. Set SPARKIFY_LOG_DATA" in said
    away.rename(platform.log_data)
    assert looks(daemon, 2) == [A_RUN, NOTHING]


def test_an_unreachable_bucket_is_said_and_looked_at_again(
    bucket: S3Server, platform: Platform, instance: dg.DagsterInstance
) -> None:
    for name in ("song_data", "log_data"):
        platform.settings[name] = f"s3://{BUCKET}/{name}"
        bucket.put(f"{name}/a.json", "{}")
    daemon = Daemon(platform, instance)
    assert looks(daemon, 3) == [NEW, A_RUN, NOTHING]
    bucket.put("log_data/b.json", "{}")
    bucket.requests.clear()
    assert looks(daemon, 1) == [NEW]
    assert [r.key for r in bucket.requests] == ["", ""]  # one listing for each source
    bucket.fail([DENIED], LISTING)
    (said,) = looks(daemon, 1)
    assert f"s3://{BUCKET}/song_data/: S3 cannot be used: " in said
    assert looks(daemon, 2) == [A_RUN, NOTHING]


@pytest.mark.parametrize("status", ["QUEUED", "STARTING", "STARTED", "CANCELING"])
def test_another_refresh_delays_a_batch(daemon: Daemon, status: str) -> None:
    other = OTHER._replace(run_id="other", status=dg.DagsterRunStatus(status))
    daemon.instance.add_run(other)
    daemon.instance.add_run(other._replace(run_id="no matter", job_name="audit"))
    daemon.platform.write_events([{"sessionId": 2}], "a.json")
    assert looks(daemon, 3) == [NEW, BUSY, BUSY]
    daemon.platform.write_events([{"sessionId": 3}], "b.json")
    assert looks(daemon, 2) == [NEW, BUSY]
    assert "A refresh" in daemon.scheduled()
    daemon.instance.delete_run(other.run_id)
    assert looks(daemon, 2) == [A_RUN, NOTHING]
    assert daemon.scheduled() == A_RUN


def test_a_run_that_died_before_it_was_queued_delays_nothing(daemon: Daemon) -> None:
    daemon.instance.add_run(OTHER._replace(status=dg.DagsterRunStatus.NOT_STARTED))
    daemon.platform.write_events([{"sessionId": 2}], "a.json")
    assert looks(daemon, 3) == [NEW, A_RUN, NOTHING]
    assert daemon.scheduled() == A_RUN


@pytest.mark.parametrize("is_on", [False, True])
def test_nothing_runs_by_itself_unless_it_is_told_to(platform: Platform, is_on: bool) -> None:
    """But alerts are sent where there is somebody to send them to."""
    if is_on:
        platform.settings["automation"] = True
    platform.settings["alert_webhook"] = "http://127.0.0.1/"
    repository = platform.defs().get_repository_def()
    sensors = {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    by_setting = "RUNNING" if is_on else "STOPPED"
    assert sensors == {
        "new_files": by_setting,
        "changed_tables": by_setting,
        "failed_runs": "RUNNING",
        "new_warnings": "RUNNING",
    }
    (schedule,) = repository.schedule_defs
    assert schedule.default_status.value == by_setting


def test_the_schedule_keeps_its_hour_where_clocks_change(platform: Platform) -> None:
    platform.settings |= {"schedule": "30 5 * * *", "timezone": "Europe/Berlin"}
    (schedule,) = platform.defs().get_repository_def().schedule_defs
    noon = datetime(2027, 3, 27, 12, tzinfo=ZoneInfo("UTC"))  # a day before summer time
    zone = schedule.execution_timezone
    ticks = schedule_execution_time_iterator(noon.timestamp(), schedule.cron_schedule, zone)
    utc = [next(ticks).astimezone(ZoneInfo("UTC")) for _ in range(2)]
    assert [(t.day, t.hour, t.minute) for t in utc] == [(28, 3, 30), (29, 3, 30)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "every morning"}, "SPARKIFY_SCHEDULE=every morning"),
        ({"schedule": "0 25 * * *"}, "SPARKIFY_SCHEDULE=0 25"),
        ({"schedule": "0 6 * *"}, "SPARKIFY_SCHEDULE=0 6"),
        ({"timezone": "Mars/Phobos"}, "SPARKIFY_TIMEZONE=Mars/Phobos"),
        ({"timezone": "../UTC"}, "SPARKIFY_TIMEZONE=../UTC"),
    ],
)
def test_a_wrong_time_is_told(platform: Platform, settings: dict[str, str], said: str) -> None:
    platform.settings |= settings
    with pytest.raises(SparkifyError) as raised:
        platform.defs()
    assert said in str(raised.value)
    assert "Set, for example, 0 6 * * * and Europe/Berlin" in str(raised.value)


def downstream(*names: str) -> set[str]:
    """Assets, and all that is made from them."""
    found = set(names)
    while more := {name for name, parents in UPSTREAM.items() if parents & found} - found:
        found |= more
    return found


def stale(daemon: Daemon) -> set[str]:
    """The assets that the UI marks."""
    instance, graph = daemon.instance, daemon.platform.defs().resolve_asset_graph()
    found = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    status = {key: found.get_status(key).value for key in graph.get_all_asset_keys()}
    return {key.to_user_string() for key, value in status.items() if value != "FRESH"}


class Conditions:
    """The ticks of the sensor of changed tables."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.cursor = daemon, None

    def requested(self) -> set[str]:
        done: Any = dg.evaluate_automation_conditions(
            self.daemon.platform.defs(),
            self.daemon.instance,
            asset_selection=dg.AssetSelection.all(),
            cursor=self.cursor,
        )
        self.cursor = done.cursor
        return {r.key.to_user_string() for r in done.results if not r.true_subset.is_empty}


def test_a_changed_file_of_sql_asks_for_it_and_what_is_made_from_it(daemon: Daemon) -> None:
    conditions, platform = Conditions(daemon), daemon.platform
    assert platform.sql.is_dir()
    assert conditions.requested() == set()
    assert daemon.run().success
    assert [conditions.requested() for _ in range(2)] == [set(), set()]
    assert daemon.run().success  # with nothing new
    assert [conditions.requested() for _ in range(2)] == [set(), set()]
    assert stale(daemon) == set()

    file = platform.sql / "star/songplays.sql"
    file.write_text(file.read_text(encoding="utf-8") + "\n-- again\n")
    changed = downstream("songplays")
    assert {"songplays", "most_played_songs", "listening_report"} <= changed
    assert not {"events", "users", "songs", "time", "sessions"} & changed
    assert [conditions.requested() for _ in range(2)] == [changed, set()]
    assert stale(daemon) == {"songplays"}  # the others follow it
    assert daemon.run("songplays").success
    assert stale(daemon) == {name for name in UPSTREAM if "songplays" in UPSTREAM[name]}
    assert materialized(daemon.run(*changed)) == changed
    assert [conditions.requested() for _ in range(2)] == [set(), set()]
    assert stale(daemon) == set()


def test_staging_that_somebody_loads_asks_for_what_is_made_from_it(daemon: Daemon) -> None:
    conditions = Conditions(daemon)
    conditions.requested()
    assert daemon.run().success
    assert conditions.requested() == set()
    daemon.platform.write_events([EVENT | {"sessionId": 2}], "a.json")
    assert daemon.run("staging_events").success
    made = downstream("staging_events") - {"staging_events"}
    assert stale(daemon) == {name for name in made if "staging_events" in UPSTREAM[name]}
    assert [conditions.requested() for _ in range(2)] == [made, set()]
    assert daemon.run(*made).success
    assert [conditions.requested() for _ in range(2)] == [set(), set()]


def test_sources_and_staging_are_left_to_the_sensor_of_files(platform: Platform) -> None:
    graph = platform.defs().resolve_asset_graph()
    left = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition is None
    }
    assert left == GROUPS["source"] | GROUPS["staging"]
