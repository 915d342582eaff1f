"""What the simulator writes has the shape and the oddities of the real files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from benchmarks.simulator import MARKER, Plan, main, write_event_files, write_song_files
from sparkify_assets.sources import SAMPLE_DATA

Records = list[dict[str, Any]]
SONG_KEYS = """num_songs artist_id artist_latitude artist_longitude artist_location artist_name
song_id title duration year"""
EVENT_KEYS = """artist auth firstName gender itemInSession lastName length level location method
page registration sessionId song status ts userAgent userId"""
USER_KEYS = ("firstName", "lastName", "gender", "location", "registration", "userAgent")
SMALL = Plan.of_scale(0.1)
PAGES_OF_A_MILLION = {  # in the public log of 286,500 events
    "NextSong": 796_188,
    "Home": 50_461,
    "Thumbs Up": 43_808,
    "Add to Playlist": 22_778,
    "Add Friend": 14_928,
    "Roll Advert": 13_728,
    "Login": 11_312,
    "Logout": 11_260,
    "Thumbs Down": 8_887,
    "Downgrade": 7_173,
    "Help": 6_024,
    "Settings": 5_284,
    "About": 3_225,
    "Upgrade": 1_742,
    "Save Settings": 1_082,
    "Error": 901,
    "Submit Upgrade": 555,
    "Submit Downgrade": 220,
    "Cancel": 182,
    "Cancellation Confirmation": 182,
    "Register": 63,
    "Submit Registration": 17,
}


def data_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in data_files(folder)}


def repaired(text: str) -> str:
    try:
        return repaired(text.encode("latin-1").decode("utf-8")) if not text.isascii() else text
    except UnicodeError:
        return text


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    songs = write_song_files(folder / "song_data", Plan())
    events = write_event_files(folder / "log_data", Plan())
    assert (songs.files, songs.changed, events.files, events.changed) == (1000, 1000, 30, 30)
    assert songs.bytes == sum(map(len, content(folder / "song_data").values()))
    return folder


@pytest.fixture(scope="module")
def songs(written: Path) -> Records:
    return [json.loads(path.read_bytes()) for path in data_files(written / "song_data")]


@pytest.fixture(scope="module")
def events(written: Path) -> Records:
    texts = (path.read_text("ascii") for path in data_files(written / "log_data"))
    return [json.loads(line) for text in texts for line in text.removesuffix("\n").split("\n")]


@pytest.fixture(scope="module")
def plays(events: Records) -> Records:
    return [event for event in events if event["page"] == "NextSong"]


@pytest.fixture(scope="module")
def sessions(events: Records) -> dict[int, Records]:
    found = defaultdict(list)
    for event in events:
        found[event["sessionId"]].append(event)
    return found


def test_song_files_have_the_real_layout(written: Path) -> None:
    for name, text in content(written / "song_data").items():
        first, second, third, track = Path(name).parts
        assert track.startswith(f"TR{first}{second}{third}")
        assert len(track) == len("TR0123456789ABCDEF.json")
        record = json.loads(text)
        assert list(record) == SONG_KEYS.split()
        assert text == json.dumps(record).encode()


def test_event_files_have_the_real_layout(written: Path) -> None:
    files = content(written / "log_data")
    assert list(files) == [f"2018/11/2018-11-{day:02}-events.json" for day in range(1, 31)]
    assert sum(text.endswith(b"\n") for text in files.values()) == 1
    for name, text in files.items():
        records = [json.loads(line) for line in text.splitlines()]
        for line, record in zip(text.decode("ascii").splitlines(), records, strict=True):
            assert list(record) == EVENT_KEYS.split()
            assert line == json.dumps(record, separators=(",", ":")).replace("/", "\\/")
            assert name[8:18] == f"{datetime.fromtimestamp(record['ts'] / 1000, UTC):%Y-%m-%d}"
        assert [r["ts"] for r in records] == sorted(r["ts"] for r in records)


def test_the_counts_are_those_of_the_plan(songs: Records, events: Records) -> None:
    assert len(songs) == len({song["song_id"] for song in songs}) == 1000
    assert len(events) == len({(e["sessionId"], e["itemInSession"]) for e in events}) == 8000
    assert 80 <= len({event["userId"] for event in events} - {""}) <= 105
    assert all(len(s["song_id"]) == 18 and s["song_id"].isalnum() for s in songs)
    assert all(s["song_id"][:2] + s["artist_id"][:2] == "SOAR" for s in songs)


def test_text_traps_of_the_song_files(songs: Records) -> None:
    titles = [song["title"] for song in songs]
    texts = [title for title in titles if isinstance(title, str)]
    assert {112, 4.6, 1979} <= {song["artist_name"] for song in songs} | set(titles)
    places = [song["artist_location"] for song in songs]
    assert 1979 in places
    assert any("<a href=" in str(place) and "onmousedown=" in str(place) for place in places)
    assert any(str(place).endswith("&amp; York") for place in places)
    for character in ('"', "\t", "|", "\x18", "\x19", "\ufffd", "ñ", "夜"):
        assert any(character in text for text in texts), character
    assert any(text.startswith(" ") for text in texts)
    assert any(text.endswith(" ") for text in texts)
    assert any(len(text.encode()) > 256 for text in texts)


def test_artists_and_unknowns_of_the_song_files(songs: Records) -> None:
    names, places, twins = defaultdict(set), defaultdict(set), defaultdict(list)
    for song in songs:
        names[song["artist_id"]].add(song["artist_name"])
        places[song["artist_id"]].add(song["artist_location"])
        twins[str(song["title"]), str(song["artist_name"])].append(song["duration"])
    assert max(map(len, names.values())) >= 3
    assert max(map(len, places.values())) >= 2
    assert len(set(twins["Echo Street", "Twin Lanterns"])) == 2
    assert 0.4 < sum(song["year"] == 0 for song in songs) / len(songs) < 0.8
    assert 0.2 < sum(song["artist_location"] == "" for song in songs) / len(songs) < 0.8
    null = [(s["artist_latitude"] is None, s["artist_longitude"] is None) for s in songs]
    assert set(null) == {(True, True), (False, False)}


def test_pages(events: Records) -> None:
    pages = Counter(event["page"] for event in events)
    assert 0.82 < pages["NextSong"] / len(events) < 0.88
    assert 0.07 < pages["Home"] / len(events) < 0.13
    others = """Login,Logout,Downgrade,Settings,Help,About,Upgrade,Error,Save Settings,\
