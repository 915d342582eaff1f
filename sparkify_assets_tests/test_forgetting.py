"""A user is forgotten: in every table and in the report, for good, and nobody else with them."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sparkify_assets_tests.platform import Platform, failed_checks, failure_of, instance

ZED: dict[str, Any] = {
    "userId": "987654",
    "firstName": "Zedediah",
    "lastName": "Quillfeather",
    "sessionId": 9,
}
TELLING = ("987654", "zedediah", "quillfeather")  # in no value of anybody else
BO: dict[str, Any] = {"userId": "8", "firstName": "Bo", "sessionId": 2, "level": "paid"}
OF_OTHERS: list[dict[str, Any]] = [
    {"page": "Home", "song": None, "artist": None, "length": None},
    {"ts": 1541105831796},
    {"ts": 1541106999796, **BO},
]
OF_ZED: list[dict[str, Any]] = [
    {"ts": 1541105900000, **ZED},
    {"ts": 1541105999796, **ZED, "song": "Made", "level": "paid", "location": "Zürich"},
]
WRONG = [{**ZED, "ts": "soon"}, {**ZED, "ts": "later", "userId": 987654.0}]  # these are rejected
CHECK = ("listening_report", "no_forgotten_user")


@pytest.fixture
def peopled(either_engine: Platform) -> Platform:
    """Files of three users, nothing of them loaded; three records of Zed are rejected."""
    platform = either_engine
    platform.write_songs([{}, {"song_id": "SO2", "title": "Late", "artist_id": "AR2"}])
    platform.write_events([*OF_OTHERS, *OF_ZED], "day1.json")
    damaged = '{"note": "Zedediah Quillfeather called", "userId": 98'
    platform.write_events(WRONG, "day2.json")
    with (platform.log_data / "day2.json").open("a") as file:
        file.write(f"\n{damaged}\n")
    platform.settings["max_rejected_share"] = 0.9
    return platform


def refresh(
    platform: Platform, job: str = "refresh", config: Any = None
) -> dg.ExecuteInProcessResult:
    """Runs a job of the platform by its name, as the UI does."""
    found = platform.defs().resolve_job_def(job)
    return found.execute_in_process(instance=instance(), run_config=config, raise_on_error=False)


def places(platform: Platform) -> set[tuple[str, str]]:
    """Every column of every table in which a value tells of Zed, whatever its type."""
    found = set()
    for table in platform.catalog.tables.values():
        names = [column.name for column in table.columns]
        columns = ", ".join(f'"{name}"' for name in names)
        for row in platform.rows(f"SELECT {columns} FROM {table.name}"):
            for name, value in zip(names, row, strict=True):
                if any(word in str(value).lower() for word in TELLING):
                    found.add((table.name, name))
    return found


def contents(platform: Platform) -> dict[str, Any]:
    """All rows of the tables that are made from records, not from how they were loaded."""
    names = {t.name for t in platform.catalog.derived} - {"load_summary", "newest_day"}
    return {name: sorted(platform.rows(f"SELECT * FROM {name}"), key=repr) for name in names}


def test_nothing_tells_of_a_forgotten_user_ever_again(peopled: Platform, tmp_path: Path) -> None:
    platform = peopled
    assert refresh(platform).success
    assert {
        *{("staging_events", name) for name in ("userid", "firstname", "lastname")},
        *{("users", name) for name in ("user_id", "first_name", "last_name")},
        *{("events", "event_id"), ("sessions", "visit_id"), ("songplays", "user_id")},
        *{("rejected_records", "raw_text"), ("published_tables", "details")},
    } <= places(platform)
    result = refresh(platform, "forget_user", {"user_id": 987_654})
    assert result.success, failure_of(result)
    assert CHECK not in failed_checks(result)
    assert places(platform) == {("forgotten_users", "user_id")}
    assert not any(word in platform.report.read_text().lower() for word in TELLING)
    erased = "SELECT COUNT(*), MIN(reason) FROM rejected_records WHERE raw_text IS NULL"
    assert platform.rows(erased) == [(3, "of a forgotten user")]
    counts = "SUM(records), SUM(rows_loaded), SUM(rows_rejected)"
    history = f"SELECT {counts} FROM load_history WHERE table_name = 'staging_events'"
    assert platform.rows(history) == [(6, 3, 3)]

    # a file that changes and a new one bring the same records again, and one of somebody else
    platform.write_events([*OF_OTHERS, *OF_ZED], "day1.json")
    platform.write_events([*OF_ZED, *WRONG, {**BO, "ts": 1541108999796}], "day3.json")
    assert refresh(platform).success
    assert places(platform) == {("forgotten_users", "user_id")}
    # the others are as if Zed had never been there
    never = Platform(tmp_path / "never", song_data=str(platform.song_data))
    never.folder.mkdir()
    never.write_events(OF_OTHERS, "day1.json")
    never.write_events([{**BO, "ts": 1541108999796, "itemInSession": 4}], "day3.json")
    assert refresh(never).success
    assert contents(platform) == contents(never)

    platform.change("UPDATE sessions SET visit_id = '9-987654' WHERE user_id = 8")
    [found] = platform.run_check(*CHECK).get_asset_check_evaluations()
    assert found.description == "1 forgotten user, found in sessions.visit_id"


def test_what_somebody_puts_back_is_found(made: Platform) -> None:
    def load(**config: Any) -> list[tuple[Any, ...]]:
        result = made.run("staging_events", config={"ops": {"staging_events": {"config": config}}})
        assert result.success, failure_of(result)
        return made.rows("SELECT COUNT(*) FROM staging_events WHERE userid = 8")

    assert load() == [(1,)]
    assert load(forget_user=55) == [(1,)]  # nobody knows them yet
    assert load(forget_user=8) == [(0,)]
    assert load(full_reload=True) == [(0,)]
    assert not failed_checks(made.run_check(*CHECK))
    made.change("UPDATE staging_events SET userid = 8 WHERE page = 'Home'")
    made.change(
        "INSERT INTO rejected_records VALUES (1, 'x', 1, NULL, '', '{\"userId\" : \"55\", }')"
    )
    result = made.run_check(*CHECK)
    assert failed_checks(result) == {CHECK}
    [found] = result.get_asset_check_evaluations()
    assert found.description == (
        "2 forgotten users, found in rejected_records.raw_text, staging_events.userid"
    )


def test_only_a_table_of_people_forgets(made: Platform) -> None:
    config = {"ops": {"staging_songs": {"config": {"forget_user": 8}}}}
    result = made.run("staging_songs", config=config)
    assert "staging_songs: its file has no line -- a person" in failure_of(result)
