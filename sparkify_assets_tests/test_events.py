"""What an event is: how it is known, how often it counts, and of whose visit it is part."""

import json
import shutil
from collections.abc import Iterator
from random import Random
from typing import Any

from sqlglot import exp, parse_one

from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets_tests import star
from sparkify_assets_tests.platform import EVENT, Platform, failed_checks, failure_of
from sparkify_assets_tests.test_analysis import ask, who_cancels

NOON = 1541073600000  # 2018-11-01 12:00 UTC
MINUTE = 60_000
HOUR = 60 * MINUTE
PAGES = (
    *("NextSong", "NextSong", "NextSong", "NextSong", "Thumbs Up", "Thumbs Down", "Add Friend"),
    *("Add to Playlist", "Roll Advert", "Home", "Logout", "Help", "About", "Settings", "Error"),
    *("Save Settings", "Upgrade", "Submit Upgrade", "Downgrade", "Submit Downgrade", "Cancel"),
    "Cancellation Confirmation",
)
LOGGED_OUT_PAGES = ("Home", "Login", "About", "Help", "Error", "Register", "Submit Registration")
AGENTS = ("Mozilla/5.0 (Windows NT 6.1)", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4)")
TABLES = (
    *("users", "time", "songplays", "most_played_songs", "most_played_artists", "level_changes"),
    *("plays_by_day", "plays_by_hour", "plays_by_level", "plays_by_location", "sessions"),
    *("user_activity", "user_levels", "retention_by_week", "visits_by_device"),
)
BY_EVENTS_ALONE = (
    *("level_changes", "sessions", "time", "user_activity", "user_levels", "users"),
    *("retention_by_week", "visits_by_device"),
)


def visit(rng: Random, user: int | None, session: int, start: int) -> Iterator[star.Record]:
    """One visit as the larger logs have it: keys that would be null are left out."""
    level, agent, moment = rng.choice(("free", "paid")), rng.choice(AGENTS), start
    items = rng.randint(1, 12)
    signed_in = range(rng.choice((0, 0, 2)), items - rng.choice((0, 0, 3)))
    for item in range(items):
        event: star.Record = {"itemInSession": item, "sessionId": session, "ts": moment}
        event |= {"level": level, "method": "GET", "status": 200, "userId": ""}
        if user is None or item not in signed_in:
            auth = "Guest" if user is None else "Logged Out"
            yield event | {"auth": auth, "page": rng.choice(LOGGED_OUT_PAGES)}
        else:
            page = rng.choice(PAGES if user == 3 else PAGES[:-1])  # one user leaves
            event |= {
                "page": page,
                "auth": "Cancelled" if page.startswith("Cance") else "Logged In",
            }
            event |= {"userId": rng.choice((user, str(user))), "userAgent": agent, "gender": "F"}
            event |= {"firstName": f"Ada {user}", "lastName": "Lane", "location": "Portland, ME"}
            event["registration"] = NOON - user * 86_400_123
            if page == "NextSong":
                artist = rng.choice(("The Makers", "Nina", "BjÃ\x83Â¶rk"))
                event |= {"artist": artist, "song": rng.choice(("Made", "Late")), "length": 200.5}
            yield event
        moment += rng.choice((rng.randint(1, 20 * MINUTE), rng.randint(1, 1_000), 3 * HOUR))


def delivered(seed: int) -> list[list[star.Record]]:
    """Records of three files: sessions shared by users, events again, and in two versions."""
    rng = Random(seed)
    visits = [
        list(visit(rng, rng.choice((None, 2, 3, 4, 5)), rng.randint(1, 12), NOON + start))
        for start in (rng.randint(0, 5 * 24 * HOUR) for _ in range(60))
    ]
    events = sorted((e for v in visits for e in v), key=lambda e: int(e["ts"]))
    again = rng.sample(events, 25)
    twins = [e | {"level": "paid", "status": 404} for e in rng.sample(events, 8)]
    twins += [e | {"length": 1.5} for e in rng.sample(events, 8)]
    files: list[list[star.Record]] = [[], [], []]
    for event in [*events, *again, *rng.sample(again, 5), *twins, *twins[:3]]:
        rng.choice(files).append(event)
    return files


