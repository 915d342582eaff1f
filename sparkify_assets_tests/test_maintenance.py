"""A table that is maintained by key holds what it would hold if it were made again as a whole."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any
from unittest.mock import ANY

import dagster as dg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sparkify_assets import maintenance
from sparkify_assets.definitions import SQL
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Session
from sparkify_assets_tests.platform import (
    EVENT,
    SONG,
    Platform,
    RedshiftPlatform,
    failed_checks,
    failure_of,
    instance,
)
from sparkify_assets_tests.test_events import NOON, visit
from sparkify_assets_tests.test_parity import plain

DAY = 86_400_000
EVENTS = ("staging_events", "repaired_text", "events")  # the table, and what it is made from
TITLES = ("Slow Tide", "UppgjÃ¶r", "CafÃ©", "Echo", "Don\x19t", "Plain & Simple", "A &amp; B")
ARTISTS = ("Velvet", "BjÃ¶rk", "Pale &amp; Co")


def content(platform: Platform) -> dict[str, list[Any]]:
    """All rows of the derived tables, in one order."""
    names = [table.name for table in platform.catalog.derived]
    answers = platform.answers(f"SELECT * FROM {name}" for name in names)
    return {
        name: sorted((tuple(map(plain, row)) for row in rows), key=repr)
        for name, rows in zip(names, answers, strict=True)
    }


def refresh(platform: Platform, *assets: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Materializes the named tables, or all of them."""
    result = platform.run(*(assets or platform.sql_tables()), **config)
    assert result.success, failure_of(result)
    return result


def verify_rebuilt_alike(platform: Platform) -> dg.ExecuteInProcessResult:
    """Makes every derived table again as a whole, and makes sure that it holds what it held."""
    found = content(platform)
    everything = {"ops": {name: {"config": {"rebuild": True}} for name in found}}
    result = refresh(platform, *found, config=everything)
    again = content(platform)
    assert found.keys() == again.keys()
    for name, rows in again.items():
        assert found[name] == rows, name
    return result


def unchanged(result: dg.ExecuteInProcessResult) -> set[str]:
    """The tables that a run left as they were."""
    events = result.get_asset_materialization_events()
    found = [e.step_materialization_data.materialization for e in events]
    return {m.asset_key.to_user_string() for m in found if "unchanged_since" in m.metadata}


