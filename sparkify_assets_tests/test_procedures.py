"""docs/procedures.md: each procedure is done as it is written, block by block, and then verified.

A block of SQL is run in the warehouse, and one of shell by a shell; but `dg launch` is done in this
process, which takes a tenth of the time. That the command does the same, test_command_line.py says.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

import dagster as dg
import duckdb
import pytest

from sparkify_assets.alerts import alert_of
from sparkify_assets.definitions import SQL
from sparkify_assets_tests.conftest import write_made_data
from sparkify_assets_tests.platform import (
    Platform,
    RedshiftPlatform,
    failed_checks,
    failure_of,
    instance,
)
from sparkify_assets_tests.processes import PATIENCE, ROOT
from sparkify_assets_tests.test_forgetting import contents
from sparkify_assets_tests.test_new_tables import NEW_TABLE

GUIDE = (ROOT / "docs" / "procedures.md").read_text()
HEADINGS = re.findall("^## (.+)$", GUIDE, re.M)
LAUNCH = re.compile(r"((?:\w+=\S+ )*)dg launch (.+)")
Results = list[dg.ExecuteInProcessResult]


class Procedure:
    """The blocks of one section of the guide, done one after the other on a platform."""

    def __init__(self, platform: Platform, heading: str, history: Any = None) -> None:
        self.platform, self.history = platform, history or instance()
        [section] = re.findall(rf"^## {heading}\n((?:(?!## ).*\n)*)", GUIDE, re.M)
        found = re.findall(r"^ *```(\w+)(.*)\n((?:.*\n)*?) *```$", section, re.M)
        self.left = [(kind, dedent(text)) for kind, lacking, text in found if not lacking]

    def next(self, **replaced: str) -> Results:
        """Does the next block, in which some texts are others; returns its runs."""
        kind, text = self.left.pop(0)
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        if kind == "sql":
            for statement in text.strip().rstrip(";").split(";\n"):
                self.platform.change(statement)
            return []
        assert kind == "sh"
        if not LAUNCH.search(text):
            shell(text)
            return []
        runs = []
        for line in text.splitlines():
            if launched := LAUNCH.fullmatch(line):
                runs.append(self._launch(*launched.groups()))
            else:
                shell(line)
        return runs

    def _launch(self, variables: str, arguments: str) -> dg.ExecuteInProcessResult:
        platform = Platform(self.platform.folder, **self.platform.settings)
        if "sql" in vars(self.platform):
            platform.__dict__["sql"] = self.platform.sql
        for variable in variables.split():
            name, value = variable.split("=")
            platform.settings[name.removeprefix("SPARKIFY_").lower()] = value
        options = dict(zip(*[iter(shlex.split(arguments))] * 2, strict=True))
        config = json.loads(options.pop("--config-json", "null"))
        if assets := options.pop("--assets", None):
            return platform.run(assets, config=config)
        job = platform.defs().resolve_job_def(options.pop("--job"))
        assert not options
        return job.execute_in_process(
            instance=self.history, run_config=config, raise_on_error=False
        )


def shell(text: str) -> None:
    """Runs a text with the Python of the tests."""
    python = f'python() {{ "{sys.executable}" "$@"; }}\n'
    command = ["bash", "-ec", python + text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"


def succeeded(results: Results) -> Results:
    for result in results:
        assert result.success, failure_of(result)
        assert not failed_checks(result)
    return results


@pytest.fixture
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Platform:
    """What the guide writes of: `sparkify.duckdb`, or the stand-in, and files below `data/`."""
    if "either_engine" in request.fixturenames:
        platform: Platform = request.getfixturevalue("either_engine")
    else:
        platform = Platform(tmp_path)
    platform.warehouse = tmp_path / "sparkify.duckdb"
    platform.song_data, platform.log_data = tmp_path / "data/song_data", tmp_path / "data/log_data"
    platform.settings |= {
        "duckdb_path": Path("sparkify.duckdb"),
        "song_data": str(platform.song_data),
        "log_data": str(platform.log_data),
    }
    platform.song_data.parent.mkdir()
    return platform


def test_every_procedure_is_here() -> None:
    done = set(re.findall(r'Procedure\(\w+, "(.+?)"', Path(__file__).read_text()))
    assert done | {"Forget a user"} == set(HEADINGS)  # which test_forgetting.py does


def test_upgrade(made: Platform) -> None:
    """From a version with a table and a column less, and with another column of staging."""
    new = shutil.copytree(made.sql, made.folder / "new")
    made.edit("star/users.sql", "    gender VARCHAR(16), -- F or M\n", "")
    made.edit("star/users.sql", "last_name, gender, level", "last_name, level")
    made.edit("star/users.sql", "    latest.gender,\n", "")
    more = "    language VARCHAR(8), -- spoken\n    year INTEGER"
    made.edit("staging/staging_songs.sql", "    year INTEGER", more)
    (made.sql / "marts/plays_by_hour.sql").unlink()
    for check in made.sql.glob("checks/plays_by_hour__*"):
        check.unlink()
    succeeded([made.run("staging_songs", "staging_events", "repaired_text", "events", "users")])
    assert "gender" not in str(made.rows("DESCRIBE users"))
    shutil.rmtree(made.sql)
    new.rename(made.sql)
    procedure = Procedure(made, "Upgrade")
    succeeded(procedure.next())
    fresh = Platform(made.folder, **made.settings | {"duckdb_path": Path("fresh.duckdb")})
    succeeded([fresh.run()])
    fresh.warehouse = made.folder / "fresh.duckdb"
    assert contents(made) == contents(fresh)
    assert not procedure.left


def test_back_up_and_restore(made: Platform) -> None:
    """While runs write; what was deleted is in the free blocks of the warehouse alone."""
    zed = {"userId": "39", "firstName": "Zedediah", "sessionId": 9}
    made.write_events([zed] * 3, "zed.json")
    succeeded([made.run("staging_events")])
    (made.log_data / "zed.json").write_text("")
    succeeded([made.run()])
    procedure = Procedure(made, "Back up and restore")
    backup = made.folder / "backup.duckdb"
    with ThreadPoolExecutor() as threads:
        with duckdb.connect(str(made.warehouse)):
            copying = threads.submit(procedure.next)
            with pytest.raises(TimeoutError):
                copying.result(timeout=1.5)
        run = made.run("staging_events")
        copying.result()
    succeeded([run, *procedure.next()])
    assert b"Zedediah" in made.warehouse.read_bytes()
    assert b"Zedediah" not in backup.read_bytes()

    before = contents(made)
    made.write_events([{"sessionId": 10}], "later.json")
    succeeded([made.run("staging_events")])  # and is lost
    procedure.next()
    procedure.next()
    assert contents(made) == before
    succeeded(procedure.next())
    assert made.rows("SELECT COUNT(*) FROM sessions WHERE session_id = 10") == [(1,)]
    assert not procedure.left


def test_from_duckdb_to_redshift(redshift: RedshiftPlatform, tmp_path: Path) -> None:
    old = Platform(tmp_path)
    write_made_data(old)
    succeeded([forgotten(old)])
    redshift.settings |= {name: old.settings[name] for name in ("song_data", "log_data")}
    procedure = Procedure(redshift, "From DuckDB to Redshift")
    for _ in range(3):
        succeeded(procedure.next())
    assert contents(redshift) == contents(old)
    assert redshift.rows("SELECT COUNT(*) FROM users") == [(1,)]
    [(_, query)] = procedure.left
    query = query.rstrip().rstrip(";")
    assert len(old.rows(query)) == 1
    assert redshift.rows(query) == old.rows(query)


def forgotten(platform: Platform) -> dg.ExecuteInProcessResult:
    """A refresh that forgets user 8."""
    job = platform.defs().resolve_job_def("forget_user")
    return job.execute_in_process(instance=instance(), run_config={"user_id": 8})


def rewrite_users(platform: Platform, name: str, more: str = "") -> None:
    """Gives the table another last column, and the file as it was shipped if it has no name."""
    shutil.copy(SQL / "star/users.sql", platform.sql / "star/users.sql")
    if name:
        column = f"level VARCHAR(16), -- x\n    {name} VARCHAR(4) {more} -- y\n"
        platform.edit("star/users.sql", "level VARCHAR(16) --", column + "--")
        platform.edit("star/users.sql", "gender, level)", f"gender, level, {name})")
        initial = f"latest.level, SUBSTRING(latest.first_name, 1, 1) AS {name}\n"
        platform.edit("star/users.sql", "    latest.level\n", initial)


def test_add_rename_or_remove_a_column(either_engine: Platform, published: Platform) -> None:
    procedure = Procedure(published, "Add, rename or remove a column")
    *changes, recreate, build, _ = procedure.left
    published.change("CREATE VIEW seen AS SELECT user_id FROM users")
    for change, name in zip(changes, ("initial", "first_letter", ""), strict=True):
        procedure.left = [change, build]
        rewrite_users(published, name)
        if isinstance(published, RedshiftPlatform):
            procedure.next()
        else:
            del procedure.left[0]
        succeeded(procedure.next())
        columns = f"user_id, {name}" if name else "user_id, level"
        expected = ["A", "B"] if name else ["free", "paid"]
        found = published.rows(f"SELECT {columns} FROM users ORDER BY 1")
        assert found == [*zip((7, 8), expected, strict=True)]
    assert published.rows("SELECT COUNT(*) FROM seen") == [(2,)]

    rewrite_users(published, "initial", "NOT NULL")
    published.change("DROP VIEW seen")
    procedure.left = [recreate]
    succeeded(procedure.next())
    assert published.rows("SELECT initial FROM users ORDER BY 1") == [("A",), ("B",)]


def test_a_column_of_staging_whose_files_are_gone(made: Platform) -> None:
    succeeded([made.run("staging_events")])
    procedure = Procedure(made, "Add, rename or remove a column")
    del procedure.left[:-1]
    (made.log_data / "events.json").unlink()
    made.write_events([{"sessionId": 5, "country": "NO"}], "more.json")
    last = "REFERENCES load_history (object_id) -- object"
    column = last.replace(" -- object", ", -- object\n    country VARCHAR(64) -- where\n--")
    made.edit("staging/staging_events.sql", last, column)
    assert "their rows would be lost" in failure_of(made.run("staging_events"))
    procedure.next()
    succeeded([made.run("staging_events")])
    found = made.rows("SELECT sessionid, country FROM staging_events ORDER BY 1")
    assert found == [*[(1, None)] * 4, (2, None), (5, "NO")]


def test_add_rename_or_remove_a_table(published: Platform) -> None:
    (published.sql / "marts/plays_by_user.sql").write_text(NEW_TABLE)
    succeeded([published.run("plays_by_user")])
    tables = published.table_names()
    procedure = Procedure(published, "Add, rename or remove a table")
    procedure.next()
    succeeded(procedure.next())
    assert published.table_names() == tables - {"plays_by_user"}
    assert not procedure.left


def test_retract_a_bad_file(made: Platform) -> None:
    made.write_events([{"sessionId": 99, "userId": "9"}, {"ts": "soon"}], "bad.json")
    assert made.make("users").success
    procedure = Procedure(made, "Retract a bad file")
    succeeded(procedure.next())
    [(_, query)] = procedure.left
    assert [row[1:] for row in made.rows(query)] in ([], [(0, 0)])
    assert made.rows("SELECT COUNT(*) FROM users WHERE user_id = 9") == [(0,)]
    assert made.rows("SELECT COUNT(*) FROM rejected_records") == [(0,)]
    (made.log_data / "bad.json").unlink()
    succeeded([made.run("staging_events")])


def test_read_an_alert(made: Platform) -> None:
    procedure = Procedure(made, "Read an alert")
    (_, text), (_, query) = procedure.left
    made.edit("star/users.sql", "latest.user_id,", "NULLIF(latest.user_id, 7) AS user_id,")
    made.write_events([{"ts": "soon"}], "bad.json")
    with dg.DagsterInstance.ephemeral() as history:
        job = made.defs().resolve_job_def("refresh")
        job.execute_in_process(instance=history, raise_on_error=False)
        [run] = history.get_runs()
        said = alert_of(history, run, "https://dagster.example.com")
        assert said and run.run_id in said
    lines = said.replace(run.run_id, "RUN").splitlines()
    assert [line for line in lines if "staging_events" not in line] == text.splitlines()
    [(uri, line, column, *_)] = made.rows(query)
    assert (Path(uri).name, line, column) == ("bad.json", 1, "ts")


def test_a_run_that_hangs(made: Platform, capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import duckdb, signal, time; signal.signal(signal.SIGTERM, signal.SIG_DFL); "
        "signal.pthread_sigmask(signal.SIG_SETMASK, []); "  # whatever those of the tests are
        "c = duckdb.connect('sparkify.duckdb'); print(1); time.sleep(999)"
    )
    holder = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline()
    procedure = Procedure(made, "A run that hangs")
    [(_, waits), *procedure.left] = procedure.left
    impatient = {"path": "sparkify.duckdb", "lock_wait_seconds": 0.1}
    config = {"resources": {"warehouse": {"config": impatient}}}
    assert not made.run("staging_events", config=config).success
    said = capfd.readouterr().err
    pid = str(holder.pid)
    [program] = set(re.findall(rf"is open in process {pid} \((.+?)\)", said))
    assert re.sub(r"4711 \(.+\)", f"{pid} ({program})", waits.strip()) in said
    procedure.next(**{"4711": pid})
    assert holder.wait(timeout=PATIENCE) < 0
    holder.stdout.close()
    succeeded(procedure.next())
    assert not procedure.left


def test_disk_full(made: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, large = tmp_path / "disk", tmp_path / "large"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a disk, and not everywhere")
    try:
        monkeypatch.chdir(disk)
        succeeded([made.run("staging_events")])
        free = os.statvfs(disk)
        Path("filler").write_bytes(bytes(free.f_bavail * free.f_bsize))
        made.write_events([{"sessionId": n} for n in range(3_000)], "more.json")
        assert "No space left on device" in failure_of(made.run("staging_events"))
        procedure = Procedure(made, "Disk full")
        procedure.next()
        succeeded(procedure.next(**{"/mnt/large": str(large)}))
        assert not procedure.left
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["umount", str(disk)], check=True)
    with duckdb.connect(str(large / "sparkify.duckdb")) as moved:
        assert moved.execute("SELECT COUNT(*) FROM staging_events").fetchall() == [(3_005,)]


def test_lose_dagster(made: Platform, tmp_path: Path) -> None:
    """While a server has it open."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as history:
        procedure = Procedure(made, "Lose .dagster", history)
        job = made.defs().resolve_job_def("create_tables")
        assert job.execute_in_process(instance=history).success
        procedure.next()
        succeeded(procedure.next())
        assert [run.job_name for run in history.get_runs()] == ["refresh"]
    assert not procedure.left


def test_rebuild_from_nothing(made: Platform) -> None:
    succeeded([forgotten(made)])
    before = contents(made)
    procedure = Procedure(made, "Rebuild from nothing")
    for _ in range(4):
        succeeded(procedure.next())
    assert contents(made) == before
    assert (made.folder / "sparkify.duckdb.old").exists()
    assert not procedure.left