def write(platform: Platform, name: str, records: list[star.Record]) -> None:
    platform.log_data.mkdir(exist_ok=True)
    (platform.log_data / name).write_text("\n".join(map(json.dumps, records)))


def identified(records: list[star.Record]) -> set[tuple[Any, ...]]:
    """The rows of events that a log should give, in part."""
    rows = star.grouped(records, star.event_id)
    return {
        (
            star.event_id(event),
            *(event["sessionId"], event["itemInSession"], star.moment(event), star.user_of(event)),
            *(visit, event["page"], event["level"], star.text(event.get("song"))),
            *(star.text(event.get("artist")), event.get("length")),
            len(rows[star.event_id(event)]),
            len({star.contents(row) for row in rows[star.event_id(event)]}),
        )
        for visit, logged in star.visits(star.once(records)).items()
        for event in logged
    }


def test_a_log_like_the_larger_ones(either_engine: Platform) -> None:
    """On each engine the same rows, whatever the order in which the files came."""
    catalogue = [{"song_id": "SO1", "title": "Made"}, {"song_id": "SO2", "artist_name": "Björk"}]
    either_engine.write_songs(catalogue)
    songs = star.records(either_engine.song_data)
    files = delivered(1)
    order = files if type(either_engine) is Platform else files[::-1]
    for name, records in zip("ab", order, strict=False):
        write(either_engine, f"{name}.json", records)
    assert either_engine.run("staging_events").success
    write(either_engine, "later.json", order[2])
    result = either_engine.run()
    assert result.success, failure_of(result)
    warned = {("staging_events", "delivered_once"), ("events", "one_version")}
    assert failed_checks(result) == warned
    records = [record for file in files for record in file]
    assert either_engine.rows("SELECT COUNT(*) FROM staging_events") == [(len(records),)]
    expected = identified(records)
    rows = either_engine.rows(
        "SELECT event_id, session_id, item_in_session, ts, user_id, visit_id, page, level, song, "
        "artist, length, deliveries, versions FROM events"
    )
    assert len(rows) == len(expected)
    assert set(map(tuple, rows)) == expected
    visits = {row[5] for row in expected if row[4] is None}
    assert any("-" in visit for visit in visits)  # of events without a user some have a visit
    assert not all("-" in visit for visit in visits)
    events = star.once(records)
    for table in TABLES:
        made = getattr(star, table)(*([events] if table in BY_EVENTS_ALONE else [events, songs]))
        found = [tuple(row) for row in either_engine.rows(f"SELECT * FROM {table}")]
        assert len(found) == len(set(found)) == len(made), table
        assert set(found) == set(made), table
    assert {row[1] for row in ask(either_engine, "who_cancels")} == {True, False}
    assert ask(either_engine, "who_cancels") == who_cancels(events, songs)


def test_visits_of_shared_sessions(platform: Platform) -> None:
    platform.write_songs([{}])
    records = [
        record | {"sessionId": 100 * seed + record["sessionId"]}
        for seed in range(2, 22)
        for file in delivered(seed)
        for record in file
    ]
    write(platform, "log.json", records)
    assert platform.make("sessions").success
    rows = platform.rows("SELECT event_id, visit_id FROM events")
    visits = star.visits(star.once(records))
    assert dict(rows) == {star.event_id(e): visit for visit, v in visits.items() for e in v}
    assert set(platform.rows("SELECT * FROM sessions")) == star.sessions(star.once(records))