class Files:
    """Files of a log and a catalogue that come, change and go by chance."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self.platform, self.rng, self.number = platform, Random(seed), 0
        for folder in (platform.song_data, platform.log_data):
            folder.mkdir(parents=True, exist_ok=True)

    def events(self, visits: int) -> Iterator[dict[str, Any]]:
        rng = self.rng
        for _ in range(visits):
            start = NOON + self.number * DAY + rng.randint(-DAY // 2, DAY // 2)
            session = rng.choice((rng.randint(1, 9), rng.randint(100, 500)))
            for event in visit(rng, rng.choice((None, 1, 2, 3, 4, 5)), session, start):
                song: dict[str, Any] = {}
                if event["page"] == "NextSong":
                    song = {"song": rng.choice(TITLES), "artist": rng.choice(ARTISTS)}
                    song["length"] = rng.choice((100.0, 200.5, None))
                yield event | song

    def write(self, path: Path, visits: int) -> None:
        path.write_text("".join(json.dumps(event) + "\n" for event in self.events(visits)))

    def new_day(self, visits: int) -> None:
        self.number += 1
        self.write(self.platform.log_data / f"{self.number:03}.json", visits)

    def some_day(self) -> Path:
        return self.rng.choice(sorted(self.platform.log_data.iterdir()))

    def song(self, number: int) -> None:
        song: dict[str, Any] = {
            "song_id": f"SO{self.rng.randint(1, 6)}",
            "artist_id": f"AR{number % 3}",
        }
        song |= {"title": self.rng.choice(TITLES), "artist_name": self.rng.choice(ARTISTS)}
        song |= {"duration": self.rng.choice((100.0, 201.0)), "artist_location": "MalmÃ¶"}
        (self.platform.song_data / f"{number:03}.json").write_text(json.dumps(SONG | song))


class Life(Files):
    """What happens to a platform; what exactly, is by chance."""

    def a_day_comes(self) -> None:
        self.new_day(self.rng.randint(1, 5))

    def a_day_is_replaced(self) -> None:
        self.write(self.some_day(), visits=4)

    def a_day_is_mended(self) -> None:
        path = self.some_day()
        path.write_text(path.read_text().replace('"free"', '"paid"') + "\n")

    def a_day_is_deleted(self) -> None:
        if len(list(self.platform.log_data.iterdir())) > 1:
            self.some_day().unlink()

    def a_day_is_copied(self) -> None:
        self.number += 1
        shutil.copy(self.some_day(), self.platform.log_data / f"{self.number}.json")

    def an_empty_file_comes(self) -> None:
        self.number += 1
        (self.platform.log_data / f"{self.number:03}.json").write_text("")

    def a_song_comes_or_changes(self) -> None:
        self.song(self.rng.randint(0, 9))

    def somebody_drops_a_table(self) -> None:
        table = self.rng.choice(self.platform.catalog.derived)
        self.platform.change(f"DROP TABLE IF EXISTS {table.name}")

    def a_file_of_sql_changes(self) -> None:
        table = self.rng.choice(self.platform.catalog.derived)
        table.path.write_text(table.path.read_text(encoding="utf-8") + "\n-- again\n")

    def some_tables_are_materialized(self) -> None:
        names = self.platform.sql_tables()
        self.platform.run(*self.rng.sample(names, self.rng.randint(1, len(names) // 2)))

    def a_run_breaks_off(self) -> None:
        name = self.rng.choice(self.platform.sql_tables())
        with pytest.MonkeyPatch.context() as patch:
            record = maintenance.Upkeep.record

            def failing(upkeep: maintenance.Upkeep, *args: Any, **options: Any) -> None:
                record(upkeep, *args, **options)
                if upkeep.table.name == name:
                    raise KeyboardInterrupt

            patch.setattr(maintenance.Upkeep, "record", failing)
            with suppress(KeyboardInterrupt):
                self.platform.run(*self.platform.sql_tables())


# All of it in any order. The first example that is tried is seed 0 in the order that is given: of
# the class on DuckDB, from its end to its beginning on Redshift.
seeds = st.integers(0, 10_000)
things = [thing for name, thing in vars(Life).items() if not name.startswith("_")]
one_in_100 = settings(
    max_examples=settings().max_examples // 100, phases=set(Phase) - {Phase.shrink}
)


def verify_incremental_equals_rebuilt(
    platform: Platform, seed: int, order: list[Callable[[Life], None]]
) -> None:
    life = Life(platform, seed)
    for number in range(3):
        life.song(number)
    life.new_day(40)
    refresh(platform)
    for thing in order:
        thing(life)
    found = failed_checks(refresh(platform))
    again = verify_rebuilt_alike(platform)
    derived = [table.name for table in platform.catalog.derived]
    assert {check for check in found if check[0] in derived} == failed_checks(again)


@one_in_100
@given(seed=seeds, order=st.permutations(things))
def test_incremental_equals_rebuilt(
    tmp_path: Path, seed: int, order: list[Callable[[Life], None]]
) -> None:
    platform = Platform(Path(mkdtemp(dir=tmp_path)))
    assert platform.sql.is_dir()
    verify_incremental_equals_rebuilt(platform, seed, order)


@pytest.mark.faults
@one_in_100
@given(seed=seeds, order=st.permutations(things[::-1]))
def test_incremental_equals_rebuilt_on_redshift(
    redshift: RedshiftPlatform, seed: int, order: list[Callable[[Life], None]]
) -> None:
    for folder in (redshift.song_data, redshift.log_data, redshift.sql):
        shutil.rmtree(folder, ignore_errors=True)
    redshift.change(f"DROP SCHEMA IF EXISTS {redshift.schema} CASCADE")
    shutil.copytree(SQL, redshift.sql)
    verify_incremental_equals_rebuilt(redshift, seed, order)


def test_redshift_writes_the_rows_that_changed_and_no_others(redshift: RedshiftPlatform) -> None:
    """PostgreSQL tells which transaction wrote a row."""
    files = Files(redshift, seed=3)
    for number in range(3):
        files.song(number)
    for _ in range(3):
        files.new_day(15)
    refresh(redshift)
    files.new_day(2)
    late = {"song_id": "SOLATE", "title": "Echo", "artist_name": "Velvet", "duration": 100.0}
    (redshift.song_data / "late.json").write_text(json.dumps(SONG | late))
    refresh(redshift)
    for table, part in (("songplays", "song <> 'Echo'"), ("events", "true"), ("time", "true")):
        query = (
            f"SELECT COUNT(*) FROM {table} WHERE {part} GROUP BY xmin ORDER BY MIN(xmin::text::int)"
        )
        counts = [count for (count,) in redshift.rows(query)]
        assert len(counts) == 2, table
        assert counts[0] > counts[1] > 0, table


@pytest.fixture(scope="session")
def kept_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Path]:
    """A platform that has loaded some days, and a copy of its folder."""
    platform = Platform(tmp_path_factory.mktemp("kept") / "platform")
    files = Files(platform, seed=1)
    for number in range(3):
        files.song(number)
    for _ in range(3):
        files.new_day(20)
    assert platform.sql.is_dir()
    refresh(platform)
    return files, Path(shutil.copytree(platform.folder, platform.folder.with_name("copy")))


@pytest.fixture
def kept(kept_once: tuple[Files, Path]) -> tuple[Platform, Files]:
    """A platform that has loaded some days, as it was then, and where: its rows name its files."""
    files, copy = deepcopy(kept_once[0]), kept_once[1]
    shutil.rmtree(files.platform.folder)
    shutil.copytree(copy, files.platform.folder)
    return files.platform, files


def test_nothing_new_is_nothing_done(kept: tuple[Platform, Files]) -> None:
    platform, _ = kept
    query = "SELECT * FROM published_tables ORDER BY table_name"
    before, result = platform.rows(query), refresh(platform)
    assert unchanged(result) == set(platform.sql_tables())
    assert platform.rows(query) == before
    assert platform.rows("SELECT * FROM stale_keys") == []
    first = platform.run()
    assert failed_checks(first) == failed_checks(result)
    evaluated = first.get_asset_check_evaluations()
    keys = platform.defs().resolve_asset_graph().asset_check_keys
    assert {dg.AssetCheckKey(e.asset_key, e.check_name) for e in evaluated} == keys


def test_a_changed_file_of_sql_makes_its_table_again_and_what_is_made_from_it(
    kept: tuple[Platform, Files],
) -> None:
    platform, _ = kept
    file = platform.sql / "star/songplays.sql"
    file.write_text(file.read_text(encoding="utf-8") + "\n-- again\n")
    made = set(platform.sql_tables()) - unchanged(refresh(platform))
    assert made == {
        *("songplays", "catalogue_coverage", "most_played_artists", "most_played_songs"),
        *("plays_by_day", "plays_by_hour", "plays_by_level", "plays_by_location", "user_activity"),
        *("level_changes", "newest_day", "retention_by_week"),
    }


def test_what_changes_reaches_every_row_that_it_changes_and_no_other(
    kept: tuple[Platform, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late song matches old plays, and each of them is made again."""
    platform, _ = kept
    made: dict[str, int] = {}
    merge = Session.merge

    def counting(session: Session, table: Table, rows: str, stale: str = "true") -> None:
        made[table.name] = session.count(rows)
        merge(session, table, rows, stale)

    monkeypatch.setattr(Session, "merge", counting)
    plays = dict(platform.rows("SELECT songplay_id, song_id FROM songplays"))
    late = {"song_id": "SOLATE", "title": "CafÃ©", "artist_name": "BjÃ¶rk", "duration": 200.5}
    (platform.song_data / "late.json").write_text(json.dumps(SONG | late))
    refresh(platform)
    of_title = "SELECT songplay_id FROM songplays WHERE song = 'Café'"
    matched = {
        play for (play,) in platform.rows(f"{of_title} AND artist = 'Björk' AND song_id = 'SOLATE'")
    }
    assert matched
    assert made == {
        "songplays": len(platform.rows(of_title)),
        "plays_by_day": ANY,
        "user_activity": ANY,
    }
    others = {play: song for play, song in plays.items() if play not in matched}
    found = dict(platform.rows("SELECT songplay_id, song_id FROM songplays"))
    assert {play: song for play, song in found.items() if play not in matched} == others


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM users WHERE user_id = (SELECT MIN(user_id) FROM users)",
        "ALTER TABLE users ADD COLUMN remark VARCHAR",
        "DROP TABLE users",
    ],
)
def test_a_table_that_somebody_altered_is_made_again(
    kept: tuple[Platform, Files], statement: str
) -> None:
    platform, _ = kept
    users = content(platform)["users"]
    platform.change(statement)
    assert "users" not in unchanged(refresh(platform, "users"))
    assert content(platform)["users"] == users


