"""How the cost of a refresh grows: with events, files, days of history, and tables in `sql/`.

    python benchmarks/growth.py events|files|days|tables [size ...] [--rounds 1]

Each size is measured cold, with one more day, and with nothing new, by the README's command. The
exponent is the slope of the least squares line through the logarithms: 0 is no growth, 1 is growth
in proportion. Some seconds of every refresh are Dagster's start, so the last column says what each
thousand more costs, by the line through the figures themselves.
"""

import argparse
import shutil
import statistics
from collections.abc import Sequence
from math import log
from os import link
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from tabulate import tabulate

from benchmarks.compare import EVENTS_A_DAY, STEPS, Cost, machine, refresh, write_data
from benchmarks.simulator import Plan
from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets_tests.processes import checkout

SIZES = {
    "events": [8_056, 80_560, 805_600],  # in 30 files, with 1,000 songs
    "files": [1_000, 4_000, 16_000, 64_000],  # of songs, with 8,056 events
    "days": [10, 30, 100, 300],  # of 8,056 events, with 1,000 songs
    "tables": [len(Catalog.load(SQL).assets), 50, 100, 200],  # with 8,056 events
}
COPIED = SQL / "marts" / "plays_by_day.sql"  # maintained by key


def plan_of(kind: str, size: int) -> Plan:
    """What to simulate; the last day is kept back."""
    if kind == "days":
        return Plan(1_000, EVENTS_A_DAY * (size + 1), size + 1)
    events = size if kind == "events" else EVENTS_A_DAY
    return Plan(size if kind == "files" else 1_000, events * 31 // 30, 31)


def measured(kind: str, size: int, data: Path) -> list[Cost]:
    """The three steps of a size, in a warehouse of its own."""
    later = data / "log_data" / "last.json"
    with TemporaryDirectory() as name:
        home = checkout(Path(name, "home"))
        if kind == "tables":
            (home / "sql").unlink()
            shutil.copytree(SQL, home / "sql")
            for number in range(size - SIZES[kind][0]):
                copy = f"{COPIED.stem}_{number}"
                text = COPIED.read_text().replace(COPIED.stem, copy)
                (home / "sql" / "marts" / f"{copy}.sql").write_text(text)
        costs = [refresh(home, data)]
        link(data / "last.json", later)
        costs += [refresh(home, data) for _ in STEPS[1:]]
        _check(home, data, size if kind == "tables" else SIZES["tables"][0])
        later.unlink()
        return costs


def _check(home: Path, data: Path, tables: int) -> None:
    """A cost is of no use if less was done than is said."""
    names = [t.name for t in Catalog.load(home / "sql").assets]
    files = [f for part in ("song_data", "log_data") for f in (data / part).rglob("*.json")]
    with duckdb.connect(home / "sparkify.duckdb", read_only=True) as warehouse:
        made = warehouse.execute("SELECT table_name FROM published_tables").fetchall()
        loaded = warehouse.execute("SELECT COUNT(*) FROM load_history").fetchall()[0][0]
    missing = set(names) - {name for (name,) in made}
    if len(names) != tables or missing or loaded != len(files):
        raise SystemExit(
            f"not measured: {len(names)} of {tables} tables asked for, {sorted(missing)} not made, "
            f"{loaded:,} of {len(files):,} files loaded"
        )


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Of the least squares line."""
    return statistics.linear_regression(sizes, costs).slope


def main() -> None:
    """Measures the sizes in turn, as often as asked, and prints medians and exponents."""
    parser = argparse.ArgumentParser(description="How the cost of a refresh grows.")
    parser.add_argument("kind", choices=SIZES)
    parser.add_argument("sizes", type=int, nargs="*")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    sizes: list[int] = sorted(given.sizes or SIZES[given.kind])
    found: dict[int, list[list[Cost]]] = {size: [] for size in sizes}
    with TemporaryDirectory() as name:
        for _ in range(given.rounds):
            for size in sizes:
                made = 0 if given.kind == "tables" else size
                data = Path(name, str(made))
                if not data.exists():
                    write_data(data, plan_of(given.kind, size))
                found[size].append(measured(given.kind, size, data))
                print(f"{given.kind} {size:,}: {[f'{c.seconds:.1f}' for c in found[size][-1]]}")
    values = {
        f"{step}, {field}": [
            statistics.median(getattr(costs[n], field) for costs in found[size]) for size in sizes
        ]
        for field in ("seconds", "cpu", "mebibytes")
        for n, step in enumerate(STEPS)
    }
    rows = []
    for label, costs in values.items():
        shown = [f"{cost:,.2f}" if cost < 100 else f"{cost:,.0f}" for cost in costs]
        exponent = slope([log(size) for size in sizes], [log(cost) for cost in costs])
        rows.append([label, *shown, f"{exponent:.2f}", f"{slope(sizes, costs) * 1_000:.3g}"])
    headers = [given.kind, *map("{:,}".format, sizes), "exponent", "each 1,000 more"]
    print(f"\n{machine()}\n\n{tabulate(rows, headers, tablefmt='github', disable_numparse=True)}")


if __name__ == "__main__":
    main()