Submit Upgrade,Submit Downgrade"""
    assert all(0 < pages[page] / len(events) < 0.02 for page in others.split(","))
    kinds = {(event["page"], event["method"], event["status"]) for event in events}
    assert len(kinds) == len(pages) == 13
    assert {("NextSong", "PUT", 200), ("Error", "GET", 404), ("Login", "PUT", 307)} <= kinds
    for event in events:
        song = {event["artist"], event["song"], event["length"]}
        assert (None not in song) if event["page"] == "NextSong" else song == {None}


def test_sessions(sessions: dict[int, Records], plays: Records) -> None:
    for session in sessions.values():
        assert [event["itemInSession"] for event in session] == list(range(len(session)))
        assert len({event["userId"] for event in session} - {""}) <= 1
        for event, following in pairwise(session):
            seconds = (following["ts"] - event["ts"]) // 1000
            assert seconds == int(event["length"]) if event["length"] else 0 < seconds <= 60
    days = [{event["ts"] // 86_400_000 for event in session} for session in sessions.values()]
    assert 2 <= sum(len(found) == 2 for found in days) < len(days) / 10
    assert 0 < len(plays) - len({play["ts"] for play in plays}) < len(plays) / 100


def turns(sessions: dict[int, Records]) -> Iterator[tuple[str, str]]:
    """What the user is after each change of auth within a session, and the page before it."""
    for session in sessions.values():
        for event, following in pairwise(session):
            if event["auth"] != following["auth"]:
                yield following["auth"], event["page"]


def test_logged_out_events(sessions: dict[int, Records], events: Records) -> None:
    signed_out = [event for event in events if event["auth"] == "Logged Out"]
    assert 0.025 < len(signed_out) / len(events) < 0.045
    for event in events:
        if event["auth"] == "Logged Out":
            assert event["userId"] == ""
            assert all(event[key] is None for key in USER_KEYS)
        else:
            assert isinstance(event["registration"], float)
            assert event["registration"] < event["ts"]
            assert event["userId"].isdigit()
            assert event["gender"] in ("F", "M")
        assert event["level"] in ("free", "paid")
    assert {e["page"] for e in signed_out} == {"Home", "Login", "About", "Help", "Error"}
    assert {page for a, page in turns(sessions) if a == "Logged In"} == {"Login"}
    assert {page for a, page in turns(sessions) if a == "Logged Out"} == {"Logout"}
    agents = [event["userAgent"] for event in events if event["userAgent"]]
    assert 0.1 < sum(agent[0] == agent[-1] == '"' for agent in agents) / len(agents) < 0.9


def test_users_and_levels(events: Records) -> None:
    of_user = defaultdict(list)
    for event in sorted(events, key=lambda e: (e["ts"], e["sessionId"], e["itemInSession"])):
        of_user[event["userId"]].append(event)
    of_user.pop("")
    changes = defaultdict(list)
    for user, found in of_user.items():
        level = found[0]["level"]
        for event in found:
            assert event["level"] == level, user
            if event["page"].startswith("Submit"):
                assert event["page"] == f"Submit {'Upgrade' if level == 'free' else 'Downgrade'}"
                level = "paid" if level == "free" else "free"
                changes[user, event["ts"] // 86_400_000].append(level)
    assert ["free", "paid"] in [levels[:2] for levels in changes.values()]
    assert any(all(e["page"] != "NextSong" for e in found) for found in of_user.values())


def test_plays_follow_the_catalogue(songs: Records, plays: Records) -> None:
    known = {(str(s["title"]), str(s["artist_name"]), s["duration"]) for s in songs}
    played = Counter((repaired(p["song"]), repaired(p["artist"]), p["length"]) for p in plays)
    names = {song[:2] for song in known}
    assert 0.7 < sum(n for song, n in played.items() if song in known) / len(plays) < 0.9
    assert all(song in known for song in played if song[:2] in names)
    ranking = played.most_common()
    assert sum(n for _, n in ranking[: len(ranking) // 100]) > 0.08 * len(plays)
    assert any(s[:2] not in names and not s[0].isascii() for s, _ in ranking[:5])
    for text in ("112", "4.6", "1979", " Leading Blank", "Våren", "夜の灯", "Ágnes", "\x18"):
        assert any(text in song[0] or text in song[1] for song in played), text


def test_the_event_log_is_encoded_twice_and_the_song_files_are_not(
    songs: Records, plays: Records
) -> None:
    logged = {play[key] for play in plays for key in ("artist", "song")}
    damaged = {text for text in logged if not text.isascii()}
    assert damaged
    assert all(repaired(text) != text for text in damaged)
    clean = {str(song[key]) for song in songs for key in ("artist_name", "title")}
    assert all(repaired(text) == text for text in clean)


def test_the_same_plan_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    for name in ("1", "2"):
        for shape in ((), ("--one-file",)):
            into = str(tmp_path / name / "".join(shape))
            command = ["benchmarks/simulator.py", "--scale", "0.1", *shape, "--into", into]
            environment = {**os.environ, "PYTHONHASHSEED": name, "TZ": f"Etc/GMT-{name}"}
            root = Path(__file__).parents[1]
            subprocess.run([sys.executable, *command], env=environment, cwd=root, check=True)
    first = content(tmp_path / "1")
    assert 200 < len(first) <= 231  # so few users may leave a day out
    assert first == content(tmp_path / "2")


@pytest.mark.parametrize("write", [write_song_files, write_event_files])
def test_writing_converges(tmp_path: Path, write: Any) -> None:
    write(tmp_path, SMALL)
    files = data_files(tmp_path)
    before, times = content(tmp_path), [path.stat().st_mtime_ns for path in files]
    assert write(tmp_path, SMALL).changed == 0
    assert [path.stat().st_mtime_ns for path in files] == times
    files[0].write_bytes(b"damaged")
    files[-1].unlink()
    assert write(tmp_path, SMALL).changed == 2
    assert content(tmp_path) == before
    own = tmp_path / "notes.txt"
    own.write_text("mine")
    write(tmp_path, Plan(songs=200, events=800, days=62))
    assert len(data_files(tmp_path)) > len(files) + 1
    write(tmp_path, SMALL)
    own.unlink()
    assert content(tmp_path) == before


@pytest.mark.parametrize("write", [write_song_files, write_event_files])
def test_a_folder_of_others_is_refused(tmp_path: Path, write: Any) -> None:
    theirs = tmp_path / "TRAAA.json"
    theirs.write_text("precious")
    with pytest.raises(FileExistsError, match=r"did not write.*choose an empty folder") as error:
        write(tmp_path, SMALL)
    assert str(tmp_path) in str(error.value)
    assert content(tmp_path) == {"TRAAA.json": b"precious"}


def archived(folder: Path) -> dict[str, bytes]:
    """What the archive of a folder holds, in its order."""
    with ZipFile(folder / f"{folder.name}.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", ["song_data", "log_data"])
def test_the_sample_data_of_the_package_is_what_the_default_plan_writes(
    name: str, written: Path
) -> None:
    assert [*archived(SAMPLE_DATA / name).items()] == [*content(written / name).items()]


def test_archives_are_the_same_whenever_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in (1_000_000_000, 2_000_000_000):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        main(["--zip", "--scale", "0.1", "--into", str(tmp_path / str(moment))])
    first, second = (data_files(folder) for folder in sorted(tmp_path.iterdir()))
    assert [path.name for path in first] == ["log_data.zip", "song_data.zip"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    write_song_files(tmp_path / "song_data", SMALL)
    assert archived(first[1].parent) == content(tmp_path / "song_data")


def test_plans_of_a_scale() -> None:
    assert Plan.of_scale(0.00001) == Plan(songs=1, events=1, days=30)
    assert Plan.of_scale(10) == Plan(songs=10_000, events=80_000, days=30)
    assert Plan.of_scale(1_000) == Plan(songs=14_896, events=8_000_000, days=30)


@pytest.mark.parametrize(
    "plan", [Plan(1, 1, 1), Plan(3, 500, 1), Plan(40, 240, 30), Plan(100, 2_000, 365)], ids=repr
)
def test_small_and_long_plans(tmp_path: Path, plan: Plan) -> None:
    assert write_song_files(tmp_path / "songs", plan).files == plan.songs
    assert write_event_files(tmp_path / "events", plan).files <= plan.days
    texts = content(tmp_path / "events").values()
    assert all(text.strip() for text in texts)
    assert (
        plan.events * 0.6 < sum(len(text.splitlines()) for text in texts) < 200 + plan.events * 1.4
    )


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--into", str(tmp_path), "--scale", "0.1"])
    songs, events = capsys.readouterr().out.splitlines()
    assert "song_data: 100 files (100 changed), " in songs
    assert re.search(r"log_data: (\d+) files \(\1 changed\), [\d,]+ bytes", events)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "0"], "scale must be a number above 0, not 0.0"),
        (["--scale", "nan"], "scale must be a number above 0, not nan"),
        ([], "choose an empty folder"),
    ],
)
def test_command_line_refuses(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "song_data").mkdir()
    (tmp_path / "song_data" / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["--into", str(tmp_path), *arguments])
    assert isinstance(stop.value.code, str)
    assert message in stop.value.code
    assert "\n" not in stop.value.code


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the large shape, a third as long as the smaller of the two public ones."""
    folder = tmp_path_factory.mktemp("large")
    plan = Plan(songs=200, events=95_500, days=63)
    written = write_event_files(folder, plan, one_file=True)
    [path] = data_files(folder)
    assert written == (1, 1, path.stat().st_size)
    return path