# events of one session each, (user, item, minutes), and of what visit each of them is part
SESSIONS: dict[str, tuple[list[tuple[int | None, int, int]], list[str]]] = {
    "nobody": ([(None, 0, 0), (None, 1, 1)], ["", ""]),
    "the one user's, however late": ([(None, 0, 0), (7, 1, 1), (None, 9, 900)], ["7", "7", "7"]),
    "before a login and after a logout": (
        [(None, 0, 0), (None, 1, 1), (7, 2, 2), (None, 3, 3), (8, 0, 900), (8, 1, 901)],
        ["7", "7", "7", "7", "8", "8"],
    ),
    "whose numbers go on, not who is next in time": (
        [(7, 0, 0), (8, 0, 1), (8, 1, 2), (None, 1, 3), (8, 2, 4)],
        ["7", "8", "8", "7", "8"],
    ),
    "a guest beside users": (
        [(7, 0, 0), (7, 1, 1), (8, 0, 2), (None, 0, 500), (None, 1, 501), (None, 7, 502)],
        ["7", "7", "8", "", "", ""],
    ),
    "too late, and too early": (
        [(7, 0, 0), (8, 0, 0), (8, 1, 1), (None, 2, 122), (None, 4, 200), (8, 5, 320)],
        ["7", "8", "8", "", "8", "8"],
    ),
    "the latest of two": (
        [(7, 0, 0), (8, 0, 5), (None, 1, 6), (7, 1, 9)],
        ["7", "8", "8", "7"],
    ),
    "the largest number": (
        [(7, 2**31 - 2, 0), (8, 0, 1), (None, 2**31 - 1, 2), (None, -(2**31), 3)],
        ["7", "8", "7", ""],
    ),
    "two at once": ([(7, 0, 0), (8, 0, 0), (None, 1, 6)], ["7", "8", ""]),
    "the event before goes before the event after": (
        [(7, 0, 0), (None, 1, 90), (8, 2, 91)],
        ["7", "7", "8"],
    ),
}


def test_whose_visit_it_is(platform: Platform) -> None:
    platform.write_songs([{}])
    cases = {}
    for session, (case, (logged, visits)) in enumerate(SESSIONS.items()):
        for (user, item, minutes), visitor in zip(logged, visits, strict=True):
            event = EVENT | {"sessionId": session, "itemInSession": item}
            event |= {"userId": str(user or ""), "ts": NOON + minutes * MINUTE}
            cases[star.event_id(event)] = (case, event, f"{session}-{visitor}".removesuffix("-"))
    platform.write_events(event for _, event, _ in cases.values())
    assert platform.make("events").success
    found = dict(platform.rows("SELECT event_id, visit_id FROM events"))
    told = {(case, event_id): visit for event_id, (case, _, visit) in cases.items()}
    assert {(case, event_id): found[event_id] for event_id, (case, *_) in cases.items()} == told


def test_a_copied_or_renamed_file_is_a_warning(made: Platform) -> None:
    file, copy = made.log_data / "events.json", made.log_data / "again.json"
    assert made.make("songplays", "sessions").success
    plays = sorted(made.rows("SELECT * FROM songplays"))
    shutil.copy(file, copy)
    result = made.make("staging_events", "songplays", "sessions", "load_summary")
    assert result.success, failure_of(result)
    assert failed_checks(result) == {("staging_events", "delivered_once")}
    (found,) = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert found.metadata["repeated_rows"].value == 5
    assert repeated(made) == {(f"file://{file}", f"file://{copy}", 5)}
    assert sorted(made.rows("SELECT * FROM songplays")) == plays
    assert made.rows("SELECT CAST(SUM(events) AS INTEGER) FROM sessions") == [(5,)]
    query = "SELECT records, rows_loaded, rows_repeated FROM load_summary ORDER BY table_name"
    assert made.rows(query) == [(10, 10, 5), (3, 3, 0)]
    file.unlink()  # now it is a file that was renamed
    assert failed_checks(made.make("staging_events")) == {("staging_events", "delivered_once")}
    assert repeated(made) == {(f"file://{file}", f"file://{copy}", 5)}


