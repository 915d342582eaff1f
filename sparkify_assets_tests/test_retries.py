"""What may pass by itself is tried again; what a person has to change is not."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sparkify_assets.errors import SparkifyError, TransientError
from sparkify_assets.maintenance import Upkeep
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets_tests.daemon import Daemon, webhook
from sparkify_assets_tests.platform import Platform, failed_checks, failure_of

AWAY = "S3 is away for a moment."
PLACES: list[tuple[Any, str]] = [
    (FolderSource, "objects"),
    (FolderSource, "fetched"),
    (Upkeep, "record"),  # when the rows are written, and not yet committed
]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes the first calls of a method fail; the list has one item for each call."""

    def fail(place: Any, name: str, times: int, error: SparkifyError) -> list[int]:
        calls: list[int] = []
        right = getattr(place, name)

        def method(*args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) <= times:
                raise error
            return right(*args, **options)

        monkeypatch.setattr(place, name, method)
        return calls

    return fail


def tries(result: dg.ExecuteInProcessResult, step: str) -> list[str]:
    """How often a step began, began anew, and how it ended."""
    types = {
        dg.DagsterEventType.STEP_START: "start",
        dg.DagsterEventType.STEP_RESTARTED: "again",
        dg.DagsterEventType.STEP_SUCCESS: "success",
        dg.DagsterEventType.STEP_FAILURE: "failure",
    }
    events = [event for event in result.all_events if event.step_key == step]
    return [types[event.event_type] for event in events if event.event_type in types]


@pytest.mark.parametrize(("place", "name"), PLACES)
def test_what_passes_is_tried_again(
    made: Platform, failing: Callable[..., list[int]], place: Any, name: str
) -> None:
    failing(place, name, 2, TransientError(AWAY))
    result = made.run("staging_events")
    assert result.success, failure_of(result)
    assert tries(result, "staging_events") == ["start", "again", "again", "success"]
    assert made.rows("SELECT COUNT(*) FROM staging_events") == [(5,)]  # once each
    assert made.rows("SELECT COUNT(*) FROM load_history") == [(1,)]


@pytest.mark.parametrize(("place", "name"), PLACES)
def test_what_does_not_pass_fails_with_its_message(
    made: Platform, failing: Callable[..., list[int]], place: Any, name: str
) -> None:
    calls = failing(place, name, 99, TransientError(AWAY))
    result = made.run("staging_events", "events")
    assert tries(result, "staging_events") == ["start", "again", "again", "failure"]
    assert tries(result, "events") == []
    assert failure_of(result) == AWAY
    assert len(calls) == 3
    if made.warehouse.exists():
        assert made.table_names() & {"staging_events"} == set()


@pytest.mark.parametrize(("place", "name"), PLACES)
def test_what_a_person_has_to_change_is_not_tried_again(
    made: Platform, failing: Callable[..., list[int]], place: Any, name: str
) -> None:
    calls = failing(place, name, 1, SparkifyError("The address is wrong."))
    result = made.run("staging_events")
    assert tries(result, "staging_events") == ["start", "failure"]
    assert failure_of(result) == "The address is wrong."
    assert len(calls) == 1


def test_a_failed_audit_is_not_tried_again(published: Platform) -> None:
    published.edit("star/users.sql", "latest.user_id,", "NULLIF(latest.user_id, 7) AS user_id,")
    result = published.run("users")
    assert failed_checks(result) == {("users", "null_keys")}
    assert tries(result, "users") == ["start", "failure"]


def test_other_steps_are_tried_again_too(
    published: Platform, failing: Callable[..., list[int]]
) -> None:
    """The check of the age, the report, and checks alone: all that meets the warehouse."""
    published.settings["max_age_hours"] = 1
    runs: dict[str, Callable[[], dg.ExecuteInProcessResult]] = {
        "listening_report": lambda: published.run("listening_report"),
        "events": lambda: published.run("events"),
        "events_newest_event": lambda: published.run_check("events", "newest_event"),
    }
    for step, run in runs.items():
        failing(DuckDBWarehouse, "in_transaction", 1, TransientError(AWAY))
        result = run()
        assert result.success, failure_of(result)
        assert tries(result, step) == ["start", "again", "success"]


@pytest.mark.parametrize(("times", "alerts"), [(1, 0), (99, 1)])
def test_nobody_is_told_of_what_passed(
    made: Platform, failing: Callable[..., list[int]], times: int, alerts: int
) -> None:
    with webhook() as channel, dg.DagsterInstance.ephemeral() as instance:
        made.settings["alert_webhook"] = channel.url
        daemon = Daemon(made, instance)
        daemon.tell()
        failing(FolderSource, "fetched", times, TransientError(AWAY))
        daemon.run("staging_events")
        daemon.tell()
    assert [AWAY in text for text in channel.texts] == [True] * alerts