@pytest.fixture(scope="module")
def large(one_file: Path) -> Records:
    """Its events, each once, in order of time."""
    lines = one_file.read_text("utf-8").removesuffix("\n").split("\n")
    return [json.loads(line) for line in dict.fromkeys(lines)]


def test_some_lines_are_delivered_twice(one_file: Path, large: Records) -> None:
    lines = one_file.read_bytes().removesuffix(b"\n").split(b"\n")
    times = Counter(lines)
    assert set(times.values()) == {1, 2}
    assert 0.0005 < (len(lines) - len(times)) / len(lines) < 0.0015
    places = defaultdict(list)
    for place, line in enumerate(lines):
        places[line].append(place)
    assert all(
        last - first < 1_000 for first, last in filter(lambda p: len(p) == 2, places.values())
    )
    assert sum(line.endswith(b"}") for line in lines) == len(lines)
    assert [event["ts"] for event in large] == sorted(event["ts"] for event in large)


def test_pages_and_auth_of_the_large_shape(large: Records) -> None:
    pages = Counter(event["page"] for event in large)
    assert pages.keys() == PAGES_OF_A_MILLION.keys()
    for page, expected in PAGES_OF_A_MILLION.items():
        found = pages[page] / len(large) * 1_000_000
        assert expected < 500 or expected / 3 < found < expected * 3, page
        assert expected < 10_000 or abs(found - expected) < expected / 3, page
    auth = Counter(event["auth"] for event in large)
    assert auth.keys() == {"Logged In", "Logged Out", "Guest", "Cancelled"}
    assert 0.02 < auth["Logged Out"] / len(large) < 0.04
    assert 0 < auth["Guest"] / len(large) < 0.001
    assert auth["Cancelled"] == pages["Cancellation Confirmation"]


