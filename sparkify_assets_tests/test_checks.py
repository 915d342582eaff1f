"""Checks evaluated alone, on the tables as they are published: on both engines."""

from typing import Any

import pytest

from sparkify_assets_tests.platform import (
    Platform,
    failed_checks,
    failure_of,
    materialized,
)


@pytest.fixture
def platform(either_engine: Platform) -> Platform:
    return either_engine


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


def test_a_check_is_evaluated_alone(published: Platform) -> None:
    result = published.run_check("songplays", "unique_key")
    assert result.success
    assert materialized(result) == set()
    assert [e.check_name for e in result.get_asset_check_evaluations()] == ["unique_key"]


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
