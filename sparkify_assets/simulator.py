"""Write made-up song and event files of the real shape, layout and oddities, at any scale.

The same plan gives the same bytes on every machine, and writing twice changes nothing.
What lives here: the catalogue, the users, their visits, and the writing of both folders.
"""

from __future__ import annotations

import argparse
import json
import math
import string
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain, count, islice, repeat
from pathlib import Path
from random import Random
from typing import Any

from sparkify_assets.files import writable

MARKER = ".made-by-simulator"
FIRST_DAY = datetime(2018, 11, 1, tzinfo=UTC)
FIRST_SECOND = int(FIRST_DAY.timestamp())
DAY = 86_400
MOST_DAYS = 3_650
MILLISECONDS = 796  # the clock of the real files ticks in seconds: every time ends in these
SONGS_PER_FOLDER = 22

Record = dict[str, Any]
Text = str | int | float  # the song files spell some texts as JSON numbers
Song = tuple[str, str, float]  # artist, title, duration
Step = tuple[str, bool]  # page, whether the user is signed in

# Texts that have hurt readers of song files: artist key, artist_name, artist_location, titles.
_HTML = "<a href=\"http://example.com/\" onmousedown='track(7)'>Leeds &amp; York</a>"
_LONG = "Suite for Widths: " + "Andante con Molto Moto, " * 12 + "Finale"
_ODD: tuple[tuple[str, Text, Text, tuple[Text, ...]], ...] = (
    ("harbor", "Velvet Harbor", "Portland, OR", ("Slow Tide",)),
    ("harbor", "Velvet Harbor feat. Nina Quell", "Portland, OR", ("Glass Stairs",)),
    ("harbor", "Velvet Harbor & The Low Lamps", "Portland, Oregon", ("Paper Moons",)),
    ("asa", "Åsa Lindqvåg", "Malmö, Sverige", ("Vårens Första Dag",)),
    ("agnes", "Ágnes Török", "", ("Álom",)),  # Á holds a byte that cp1252 cannot decode
    ("hotaru", "蛍光バンド", "東京", ("夜の灯",)),
    ("code", 112, "Leeds &amp; York", ("Corner Store Love",)),
    ("meters", "The Odd Meters", 1979, (4.6, 1979)),
    ("marlow", "Marlow & Finch", _HTML, ('The "Real" Thing', "Tab\tStop", "Left|Right")),
    ("twins", "Twin Lanterns", "", ("Echo Street", "Echo Street")),
    ("pale", "Pale Arcade", "", ("Don\x19t Wait", "\x18Quiet\x19 Rooms", "Caf\ufffd Noir")),
    ("blank", "Blank Pages", "", (" Leading Blank", "Trailing Blank ", _LONG)),
)
_UNKNOWN_HIT = ("Björg Ásdal", "Uppgjör")  # the second most played song, in no song file

