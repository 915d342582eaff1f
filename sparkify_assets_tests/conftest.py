"""Fixtures that several test files use."""

import os
import shutil
from pathlib import Path

import pytest

from sparkify_assets_tests.platform import Platform


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of whoever runs the tests reaches them, or is touched."""
    for name in [name for name in os.environ if name.startswith(("SPARKIFY_", "DAGSTER_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """An empty platform over folders that the test fills."""
    return Platform(tmp_path)


def write_made_data(platform: Platform) -> None:
    """Three songs and five events, four of them plays."""
    platform.write_songs(
        [
            {"song_id": "SO1", "title": "Made"},
            {"song_id": "SO2", "title": "Late", "artist_id": "AR2", "artist_name": "Nina"},
            {"song_id": "SO3", "title": "Unplayed", "year": 1999},
        ]
    )
    bo = {"userId": "8", "firstName": "Bo", "sessionId": 2, "level": "paid"}
    platform.write_events(
        [
            {"page": "Home", "song": None, "artist": None, "length": None},
            {"ts": 1541105831796},
            {"ts": 1541105999796, "song": "Late", "artist": "Nina"},
            {"ts": 1541106000796, "song": "Unknown", "artist": "Nobody"},
            {"ts": 1541106999796, **bo},
        ]
    )


@pytest.fixture
def made(platform: Platform) -> Platform:
    """A platform with made data, nothing of it loaded."""
    write_made_data(platform)
    return platform


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform with made data, all of it published; for `published` to copy."""
    platform = Platform(tmp_path_factory.mktemp("published"))
    write_made_data(platform)
    assert platform.run().success
    return platform


@pytest.fixture
def published(published_once: Platform, tmp_path: Path) -> Platform:
    """A platform with made data, all of it published; a test may change everything but the data."""
    shutil.copy(published_once.warehouse, tmp_path)
    return Platform(
        tmp_path, song_data=str(published_once.song_data), log_data=str(published_once.log_data)
    )
