"""Each mart against rows computed in plain Python, on the sample and on the real files."""

from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pytest
from pytest import approx

from sparkify_assets_tests import star
from sparkify_assets_tests.platform import GROUPS, Platform, failed_checks, failure_of

NOON = 1541073600000  # 2018-11-01 12:00 UTC, a Thursday
MARTS = sorted(
    GROUPS["marts"] - {"catalogue_coverage", "load_summary", "newest_day"}
)  # these have their own tests
EVENTS_ALONE = (
    *("level_changes", "retention_by_week", "sessions", "user_activity", "user_levels"),
    "visits_by_device",
)


def expected(mart: str, events: list[star.Record], catalogue: list[star.Record]) -> Any:
    if mart in EVENTS_ALONE:
        return getattr(star, mart)(events)
    return getattr(star, mart)(events, catalogue)


@pytest.mark.parametrize("mart", MARTS)
def test_sample(
    sample: Platform, events: list[star.Record], catalogue: list[star.Record], mart: str
) -> None:
    rows = sample.rows(f"SELECT * FROM {mart}")
    assert len(rows) == len(set(rows)) > 1
    assert set(rows) == expected(mart, events, catalogue)


@pytest.mark.parametrize("mart", MARTS)
def test_real_files(real: Platform, mart: str) -> None:
    events, catalogue = star.records(real.log_data), star.records(real.song_data)
    rows = real.rows(f"SELECT * FROM {mart}")
    assert len(rows) == len(set(rows)) > 1
    assert set(rows) == expected(mart, events, catalogue)


def test_known_answers_of_the_real_files(real: Platform) -> None:
    songs = "SELECT rank, song, artist, plays FROM most_played_songs WHERE rank <= 2"
    assert real.rows(f"{songs} ORDER BY rank") == [
        (1, "You're The One", "Dwight Yoakam", 37),
        (2, "Undo", "Björk", 28),
    ]
    levels = "SELECT level, is_current FROM user_levels WHERE user_id = 15 ORDER BY valid_from"
    assert real.rows(levels) == [("paid", False), ("free", False), ("paid", True)]
    assert real.rows("SELECT level, users, plays FROM plays_by_level ORDER BY level") == [
        ("free", 75, 1_229),
        ("paid", 22, 5_591),
    ]
    assert real.rows("SELECT plays, matched FROM catalogue_coverage") == [(6_820, 1)]
    hours = "SELECT hour, SUM(plays) FROM plays_by_hour GROUP BY hour ORDER BY 2 DESC LIMIT 3"
    assert real.rows(hours) == [(16, 542), (18, 498), (17, 494)]


def test_catalogue_coverage(
    sample: Platform, events: list[star.Record], catalogue: list[star.Record]
) -> None:
    plays = star.songplays(events, catalogue)
    matched = sum(row[4] is not None for row in plays)
    found = {(str(s["title"]).strip(" "), str(s["artist_name"]).strip(" ")) for s in catalogue}
    before = sum(
        (e["song"].strip(" "), e["artist"].strip(" ")) in found for e in star.plays_of(events)
    )
    assert 0 < before < matched < len(plays)
    assert sample.rows("SELECT * FROM catalogue_coverage") == [
        (len(plays), matched, matched / len(plays), before, before / len(plays))
    ]


def test_load_summary(platform: Platform) -> None:
    platform.settings["max_rejected_share"] = 0.5
    platform.write_songs([{}, {"song_id": "SO2", "title": "Late"}, {}])
    platform.write_events([{}, {"sessionId": None}])
    platform.write_events([{"sessionId": 3}], name="more.json")
    platform.write_events([{"sessionId": 3}], name="more again.json")
    before = datetime.now(UTC).replace(tzinfo=None)
    assert platform.make("load_summary").success
    rows = platform.rows("SELECT * FROM load_summary ORDER BY table_name")
    assert [row[:-1] for row in rows] == [
        ("staging_events", f"file://{platform.log_data}", 3, 4, 3, 1, 1),
        ("staging_songs", f"file://{platform.song_data}", 3, 3, 3, 0, 1),
    ]
    assert all(before <= row[-1] <= datetime.now(UTC).replace(tzinfo=None) for row in rows)


