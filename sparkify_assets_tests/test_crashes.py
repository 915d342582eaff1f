"""Runs in real processes: killed at any moment, started ten at once, kept waiting by another one.

Whatever happens to a process, the warehouse is the one before or the one after a transaction, and
a normal run brings it to exactly what it would be if nothing had happened.
"""

import json
import logging
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from benchmarks import simulator
from sparkify_assets_tests.platform import EVENT, Platform, failure_of, instance
from sparkify_assets_tests.processes import PATIENCE, process

PLAN = simulator.Plan(songs=200, events=1_000)
STAGING = ("staging_events", "staging_songs")
ASSETS = (*STAGING, "repaired_text", "events", "users")  # what is loaded, some of what is made
LEDGERS = ("load_history", "rejected_records")
WHEN = ("loaded_at", "run_id", "published_at", "audited_at", "details")
MOMENTS = 10  # in each of two situations; up to three times as many where those show too few states
STATES = 4  # of the warehouse, that the moments must show: each table is a transaction
RUNS = 10

State = dict[str, list[tuple[Any, ...]]]
Held = tuple[Platform, State, int | None, Connection]


def run_assets(platform: Platform, pipe: Connection) -> None:
    """Runs the assets when told to; tells whether it succeeded, and what failed steps said."""
    tempfile.tempdir = str(platform.folder)  # for what a kill leaves behind
    instance()
    pipe.send("ready")
    pipe.recv()
    patient = {"path": str(platform.warehouse), "lock_wait_seconds": PATIENCE}
    config = {"resources": {"warehouse": {"config": patient}}}
    result = platform.run(*ASSETS, config=config)
    pipe.send((result.success, failure_of(result)))


def hold(warehouse: Path, read_only: bool, pipe: Connection) -> None:
    """Has the warehouse open until told to close it."""
    with duckdb.connect(str(warehouse), read_only=read_only):
        pipe.send("ready")
        pipe.recv()
    pipe.send("closed")


def look(platform: Platform) -> State:
    """All rows by table, those of the books with the table they tell of; makes sure they balance.

    When and by which run something was done is left out, and what is only noted for later.
    """
    if not platform.warehouse.exists():
        return {}
    with duckdb.connect(str(platform.warehouse), read_only=True) as warehouse:

        def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
            return warehouse.execute(f"{query} ORDER BY ALL", values).fetchall()

        names = [name for (name,) in rows("SELECT table_name FROM duckdb_tables()")]
        kept = f"COLUMNS(lambda c: c NOT IN {WHEN})"
        state = {name: rows(f'SELECT {kept} FROM "{name}"') for name in names}
        if not state:
            return {}
        for name in STAGING:
            counted = f"SELECT object_id, COUNT(*) FROM {name} GROUP BY ALL"
            assert (rows(counted) if name in state else []) == rows(
                "SELECT object_id, rows_loaded FROM load_history "
                "WHERE table_name = ? AND rows_loaded > 0",
                name,
            )
        assert rows("SELECT object_id, COUNT(*) FROM rejected_records GROUP BY ALL") == rows(
            "SELECT object_id, rows_rejected FROM load_history WHERE rows_rejected > 0"
        )
    table_of = {row[0]: row[1] for row in state["load_history"]}
    for ledger in LEDGERS:
        for row in state.pop(ledger):
            state[table_of[row[0]]].append(row)
    for row in state.pop("published_tables", []):
        state[row[0]].append(row)
    state.pop("stale_keys", None)
    return state


def differences(found: State, expected: State) -> list[str]:
    """Names only: a comparison of whole tables would take pytest minutes to print."""
    return [
        name
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


class Situation:
    """A platform with something to load, and the warehouse before: to be put back, and to compare.

    Attributes:
        before: what the warehouse holds.
        after: what it holds after a run that nothing disturbed.
        seconds: how long that run took in a process of its own.
    """

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        warehouse = platform.warehouse
        self._file = warehouse.read_bytes() if warehouse.exists() else None
        self.before = look(platform)
        with process(run_assets, platform) as (_, pipe):
            started = time.monotonic()
            pipe.send("go")
            assert pipe.recv() == (True, "")
            self.seconds = time.monotonic() - started
        self.after = look(platform)
        self.put_back()

    def put_back(self) -> None:
        for path in self.platform.folder.glob("warehouse.duckdb*"):  # the log beside it too
            path.unlink()
        if self._file is not None:
            self.platform.warehouse.write_bytes(self._file)


@pytest.fixture(params=["empty", "filled"])
def situation(request: pytest.FixtureRequest, platform: Platform) -> Situation:
    """Nothing is loaded; or some files are, of which some are now others, or no longer there."""
    platform.settings["max_rejected_share"] = 0.5
    simulator.write_song_files(platform.song_data, PLAN)
    simulator.write_event_files(platform.log_data, PLAN)
    for folder in (platform.song_data, platform.log_data):
        files = sorted(folder.rglob("*.json"))
        for path in files[::7]:
            append(path, "no record")
    if request.param == "filled":
        fill(platform)
    return Situation(platform)


def fill(platform: Platform) -> None:
    """Loads half of the files, then adds the others, changes some and deletes some."""
    files = sorted(platform.folder.glob("*_data/**/*.json"))
    new, vanishing = files[::2], files[1::10]
    later = {path: path.read_bytes() for path in new}
    for path in new:
        path.unlink()
    result = platform.run(*ASSETS)
    assert result.success, failure_of(result)
    for path in vanishing:
        path.unlink()
    for path, content in later.items():
        path.write_bytes(content)
    for number, path in enumerate(files[3::4]):
        if path in vanishing:
            continue
        if path.is_relative_to(platform.log_data):
            append(path, json.dumps(EVENT | {"sessionId": 1_000_000 + number}))
        else:
            path.write_text(path.read_text().replace('"year": ', '"year": 1'))
        if number % 3 == 0:
            append(path, '{"neither": "song nor event"}')


def append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"\n{line}")


