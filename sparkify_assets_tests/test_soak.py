"""Forty days of a warehouse that nobody looks at, in which files and runs go wrong.

Files come late, change, break, come twice and vanish; folders are away; runs are killed; the store
of runs is locked. A model in plain Python says of each look whether a run is due, of each run which
checks warn, and how many alerts there were reasons for. SOAK_DAYS makes it longer, SOAK_SEED other.
"""

import json
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import dagster as dg
import pytest

from sparkify_assets.maintenance import Upkeep
from sparkify_assets_tests.daemon import Daemon, Webhook, webhook
from sparkify_assets_tests.platform import Platform
from sparkify_assets_tests.processes import ROOT
from sparkify_assets_tests.test_maintenance import Files, content
from sparkify_assets_tests.test_parity import plain

DAYS = int(os.environ.get("SOAK_DAYS", "40"))
SEED = int(os.environ.get("SOAK_SEED", "12"))
EVERY = 5  # days somebody delivers files: a run takes a second
LOOKS = 4  # of the sensor, in a day
DATABASES = ("history/runs.db", "history/runs/index.db")
LOCKED_SECONDS = 0.5
BROKEN = ' {"page": "Home"}\n' * 30  # more incomplete records than a load takes
UNREAD = "no record\n"  # few enough for a warning
FILES_READ = ("staging_events", "files_read")
DELIVERED_ONCE = ("staging_events", "delivered_once")
ONE_VERSION = ("events", "one_version")
AS_USUAL = ("newest_day", "as_usual")
COMES = ("whole", "whole", "whole", "late", "broken", "unread")
BECOMES = ("as it was", "as it was", "changed", "changed and broken", "twice", "vanished")
RUNS = ("plain", "plain", "killed", "locked")
HAPPENS = {*COMES, *BECOMES, *RUNS, "warned", "warned still"}
STARTED = dg.DagsterRun(job_name="refresh", status=dg.DagsterRunStatus.STARTED)


def parsed(text: str) -> list[dict[str, Any]]:
    """The records of a file, each as the engine compares it; none of what is broken."""
    records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for record in records:
        record["userId"] = int(record["userId"]) if record["userId"] != "" else None
    return [{key: value for key, value in r.items() if value is not None} for r in records]


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in ("sessionId", "itemInSession", "ts", "userId"))


@dataclass
class Model:
    """What the warehouse should hold, and what somebody should have been told."""

    loaded: dict[str, str] = field(default_factory=dict)  # text of each file of the log
    written: dict[str, int] = field(default_factory=dict)  # when each of them was
    warns: dict[tuple[str, str], bool] = field(default_factory=dict)
    alerts: int = 0

    def load(self, files: dict[str, str], written: dict[str, int]) -> None:
        """The log is loaded: what is new or was written again replaces what there was."""
        news = {name for name in files if self.written.get(name) != written[name]}
        self.written |= written
        was = [r for name in news for r in parsed(self.loaded.get(name, ""))]
        self.loaded |= files
        found = [r for text in self.loaded.values() for r in parsed(text)]
        moments = {r["ts"] for r in [*was, *(r for name in news for r in parsed(files[name]))]}
        if news:
            alike = Counter(repr(sorted(r.items())) for r in found if r["ts"] in moments)
            self.warns[DELIVERED_ONCE] = max(alike.values(), default=0) > 1
        contents: dict[tuple[Any, ...], set[str]] = {}
        for record in found:
            contents.setdefault(key(record), set()).add(repr(sorted(record.items())))
        self.warns[ONE_VERSION] = any(len(versions) > 1 for versions in contents.values())
        self.warns[FILES_READ] = any(t and not parsed(t) for t in self.loaded.values())


def by_chance(rng: Random, kinds: tuple[str, ...]) -> Iterator[str]:
    """Each kind equally often, in any order."""
    while True:
        yield from rng.sample(kinds, len(kinds))


