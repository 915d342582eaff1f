"""What the star must hold, computed from the files in plain Python: a second opinion."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
Record = dict[str, Any]


def records(folder: Path) -> list[Record]:
    """Every record below a folder of sound files with one JSON object a line."""
    return list(_records(folder))


def _records(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.rglob("*.json")):
        for line in path.read_bytes().split(b"\n"):
            if line.strip():
                yield json.loads(line)


def text(value: Any) -> str | None:
    """Text as the star holds it: a number as its digits, no outer blanks."""
    return None if value is None else str(value).strip(" ")


def moment(event: Record) -> datetime:
    return EPOCH + timedelta(milliseconds=event["ts"])


def plays_of(events: list[Record]) -> list[Record]:
    return [event for event in events if event["page"] == "NextSong"]


def users(events: list[Record]) -> set[tuple[Any, ...]]:
    latest: dict[int, Record] = {}
    for e in sorted(events, key=lambda e: (e["ts"], e["sessionId"], e["itemInSession"])):
        if e["userId"]:
            latest[int(e["userId"])] = e
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
                f"{e['sessionId']}-{e['itemInSession']}",
                moment(e),
                int(e["userId"]) if e["userId"] else None,
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


def most_played(events: list[Record], catalogue: list[Record]) -> set[tuple[Any, ...]]:
    by_song = defaultdict(list)
    for row in songplays(events, catalogue):
        by_song[row[10], row[11]].append(row)
    counts = sorted((len(rows) for rows in by_song.values()), reverse=True)
    result = set()
    for (song, artist), rows in by_song.items():
        song_id = min((row[4] for row in rows if row[4]), default=None)
        listeners = len({row[2] for row in rows})
        rank = counts.index(len(rows)) + 1
        result.add((rank, song, artist, len(rows), listeners, song_id, song_id is not None))
    return result