@pytest.mark.faults
def test_a_run_killed_at_any_moment_leaves_whole_transactions(situation: Situation) -> None:
    platform, before, after = situation.platform, situation.before, situation.after
    seconds, killed, states = situation.seconds, 0, list[State]()
    for number in range(3 * MOMENTS):
        if number >= MOMENTS and len(states) >= STATES:
            break
        situation.put_back()
        with process(run_assets, platform) as (child, pipe):
            share = (number % MOMENTS + random.random()) / MOMENTS
            moment = share * seconds
            started = time.monotonic()
            pipe.send("go")
            child.join(moment)
            is_running = child.is_alive()
            took = time.monotonic() - started
            child.kill()
            child.join()
            killed += child.exitcode == -signal.SIGKILL
        when = f"killed after {moment:.3f} s of {seconds:.3f} s"
        found = look(platform)
        if not is_running:  # the machine got faster
            seconds = min(seconds, took)
        elif share > 0.8 and differences(found, after):  # or slower
            seconds *= 1.5
        torn = [
            name
            for name in found.keys() | before.keys()
            if found.get(name) not in (before.get(name), after[name])
        ]
        assert not torn, when
        is_new = found not in states
        if is_new:
            states.append(found)
        if is_new or platform.warehouse.with_suffix(".duckdb.wal").exists():
            result = platform.run(*ASSETS)
            assert result.success, f"{when}: {failure_of(result)}"
            assert not differences(look(platform), after), when
    assert killed >= MOMENTS / 2
    assert len(states) >= STATES, "all moments were the same to the warehouse"


@pytest.mark.parametrize("situation", ["filled"], indirect=True)
@pytest.mark.faults
def test_ten_runs_at_once_load_every_file_once(situation: Situation) -> None:
    platform = situation.platform
    with ExitStack() as stack:
        pipes = [stack.enter_context(process(run_assets, platform))[1] for _ in range(RUNS)]
        for pipe in pipes:
            pipe.send("go")
        assert [pipe.recv() for pipe in pipes] == [(True, "")] * RUNS
    assert not differences(look(platform), situation.after)
    loaded = [uri for (uri,) in platform.rows("SELECT uri FROM load_history")]
    assert len(loaded) == len(set(loaded))
    assert {f"file://{path}" for path in platform.folder.glob("*_data/**/*.json")} <= set(loaded)


@pytest.fixture(params=[True, False], ids=["reader", "writer"])
def held(request: pytest.FixtureRequest, made: Platform) -> Iterator[Held]:
    """A platform with a new file; what its warehouse holds, and which process has that open."""
    assert made.make("events").success
    before = look(made)
    made.write_events([{"sessionId": 9}], name="more.json")
    with process(hold, made.warehouse, request.param) as (holder, pipe):
        yield made, before, holder.pid, pipe


def test_a_run_gives_up_on_a_held_warehouse(held: Held) -> None:
    platform, before, pid, pipe = held
    settings = {"path": str(platform.warehouse), "lock_wait_seconds": 0.1}
    config = {"resources": {"warehouse": {"config": settings}}}
    result = platform.run("staging_events", "events", config=config)
    held_by = f"{platform.warehouse} has been open in process {pid} "
    assert [line.startswith(held_by) for line in failure_of(result).splitlines()] == [True]
    assert not result.get_asset_materialization_events()
    pipe.send("close it")
    assert pipe.recv() == "closed"
    assert not differences(look(platform), before)


def test_a_run_waits_for_a_held_warehouse(held: Held) -> None:
    platform, _, pid, pipe = held

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for it" in record.getMessage():
                pipe.send("close it")

    logger, listener = dg.get_dagster_logger(), Listener()
    logger.addHandler(listener)
    try:
        result = platform.run("staging_events", "events")
    finally:
        logger.removeHandler(listener)
    assert result.success, failure_of(result)
    said = [entry.user_message for entry in instance().all_logs(result.run_id)]
    waits = [line for line in said if line.endswith(": waiting for it")]
    assert [line.partition(" (")[0] for line in waits] == [
        f"{platform.warehouse} is open in process {pid}"
    ]
    assert platform.rows("SELECT COUNT(*) FROM staging_events WHERE sessionid = 9") == [(1,)]