class World:
    """The files as they come and go."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self.files = Files(platform, seed)
        self.rng = Random(seed)
        self.folder = platform.log_data
        self.late: dict[str, int] = {}  # day on which a file comes
        self.mended: dict[str, tuple[int, str]] = {}  # day and text
        self.happened: Counter[str] = Counter()
        self.coming, self.becoming = by_chance(self.rng, COMES), by_chance(self.rng, BECOMES)

    def texts(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.folder.iterdir())}

    def written(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir()}

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def new_text(self) -> str:
        self.files.number += 1
        return "".join(json.dumps(event) + "\n" for event in self.files.events(2))

    def some_sound_file(self) -> str:
        texts = self.texts()
        return self.rng.choice([name for name, text in texts.items() if text.startswith("{")])

    def pass_day(self, day: int) -> None:
        """What was late comes, and what was broken is mended."""
        for name in [name for name, (due, _) in self.mended.items() if due <= day]:
            self.write(name, self.mended.pop(name)[1])
        for name in [name for name, due in self.late.items() if due <= day]:
            del self.late[name]
            self.write(name, self.new_text())

    def come(self, day: int, number: int, *, most: int) -> None:
        """A file comes, or is late by at most so many days; something happens to another."""
        name, due = f"{day:03}-{number}.json", day + self.rng.randint(1, most)
        other, comes, becomes = self.some_sound_file(), next(self.coming), next(self.becoming)
        self.happened.update((comes, becomes))
        if comes == "late":
            self.late[name] = due
        elif comes == "whole":
            self.write(name, self.new_text())
        elif comes == "broken":
            self.mended[name] = (due, self.new_text())
            self.write(name, BROKEN)
        else:
            self.mended[name] = (due + most, self.new_text())
            self.write(name, UNREAD)
        if becomes == "twice":
            shutil.copy(self.folder / other, self.folder / f"again-{name}")
        elif becomes == "changed":
            lines = self.texts()[other].replace('"free"', '"paid"').splitlines(keepends=True)
            self.write(other, "".join(lines[len(lines) // 2 :]) + self.new_text())  # a visit goes
        elif becomes == "vanished":
            (self.folder / other).unlink()
        elif becomes == "changed and broken":
            self.mended[other] = (due, self.texts()[other])
            self.write(other, BROKEN)
        if number:
            self.files.song(self.rng.randint(0, 9))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Somebody keeps the store of runs locked for a while."""
    is_locked = Event()

    def hold() -> None:
        with ExitStack() as stack:
            for name in DATABASES:
                database = sqlite3.connect(folder / ".dagster" / name, isolation_level=None)
                stack.enter_context(closing(database)).execute("BEGIN EXCLUSIVE")
            is_locked.set()
            time.sleep(LOCKED_SECONDS)

    thread = Thread(target=hold)
    thread.start()
    assert is_locked.wait()
    yield
    thread.join()