def test_spellings_of_one_song_are_counted_together(platform: Platform) -> None:
    """The same song, logged sound, encoded twice, with entities and with blanks."""
    platform.write_songs([{}])
    spellings = [
        ("Undo & Redo", "Björk"),
        ("Undo &amp; Redo", "BjÃ\x83Â¶rk"),
        (" Undo & Redo ", "BjÃ¶rk"),
        ("<b>Undo</b> & Redo", "Bj&ouml;rk"),
    ]
    platform.write_events(
        {"song": song, "artist": artist, "ts": NOON + i}
        for i, (song, artist) in enumerate(spellings)
    )
    assert platform.make("most_played_artists", "most_played_songs").success
    assert platform.rows("SELECT song, artist, plays FROM most_played_songs") == [
        ("Undo & Redo", "Björk", 4)
    ]
    assert platform.rows("SELECT artist, plays, songs FROM most_played_artists") == [
        ("Björk", 4, 1)
    ]


def test_levels_at_one_moment_are_one_stretch(platform: Platform) -> None:
    """The last event of a moment counts, and a level that comes twice in a row is no change."""
    platform.write_songs([{}])
    platform.write_events(
        [
            {"ts": NOON, "level": "free"},
            {"ts": NOON, "level": "paid"},
            {"ts": NOON + 1, "level": "paid"},
            {"ts": NOON + 2, "level": None},
            {"ts": NOON + 3, "level": "paid", "userId": ""},
            {"ts": NOON + 4, "level": "free", "page": "Downgrade"},
            {"ts": NOON + 5, "level": "paid", "sessionId": 2, "userId": "8"},
        ]
    )
    result = platform.make("level_changes")
    assert result.success, failure_of(result)
    rows = platform.rows(
        "SELECT user_id, level, epoch_ms(valid_from), epoch_ms(valid_to), is_current "
        "FROM user_levels ORDER BY user_id, valid_from"
    )
    assert rows == [
        (7, "paid", NOON, NOON + 4, False),
        (7, "free", NOON + 4, None, True),
        (8, "paid", NOON + 5, None, True),
    ]
    assert platform.rows("SELECT date::VARCHAR, * EXCLUDE date FROM level_changes") == [
        ("2018-11-01", 0, 1, 0)
    ]


@pytest.mark.parametrize(
    ("change", "violations"),
    [
        ("valid_to = valid_to + INTERVAL 1 HOUR WHERE NOT is_current", 1),  # an overlap
        ("valid_to = valid_to - INTERVAL 1 MILLISECOND WHERE NOT is_current", 1),  # a gap
        ("valid_to = NULL WHERE NOT is_current", 1),
        ("is_current = false WHERE is_current", 2),
        ("is_current = true", 1),
        ("level = 'paid'", 1),  # two stretches that are one
    ],
)
def test_gaps_and_overlaps_are_found(platform: Platform, change: str, violations: int) -> None:
    platform.write_songs([{}])
    platform.write_events([{"ts": NOON}, {"ts": NOON + 9, "level": "paid"}, {"userId": "8"}])
    assert platform.make("user_levels").success
    assert not failed_checks(platform.run_check("user_levels", "no_gaps_no_overlaps"))
    platform.change(f"UPDATE user_levels SET {change}")
    result = platform.run_check("user_levels", "no_gaps_no_overlaps")
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.metadata["violating_rows"].value == violations


def test_a_session_that_changes_hands(platform: Platform) -> None:
    """It is a visit of each user, whose lengths are in whole seconds."""
    platform.write_songs([{}])
    iphone = '"Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X)"'
    nobody = {"userId": "", "userAgent": None, "page": "Home"}
    platform.write_events(
        [
            {"ts": NOON + 999, "userAgent": "Mozilla/5.0 (Windows NT 6.1)"},
            {"ts": NOON + 2_000, "userId": "8", "userAgent": iphone, "page": "Home"},
            {"ts": NOON + 3_001, "level": "paid", **nobody},
            {"ts": NOON, "sessionId": 2, **nobody},
            {"ts": NOON, "sessionId": 3, "userAgent": "curl"},
        ]
    )
    result = platform.make("sessions")
    assert result.success, failure_of(result)
    assert not failed_checks(result)
    assert platform.rows(
        "SELECT visit_id, session_id, user_id, level, device_family, length_seconds, events, plays "
        "FROM sessions ORDER BY 1"
    ) == [
        ("1-7", 1, 7, "free", "Windows", 0, 1, 1),
        ("1-8", 1, 8, "paid", "iPhone", 1, 2, 0),
        ("2", 2, None, "free", None, 0, 1, 0),
        ("3-7", 3, 7, "free", "Other", 0, 1, 1),
    ]


