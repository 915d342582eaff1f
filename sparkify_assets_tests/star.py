"""What events, star and marts must hold, computed from the files in plain Python: a second opinion.

The tables take what `once` leaves of the records of a log that holds repetitions.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
Record = dict[str, Any]
T = TypeVar("T")


def records(folder: Path) -> list[Record]:
    """Every record below a folder of sound files with one JSON object a line."""
    return list(_records(folder))


def _records(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.rglob("*.json")):
        for line in path.read_bytes().split(b"\n"):
            if line.strip():
                yield json.loads(line)


MEANT = {
    "\x18": "\u2018",
    "\x19": "\u2019",
    "&amp;": "&",
    "<a href=\"http://example.com/\" onmousedown='track(7)'>": "",
    "</a>": "",
}


@lru_cache(None, typed=True)  # 1 and 1.0 are equal, and other texts
def text(value: Any) -> str | None:
    """Text as the star holds it: as it was meant, a number as its digits, no outer blanks."""
    if value is None:
        return None
    meant = str(value)
    with suppress(UnicodeError):  # the log is encoded twice too often, the catalogue is not
        meant = meant.encode("latin-1").decode().encode("latin-1").decode()
    for damaged, replacement in MEANT.items():
        meant = meant.replace(damaged, replacement)
    return meant.strip(" ")


def moment(event: Record) -> datetime:
    return EPOCH + timedelta(milliseconds=event["ts"])


def user_of(event: Record) -> int | None:
    return int(event["userId"]) if event.get("userId") not in ("", None) else None


def event_id(event: Record) -> str:
    parts = [event["sessionId"], event["itemInSession"], event["ts"], user_of(event)]
    return "-".join(str(part) for part in parts if part is not None)


CONTENTS = (
    *("page", "song", "artist", "length", "level", "auth", "firstName", "lastName", "gender"),
    *("location", "registration", "userAgent", "method", "status"),
)


def contents(event: Record) -> tuple[Any, ...]:
    """What two versions of an event may differ in, in an order with unknown values last."""
    return tuple((event.get(name) is None, event.get(name)) for name in CONTENTS)


def once(delivered: list[Record]) -> list[Record]:
    """Each event once; of versions with other contents the first in their order."""
    rows_of = grouped(delivered, event_id)
    return [min(rows, key=contents) | {"deliveries": len(rows)} for rows in rows_of.values()]


NEAR = 2 * 60 * 60 * 1000  # milliseconds


def visits(events: list[Record]) -> dict[str, list[Record]]:
    """The events of each visit, by session and user, found by a walk through each session."""
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for session, logged in grouped(events, lambda e: e["sessionId"]).items():
        known = [e for e in logged if user_of(e) is not None]
        users = {user_of(e) for e in known}
        numbers = {(user_of(e), e["itemInSession"]) for e in known}
        runs: list[list[Record]] = []
        for e in sorted(logged, key=lambda e: (e["ts"], e["itemInSession"])):
            if user_of(e) is not None:
                found[f"{session}-{user_of(e)}"].append(e)
            elif len(users) < 2:
                found["-".join(map(str, [session, *users]))].append(e)
            elif runs and _follows(e, runs[-1][-1]):
                runs[-1].append(e)
            else:
                runs.append([e])
        for run in runs:
            first, last = run[0], run[-1]
            before = [
                e
                for e in known
                if _follows(first, e) and (user_of(e), first["itemInSession"]) not in numbers
            ]
            after = [
                e
                for e in known
                if _follows(e, last) and (user_of(e), last["itemInSession"]) not in numbers
            ]
            moments = [max(e["ts"] for e in before)] if before else [e["ts"] for e in after]
            nearest = {user_of(e) for e in before or after if e["ts"] == min(moments)}
            whose = nearest if len(nearest) == 1 else []
            found["-".join(map(str, [session, *whose]))] += run
    return dict(found)


def _follows(event: Record, earlier: Record) -> bool:
    is_next = event["itemInSession"] == earlier["itemInSession"] + 1
    return bool(is_next and 0 <= event["ts"] - earlier["ts"] <= NEAR)


def plays_of(events: list[Record]) -> list[Record]:
    return [event for event in events if event["page"] == "NextSong"]


def users(events: list[Record]) -> set[tuple[Any, ...]]:
    latest: dict[int, Record] = {}
    for e in sorted(events, key=lambda e: (e["ts"], e["sessionId"], e["itemInSession"])):
        if (user := user_of(e)) is not None:
            latest[user] = e
    return {
        (user, e["firstName"], e["lastName"], e["gender"], e["level"]) for user, e in latest.items()
    }


def songs(catalogue: list[Record]) -> set[tuple[Any, ...]]:
    """For catalogues in which every song_id has one record."""
    assert len({s["song_id"] for s in catalogue}) == len(catalogue)
    return {
        (s["song_id"], text(s["title"]), s["artist_id"], s["year"] or None, s["duration"])
        for s in catalogue
    }


def artists(catalogue: list[Record]) -> set[tuple[Any, ...]]:
    def preference(s: Record) -> tuple[Any, ...]:
        place = text(s["artist_location"]) or ""
        return (s["artist_latitude"] is None, place == "", str(s["artist_name"]), place)

    chosen: dict[str, Record] = {}
    for s in sorted(catalogue, key=preference):
        chosen.setdefault(s["artist_id"], s)
    return {
        (
            artist,
            text(s["artist_name"]),
            text(s["artist_location"]) or None,
            s["artist_latitude"],
            s["artist_longitude"],
        )
        for artist, s in chosen.items()
    }


def time(events: list[Record]) -> set[tuple[Any, ...]]:
    moments = {moment(e) for e in plays_of(events)}
    return {
        (m, m.hour, m.day, m.isocalendar().week, m.month, m.year, m.isoweekday() % 7)
        for m in moments
    }


def songplays(events: list[Record], catalogue: list[Record]) -> list[tuple[Any, ...]]:
    known = defaultdict(list)
    for s in catalogue:
        known[text(s["title"]), text(s["artist_name"])].append(s)
    rows = []
    for e in plays_of(events):
        matches = sorted(
            known[text(e["song"]), text(e["artist"])],
            key=lambda s: (abs(s["duration"] - e["length"]), s["song_id"]),
        )
        song = matches[0] if matches else {"song_id": None, "artist_id": None}
        rows.append(
            (
                event_id(e),
                moment(e),
                user_of(e),
                e["level"],
                song["song_id"],
                song["artist_id"],
                e["sessionId"],
                e["itemInSession"],
                text(e["location"]),
                text(e["userAgent"]),
                text(e["song"]),
                text(e["artist"]),
            )
        )
    return rows


def most_played_songs(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    result = set()
    for rank, (song, artist), rows in ranked(songplays(events, catalogue), lambda r: r[10:12]):
        song_id = min((row[4] for row in rows if row[4]), default=None)
        moments = [row[1] for row in rows]
        known = (song_id, song_id is not None)
        counts = (len(rows), listeners(rows), *known, min(moments), max(moments))
        result.add((rank, song, artist, *counts))
    return result


def most_played_artists(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    result = set()
    for rank, artist, rows in ranked(songplays(events, catalogue), lambda r: r[11]):
        moments = [row[1] for row in rows]
        songs = len({row[10] for row in rows})
        result.add((rank, artist, len(rows), listeners(rows), songs, min(moments), max(moments)))
    return result


def plays_by_location(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    by_place = ranked(songplays(events, catalogue), lambda r: r[8])
    return {(rank, place, len(rows), listeners(rows)) for rank, place, rows in by_place}


def plays_by_hour(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    plays = songplays(events, catalogue)
    cells = grouped(plays, lambda r: (r[1].isoweekday() % 7, r[1].hour)).items()
    days = {play[1].date() for play in plays}
    return {
        (*cell, len(rows), listeners(rows), sum(d.isoweekday() % 7 == cell[0] for d in days))
        for cell, rows in cells
    }


def plays_by_level(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    now = grouped(users(events), lambda user: user[4])
    played = grouped(songplays(events, catalogue), lambda r: r[3])
    empty: list[tuple[Any, ...]] = []
    return {
        (level, len(now.get(level, [])), listeners(rows), len(rows))
        for level, rows in (dict.fromkeys(now, empty) | played).items()
    }


def plays_by_day(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    played = grouped(songplays(events, catalogue), lambda r: r[1].date())
    result = set()
    for day, logged in grouped(events, lambda e: moment(e).date()).items():
        rows = played.get(day, [])
        levels = [sum(row[3] == level for row in rows) for level in ("paid", "free")]
        active = len({user_of(e) for e in logged} - {None})
        matched = sum(row[4] is not None for row in rows)
        told = (active, matched, len(logged), sum(e.get("deliveries", 1) - 1 for e in logged))
        result.add((day, len(rows), *levels, listeners(rows), *told))
    return result


def user_levels(events: list[Record]) -> set[tuple[Any, ...]]:
    """For events of which no two of a user are at the same moment, at different levels."""
    result = set()
    for user, logged in by_user(events).items():
        stretches: list[tuple[str, datetime]] = []
        for e in sorted(logged, key=moment):
            if not stretches or stretches[-1][0] != e["level"]:
                stretches.append((e["level"], moment(e)))
        ends = [begin for _, begin in stretches[1:]]
        for (level, begin), end in zip(stretches, [*ends, None], strict=True):
            result.add((user, level, begin, end, end is None))
    return result


def by_user(events: list[Record]) -> dict[int, list[Record]]:
    """The events that tell their user, by user."""
    groups = grouped(events, user_of)
    return {user: rows for user, rows in groups.items() if user is not None}


def level_changes(events: list[Record]) -> set[tuple[Any, ...]]:
    first = {
        user: min(s[2] for s in rows)
        for user, rows in grouped(user_levels(events), lambda s: s[0]).items()
    }
    changes = [(s[2].date(), s[1]) for s in user_levels(events) if s[2] > first[s[0]]]
    changes += [(row[-1].date(), "cancelled") for row in user_activity(events) if row[-1]]
    return {
        (day, *(sum(to == level for _, to in rows) for level in ("paid", "free", "cancelled")))
        for day, rows in grouped(changes, lambda change: change[0]).items()
    }


def user_activity(events: list[Record]) -> set[tuple[Any, ...]]:
    result = set()
    levels = {user[0]: user[4] for user in users(events)}
    for user, logged in by_user(events).items():
        registered = next((e["registration"] for e in logged if e.get("registration")), None)
        moments = sorted(moment(e) for e in logged)
        played = [
            (text(e.get("song")) or "(not logged)", text(e.get("artist")) or "(not logged)")
            for e in plays_of(logged)
        ]
        cancelled = [moment(e) for e in logged if e["page"] == "Cancellation Confirmation"]
        result.add(
            (
                user,
                registered and EPOCH + timedelta(seconds=registered // 1000),
                moments[0],
                moments[-1],
                levels[user],
                len({e["sessionId"] for e in logged}),
                len({m.date() for m in moments}),
                len(played),
                len(set(played)),
                len({artist for _, artist in played}),
                *(sum(e["page"] == page for e in logged) for page in COUNTED),
                max(cancelled, default=None),
            )
        )
    return result


COUNTED = (
    *("Thumbs Up", "Thumbs Down", "Add to Playlist", "Add Friend", "Roll Advert", "Error"),
    *("Submit Upgrade", "Submit Downgrade"),
)


DEVICES = {
    "iPhone;": "iPhone",
    "(Windows": "Windows",
    "MSIE": "Windows",
    "(Macintosh": "Mac",
    "(X11": "Linux",
}


def sessions(events: list[Record]) -> set[tuple[Any, ...]]:
    result = set()
    for visit, logged in visits(events).items():
        known_first = sorted(logged, key=lambda e: user_of(e) is not None)
        in_order = sorted(known_first, key=lambda e: (e["ts"], e["itemInSession"]))
        known = [e for e in in_order if user_of(e) is not None]
        agent = known[-1]["userAgent"] if known else ""
        device = next((name for sign, name in DEVICES.items() if sign in agent), None)
        begin, end = min(map(moment, logged)), max(map(moment, logged))
        seconds = (end.replace(microsecond=0) - begin.replace(microsecond=0)).total_seconds()
        result.add(
            (
                visit,
                logged[0]["sessionId"],
                user_of(known[-1]) if known else None,
                in_order[-1]["level"],
                device,
                begin,
                end,
                seconds,
                len(logged),
                len(plays_of(logged)),
            )
        )
    return result


def visits_by_device(events: list[Record]) -> set[tuple[Any, ...]]:
    by_device = ranked(sessions(events), lambda s: s[4] or "(not logged)")
    return {
        (rank, device, len(rows), listeners(rows), sum(s[9] for s in rows), sum(s[7] for s in rows))
        for rank, device, rows in by_device
    }


def retention_by_week(events: list[Record]) -> set[tuple[Any, ...]]:
    def monday(event: Record) -> date:
        return moment(event).date() - timedelta(days=moment(event).weekday())

    weeks_of = {user: {*map(monday, plays_of(rows))} for user, rows in by_user(events).items()}
    cohorts = grouped((weeks for weeks in weeks_of.values() if weeks), min)
    return {
        (first, week, len(cohort), sum(week in weeks for weeks in cohort))
        for first, cohort in cohorts.items()
        for week in set().union(*weeks_of.values())
        if week >= first
    }


def grouped(rows: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    groups: defaultdict[Any, list[T]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def ranked(rows: Iterable[T], key: Callable[[T], Any]) -> Iterator[tuple[int, Any, list[T]]]:
    """Groups with their place by size: 1 for the largest, the same for equally large ones."""
    groups = grouped(rows, key)
    sizes = sorted((len(group) for group in groups.values()), reverse=True)
    for name, group in groups.items():
        yield sizes.index(len(group)) + 1, name, group


def listeners(plays: list[tuple[Any, ...]]) -> int:
    return len({row[2] for row in plays} - {None})
