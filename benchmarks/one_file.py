"""From one large log file to the audited answer: seconds, and the most memory at any moment.

    python benchmarks/one_file.py [scale] [folder]

Scale 1 is some 8,000 events, 400 some 3.2 million (1.4 GB), 3,250 some 26 million (12 GB, as the
largest public log). Files go into a temporary folder (in the one named, if any), which needs room
for the file and about as much again. The load is the README's command, with every check on.
"""

import resource
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.simulator import Plan, write_event_files, write_song_files
from sparkify_assets_tests.processes import checkout, start

BYTES_AN_EVENT = 450


def main(scale: float = 400, below: str | None = None) -> None:
    """Writes the file, loads it in a process of its own, and says what both took."""
    plan = Plan.of_scale(scale, days=63)
    with TemporaryDirectory(dir=below) as name:
        folder, needed = Path(name), 2 * plan.events * BYTES_AN_EVENT
        if shutil.disk_usage(folder).free < needed:
            raise SystemExit(f"{folder} has not the {needed / 1e9:.0f} GB that this needs")
        started = time.perf_counter()
        write_song_files(folder / "song_data", plan)
        written = write_event_files(folder / "log_data", plan, one_file=True)
        print(f"{written.bytes / 1e9:.2f} GB written in {time.perf_counter() - started:.0f} s")

        started = time.perf_counter()
        load = start(
            checkout(folder / "home"),
            "dg launch --job refresh",
            output=sys.stdout,
            SPARKIFY_SONG_DATA=str(folder / "song_data"),
            SPARKIFY_LOG_DATA=str(folder / "log_data"),
        )
        failed = load.wait()
        seconds = time.perf_counter() - started
        gibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        with next((folder / "log_data").glob("*.json")).open("rb") as file:
            lines = sum(1 for _ in file)
    outcome = f"failed with {failed}" if failed else "loaded and audited"
    print(f"{lines:,} lines {outcome} in {seconds:.0f} s, at most {gibibytes:.2f} GiB of memory")


if __name__ == "__main__":
    main(*[kind(text) for kind, text in zip((float, str), sys.argv[1:], strict=False)])
