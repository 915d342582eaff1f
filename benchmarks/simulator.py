"""Write made-up song and event files of the real shape, layout and oddities, at any scale.

    python benchmarks/simulator.py --scale 100 --into DIR
    python benchmarks/simulator.py --zip --into sparkify_assets/sample

The second command makes the sample data of the package. The log has the shape of the small public
one (a file a day) or that of the large ones (one file): `_SMALL` and `_LARGE` say how they differ.
The same plan gives the same files on every machine, and writing twice changes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from heapq import merge
from itertools import accumulate, count, groupby
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

MARKER = ".made-by-simulator"
DAY = 86_400
FIRST_DAY = 17_836  # since 1970: 2018-11-01
SEED = "events 4487"  # gives the default plan exactly 8,000
MOST_SONGS = 14_896  # as many as the full public catalogue has

Record = dict[str, Any]
Text = str | int | float  # the song files spell some texts as JSON numbers
Place = tuple[float | None, float | None, Text]

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
_UNKNOWN_HIT = ("Björg Ásdal", "Uppgjör")  # among the most played songs, and in no song file

_PLACES: list[Place] = [*[(None, None, "")] * 3, (None, None, "Ghent, Belgium")]
_PLACES += [(51.50632, -0.12714, "London, England"), (4.65637, -74.11779, "Bogotá, Colombia")]
_SONG_KEYS = """num_songs artist_id artist_latitude artist_longitude artist_location artist_name \
song_id title duration year"""
_NULLABLE = "artist firstName gender lastName length location registration song userAgent"
_ARTISTS = ("The {word} {noun}s", "{word} {noun}", "{word} & the {noun}s")
_TITLES = ("{adjective} {noun}", "{adjective} {noun} of {word}", "{adjective} {noun} (Live)")
_ADJECTIVES, _NOUNS, _SYLLABLES, _FIRST_NAMES, _LAST_NAMES, _CITIES = (
    line.split(";")
    for line in """\