_PLACES = (
    *repeat(("", None, None), 4),
    ("London, England", 51.50632, -0.12714),
    ("Chicago, IL", 41.88415, -87.63241),
    ("Bogotá, Colombia", 4.65637, -74.11779),
    ("Ghent, Belgium", None, None),
)
_ADJECTIVES, _NOUNS, _SYLLABLES, _FEMALE, _MALE, _LAST_NAMES, _CITIES = (
    line.split(";")
    for line in """\
Amber;Broken;Crooked;Distant;Electric;Faded;Golden;Hollow;Idle;Last;Lonely;Neon;Pale;Silver;Wild
Arcade;Compass;Engine;Fountain;Garden;Island;Kite;Lantern;Letter;Mirror;Orbit;Piñata;Signal;Tide
ba;dor;el;fen;gru;hal;ix;jo;ka;lum;mer;nov;ost;pel;quil;ra;sen;tov;ul;ven;wy;zan
Alma;Bettina;Corinne;Delphine;Femke;Gwyneth;Hedda;Ilse;Juno;Kirsi;Ottilie
Anselm;Bertram;Caspian;Dietmar;Eamon;Fergus;Gideon;Horatio;Ivo;Jorun;Klaus;Oswin
Abernathy;Birchwood;Castellane;Dunmore;Eisley;Fairweather;Hollowell;Jespers;Kettleburn;Marchbanks
Portland-South Portland, ME;Chicago-Naperville-Elgin, IL-IN-WI;Lansing-East Lansing, MI;Lubbock, TX
""".splitlines()
)
_BROWSERS = (  # Chrome wraps its name in literal quotes, Firefox and Explorer do not
    '"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) '
    'Chrome/36.0.1985.125 Safari/537.36"',
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:31.0) Gecko/20100101 Firefox/31.0",
    "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; WOW64; Trident/5.0)",
    '"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.36 (KHTML, like Gecko) '
    'Chrome/36.0.1985.125 Safari/537.36"',
    '"Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2 (KHTML, like '
    'Gecko) Version/7.0 Mobile/11D257 Safari/9537.53"',
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:31.0) Gecko/20100101 Firefox/31.0",
)
_FORMS = ("Login", "Logout", "Save Settings", "Submit Upgrade", "Submit Downgrade")
_METHOD_AND_STATUS = dict.fromkeys(_FORMS, ("PUT", 307)) | {
    "NextSong": ("PUT", 200),
    "Error": ("GET", 404),
}
_LEVEL_AFTER = {"Submit Upgrade": "paid", "Submit Downgrade": "free"}
_NOBODY = {
    **dict.fromkeys(("firstName", "gender", "lastName", "location", "registration", "userAgent")),
    "userId": "",
}
_encode_event = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


@dataclass(frozen=True)
class Plan:
    """What to simulate; both counts are met exactly. From 100 songs on, every oddity is there."""

    songs: int = 1_000
    events: int = 8_000
    days: int = 30
    seed: int = 2018

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.songs < 1:
            raise ValueError(f"songs must be at least 1, not {self.songs}")
        if not 1 <= self.days <= MOST_DAYS:
            raise ValueError(f"days must be 1 to {MOST_DAYS}, not {self.days}")
        if self.events < self.days:
            raise ValueError(f"events must be {self.days} or more, one a day, not {self.events}")

    @classmethod
    def of_scale(cls, scale: float, *, seed: int = 2018) -> Plan:
        """Return the plan with `scale` times the default songs and events, in the same days."""
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be a number above 0, not {scale}")
        songs, events = max(1, round(cls.songs * scale)), max(cls.days, round(cls.events * scale))
        return cls(songs=songs, events=events, seed=seed)


@dataclass(frozen=True)
class Written:
    """What a call found to do: `changed` counts files created, rewritten or removed."""

    files: int
    changed: int
    bytes: int


@dataclass
class _User:
    identity: Record
    level: str
    activity: float
    plays: bool
    free_from: int = 0  # the second the last visit ended: visits of a user never overlap


def write_song_files(into: Path, plan: Plan) -> Written:
    """Make the folder `into` hold exactly the song files of the plan.

    Raises:
        FileExistsError: The folder holds files that are not from here.
    """
    songs = _catalogue(plan)
    files = ((f"{t[2]}/{t[3]}/{t[4]}/{t}.json", json.dumps(record)) for t, record in songs)
    return _converge(into, files, ours="[A-Z]/[A-Z]/[A-Z]/TR*.json")


def write_event_files(into: Path, plan: Plan) -> Written:
    """Make the folder `into` hold exactly the event files of the plan, one a day.

    Raises:
        FileExistsError: The folder holds files that are not from here.
    """

    def files() -> Iterator[tuple[str, str]]:
        for day, lines in enumerate(_days_of_events(plan)):
            name = f"{FIRST_DAY + timedelta(days=day):%Y/%m/%Y-%m-%d}-events.json"
            ending = "\n" if day == plan.days // 2 else ""  # one real file has it, the others not
            yield name, "\n".join(lines) + ending

    return _converge(into, files(), ours="[0-9]*/[0-9]*/*-events.json")


