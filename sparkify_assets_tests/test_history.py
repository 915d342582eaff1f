"""The run history: born of ten processes at once, killed under, damaged, deleted.

Whatever happens to the process of a run, the runs after it are not in its way for more than a
minute, and no person is needed.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import duckdb
import pytest
import yaml
from dagster._core.launcher import WorkerStatus

from sparkify_assets.errors import SparkifyError
from sparkify_assets.history import RunHistory
from sparkify_assets_tests.processes import (
    PATIENCE,
    ROOT,
    Server,
    checkout,
    dagster_dev,
    process,
    run,
    start,
    wait_for,
)

DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
WAREHOUSE = "sparkify.duckdb"
RUN = dg.DagsterRun(job_name="a job", run_id="77777777-7777-7777-7777-777777777777")
STARTED = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, RUN.job_name)
QUICK = {"poll_interval": 1, "cancel_timeout": 3}  # else tests take minutes
# Runs that wait for the warehouse do so for longer than a slow machine needs to start them all.
PATIENT = {
    "resources": {"warehouse": {"config": {"path": WAREHOUSE, "lock_wait_seconds": 5 * PATIENCE}}}
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh checkout, in which the test is; what it changes in this process is undone."""
    folder = checkout(tmp_path / "checkout")
    settings = folder / "dagster.yaml"
    text = settings.read_text()
    for name, seconds in QUICK.items():
        text = re.sub(rf"({name}_seconds:) \d+", rf"\1 {seconds}", text)
    settings.write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.tracebacklimit", 1000, raising=False)
    return folder


def launch(server: Server) -> str:
    """Starts a run as the UI does; returns its id."""
    answer = server.ask(
        "mutation($launched: ExecutionParams!) { launchRun(executionParams: $launched) {"
        "  __typename ... on LaunchRunSuccess { run { runId } } } }",
        launched={
            "selector": {
                "repositoryLocationName": "sparkify_assets",
                "repositoryName": "__repository__",
                "jobName": "create_tables",
            },
            "mode": "default",
            "runConfigData": json.dumps(PATIENT),
        },
    )
    return str(answer["launchRun"]["run"]["runId"])


def pid_of(server: Server, run_id: str) -> int:
    """The process that executes a run."""
    answer = server.ask(
        "query($run: ID!) { runOrError(runId: $run) { ... on Run { eventConnection {"
        "  events { ... on MessageEvent { message } } } } } }",
        run=run_id,
    )
    events = answer["runOrError"]["eventConnection"]["events"]
    found = re.search(r"in process \(pid: (\d+)\)", "\n".join(e["message"] for e in events))
    return int(found[1]) if found else 0


def statuses(folder: Path) -> dict[str, str]:
    """All runs, oldest first."""
    with closing(sqlite3.connect(folder / ".dagster" / DATABASES[0])) as database:
        return dict(database.execute("SELECT run_id, status FROM runs ORDER BY id").fetchall())


def wait_until(folder: Path, run_id: str, status: str) -> None:
    wait_for(f"{run_id} to be {status}", lambda: statuses(folder)[run_id] == status)


@contextmanager
def held_warehouse(folder: Path) -> Iterator[None]:
    """Runs that start wait for the warehouse."""
    with closing(duckdb.connect(str(folder / WAREHOUSE))):
        yield


def be_born(folder: Path, pipe: Connection) -> None:
    """Opens the history when told to, and stores a run."""

    @dg.job
    def a_run() -> None: ...

    os.chdir(folder)
    pipe.send("ready")
    pipe.recv()
    try:
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            a_run.execute_in_process(instance=instance)
        pipe.send("")
    except Exception as error:
        pipe.send(repr(error))


@pytest.mark.faults
def test_ten_processes_make_the_history_at_once(folder: Path) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(process(be_born, folder))[1] for _ in range(10)]
        for pipe in pipes:
            pipe.send("go")
        assert [pipe.recv() for pipe in pipes] == [""] * 10
    assert [*statuses(folder).values()] == ["SUCCESS"] * 10
    with process(be_born, folder) as (_, pipe):
        pipe.send("go")
        assert pipe.recv() == ""


