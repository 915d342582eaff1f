"""Real processes that tests start, and kill: the README's commands and its server, and forks.

Commands and servers run as in a fresh checkout, of a user whose home holds nothing but the setting
that keeps `dg` from printing a paragraph about telemetry when it first runs.
"""

import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, TypeVar

from sparkify_assets.definitions import PACKAGE, SQL

T = TypeVar("T")
ROOT = PACKAGE.parent
PATIENCE = 600  # seconds: it comes much sooner, but the machine may be slow and busy

# Processes fork from one that has imported all that a run needs.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["sparkify_assets_tests.preload"])


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Returns the first answer of the probe that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := probe():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


@contextmanager
def process(
    work: Callable[..., None], *arguments: object
) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that has said it is ready, and a pipe to it; at the end it is gone."""
    here, there = CONTEXT.Pipe()
    child = CONTEXT.Process(target=work, args=(*arguments, there), daemon=True)
    child.start()
    there.close()
    try:
        here.recv()
        yield child, here
    finally:
        child.kill()
        child.join()
        here.close()


def checkout(folder: Path) -> Path:
    """Makes a folder with the project's settings and none of its data, and a home in it.

    Its runs and code servers may take as long to start as a slow and busy machine needs.
    """
    folder.mkdir()
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    settings = (ROOT / "dagster.yaml").read_text()
    settings = re.sub(r"(start_timeout_seconds:) \d+", rf"\1 {PATIENCE}", settings)
    settings += f"code_servers: {{local_startup_timeout: {PATIENCE}}}\n"
    (folder / "dagster.yaml").write_text(settings)
    for part in (PACKAGE, SQL):
        (folder / part.name).symlink_to(part)
    config = folder / ".home" / ".config" / "dg.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[cli.telemetry]\nenabled = false\n")
    return folder


def _listen_to_terminal() -> None:
    """Lets a closed terminal end this process, even where the tests run under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def environment_of(folder: Path) -> dict[str, str]:
    """What a user of a checkout has set, of whom nothing is known here but that."""
    foreign = ("SPARKIFY_", "DAGSTER_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["HOME"] = str(folder / ".home")
    environment["DAGSTER_GRPC_TIMEOUT_SECONDS"] = str(PATIENCE)
    return environment


def start(
    folder: Path, command: str, output: int | IO[str] = subprocess.PIPE, **variables: Any
) -> subprocess.Popen[str]:
    """Starts a command of this Python's environment; stderr is part of what is printed."""
    return subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=environment_of(folder) | variables,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that all it starts can be told to end
        preexec_fn=_listen_to_terminal,
        text=True,
    )


def run(folder: Path, command: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    started = start(folder, command, **variables)
    said, _ = started.communicate()
    return subprocess.CompletedProcess(command, started.returncode, said)


def run_dg(folder: Path, arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `dg` to its end in a fork: all but its start, which takes a second and a half."""
    output = folder / "dg.txt"
    environment = environment_of(folder) | variables
    child = CONTEXT.Process(target=_be_dg, args=(folder, arguments, environment, output))
    child.start()
    child.join()
    assert child.exitcode is not None
    return subprocess.CompletedProcess(arguments, child.exitcode, output.read_text())


def _be_dg(folder: Path, arguments: str, environment: dict[str, str], output: Path) -> None:
    from dagster_dg_cli.cli import main

    with output.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["dg", *shlex.split(arguments)]
    main()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Server:
    """A `dg dev` in a folder of its own, and what it answers to GraphQL."""

    url: str
    folder: Path
    process: subprocess.Popen[str]

    def ask(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=PATIENCE) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def is_ready(self) -> bool:
        with suppress(OSError):
            return bool(self.ask("{ assetNodes { id } }")["assetNodes"])
        return False

    def statuses(self) -> dict[str, str]:
        runs = self.ask("{ runsOrError { ... on Runs { results { runId status } } } }")
        return {run["runId"]: run["status"] for run in runs["runsOrError"]["results"]}

    def end(self, *signals: signal.Signals) -> None:
        """Sends the signals, one after the other, to all processes of the server that are left."""
        for signum in signals:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signum)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=60)


@contextmanager
def dagster_dev(folder: Path, command: str = "dg dev") -> Iterator[Server]:
    """The server of a checkout; what it says is in its `output.txt`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command += f" --host 127.0.0.1 --port {port}"
    with (folder / "output.txt").open("a") as output:
        url = f"http://127.0.0.1:{port}"
        server = Server(url, folder, start(folder, command, output, SPARKIFY_UI_URL=url))
    try:
        wait_for(command, lambda: server.process.poll() is not None or server.is_ready())
        assert server.process.poll() is None, f"{command} has ended"
        yield server
    finally:
        server.end(signal.SIGTERM, signal.SIGKILL)  # asked first; then whoever is left
        print((folder / "output.txt").read_text())  # which pytest shows if a test fails