def repeated(platform: Platform) -> set[tuple[Any, ...]]:
    query = (platform.sql / "checks/staging_events__delivered_once.sql").read_text(encoding="utf-8")
    return set(platform.rows(query))


def test_a_contradiction_is_shown(platform: Platform) -> None:
    platform.write_songs([{}])
    one = {"song": "Made", "length": 200.0}
    platform.write_events([one, {"page": "Home", "userId": ""}], name="a.json")
    platform.write_events([{"song": "Late", "length": None, "status": 404}], name="b.json")
    result = platform.make("songplays")
    assert result.success, failure_of(result)
    assert failed_checks(result) == {("events", "one_version")}
    check = (platform.sql / "checks/events__one_version.sql").read_text(encoding="utf-8")
    assert platform.rows(check) == [
        (
            f"1-0-{EVENT['ts']}-7",
            "song Late or Made; length; status; ",
            *(f"file://{platform.log_data}/{name}.json" for name in "ab"),
        )
    ]
    assert platform.rows("SELECT song, deliveries, versions FROM events WHERE user_id = 7") == [
        ("Late", 2, 2)
    ]


def test_a_row_of_staging_that_is_no_event_is_found(made: Platform) -> None:
    assert made.make("events").success
    made.edit("intermediate/events.sql", "WHERE r.sessionid IS NULL", "WHERE e.sessionid = 1")
    made.change("INSERT INTO staging_events SELECT * FROM staging_events WHERE sessionid = 1")
    result = made.run("events")
    assert failed_checks(result) >= {("events", "every_delivery_counted")}
    assert made.rows("SELECT COUNT(*) FROM events") == [(5,)]


def test_real_files(real: Platform) -> None:
    assert real.rows(
        "SELECT COUNT(*), COUNT(DISTINCT visit_id), MAX(deliveries), MAX(versions) FROM events"
    ) == [(8_056, 941, 1, 1)]
    assert real.rows("SELECT COUNT(*), COUNT(user_id) FROM sessions") == [(941, 911)]
    assert real.rows("SELECT COUNT(cancelled_at), SUM(plays) FROM user_activity") == [(0, 6_820)]


def test_the_report_tells_of_cancellations_where_there_are_any(
    platform: Platform, published_once: Platform
) -> None:
    assert "cancel" not in published_once.report.read_text(encoding="utf-8")
    platform.write_songs([{}])
    left = {"page": "Cancellation Confirmation", "auth": "Cancelled", "userId": "8"}
    for name in ("log.json", "again.json"):
        platform.write_events([{}, left | {"ts": NOON, "sessionId": 5}], name)
    assert platform.run().success
    page = platform.report.read_text(encoding="utf-8")
    assert '<span class="bad">2 repeated</span>' in page
    assert "1 of 2 users cancelled (50.0%); most on one day: 1, on 1 Nov" in page


def test_rows_are_compared_by_every_column_that_is_loaded() -> None:
    """Else two versions of an event that differ in one alone would pass as one."""
    tables = Catalog.load(SQL).tables

    def columns(tree: exp.Expr, alias: str) -> set[str]:
        found = {c.name.lower() for c in tree.find_all(exp.Column) if c.table == alias}
        return found - {"object_id"}

    def loaded(name: str) -> set[str]:
        return {column.name for column in tables[name].columns} - {"object_id"}

    filling = parse_one(tables["events"].insert or "", read="redshift")
    [rank] = [w for w in filling.find_all(exp.Window) if w.sql().startswith("DENSE_RANK")]
    [check] = [c for c in tables["events"].checks if c.name == "one_version"]
    assert columns(rank, "e") == loaded("staging_events")
    assert columns(parse_one(check.sql, read="redshift"), "s") == loaded("staging_events")
    summary = parse_one(tables["load_summary"].insert or "", read="redshift")
    groups = [columns(group, "s") for group in summary.find_all(exp.Group)]
    assert loaded("staging_songs") in groups
