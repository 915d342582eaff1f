"""What a day costs: loading it after many days, against loading it into an empty warehouse.

    python benchmarks/incremental.py [days] [rounds]

Prints the median duration of the step `staging_events` (listing, reading, checks, commit), and how
many objects it read. The last line is a step that finds nothing new.
"""

import statistics
import sys
from pathlib import Path
from shutil import copy, copytree
from tempfile import TemporaryDirectory

import dagster as dg

from benchmarks.simulator import Plan, write_event_files
from sparkify_assets.definitions import build_defs
from sparkify_assets.settings import Settings

EVENTS_A_DAY = 270  # as in the real files


def load(warehouse: Path, log_data: Path) -> tuple[float, int]:
    """Materializes staging_events: seconds of the step, and objects read."""
    settings = Settings(duckdb_path=warehouse, song_data="unused", log_data=str(log_data))
    result = (
        build_defs(settings=settings)
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(asset_selection=[dg.AssetKey("staging_events")])
    )
    [done] = result.asset_materializations_for_node("staging_events")
    [step] = [e for e in result.all_events if e.event_type_value == "STEP_SUCCESS"]
    objects = done.metadata["objects_read"].value
    assert isinstance(objects, int)
    return step.step_success_data.duration_ms / 1000, objects


def main(days: int = 365, rounds: int = 5) -> None:
    """Alternates the ways, so that what else the machine does meets all alike."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        history, day = folder / "history", folder / "day"
        write_event_files(history, Plan(events=days * EVENTS_A_DAY, days=days))
        *_, last = sorted(history.rglob("*.json"))
        (day / last.relative_to(history).parent).mkdir(parents=True)
        last.rename(day / last.relative_to(history))
        print(f"the first {days - 1:,} days: {load(folder / 'loaded.duckdb', history)}")
        copytree(day, history, dirs_exist_ok=True)
        seconds: dict[str, list[tuple[float, int]]] = {}
        for number in range(rounds):
            warehouse = folder / f"{number}.duckdb"
            copy(folder / "loaded.duckdb", warehouse)
            for way, where, files in (
                (f"one day after {days - 1:,}", warehouse, history),
                ("one day into an empty warehouse", folder / f"{number}-empty.duckdb", day),
                (f"nothing new after {days:,} days", warehouse, history),
            ):
                seconds.setdefault(way, []).append(load(where, files))
        for way, found in seconds.items():
            times = [time for time, _ in found]
            print(
                f"{way}: {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f}), "
                f"objects read: {found[0][1]}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
