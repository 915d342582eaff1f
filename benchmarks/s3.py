"""Many small objects from S3: all at once as the platform reads them, against one after the other.

    python benchmarks/s3.py [songs] [milliseconds until S3 answers]

Both ways load the same objects into an empty warehouse, from moto's S3 in a process of its own. One
after the other is the same code with one connection. moto itself answers some 300 requests a
second, whatever their number at once; Amazon's S3 takes some ten milliseconds or more for each, and
any number at once: the second argument adds that.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

SERVER = """
import sys, time
from pathlib import Path
from sparkify_assets_tests.s3_server import S3Server
server = S3Server()
server.latency = float(sys.argv[2]) / 1000
root = Path(sys.argv[1])
for path in root.rglob("*.json"):
    server.put(str(path.relative_to(root)), path.read_bytes())
print(server.url, flush=True)
time.sleep(100_000)
"""


def load(folder: Path, connections: int) -> float:
    """Seconds that a load of staging_songs takes."""
    from sparkify_assets.catalog import Catalog
    from sparkify_assets.definitions import SQL
    from sparkify_assets.loading import prepared_load
    from sparkify_assets.sources import s3
    from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
    from sparkify_assets_tests.test_loading import written

    s3.CONNECTIONS = connections  # type: ignore[attr-defined]
    catalog = Catalog.load(SQL)
    source = s3.S3Source("song_files", "-", "sparkify-data", "song_data", False)
    warehouse = DuckDBWarehouse(path=str(folder / f"{connections}.duckdb"))
    with prepared_load(
        warehouse,
        catalog,
        catalog.tables["staging_songs"],
        source,
        max_rejected_share=0,
        run_id="benchmark",
        log=print,
    ) as load:
        return written(load, warehouse).seconds


def main(songs: int = 14_896, milliseconds: float = 0) -> None:
    """Writes the song files, serves them, loads them both ways."""
    from benchmarks.simulator import Plan, write_song_files
    from sparkify_assets.s3_access import CONNECTIONS
    from sparkify_assets_tests.s3_server import environment

    with TemporaryDirectory() as name:
        folder = Path(name)
        write_song_files(folder / "song_data", Plan(songs=songs))
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, name, str(milliseconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout
            os.environ.update(environment(server.stdout.readline().strip()))
            started = time.monotonic()
            for connections in (CONNECTIONS, 1):
                seconds = load(folder, connections)
                print(f"{songs:,} objects, {connections} at once: {seconds:.1f} s")
        finally:
            server.kill()
    print(f"in all {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