def test_days_without_a_play_are_there(platform: Platform) -> None:
    platform.write_songs([{}])
    day = 24 * 3_600_000
    platform.write_events(
        [
            {"ts": NOON},
            {"ts": NOON + day, "page": "Home"},
            {"ts": NOON + 2 * day, "page": "Home", "userId": ""},
            {"ts": NOON + 4 * day, "level": "paid"},
        ]
    )
    assert platform.make("plays_by_day").success
    assert platform.rows("SELECT date::VARCHAR, * EXCLUDE date FROM plays_by_day ORDER BY 1") == [
        ("2018-11-01", 1, 0, 1, 1, 1, 1, 1, 0),
        ("2018-11-02", 0, 0, 0, 0, 1, 0, 1, 0),
        ("2018-11-03", 0, 0, 0, 0, 0, 0, 1, 0),
        ("2018-11-05", 1, 1, 0, 1, 1, 1, 1, 0),
    ]


WEEK = 7 * 86_400_000


def thursdays(counts: list[int], paid: int = 1) -> list[dict[str, Any]]:
    """Events of successive Thursdays, so many on each, of which the first ones are paid plays."""
    return [
        {"ts": NOON + week * WEEK + n, "itemInSession": n, "sessionId": week + 1}
        | ({"level": "paid"} if n < paid else {})
        for week, count in enumerate(counts)
        for n in range(count)
    ]


def test_the_newest_day_is_compared_with_the_same_weekday(platform: Platform) -> None:
    platform.write_songs([{}])
    counts = [500, 10, 12, 11, 30, 9, 10, 12, 11, 3]  # the first is more than eight weeks before
    friday = {"ts": NOON + 8 * WEEK + WEEK // 7, "sessionId": 99}
    platform.write_events([*thursdays(counts), friday, friday])
    result = platform.make("newest_day")
    assert ("newest_day", "as_usual") in failed_checks(result)
    newest = (datetime(2018, 11, 1) + timedelta(weeks=9)).date()
    paid = [1 / count for count in counts]
    usual: dict[str, list[float]] = {"events": [*counts[1:9]], "paid_share": paid[1:9]}
    usual |= {"matched_share": [1.0] * 8, "repeated_share": [0.0] * 8}
    now = {"events": 3, "paid_share": 1 / 3, "matched_share": 1.0, "repeated_share": 0.0}
    expected: list[tuple[Any, ...]] = [
        ("rejected_share", datetime.now(UTC).date(), 0.0, None, None, 0, False)
    ]
    for figure, earlier in usual.items():
        middle = median(earlier)
        deviation = median(abs(value - middle) for value in earlier)
        is_unusual = abs(now[figure] - middle) > 5 * 1.4826 * deviation
        values = (now[figure], approx(middle), approx(deviation))
        expected.append((figure, newest, *values, 8, is_unusual))
    rows = platform.rows("SELECT * FROM newest_day ORDER BY figure")
    assert rows == sorted(expected)
    assert [row[0] for row in rows if row[-1]] == ["events", "paid_share"]
    (made,) = result.asset_materializations_for_node("newest_day")
    assert {figure: made.metadata[figure].value for figure in now} == now


@pytest.mark.parametrize(
    "counts",
    [
        [10, 11, 12, 3],  # too few to know
        [10, 10, 10, 10, 11],  # never another one, but hardly another one now
        [10, 30, 5, 60, 2, 65],  # all of them differ
    ],
)
def test_nothing_is_unusual_without_need(platform: Platform, counts: list[int]) -> None:
    platform.write_songs([{}])
    platform.write_events(thursdays(counts, paid=0))
    assert ("newest_day", "as_usual") not in failed_checks(platform.make("newest_day"))


def test_loads_are_compared_with_those_of_the_same_weekday(platform: Platform) -> None:
    platform.settings["max_rejected_share"] = 1
    platform.write_songs([{}])
    for week in range(6):
        rejected = [{"sessionId": None}] * (30 if week == 5 else 1)
        platform.write_events(
            [*({"ts": NOON + week * WEEK + n, "itemInSession": n} for n in range(9)), *rejected],
            name=f"{week}.json",
        )
    assert platform.make("newest_day").success
    platform.change(
        "UPDATE load_history SET loaded_at = loaded_at - to_days(7 * (6 - object_id::INT)) "
        "WHERE table_name = 'staging_events'"
    )
    config = {"ops": {"newest_day": {"config": {"rebuild": True}}}}
    assert ("newest_day", "as_usual") in failed_checks(platform.run("newest_day", config=config))
    query = "SELECT value, usual, days, is_unusual FROM newest_day WHERE figure = 'rejected_share'"
    assert platform.rows(query) == [(approx(30 / 39), approx(0.1), 5, True)]