def test_an_audit_of_all_rows_finds_what_no_count_tells(kept: tuple[Platform, Files]) -> None:
    """What it finds is made again: by the next refresh after the job, at once where it is due."""
    platform, _ = kept
    users = content(platform)["users"]
    alteration = "UPDATE users SET user_id = (SELECT MAX(user_id) FROM users)"
    platform.change(alteration)
    assert "users" in unchanged(refresh(platform, "users"))
    job = platform.defs().resolve_job_def("audit")
    audit = job.execute_in_process(instance=instance(), raise_on_error=False)
    assert ("users", "unique_key") in failed_checks(audit)
    assert "users" not in unchanged(refresh(platform, "users"))
    assert content(platform)["users"] == users
    platform.change(alteration)
    platform.settings["audit_days"] = 0
    assert "users" not in unchanged(refresh(platform, "users"))
    assert content(platform)["users"] == users


def test_the_job_rebuild_makes_everything_again(kept: tuple[Platform, Files]) -> None:
    platform, _ = kept
    before = content(platform)
    job = platform.defs().resolve_job_def("rebuild")
    rebuild = job.execute_in_process(instance=instance(), raise_on_error=False)
    assert rebuild.success, failure_of(rebuild)
    assert unchanged(rebuild) == set()
    assert content(platform) == before
    assert failed_checks(refresh(platform)) == failed_checks(rebuild)