def _converge(into: Path, files: Iterable[tuple[str, str]], *, ours: str) -> Written:
    """Create, rewrite and remove files until `into` holds these and no others called like ours."""
    into.mkdir(parents=True, exist_ok=True)
    marker = into / MARKER
    if not marker.exists():
        if any(into.iterdir()):
            what = "holds files the simulator did not write: choose an empty folder"
            raise FileExistsError(f"{into} {what}")
        marker.write_text("The simulator rewrites and removes data files of this folder.\n")
    expected: set[Path] = set()
    changed = size = 0
    for name, text in files:
        file, content = writable(into / name), text.encode("ascii")
        expected.add(into / name)
        size += len(content)
        try:
            if file.read_bytes() == content:
                continue
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        changed += 1
    for path in set(into.glob(ours)) - expected:
        path.unlink()
        changed += 1
        with suppress(OSError):  # a folder that still holds something stays
            for folder in path.relative_to(into).parents[:-1]:
                (into / folder).rmdir()
    return Written(files=len(expected), changed=changed, bytes=size)


def _stream(plan: Plan, purpose: str) -> Random:
    """Return random numbers of their own for each purpose, so that none disturbs another."""
    return Random(f"{plan.seed}/{purpose}")  # noqa: S311


def _code(rng: Random, prefix: str) -> str:
    return prefix + "".join(rng.choices(string.ascii_uppercase + string.digits, k=18 - len(prefix)))


def _word(rng: Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=3)).capitalize()


def _artist_name(rng: Random) -> str:
    pattern = rng.choice(("The {} {}s", "{} {}", "{} & the {}s"))
    return pattern.format(_word(rng), rng.choice(_NOUNS))


def _title(rng: Random) -> str:
    pattern = rng.choice(("{} {}", "{} {} of {}", "{} {} (Live)", "{} {} (Album Version)"))
    return pattern.format(rng.choice(_ADJECTIVES), rng.choice(_NOUNS), _word(rng))


def _duration(rng: Random) -> float:
    return round(rng.triangular(60, 500, 200), 5)


