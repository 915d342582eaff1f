"""The service as `compose.yaml` starts it: its commands and health checks, on a real PostgreSQL.

There is no container: hosts are this one, ports are free ones, and folders are the test's. All else
is read out of `compose.yaml` and `deploy/`.
"""

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from shlex import join
from typing import Any

import duckdb
import pytest
import yaml

from benchmarks.simulator import Plan, write_song_files
from sparkify_assets_tests.dockerfile import stages
from sparkify_assets_tests.processes import PATIENCE, ROOT, Server, run, start, wait_for
from sparkify_assets_tests.redshift_postgres import programs

PASSWORD = "pass: word/1"
POSTGRES = """
    exec > "$2/log" 2>&1
    "$1/initdb" -D "$2/data" -U dagster -A scram-sha-256 --pwfile="$2/password" --no-sync
    "$1/postgres" -D "$2/data" -k "$2" -p "$3" -F -c listen_addresses=127.0.0.1 &
    postgres=$!
    read -r _
    kill -INT $postgres
    wait $postgres
    rm -rf "$2"
"""
LAUNCH = """mutation($job: String!, $assets: [AssetKeyInput!]) {
    launchRun(executionParams: {selector: {repositoryLocationName: "sparkify_assets",
        repositoryName: "__repository__", jobName: $job, assetSelection: $assets}}) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
WAITS = {"poll_interval_seconds: 10": "poll_interval_seconds: 1"}
WAITS |= {
    f"{w}_timeout_seconds: 120": f"{w}_timeout_seconds: {PATIENCE}" for w in ("start", "cancel")
}


def free_ports(number: int) -> list[int]:
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for free in found:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in found]


@contextmanager
def postgres(port: int) -> Iterator[None]:
    """A PostgreSQL that asks for a password; it ends with this process, however it ends."""
    folder = Path(tempfile.mkdtemp(prefix="service-", dir="/tmp"))
    (folder / "password").write_text(PASSWORD)
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        nobody = pwd.getpwnam("nobody")
        for path in (folder, folder / "password"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    command = ["sh", "-c", POSTGRES, "sh", str(programs(folder, owner)), str(folder), str(port)]
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, cwd="/", start_new_session=True, **owner
    )
    try:
        wait_for("PostgreSQL", (folder / f".s.PGSQL.{port}").exists)
        yield
    finally:
        started.communicate()


class Service:
    """The services of `compose.yaml` that are ours, as processes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        database, code, web = free_ports(3)
        self.database = database
        home = folder / "dagster"
        home.mkdir(parents=True)
        words = {
            "/opt/dagster": str(home),
            "/opt/sparkify": sys.prefix,
            "0.0.0.0": "127.0.0.1",
            "4000": str(code),
            "3000": str(web),
        }

        def here(text: str) -> str:
            for word, other in words.items():
                text = text.replace(word, other)
            return text

        for name in ("dagster.yaml", "workspace.yaml"):
            text = here((ROOT / "deploy" / name).read_text())
            for wait, other in WAITS.items():
                text = text.replace(wait, other)
            (home / name).write_text(text)
        self.services = yaml.safe_load(here((ROOT / "compose.yaml").read_text()))["services"]
        places = {
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(database),
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
            "DAGSTER_POSTGRES_DB": "postgres",
            "DAGSTER_CODE_HOST": "127.0.0.1",
            "TMPDIR": str(folder),
        }
        image = stages(here((ROOT / "Dockerfile").read_text()))[-1].variables
        self.variables = {
            name: image | service["environment"] | places for name, service in self.services.items()
        }
        self.url = f"http://127.0.0.1:{web}"
        self.ports = {"code": code, "web": web}

    @contextmanager
    def up(self, name: str) -> Iterator[Server]:
        """A service that is healthy, as its own check says."""
        with (self.folder / f"{name}.txt").open("a") as output:
            command = join(self.services[name]["command"])
            process = start(self.folder, command, output, **self.variables[name])
        server = Server(self.url, self.folder, process)
        try:
            wait_for(f"a healthy {name}", partial(self.is_healthy, name, process))
            yield server
        finally:
            server.end(signal.SIGTERM, signal.SIGKILL)
            print((self.folder / f"{name}.txt").read_text())

    def is_healthy(self, name: str, process: subprocess.Popen[str]) -> bool:
        assert process.poll() is None, f"{name} has ended"
        with socket.socket() as probe:  # a check takes seconds, so it is not made too early
            if name in self.ports and probe.connect_ex(("127.0.0.1", self.ports[name])):
                return False
        if name == "daemon" and "following daemons" not in (self.folder / "daemon.txt").read_text():
            return False
        check = self.services[name]["healthcheck"]["test"]
        assert check[0] == "CMD"
        return run(self.folder, join(check[1:]), **self.variables[name]).returncode == 0


def launch(web: Server, job: str, *assets: str) -> str:
    """Launches a run as the UI does: of some of a job's assets, if they are named."""
    selection = [{"path": [name]} for name in assets] or None
    launched: str = web.ask(LAUNCH, job=job, assets=selection)["launchRun"]["run"]["runId"]
    return launched


@pytest.mark.faults
def test_what_is_launched_is_run_and_what_dies_is_in_nobodys_way(tmp_path: Path) -> None:
    service = Service(tmp_path)
    write_song_files(tmp_path / "song_data", Plan(songs=20))
    (tmp_path / "log_data").mkdir()
    service.variables["code"] |= {
        f"SPARKIFY_{n}_DATA": f"{n.lower()}_data" for n in ("SONG", "LOG")
    }
    with ExitStack() as stack:
        stack.enter_context(postgres(service.database))
        code = stack.enter_context(service.up("code"))
        web = stack.enter_context(service.up("web"))
        stack.enter_context(service.up("daemon"))

        def wait_until(run_id: str, status: str) -> None:
            wait_for(f"{run_id} to be {status}", lambda: web.statuses()[run_id] == status)

        wait_until(launch(web, "refresh", "staging_songs"), "SUCCESS")
        with duckdb.connect(str(tmp_path / "sparkify.duckdb")) as holder:
            assert holder.sql("SELECT COUNT(*) FROM staging_songs").fetchall() == [(20,)]
            died = launch(web, "create_tables")
            last = launch(web, "create_tables")
            wait_until(died, "STARTED")
            code.end(signal.SIGKILL)
        stack.enter_context(service.up("code"))
        wait_until(last, "SUCCESS")
        assert web.statuses()[died] == "FAILURE"
        said = (tmp_path / "daemon.txt").read_text()
        assert "dagster.daemon - " in said
        assert "currently in progress" not in said  # it would each second

        *_, loop = service.services["retention"]["command"]
        command = loop.replace(" 90;", " 0; break;")
        done = run(tmp_path, join(["sh", "-c", command]), **service.variables["retention"])
        assert (done.returncode, done.stdout) == (0, "3 runs deleted\n")
        assert web.statuses() == {}
    assert {p.name for p in (tmp_path / "dagster").iterdir()} == {"dagster.yaml", "workspace.yaml"}