def test_keys_that_would_be_null_are_left_out(large: Records) -> None:
    always = {"auth", "itemInSession", "level", "method", "page", "sessionId", "status", "ts"}
    for event in large:
        known = event["auth"] in ("Logged In", "Cancelled")
        song = {"artist", "song", "length"} if event["page"] == "NextSong" else set()
        assert event.keys() == always | {"userId"} | song | (set(USER_KEYS) if known else set())
        assert None not in event.values()
        assert event["userId"].isdigit() if known else event["userId"] == ""
        assert not known or type(event["registration"]) is int


def test_users_of_the_large_shape_share_session_ids(large: Records) -> None:
    pairs = {(event["sessionId"], event["userId"]) for event in large if event["userId"]}
    assert 1.2 < len(pairs) / len({session for session, _ in pairs}) < 1.5
    keys = [(e["sessionId"], e["itemInSession"], e["ts"], e["userId"]) for e in large]
    assert len(set(keys)) == len(keys)
    assert len({key[:2] for key in keys}) < 0.95 * len(keys)
    assert 50 < len({user for _, user in pairs}) < 100


def test_a_user_who_cancels_is_never_seen_again(large: Records) -> None:
    last = {event["userId"]: event for event in large}
    gone = [e["userId"] for e in large if e["page"] == "Cancellation Confirmation"]
    assert 3 < len(gone) < len(last) / 2
    assert len(set(gone)) == len(gone)
    assert all(last[user]["auth"] == "Cancelled" for user in gone)


def test_one_shape_takes_the_place_of_the_other(tmp_path: Path) -> None:
    write_event_files(tmp_path, SMALL)
    days = content(tmp_path)
    assert write_event_files(tmp_path, SMALL, one_file=True).changed == len(days) + 1
    assert list(content(tmp_path)) == ["2018-events.json"]
    assert write_event_files(tmp_path, SMALL).changed == len(days) + 1
    assert content(tmp_path) == days