def _catalogue(plan: Plan) -> Iterator[tuple[str, Record]]:
    """Yield the track id and record of each song; a larger plan only adds songs to a smaller."""
    rng = _stream(plan, "catalogue")
    odd_songs = ((key, name, place, title) for key, name, place, ts in _ODD for title in ts)
    odd_artists: dict[str, str] = {}
    artists: list[tuple[str, Text, tuple[Text, float | None, float | None]]] = []
    for number in range(plan.songs):
        title: Text = _title(rng)
        if number % 3 == 2 and (odd := next(odd_songs, None)):
            key, name, location, title = odd
            artist_id = odd_artists.setdefault(key, _code(rng, "AR"))
            latitude = longitude = None
        elif artists and rng.random() < 0.35:
            artist_id, name, (location, latitude, longitude) = rng.choice(artists)
            if rng.random() < 0.1:
                name = f"{name} feat. {_artist_name(rng)}"
        else:
            artists.append((_code(rng, "AR"), _artist_name(rng), rng.choice(_PLACES)))
            artist_id, name, (location, latitude, longitude) = artists[-1]
        folder = number // SONGS_PER_FOLDER
        letters = (string.ascii_uppercase[folder // 26**power % 26] for power in (2, 1, 0))
        yield (
            _code(rng, "TR" + "".join(letters)),
            {
                "num_songs": 1,
                "artist_id": artist_id,
                "artist_latitude": latitude,
                "artist_longitude": longitude,
                "artist_location": location,
                "artist_name": name,
                "song_id": _code(rng, "SO"),
                "title": title,
                "duration": _duration(rng),
                "year": 0 if rng.random() < 0.6 else rng.randint(1961, 2010),
            },
        )


def _songs_by_popularity(plan: Plan) -> list[Song]:
    """Return what users play: the catalogue, and after its 1st, 5th, ... song one it lacks."""
    rng = _stream(plan, "unknown songs")
    catalogue = [
        (str(record["artist_name"]), str(record["title"]), record["duration"])
        for _, record in _catalogue(plan)
    ]
    known = {song[:2] for song in catalogue}
    unknown = chain([_UNKNOWN_HIT], ((_artist_name(rng), _title(rng)) for _ in repeat(None)))
    songs: list[Song] = []
    for rank, song in enumerate(catalogue):
        songs.append(song)
        if rank % 4 == 0:
            artist, title = next(pair for pair in unknown if pair not in known)
            songs.append((artist, title, _duration(rng)))
    return [(_damaged(artist), _damaged(title), duration) for artist, title, duration in songs]


def _damaged(text: str) -> str:
    """Return text as the event log spells it: UTF-8 taken for Latin-1, twice, as in the real one.

    Björk becomes Bj, four other characters and rk.
    """
    for _ in range(2):
        text = text.encode("utf-8").decode("latin-1")
    return text


def _users(plan: Plan, rng: Random) -> list[_User]:
    """Return 100 users for 8,000 events; their number grows slower than the events."""
    # The last term keeps users from playing round the clock where many events meet few days.
    number = max(5, round(100 * (plan.events / 8_000) ** 0.75), plan.events // plan.days // 20)
    users = []
    for place in range(number):
        registered = FIRST_SECOND - rng.randint(1, 90 * DAY)
        gender = rng.choice("FM")
        identity = {
            "firstName": rng.choice(_FEMALE if gender == "F" else _MALE),
            "gender": gender,
            "lastName": rng.choice(_LAST_NAMES),
            "location": rng.choice(_CITIES),
            "registration": registered * 1000.0 + MILLISECONDS,
            "userAgent": rng.choice(_BROWSERS),
            "userId": str(place + 2),
        }
        level = "free" if place % 5 else "paid"
        activity = rng.uniform(0.3, 1.7) * (4 if level == "paid" else 1)
        users.append(_User(identity, level, activity, plays=place != 1))
    return users


def _visits(users: list[_User], rng: Random) -> Iterator[tuple[_User, int, Iterable[Step]]]:
    """Yield visits without end: the user, the second of the day it starts, and its steps.

    The first four happen in every data set, whatever the seed.
    """
    changes = "Submit Downgrade;Home;NextSong;Upgrade;Submit Upgrade;Home;NextSong"
    pages = f"Home;NextSong;Downgrade;{changes}".split(";")
    yield users[0], DAY // 2, [(page, True) for page in pages]  # paid, free, paid
    yield users[1], DAY // 3, [("Home", True), ("Settings", True)]  # has events but never plays
    for user in users[2:4]:  # both cross midnight, and their first plays start together
        yield user, DAY - 90, repeat(("NextSong", True), 6)
    weights = list(accumulate(user.activity for user in users))
    while True:
        user = rng.choices(users, cum_weights=weights)[0]
        yield user, int(rng.triangular(0, DAY, 16.5 * 3600)), _steps(user, rng)


def _steps(user: _User, rng: Random) -> Iterator[Step]:
    """Yield the steps of one visit; the user's level may change between two of them."""
    if rng.random() < 0.15:
        yield "Home", False
        if rng.random() < 0.15:
            yield rng.choice(("About", "Help", "Error")), False
        if rng.random() < 0.4:
            return
        yield "Login", False
        yield "Home", True
    elif not user.plays or rng.random() < 0.5:
        yield "Home", True
    mean_songs = 15 if user.level == "paid" else 3
    for _ in range(1 + min(80, int(rng.expovariate(1 / mean_songs))) if user.plays else 0):
        yield "NextSong", True
        if rng.random() < 0.045:
            yield from _detour(user, rng)
    if rng.random() < 0.1:
        yield "Logout", True
        yield "Home", False


def _detour(user: _User, rng: Random) -> Iterator[Step]:
    change = "Downgrade" if user.level == "paid" else "Upgrade"
    pages = ("Home", change, "Settings", "Help", "About", "Error")
    page = rng.choices(pages, weights=(100, 75, 55, 40, 25, 9))[0]
    yield page, True
    if page == "Settings" and rng.random() < 0.2:
        yield "Save Settings", True
    if page == change and rng.random() < (0.05 if change == "Downgrade" else 0.5):
        yield f"Submit {change}", True
        yield "Home", True


def _days_of_events(plan: Plan) -> Iterator[list[str]]:
    """Yield the lines of each day in order of time; what a visit does after midnight waits."""
    rng = _stream(plan, "events")
    songs = _songs_by_popularity(plan)
    song_weights = list(accumulate(1 / (rank + 10) for rank in range(len(songs))))
    visits = _visits(_users(plan, rng), rng)
    weekdays = ((FIRST_DAY.weekday() + day) % 7 for day in range(plan.days))
    shares = list(accumulate((0.5 if day >= 5 else 1) * rng.uniform(0.6, 1.4) for day in weekdays))
    lines: defaultdict[int, list[tuple[int, int, int, str]]] = defaultdict(list)
    session_ids = count(1)
    written = 0
    for day, share in enumerate(shares):
        most = plan.events - (plan.days - 1 - day)  # each coming day is promised one event
        target = min(most, max(written + 1, round(plan.events * share / shares[-1])))
        while written < target:
            user, start, steps = next(visits)
            second = max(day * DAY + start, user.free_from)
            if second >= (day + 1) * DAY:
                continue
            session_id = next(session_ids)
            for item, (page, signed_in) in enumerate(islice(steps, most - written)):
                if second >= plan.days * DAY:
                    break
                song = page == "NextSong" and rng.choices(songs, cum_weights=song_weights)[0]
                event = _event(user, page, signed_in, song or None) | {
                    "itemInSession": item,
                    "sessionId": session_id,
                    "ts": (FIRST_SECOND + second) * 1000 + MILLISECONDS,
                }
                line = _encode_event(event).replace("/", "\\/")
                lines[second // DAY].append((second, session_id, item, line))
                written += 1
                user.level = _LEVEL_AFTER.get(page, user.level)
                second += int(song[2]) if song else rng.randint(1, 60)
            user.free_from = second + 60
        yield [line for *_, line in sorted(lines.pop(day))]


def _event(user: _User, page: str, signed_in: bool, song: Song | None) -> Record:
    artist, title, length = song or (None, None, None)
    method, status = _METHOD_AND_STATUS.get(page, ("GET", 200))
    return {
        **(user.identity if signed_in else _NOBODY),
        "artist": artist,
        "auth": "Logged In" if signed_in else "Logged Out",
        "length": length,
        "level": user.level,
        "method": method,
        "page": page,
        "song": title,
        "status": status,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both folders as the command line says."""
    parser = argparse.ArgumentParser(
        prog="simulator", description="Write made-up song and event files."
    )
    parser.add_argument("--into", type=Path, required=True, help="gets song_data/ and log_data/")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 1,000 songs, 8,000 events")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    for name in ("songs", "events", "days"):
        parser.add_argument(f"--{name}", type=int, help="instead of what the scale says")
    given = vars(parser.parse_args(arguments))
    try:
        scaled = Plan.of_scale(given["scale"], seed=given["seed"])
        exact = {name: given[name] for name in ("songs", "events", "days")}
        plan = replace(scaled, **{k: v for k, v in exact.items() if v is not None})
        for folder, write, records in (
            ("song_data", write_song_files, plan.songs),
            ("log_data", write_event_files, plan.events),
        ):
            started = time.perf_counter()
            done = write(given["into"] / folder, plan)
            print(
                f"{given['into'] / folder}: {done.files:,} files ({done.changed:,} changed), "
                f"{records:,} records, {done.bytes:,} bytes, {time.perf_counter() - started:.2f} s"
            )
    except (OSError, ValueError) as error:
        raise SystemExit(f"simulator: {error}") from None


if __name__ == "__main__":
    main()
