"""Each table of the star against rows computed in plain Python, and the match rule."""

import pytest

from sparkify_assets_tests import star
from sparkify_assets_tests.platform import Platform, failed_checks, failure_of


def test_users(sample: Platform, events: list[star.Record]) -> None:
    rows = sample.rows("SELECT * FROM users")
    assert len(rows) == len(set(rows))
    assert set(rows) == star.users(events)


def test_songs(sample: Platform, catalogue: list[star.Record]) -> None:
    assert set(sample.rows("SELECT * FROM songs")) == star.songs(catalogue)


def test_artists(sample: Platform, catalogue: list[star.Record]) -> None:
    assert set(sample.rows("SELECT * FROM artists")) == star.artists(catalogue)


def test_time(sample: Platform, events: list[star.Record]) -> None:
    assert set(sample.rows("SELECT * FROM time")) == star.time(events)


def test_songplays(
    sample: Platform, events: list[star.Record], catalogue: list[star.Record]
) -> None:
    expected = star.songplays(events, catalogue)
    assert sorted(sample.rows("SELECT * FROM songplays")) == sorted(expected)
    assert any(row[4] for row in expected)
    assert not all(row[4] for row in expected)


def test_a_play_matches_the_name_on_the_song_record(platform: Platform) -> None:
    """One artist id has three names: the one in `artists` is not the one to match by."""
    names = ["Anna", "Anna & Bert", "Anna feat. Carl"]
    platform.write_songs(
        {"song_id": f"SO{i}", "title": f"Song {i}", "artist_id": "AR9", "artist_name": name}
        for i, name in enumerate(names)
    )
    platform.write_events(
        {"ts": 1541105830796 + i, "song": f"Song {i}", "artist": name}
        for i, name in enumerate(names)
    )
    assert platform.make("songplays").success
    assert platform.rows("SELECT song_id, artist_id FROM songplays ORDER BY song_id") == [
        ("SO0", "AR9"),
        ("SO1", "AR9"),
        ("SO2", "AR9"),
    ]
    assert platform.rows("SELECT artist_id, name FROM artists") == [("AR9", "Anna")]


@pytest.mark.parametrize(
    ("durations", "length", "match"),
    [
        ({"SOB": 200.0, "SOA": 300.0}, 205.0, "SOB"),  # the nearest duration
        ({"SOB": 200.0, "SOA": 210.0}, 205.0, "SOA"),  # equally near: the smaller id
        ({"SOB": 205.0, "SOA": 205.0}, 205.0, "SOA"),
        ({"SOB": 200.0, "SOA": None}, 900.0, "SOB"),  # a known duration before an unknown one
        ({"SOB": 200.0, "SOA": 300.0}, None, "SOA"),  # nothing to compare: the smaller id
    ],
)
def test_several_songs_of_a_title_match_once(
    platform: Platform, durations: dict[str, float | None], length: float | None, match: str
) -> None:
    platform.write_songs({"song_id": i, "duration": d} for i, d in durations.items())
    platform.write_events([{"length": length}])
    assert platform.make("songplays").success
    assert platform.rows("SELECT songplay_id, song_id FROM songplays") == [
        ("1-0-1541105830796-7", match)
    ]


def test_outer_blanks_do_not_keep_a_play_from_its_song(platform: Platform) -> None:
    platform.write_songs([{"title": " Made", "artist_name": "The Makers "}])
    platform.write_events([{"song": "Made  "}])
    assert platform.make("songplays").success
    assert platform.rows("SELECT song_id, song FROM songplays") == [("SO1", "Made")]


def test_an_artist_is_one_whole_record(platform: Platform) -> None:
    platform.write_songs(
        [
            {"song_id": "SO1", "artist_name": "A", "artist_location": "Zagreb"},
            {
                "song_id": "SO2",
                "artist_name": "B",
                "artist_location": "",
                "artist_latitude": 1.5,
                "artist_longitude": 2.5,
            },
            {"song_id": "SO3", "artist_name": "C", "artist_location": "Aachen"},
        ]
    )
    platform.write_events([{}])
    assert platform.make("songplays").success
    assert platform.rows("SELECT * FROM artists") == [("AR1", "B", None, 1.5, 2.5)]


