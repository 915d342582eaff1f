"""Both engines hold the same: every table, row for row and value for value, after the same runs."""

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks import simulator
from sparkify_assets_tests.platform import Platform, RedshiftPlatform, failure_of

TIMES_AND_RUNS = (
    *("loaded_at", "last_loaded_at", "run_id", "published_at", "audited_at"),
    "details",  # shows rows in which those are
)
MANY = simulator.Plan(songs=100, events=1_000)
DAMAGE = [
    '{"sessionId": 900, "itemInSession": 0, "page": "Home", "ts": 1541105830796, "userId": ""}',
    '{"sessionId": 901, "itemInSession": 0, "page": "Home", "ts": "soon"}',
    '{"sessionId": 902',
    "no JSON",
    '{"sessionId": 903, "itemInSession": 0, "page": "NextSong", "ts": 1541105830797, "userId": "9",'
    ' "song": "tab\\t quote\\" back\\\\slash \\u00e9 🎵 \'", "artist": "  blanks\\u00a0 ",'
    ' "length": 1e-7, "registration": 1541077528796.0, "level": "free"}',
    '{"sessionId": 904, "itemInSession": 0, "page": "NextSong", "ts": 94694400000, "userId": "9",'
    ' "song": "", "artist": "\\\\N", "length": 123456789.123456789, "level": ""}',
    '{"sessionId": 905, "itemInSession": 0, "page": "NextSong", "ts": 1541105830799,'
    f' "song": "{"ü" * 512}", "artist": "line\\nbreak\\r", "length": 0.1}}',
    '{"sessionId": 906, "itemInSession": 0, "page": "x", "ts": 1541105830798, "song": "'
    + "long" * 600
    + '"}',
]


def content(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in one order; when and by which run they were loaded is left out."""
    queries = {}
    for table in platform.catalog.tables.values():
        names = [c.name for c in table.columns if c.name not in TIMES_AND_RUNS]
        queries[table.name] = f"SELECT {', '.join(names)} FROM {table.name}"
    return {
        name: sorted((tuple(map(plain, row)) for row in rows), key=repr)
        for name, rows in zip(queries, platform.answers(queries.values()), strict=True)
    }


def plain(value: object) -> object:
    return int(value) if isinstance(value, Decimal) and value == int(value) else value


def verify_equal(embedded: Platform, redshift: RedshiftPlatform) -> None:
    expected, found = content(embedded), content(redshift)
    assert expected.keys() == found.keys()
    for name in expected:
        assert found[name] == expected[name], name
        assert [list(map(type, row)) for row in found[name]] == [
            list(map(type, row)) for row in expected[name]
        ], name


@pytest.fixture(params=["redshift", pytest.param("live", marks=pytest.mark.redshift)])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Platform, RedshiftPlatform]:
    """A platform on each engine, over the same files."""
    redshift: RedshiftPlatform = request.getfixturevalue(request.param)
    (tmp_path / "embedded").mkdir()
    embedded = Platform(
        tmp_path / "embedded",
        song_data=str(redshift.song_data),
        log_data=str(redshift.log_data),
        max_rejected_share=0.5,
    )
    redshift.settings["max_rejected_share"] = 0.5
    return embedded, redshift


def run(platforms: tuple[Platform, RedshiftPlatform]) -> None:
    for platform in platforms:
        result = platform.run()
        assert result.success, failure_of(result)
    verify_equal(*platforms)


def test_made_data_day_by_day(both: tuple[Platform, RedshiftPlatform]) -> None:
    """Oddities of every kind, damage of every kind; then files come, change and vanish."""
    _, redshift = both
    simulator.write_song_files(redshift.song_data, MANY)
    simulator.write_event_files(redshift.log_data, MANY)
    later = redshift.log_data / "later.json"
    later.write_text("\n".join(DAMAGE))
    run(both)
    assert redshift.rows("SELECT COUNT(*) FROM rejected_records") == [(4,)]
    events = sorted(redshift.log_data.rglob("*-events.json"))
    made = sum(len(path.read_bytes().splitlines()) for path in events)
    assert redshift.rows("SELECT COUNT(*) FROM staging_events") == [(made + 4,)]
    later.write_text("\n".join(DAMAGE[3:]))
    songs = sorted(redshift.song_data.rglob("*.json"))
    for path in (events[0], songs[0]):
        path.unlink()
    (redshift.log_data / "new.json").write_text(DAMAGE[0].replace("900", "1000"))
    shutil.copy(songs[1], songs[2])
    run(both)
    assert redshift.rows("SELECT COUNT(*) FROM rejected_records") == [(2,)]


def test_real_files(real: Platform, both: tuple[Platform, RedshiftPlatform]) -> None:
    _, redshift = both
    redshift.settings |= {name: real.settings[name] for name in ("song_data", "log_data")}
    result = redshift.run()
    assert result.success, failure_of(result)
    verify_equal(real, redshift)