Amber;Broken;Crooked;Distant;Electric;Faded;Golden;Hollow;Idle;Last;Lonely;Neon;Pale;Silver;Wild
Arcade;Compass;Engine;Fountain;Garden;Island;Kite;Lantern;Letter;Mirror;Orbit;Piñata;Signal;Tide
ba;dor;el;fen;gru;hal;ix;jo;ka;lum;mer;nov;ost;pel;quil;ra;sen;tov;ul;ven;wy;zan
Alma;Bettina;Corinne;Delphine;Femke;Gwyneth;Hedda;Eamon;Fergus;Gideon;Horatio;Ivo;Jorun;Klaus
Abernathy;Birchwood;Castellane;Dunmore;Eisley;Fairweather;Hollowell;Jespers;Kettleburn;Marchbanks
Portland-South Portland, ME;Chicago-Naperville-Elgin, IL-IN-WI;Lansing-East Lansing, MI;Lubbock, TX
""".splitlines()
)
_BROWSERS = (  # Chrome and Safari wrap their names in literal quotes, the others do not
    '"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/36.0.1985"',
    '"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.36 (KHTML) Chrome/36.0.1985"',
    '"Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2 Safari/9537.53"',
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:31.0) Gecko/20100101 Firefox/31.0",
    "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; WOW64; Trident/5.0)",
)
_FORMS = """Add Friend;Cancel;Login;Logout;Save Settings;Submit Downgrade;Submit Registration;\
Submit Upgrade;Thumbs Down;Thumbs Up"""
_REQUEST = {page: ("PUT", 307) for page in _FORMS.split(";")} | {"Error": ("GET", 404)}
_REQUEST |= {"NextSong": ("PUT", 200), "Add to Playlist": ("PUT", 200)}
_AUTH = {"Register": "Guest", "Submit Registration": "Guest"}
_AUTH |= {"Cancellation Confirmation": "Cancelled"}
_LEVEL_AFTER = {"Submit Upgrade": "paid", "Submit Downgrade": "free"}
_THEN = {  # the page that follows a page, and how often it does
    **dict.fromkeys(("Login", "Logout", *_LEVEL_AFTER), ("Home", 1)),
    "Settings": ("Save Settings", 0.2),
    "Upgrade": ("Submit Upgrade", 0.35),
    "Downgrade": ("Submit Downgrade", 0.04),
    "Register": ("Submit Registration", 0.3),
    "Cancel": ("Cancellation Confirmation", 1),
}
_NEVER_PLAYS = 1
_STAGED = {  # how the first visits of some users begin, whatever chance says: second, pages
    0: (DAY // 2, "NextSong;Downgrade;Submit Downgrade;Home;NextSong;Upgrade;Submit Upgrade;Home"),
    _NEVER_PLAYS: (DAY // 3, "Home;Settings;end"),
    **dict.fromkeys((2, 3), (DAY - 90, "NextSong;NextSong;NextSong")),  # together, over midnight
}


class _Shape(NamedTuple):
    """How the public logs differ."""

    events_a_user: int
    events_a_visit: float  # counted in what comes out
    servers: tuple[int, ...]  # of the users in turn; each server counts its sessions from 1
    delivered_again: float  # share of the lines
    next_page: dict[str, dict[str, int]]  # by level, or "out": weights, where `_THEN` names none


_PAGES = {"Home": 150, "Settings": 80, "Help": 60, "About": 37, "Error": 13}
_FREE = {**_PAGES, "NextSong": 7000, "Upgrade": 110, "Logout": 250, "end": 2250}
_PAID = {**_PAGES, "NextSong": 9000, "Downgrade": 110, "Logout": 60, "end": 560}
_OUT = {"Login": 52, "About": 4, "Help": 4, "Error": 2, "end": 38}
_SMALL = _Shape(80, 10.4, (0,), 0, {"free": _FREE, "paid": _PAID, "out": _OUT})
_PAGES |= {"Thumbs Up": 440, "Add to Playlist": 230, "Add Friend": 150, "Thumbs Down": 90}
_PAGES |= {"Logout": 113, "Cancel": 2}
_FREE = {**_PAGES, "NextSong": 7970, "Upgrade": 85, "Roll Advert": 640, "end": 170}
_PAID = {**_PAGES, "NextSong": 8100, "Downgrade": 90, "Roll Advert": 10, "end": 80}
_OUT = {"Login": 324, "Home": 67, "About": 43, "Help": 27, "Error": 1, "Register": 6, "end": 45}
_SERVERS = (0, 0, 0, 1, 0, 0, 0, 2)
_LARGE = _Shape(1_270, 64, _SERVERS, 0.001, {"free": _FREE, "paid": _PAID, "out": _OUT})


@dataclass(frozen=True)
class Plan:
    """What to simulate; `events` is met within some percent. 100 songs hold every oddity."""

    songs: int = 1_000
    events: int = 8_000
    days: int = 30

    @classmethod
    def of_scale(cls, scale: float, days: int = days) -> Plan:
        """Return the plan with `scale` times the default songs, up to MOST_SONGS, and events."""
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be a number above 0, not {scale}")
        songs, events = (max(1, round(number * scale)) for number in (cls.songs, cls.events))
        return cls(min(songs, MOST_SONGS), events, days)


class Written(NamedTuple):
    """What a call found to do: `changed` counts files created, rewritten or removed."""

    files: int
    changed: int
    bytes: int


def write_song_files(into: Path, plan: Plan) -> Written:
    """Make the folder `into` hold exactly the song files of the plan.

    Raises:
        FileExistsError: The folder holds files that are not from here.
    """
    return _converge(into, _song_files(plan), ours="[A-Z]/[A-Z]/[A-Z]/TR*.json")


def write_event_files(into: Path, plan: Plan, *, one_file: bool = False) -> Written:
    """Make the folder `into` hold exactly the event files of the plan, one a day.

    Or else one file of the large shape, which is written anew even if it is there already.

    Raises:
        FileExistsError: The folder holds files that are not from here.
    """
    texts = [("2018-events.json", _Log(plan, _LARGE))] if one_file else _day_files(plan)
    return _converge(into, texts, ours="**/[0-9]*-events.json")


def write_archives(into: Path, plan: Plan) -> None:
    """Write song_data/song_data.zip and log_data/log_data.zip, with the files of the plan."""
    for name, texts in (("song_data", _song_files(plan)), ("log_data", _day_files(plan))):
        (into / name).mkdir(parents=True, exist_ok=True)
        with ZipFile(into / name / f"{name}.zip", "w") as archive:
            for member, text in sorted(texts):
                info = ZipInfo(member)  # dated 1980, whenever it is made
                info.external_attr = 0o644 << 16
                archive.writestr(info, text, ZIP_DEFLATED, 9)


def _converge(into: Path, texts: Iterable[tuple[str, str | _Log]], *, ours: str) -> Written:
    """Create, rewrite and remove files until `into` holds these and no others called like ours."""
    into.mkdir(parents=True, exist_ok=True)
    marker = into / MARKER
    if not marker.exists():
        if any(into.iterdir()):
            what = "the simulator did not write what is there: choose an empty folder"
            raise FileExistsError(f"{into}: {what}")
        marker.write_text("The simulator rewrites and removes data files of this folder.\n")
    expected: set[Path] = set()
    changed = size = 0
    for name, text in texts:
        path = into / name
        expected.add(path)
        same = isinstance(text, str) and path.exists() and path.read_bytes() == text.encode()
        if not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                file.writelines([text] if isinstance(text, str) else text)
            changed += 1
        size += path.stat().st_size
    for path in set(into.glob(ours)) - expected:
        path.unlink()
        changed += 1
    return Written(files=len(expected), changed=changed, bytes=size)


def _code(rng: Random, prefix: str) -> str:
    return prefix + "".join(rng.choices(string.ascii_uppercase + string.digits, k=18 - len(prefix)))


def _name(rng: Random, patterns: tuple[str, ...]) -> str:
    word = "".join(rng.choices(_SYLLABLES, k=3)).capitalize()
    adjective, noun = rng.choice(_ADJECTIVES), rng.choice(_NOUNS)
    return rng.choice(patterns).format(word=word, adjective=adjective, noun=noun)


def _catalogue(plan: Plan) -> Iterator[tuple[str, Record]]:
    """Yield the track id and record of each song; a larger plan only adds songs to a smaller."""
    rng = Random("catalogue")
    odd_songs = ((key, name, place, title) for key, name, place, ts in _ODD for title in ts)
    place: Place
    artists: list[tuple[str, str, Place]] = []
    for number in range(plan.songs):
        title: Text = _name(rng, _TITLES)
        if number % 3 == 2 and (odd := next(odd_songs, None)):
            key, name, location, title = odd
            artist_id, place = f"AR{key.upper():0<16}", (None, None, location)
        elif artists and rng.random() < 0.35:
            artist_id, name, place = rng.choice(artists)
            name = f"{name} feat. {_name(rng, _ARTISTS)}" if rng.random() < 0.1 else name
        else:
            artist_id, name, place = _code(rng, "AR"), _name(rng, _ARTISTS), rng.choice(_PLACES)
            artists.append((artist_id, name, place))
        duration = round(rng.triangular(60, 500, 200), 5)
        year = 0 if rng.random() < 0.6 else rng.randint(1961, 2010)
        values = (1, artist_id, *place, name, _code(rng, "SO"), title, duration, year)
        folder = number // 22
        letters = (string.ascii_uppercase[folder // 26**power % 26] for power in (2, 1, 0))
        record = dict(zip(_SONG_KEYS.split(), values, strict=True))
        yield _code(rng, "TR" + "".join(letters)), record


def _songs_by_popularity(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield what users play, as JSON and in seconds; every fifth song is not in the catalogue.

    The log spells texts like the real one: UTF-8 taken for Latin-1, twice.
    """
    rng = Random("unknown songs")
    for number, (_, song) in enumerate(_catalogue(plan)):
        played = [(song["artist_name"], song["title"], song["duration"])]
        if number % 4 == 0:  # no artist of the catalogue is called a trio
            unknown = f"{_name(rng, _ARTISTS)} Trio", _name(rng, _TITLES)
            played.append((*(unknown if number else _UNKNOWN_HIT), rng.randint(60, 500) + 0.5))
        for artist, title, length in played:
            text = _inner({"artist": str(artist), "song": str(title), "length": length})
            yield "," + text.encode().decode("latin-1").encode().decode("latin-1"), int(length)