def test_what_a_file_says_of_its_maintenance_is_proved(kept: tuple[Platform, Files]) -> None:
    platform, files = kept
    rule = "maintained by: user_id = events.user_id"
    platform.edit("star/users.sql", rule, "maintained by: user_id = events.session_id")
    refresh(platform, "users")
    files.new_day(5)
    result = platform.run(*EVENTS, "users")
    assert not result.success
    assert "users.sql: maintained by user_id is wrong: " in failure_of(result)


def test_a_dropped_table_and_lost_notes_are_made_up_for(kept: tuple[Platform, Files]) -> None:
    platform, files = kept
    files.new_day(5)
    platform.change("DROP TABLE songplays")
    refresh(platform)
    files.new_day(5)
    refresh(platform, "staging_events", "events")
    platform.change("DROP TABLE stale_keys")
    refresh(platform)
    verify_rebuilt_alike(platform)


def test_notes_of_another_version_of_a_file_are_not_believed(kept: tuple[Platform, Files]) -> None:
    platform, files = kept
    file = platform.sql / "marts/sessions.sql"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("-- maintained by: visit_id", "-- visit_id"), encoding="utf-8")
    files.new_day(5)
    refresh(platform, "staging_events", "repaired_text", "events")
    file.write_text(text, encoding="utf-8")
    refresh(platform)
    verify_rebuilt_alike(platform)