def start_and_fork(folder: Path, pipe: Connection) -> None:
    """Starts a run, and a process that outlives this one."""
    RunHistory(str(folder)).run_storage.handle_run_event(RUN.run_id, STARTED)
    fork = os.fork()
    if not fork:
        time.sleep(PATIENCE)
        os._exit(0)
    pipe.send("ready")
    pipe.send(fork)
    time.sleep(PATIENCE)


@pytest.mark.faults
def test_a_run_is_alive_as_long_as_its_process(folder: Path) -> None:
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        health = instance.run_launcher.check_run_worker_health
        with process(start_and_fork, folder / ".dagster") as (child, pipe):
            fork = pipe.recv()
            assert health(RUN).status == WorkerStatus.RUNNING
            assert health(dg.DagsterRun(job_name="another")).status == WorkerStatus.FAILED
            child.kill()
            child.join()
            assert health(RUN).status == WorkerStatus.FAILED
            os.kill(fork, signal.SIGKILL)


def job_of_two_processes() -> dg.JobDefinition:
    @dg.op
    def look(context: dg.OpExecutionContext) -> str:
        status = context.instance.run_launcher.check_run_worker_health(context.run).status
        return f"{status.value} for the child of {os.getppid()}"

    @dg.job(executor_def=dg.multiprocess_executor)
    def two_processes() -> None:
        look()

    return two_processes


@pytest.mark.faults
def test_a_run_of_several_processes_is_alive(folder: Path) -> None:
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        job = dg.reconstructable(job_of_two_processes)
        with dg.execute_job(job, instance=instance) as done:
            assert done.output_for_node("look") == f"RUNNING for the child of {os.getpid()}"


def test_a_dead_run_is_known_within_a_minute() -> None:
    monitoring = yaml.safe_load((ROOT / "dagster.yaml").read_text())["run_monitoring"]
    for timeout in (monitoring["start_timeout_seconds"], monitoring["cancel_timeout_seconds"]):
        assert monitoring["poll_interval_seconds"] + timeout < 60


@pytest.mark.faults
def test_whatever_dies_the_next_run_goes_on(folder: Path) -> None:
    with held_warehouse(folder), dagster_dev(folder) as server:
        dead, queued = launch(server), launch(server)
        wait_until(folder, dead, "STARTING")
        server.end(signal.SIGKILL)
    assert statuses(folder) == {dead: "STARTING", queued: "QUEUED"}
    an_hour_passes(folder, dead)

    with dagster_dev(folder, "dagster dev") as server:
        wait_until(folder, queued, "SUCCESS")
        assert statuses(folder)[dead] == "FAILURE"
        commands_die(server)
        a_worker_dies(server)
        the_history_is_moved_away(server)
        dead, queued = a_terminal_closes(server)
    assert statuses(folder)[dead] == "STARTED"

    with (folder / "output.txt").open("a") as output:
        daemon = "dagster-daemon run -w workspace.yaml"
        daemon_alone = start(folder, daemon, output, DAGSTER_HOME=str(folder))
    try:
        wait_until(folder, queued, "SUCCESS")
        assert statuses(folder)[dead] == "FAILURE"
    finally:
        os.killpg(daemon_alone.pid, signal.SIGKILL)
        daemon_alone.wait()
    said = (folder / "output.txt").read_text()
    assert "dagster.daemon - " in said
    assert not re.search(r"dagster\.daemon\.\w+ - \S*INFO", said)  # they would each second


def an_hour_passes(folder: Path, run_id: str) -> None:
    """For a run that has been told to start."""
    with closing(sqlite3.connect(folder / ".dagster/history/runs" / f"{run_id}.db")) as database:
        database.execute(
            "UPDATE event_logs SET timestamp = datetime(timestamp, '-1 hour') "
            "WHERE dagster_event_type = 'PIPELINE_STARTING'"
        )
        database.commit()