class Soak:
    """The days, one after the other."""

    def __init__(
        self, platform: Platform, channel: Webhook, instance: dg.DagsterInstance, seed: int
    ) -> None:
        self.channel, self.instance, self.platform = channel, instance, platform
        platform.settings["alert_webhook"] = channel.url
        self.daemon, self.model = Daemon(platform, instance), Model()
        self.world, self.rng = World(platform, seed), Random(seed)
        self.requested = self.seen = ""
        self.happened, self.kinds = self.world.happened, by_chance(self.rng, RUNS)

    def listing(self) -> str:
        folders = (self.platform.song_data, self.platform.log_data)
        paths = [path for folder in folders for path in sorted(folder.iterdir())]
        return repr([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths])

    def look(self, *, is_busy: bool) -> None:
        """A look of the sensor, whose answer is known, and the run that it asks for."""
        now, said = self.listing(), self.daemon.look()
        if now == self.requested:
            assert said == "No file is new or changed."
        elif now != self.seen:
            assert said.endswith("They may not be complete yet.")
        elif is_busy:
            assert said.endswith("Waiting for a refresh to end.")
        else:
            assert said == ""
            self.requested = now
            self.run()
        self.seen = now

    def run(self, kind: str = "") -> None:
        """A run of everything, which may be killed or find the store locked; then the alerts."""
        texts, written = self.world.texts(), self.world.written()
        kind = kind or next(self.kinds)
        with ExitStack() as stack:
            if kind == "killed":
                stack.enter_context(self.killing(self.rng.choice(self.platform.sql_tables())))
            elif kind == "locked":
                stack.enter_context(locked(self.platform.folder))
            with suppress(KeyboardInterrupt):
                self.daemon.run()
        self.happened[kind] += kind != "killed"
        run = self.instance.get_runs(limit=1)[0]
        kinds = dg.DagsterEventType
        logs = self.instance.all_logs(
            run.run_id, of_type={kinds.ASSET_MATERIALIZATION, kinds.ASSET_CHECK_EVALUATION}
        )
        made = {
            log.asset_materialization.asset_key.to_user_string()
            for log in logs
            if log.asset_materialization
        }
        evaluated = (log.asset_check_evaluation for log in logs)
        checks = [check for check in evaluated if check]
        found = {(c.asset_key.to_user_string(), c.check_name) for c in checks if not c.passed}

        before = dict(self.model.warns)
        if is_broken := any(text == BROKEN for text in texts.values()):
            assert "staging_events" not in made
        if "staging_events" in made:
            self.model.load(texts, written)
        if "newest_day" in made:  # what it calls unusual is proved in test_marts.py
            unusual = self.platform.rows("SELECT figure FROM newest_day WHERE is_unusual")
            self.model.warns[AS_USUAL] = bool(unusual)
        left = {
            check: before.get(check, False) for check in self.model.warns if check[0] not in made
        }
        self.model.warns |= left
        expected = {c for c, warns in self.model.warns.items() if warns and c[0] in made}
        assert found == expected
        if run.status == dg.DagsterRunStatus.FAILURE:
            assert is_broken or kind == "killed"
            self.model.alerts += 1
        else:
            assert run.status == dg.DagsterRunStatus.SUCCESS
            assert not is_broken
            is_new = any(not before.get(check) for check in expected)
            self.happened["warned"] += is_new
            self.happened["warned still"] += bool(expected) and not is_new
            self.model.alerts += is_new
        self.daemon.tell()
        assert len(self.channel.texts) == self.model.alerts, self.channel.texts[-3:]

    @contextmanager
    def killing(self, name: str) -> Iterator[None]:
        """Ends a run where it has written a table, and not yet committed it."""
        with pytest.MonkeyPatch.context() as patch:
            record = Upkeep.record

            def failing(upkeep: Upkeep, *args: Any, **options: Any) -> int:
                rows = record(upkeep, *args, **options)
                if upkeep.table.name == name:
                    self.happened["killed"] += 1
                    raise KeyboardInterrupt
                return rows

            patch.setattr(Upkeep, "record", failing)
            yield

    def day(self, day: int) -> None:
        if day % EVERY == 0:
            self.world.pass_day(day)
            for number in range(2):
                self.world.come(day, number, most=2 * EVERY)
        is_busy, is_away = self.rng.random() < 0.1, self.rng.random() < 0.1
        if is_busy:
            self.instance.add_run(STARTED._replace(run_id=f"other{day}"))
        if is_away:
            away = self.platform.folder / "away"
            self.platform.log_data.rename(away)
            assert self.daemon.look().startswith("The sources cannot be listed")
            away.rename(self.platform.log_data)
        for look in range(LOOKS):
            if is_busy and look == LOOKS - 1:
                self.instance.delete_run(f"other{day}")
                is_busy = False
            self.look(is_busy=is_busy)
        if day % 20 == 19:
            assert self.daemon.scheduled() == ""
            self.run()

    def end(self) -> None:
        """All files are there and whole, and are loaded."""
        self.world.pass_day(10**6)
        for _ in range(LOOKS):
            self.look(is_busy=False)
        self.run("plain")
        assert self.model.loaded.items() >= self.world.texts().items()


def rows(platform: Platform) -> dict[str, Any]:
    """All rows of all tables, without what tells when and as which object they were loaded."""
    found = content(platform)
    columns = {table.name: [c.name for c in table.columns] for table in platform.catalog.assets}
    for table in platform.catalog.staging:
        named = ", ".join(name for name in columns[table.name] if name != "object_id")
        query = f"SELECT {named} FROM {table.name}"
        found[table.name] = sorted((tuple(map(plain, r)) for r in platform.rows(query)), key=repr)
    at = columns["load_summary"].index("last_loaded_at")
    found["load_summary"] = [row[:at] + row[at + 1 :] for row in found["load_summary"]]
    return found


def soak(platform: Platform, tmp_path: Path, *, seed: int) -> None:
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with webhook() as channel, dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        soak = Soak(platform, channel, instance, seed)
        for number in range(4):
            soak.world.files.song(number)
        for number in range(3):
            soak.world.write(f"first{number}.json", soak.world.new_text())
        soak.daemon.tell()
        for day in range(DAYS):
            soak.day(day)
        soak.end()
    assert set(+soak.happened) == HAPPENS, soak.happened
    for name, text in soak.model.loaded.items():
        soak.world.write(name, text)  # what has vanished keeps its rows
    fresh = Platform(
        tmp_path / "fresh",
        **{name: str(getattr(platform, name)) for name in ("song_data", "log_data")},
    )
    fresh.folder.mkdir()
    assert fresh.run().success
    found, expected = rows(platform), rows(fresh)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == expected[name], name


@pytest.mark.faults
@pytest.mark.parametrize("engine", ["platform", "redshift"])
def test_forty_days(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> None:
    soak(request.getfixturevalue(engine), tmp_path, seed=SEED)