def test_a_failed_audit_of_a_part_leaves_all_of_the_table(kept: tuple[Platform, Files]) -> None:
    platform, files = kept
    before = content(platform)
    platform.edit("star/users.sql", "latest.user_id,", "NULLIF(latest.user_id, 9) AS user_id,")
    refresh(platform, "users")
    made = [*files.events(3), {**EVENT, "userId": 9, "sessionId": 99, "ts": NOON}]
    path = platform.log_data / "nine.json"
    path.write_text("\n".join(map(json.dumps, made)))
    result = platform.run(*EVENTS, "users")
    assert not result.success
    said = failure_of(result)
    assert said.startswith("users was not published. ")
    assert "Check null_keys: 1 violating row." in said
    assert content(platform)["users"] == before["users"]
    path.write_text("\n".join(map(json.dumps, made[:-1])))
    refresh(platform, *EVENTS, "users")
    assert content(platform)["users"] == sorted(set(content(platform)["users"]), key=repr)


def test_texts_that_are_repaired_later(kept: tuple[Platform, Files]) -> None:
    platform, _ = kept
    song = {"song": "ChloÃ«", "artist": "ZoÃ«", "page": "NextSong", "sessionId": 77, "userId": 8}
    platform.write_events([song], name="later.json")
    refresh(platform, "staging_events", "events")
    assert platform.rows("SELECT song FROM events WHERE session_id = 77") == [("ChloÃ«",)]
    assert platform.make("songplays").success
    assert platform.rows("SELECT song, artist FROM songplays WHERE session_id = 77") == [
        ("Chloë", "Zoë")
    ]


def test_a_table_whose_file_was_away_begins_anew(kept: tuple[Platform, Files]) -> None:
    platform, files = kept
    away = platform.folder / "away.sql"
    file = platform.sql / "marts/user_levels.sql"
    checks = [*platform.sql.glob("checks/user_levels__*"), platform.sql / "marts/level_changes.sql"]
    names = [name for name in platform.sql_tables() if name not in ("user_levels", "level_changes")]
    for path in checks:
        path.rename(path.with_suffix(".away"))
    file.rename(away)
    files.new_day(9)
    refresh(platform, *names)
    away.rename(file)
    for path in checks:
        path.with_suffix(".away").rename(path)
    refresh(platform)
    verify_rebuilt_alike(platform)


def test_a_warning_stands_as_long_as_its_rows_do(kept: tuple[Platform, Files]) -> None:
    platform, files = kept
    path = files.some_day()
    first, *others = path.read_text().splitlines()
    twin = json.dumps(json.loads(first) | {"status": 404})
    (platform.log_data / "twin.json").write_text(twin)
    assert ("events", "one_version") in failed_checks(refresh(platform, *EVENTS))
    files.new_day(3)
    assert ("events", "one_version") in failed_checks(refresh(platform, *EVENTS))
    assert ("events", "one_version") in failed_checks(refresh(platform, *EVENTS))
    (platform.log_data / "twin.json").write_text(others[0])
    assert ("events", "one_version") not in failed_checks(refresh(platform, *EVENTS))


def test_a_file_without_a_sound_record_is_summed_up(kept: tuple[Platform, Files]) -> None:
    platform, _ = kept
    (platform.log_data / "broken.json").write_text("no record")
    refresh(platform, *EVENTS, "load_summary")
    query = "SELECT rows_rejected FROM load_summary WHERE table_name = 'staging_events'"
    assert platform.rows(query) == [(1,)]