def _inner(record: Record) -> str:
    """Return the record as JSON without its braces, to be put into others."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)[1:-1]


class _Log:
    """The lines of a log in order of time, some of them twice: delivery is at least once."""

    def __init__(self, plan: Plan, shape: _Shape) -> None:
        self.end, self.shape, self.rng = plan.days * DAY, shape, Random(SEED)
        # The last term keeps users from playing round the clock where many events meet few days.
        self.users = max(5, plan.events // shape.events_a_user, plan.events // plan.days // 20)
        busy = [self.rng.uniform(0.3, 0.7) * (1 + (d % 7 not in (2, 3))) for d in range(plan.days)]
        visits = plan.events / shape.events_a_visit / self.users
        self.visits = [visits * share / sum(busy) for share in busy]  # of a user, by day
        self.sessions = [count(1) for _ in set(shape.servers)]
        self.songs = list(_songs_by_popularity(plan))
        self.popularity = list(accumulate(1 / (rank + 10) for rank in range(len(self.songs))))
        self.next_page = {k: [*Counter(w).elements()] for k, w in shape.next_page.items()}

    def __iter__(self) -> Iterator[str]:
        late: list[str] = []
        for _, _, line in merge(*map(self._life, range(self.users))):
            yield line
            if self.rng.random() < self.shape.delivered_again:
                late.append(line)
            elif late and self.rng.random() < 0.02:
                yield late.pop(0)
        yield from late

    def _life(self, number: int) -> Iterator[tuple[int, int, str]]:
        """Yield the second, the user and the line of each event of a user."""
        rng, level = self.rng, "free" if number % 5 else "paid"
        identity = {
            "userId": str(number + 2),
            "location": rng.choice(_CITIES),
            "userAgent": rng.choice(_BROWSERS),
            "lastName": rng.choice(_LAST_NAMES),
            "firstName": rng.choice(_FIRST_NAMES),
            "registration": (FIRST_DAY * DAY - rng.randint(1, 90 * DAY)) * 1000 + 796,
            "gender": rng.choice("FM"),
        }
        who = {True: _inner(identity), False: '"userId":""'}
        sessions = self.sessions[self.shape.servers[number % len(self.shape.servers)]]
        second = 0
        for start, script in self._visits(number):
            second = max(second + 60, start)  # visits of a user never overlap
            session = next(sessions)
            signed_in = bool(script) or rng.random() > 0.15
            page, *script = script or ["NextSong" if signed_in and rng.random() < 0.5 else "Home"]
            pages = iter(script)
            for item in count():
                if second >= self.end:
                    return
                auth = _AUTH.get(page) or ("Logged In" if signed_in else "Logged Out")
                method, status = _REQUEST.get(page, ("GET", 200))
                song, length = "", rng.randint(1, 60)
                if page == "NextSong":
                    [(song, length)] = rng.choices(self.songs, cum_weights=self.popularity)
                line = (
                    f'{{"ts":{FIRST_DAY * DAY + second}796,{who[signed_in]},"sessionId":{session},'
                    f'"page":"{page}","auth":"{auth}","method":"{method}","status":{status},'
                    f'"level":"{level}","itemInSession":{item}{song}}}\n'
                )
                yield second, number, line
                if auth == "Cancelled":
                    return
                second += length
                level = _LEVEL_AFTER.get(page, level)
                signed_in = page == "Login" or (signed_in and page != "Logout")
                then, chance = _THEN.get(page, ("", 0))
                following = next(pages, then if rng.random() < chance else "")
                page = following or rng.choice(self.next_page[level if signed_in else "out"])
                if page == "end":
                    break

    def _visits(self, number: int) -> Iterator[tuple[int, list[str]]]:
        """Yield when each visit of a user starts, and the pages it starts with where staged."""
        if number in _STAGED:
            start, pages = _STAGED[number]
            yield start, pages.split(";")
        if number == _NEVER_PLAYS:
            return
        activity = self.rng.uniform(0.3, 1.7) * (0.625 if number % 5 else 2.5)  # 1 on the average
        for day, visits in enumerate(self.visits):
            some = range(int(visits * activity + self.rng.random()))
            for second in sorted(int(self.rng.triangular(0, DAY, 16.5 * 3600)) for _ in some):
                yield day * DAY + second, []


def _song_files(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the files of the catalogue: one song each."""
    for track, song in _catalogue(plan):
        yield f"{track[2]}/{track[3]}/{track[4]}/{track}.json", json.dumps(song)