def commands_die(server: Server) -> None:
    """One is killed, one loses its terminal while it is being canceled, and one lives."""
    before = statuses(server.folder)
    with held_warehouse(server.folder):
        launched = f"dg launch --job create_tables --config-json '{json.dumps(PATIENT)}'"
        commands = [start(server.folder, launched) for _ in range(3)]
        wait_for("their runs", lambda: [*statuses(server.folder).values()].count("STARTED") == 3)
        run_of = {
            wait_for("its process", partial(pid_of, server, run_id)): run_id
            for run_id in statuses(server.folder).keys() - before.keys()
        }
        killed, canceled, alive = (run_of[command.pid] for command in commands)
        server.ask("mutation($r: String!) { terminateRun(runId: $r) { __typename } }", r=canceled)
        commands[0].kill()
        commands[1].send_signal(signal.SIGHUP)
        queued = launch(server)
        wait_until(server.folder, killed, "FAILURE")
        wait_until(server.folder, canceled, "CANCELED")
        assert statuses(server.folder)[alive] == "STARTED"
    for command in commands:
        command.communicate()
    wait_until(server.folder, queued, "SUCCESS")
    assert statuses(server.folder)[alive] == "SUCCESS"


def a_worker_dies(server: Server) -> None:
    """Nothing but the process of a run is killed."""
    with held_warehouse(server.folder):
        dead = launch(server)
        os.kill(wait_for("its process", partial(pid_of, server, dead)), signal.SIGKILL)
        queued = launch(server)
    wait_until(server.folder, queued, "SUCCESS")
    assert statuses(server.folder)[dead] == "FAILURE"


def a_terminal_closes(server: Server) -> tuple[str, str]:
    """A run dies with the server, and another one is queued."""
    with held_warehouse(server.folder):
        dead, queued = launch(server), launch(server)
        wait_until(server.folder, dead, "STARTED")
        for signum in (signal.SIGSTOP, signal.SIGHUP, signal.SIGCONT):  # all in one moment
            os.killpg(server.process.pid, signum)
        server.process.wait(timeout=PATIENCE)
    return dead, queued


def the_history_is_moved_away(server: Server) -> None:
    """As good as deleted, but in one moment."""
    (server.folder / ".dagster").rename(server.folder / ".dagster.old")
    after = launch(server)
    wait_until(server.folder, after, "SUCCESS")
    assert statuses(server.folder) == {after: "SUCCESS"}


def damage(database: str) -> Callable[[Path], object]:
    return lambda history: (history / database).write_text("no database")


def change_version(statement: str) -> Callable[[Path], object]:
    def change(history: Path) -> None:
        for name in DATABASES:
            with closing(sqlite3.connect(history / name)) as database:
                database.execute(statement)
                database.commit()

    return change


def make_a_file(history: Path) -> None:
    shutil.rmtree(history)
    history.touch()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        *((damage(name), "is not a database|is malformed") for name in DATABASES),
        (change_version("UPDATE alembic_version SET version_num = 'f00'"), "Can't locate.* 'f00'"),
        (
            change_version("INSERT INTO alembic_version VALUES ('5771160a95ad')"),
            "more than one head",
        ),
        (make_a_file, "File exists"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(
    folder: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    history = folder / ".dagster"
    RunHistory(".dagster")
    spoil(history)
    with pytest.raises(SparkifyError, match=reason) as raised:
        RunHistory(".dagster")
    assert f"The run history in {history} cannot be used: " in str(raised.value)
    remedy = re.search(r"\((mv .*?)\)", str(raised.value))
    assert remedy
    assert run(folder, remedy[1]).returncode == 0
    RunHistory(".dagster")


def test_a_full_disk_is_said_without_a_traceback(folder: Path) -> None:
    RunHistory(".dagster")
    done = run(folder, "bash -c 'ulimit -f 100; dg launch --job create_tables'")
    assert done.returncode != 0
    assert f"The run history in {folder / '.dagster'} cannot be used: disk" in done.stdout
    assert len(done.stdout.splitlines()) <= 2  # as soon as the run starts its own file
    RunHistory(".dagster")


def test_each_warehouse_has_a_history_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"base_dir": ".dagster"}
    for path in ("sparkify.duckdb", "mine.duckdb", "other/mine.duckdb", "mine.duckdb"):
        monkeypatch.setenv("SPARKIFY_DUCKDB_PATH", path)
        RunHistory.from_config_value(None, config)
    monkeypatch.setenv("SPARKIFY_TARGET", "nowhere")  # the definitions say so
    RunHistory.from_config_value(None, config)
    made = {str(p.relative_to(folder)) for p in folder.rglob("runs.db")}
    assert ".dagster/history/runs.db" in made
    assert len(made) == 3
