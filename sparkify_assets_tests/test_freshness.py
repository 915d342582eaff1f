"""How old the data may be, and what is said of data that are older."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import Settings
from sparkify_assets_tests.lineage import GROUPS
from sparkify_assets_tests.platform import Platform, failure_of

EVENTS = ("staging_songs", "staging_events", "repaired_text", "events")
HOUR = timedelta(hours=1)
CHECK = ("events", "newest_event")


@pytest.fixture
def platform(either_engine: Platform) -> Platform:
    return either_engine


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours before UTC: an age by local clocks would be wrong by them."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def write_event(platform: Platform, age: timedelta, name: str = "events.json") -> datetime:
    """Writes an old play, and an event that is no play; says when the latter happened, UTC."""
    moment = (datetime.now(UTC) - age).replace(microsecond=0)
    last = {"page": "Home", "sessionId": 7, "ts": int(moment.timestamp() * 1000)}
    platform.write_events([{}, last], name)
    return moment


def newest_event(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = (
        check
        for check in result.get_asset_check_evaluations()
        if (check.asset_key.to_user_string(), check.check_name) == CHECK
    )
    return found


@pytest.mark.usefixtures("in_tokyo")
def test_the_newest_event_may_be_so_old(platform: Platform) -> None:
    platform.settings["max_age_hours"] = 2
    platform.write_songs([{}])
    first = write_event(platform, 3 * HOUR)
    result = platform.run(*EVENTS)
    assert result.success, failure_of(result)  # it warns, and stops nothing
    check = newest_event(result)
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.description == "the newest event is 3.0 hours old; the limit is 2"
    assert check.metadata["newest_event"].value == first.timestamp()
    second = write_event(platform, 1 * HOUR, "late.json")
    check = newest_event(platform.run(*EVENTS))
    assert check.passed
    assert check.description == "the newest event is 1.0 hours old; the limit is 2"
    assert check.metadata["newest_event"].value == second.timestamp()
    assert check.metadata["age_hours"].value == pytest.approx(1, abs=0.1)
    assert newest_event(platform.run_check(*CHECK)).passed  # by itself, too


def test_before_the_first_load_it_says_what_to_do(platform: Platform) -> None:
    platform.settings["max_age_hours"] = 2
    said = failure_of(platform.run_check(*CHECK))
    assert said.startswith("events does not exist yet, and its newest event is looked up. ")
    assert "dg launch --assets events" in said


def policies(platform: Platform) -> dict[str, Any]:
    specs = platform.defs().resolve_all_asset_specs()
    return {s.key.to_user_string(): s.freshness_policy for s in specs if s.freshness_policy}


def test_what_is_watched_if_the_setting_is_there(tmp_path: Any) -> None:
    assert policies(Platform(tmp_path, max_age_hours=36)) == {
        name: dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36))
        for name in GROUPS["staging"] | GROUPS["marts"]
    }
    unset = Platform(tmp_path)
    assert policies(unset) == {}
    assert CHECK not in checks_of(unset, "audit")


def checks_of(platform: Platform, job: str) -> set[tuple[str, str]]:
    graph = platform.defs().resolve_job_def(job).asset_layer.asset_graph
    return {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys}


@pytest.mark.parametrize("job", ["refresh", "audit", "rebuild"])
def test_each_job_looks_at_the_age(tmp_path: Any, job: str) -> None:
    assert CHECK in checks_of(Platform(tmp_path, max_age_hours=36), job)


@pytest.mark.parametrize("hours", ["0", "-1", "0.01", "inf", "nan", "1e300", "two"])
def test_a_wrong_age_is_told(monkeypatch: pytest.MonkeyPatch, hours: str) -> None:
    monkeypatch.setenv("SPARKIFY_MAX_AGE_HOURS", hours)
    with pytest.raises(SparkifyError, match="SPARKIFY_MAX_AGE_HOURS is wrong: input should be"):
        Settings.from_environment()


@pytest.mark.parametrize("hours", [0.1, 87_600])
def test_the_bounds_of_an_age_can_be_watched(tmp_path: Any, hours: float) -> None:
    dg.Definitions.validate_loadable(Platform(tmp_path, max_age_hours=hours).defs())