def _day_files(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the files of the small log: each key in each line, in order."""
    encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode

    def line(event: Record) -> str:
        event = {**dict.fromkeys(_NULLABLE.split()), **event}
        event["registration"] = event["registration"] and float(event["registration"])
        return encode(event).replace("/", "\\/")

    events = map(json.loads, _Log(plan, _SMALL))
    for day, some in groupby(events, lambda event: event["ts"] // 1000 // DAY):
        name = f"{datetime.fromtimestamp(day * DAY, UTC):%Y/%m/%Y-%m-%d}-events.json"
        ending = "\n" if day == FIRST_DAY + plan.days // 2 else ""  # as one real file alone has it
        yield name, "\n".join(map(line, some)) + ending


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both folders as the command line says."""
    parser = argparse.ArgumentParser("simulator", description="Write made-up song and event files.")
    parser.add_argument("--into", type=Path, required=True, help="gets song_data/ and log_data/")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 1,000 songs, 8,000 events")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--one-file", action="store_true", help="the log as the large ones are")
    form.add_argument("--zip", action="store_true", help="an archive in each of the two folders")
    given = parser.parse_args(arguments)
    write_events = partial(write_event_files, one_file=given.one_file)
    try:
        plan = Plan.of_scale(given.scale, days=63 if given.one_file else Plan.days)
        if given.zip:
            return write_archives(given.into, plan)
        for name, write in (("song_data", write_song_files), ("log_data", write_events)):
            count, changed, size = write(given.into / name, plan)
            print(f"{given.into / name}: {count:,} files ({changed:,} changed), {size:,} bytes")
    except (OSError, ValueError) as error:
        raise SystemExit(f"simulator: {error}") from None


if __name__ == "__main__":
    main()