def test_a_song_id_with_two_records_is_one_song(platform: Platform) -> None:
    platform.write_songs([{"title": "Made", "year": 1999}, {"title": "Made (Live)"}])
    platform.write_events([{}])
    assert platform.make("songplays").success
    assert platform.rows("SELECT title, year FROM songs") == [("Made", 1999)]


def test_level_is_that_of_the_latest_event_of_any_page(platform: Platform) -> None:
    platform.write_songs([{}])
    platform.write_events(
        [
            {"ts": 1541105830796, "level": "paid"},
            {"ts": 1541105990796, "level": "free", "page": "Home"},
            {"ts": 1541105890796, "level": "paid"},
            {"ts": 1541106990796, "userId": "", "auth": "Logged Out", "page": "Home"},
            {"ts": 1541106990796, "userId": "9", "page": "Home"},
        ]
    )
    assert platform.make("users").success
    assert platform.rows("SELECT user_id, level FROM users ORDER BY 1") == [
        (7, "free"),
        (9, "free"),
    ]


def test_a_play_without_a_user_is_kept_and_warned_about(platform: Platform) -> None:
    platform.write_songs([{}])
    platform.write_events([{"userId": ""}, {"ts": 1541105990796}])
    result = platform.make("songplays")
    assert result.success, failure_of(result)
    assert failed_checks(result) == {("songplays", "known_user")}
    assert platform.rows("SELECT user_id FROM songplays ORDER BY 1") == [(7,), (None,)]


def test_plays_without_a_title_are_counted(platform: Platform) -> None:
    platform.write_songs([{}])
    platform.write_events([{"song": None, "artist": None}, {"ts": 1541105990796}])
    assert platform.make("most_played_songs").success
    assert platform.rows("SELECT sum(plays) FROM most_played_songs") == [(2,)]


def test_the_real_files(real: Platform) -> None:
    """Every row of the table of known facts about the real "project 1" files."""

    def count(table: str) -> int:
        return int(real.rows(f"SELECT count(*) FROM {table}")[0][0])

    counts = {
        "staging_events": 8_056,
        "staging_songs": 71,
        "rejected_records": 0,
        "songplays": 6_820,
        "time": 6_813,
        "users": 97,
        "songs": 71,
        "artists": 69,
    }
    assert {table: count(table) for table in counts} == counts
    assert real.rows("SELECT level, count(*) FROM users GROUP BY 1 ORDER BY 1") == [
        ("free", 75),
        ("paid", 22),
    ]
    assert real.rows("SELECT level, count(*) FROM songplays GROUP BY 1 ORDER BY 1") == [
        ("free", 1_229),
        ("paid", 5_591),
    ]
    assert real.rows(
        "SELECT song, song_id, artist_id, user_id, CAST(start_time AS DATE)::VARCHAR "
        "FROM songplays WHERE song_id IS NOT NULL"
    ) == [("Setanta matins", "SOZCTXZ12AB0182364", "AR5KOSW1187FB35FF4", 15, "2018-11-21")]
    assert real.rows(
        "SELECT t.hour, count(*) FROM songplays s JOIN time t ON s.start_time = t.start_time "
        "GROUP BY 1 ORDER BY 2 DESC LIMIT 3"
    ) == [(16, 542), (18, 498), (17, 494)]
    assert real.rows(
        "SELECT count(*) FROM users WHERE user_id = 21 "
        "AND user_id NOT IN (SELECT user_id FROM songplays)"
    ) == [(1,)]
    events, catalogue = star.records(real.log_data), star.records(real.song_data)
    assert set(real.rows("SELECT * FROM users")) == star.users(events)
    assert set(real.rows("SELECT * FROM artists")) == star.artists(catalogue)
    assert sorted(real.rows("SELECT * FROM songplays"), key=repr) == sorted(
        star.songplays(events, catalogue), key=repr
    )
