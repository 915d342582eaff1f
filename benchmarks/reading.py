"""What reading costs: seconds, seconds of CPU and peak memory for a folder of event or song files.

    python benchmarks/reading.py FOLDER [staging_songs]

Fetches and reads, and writes nothing into a warehouse. Compare ratios of runs in turn.
"""

import os
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.loading import prepared_load
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse


def main(folder: Path, name: str = "staging_events") -> None:
    """Reads a folder and says what it cost."""
    catalog = Catalog.load(SQL)
    table = catalog.tables[name]
    source = FolderSource(table.source or "", "SPARKIFY_LOG_DATA", folder.absolute())
    options = {"max_rejected_share": 1, "run_id": "benchmark", "log": print}
    with TemporaryDirectory() as place:
        warehouse = DuckDBWarehouse(path=f"{place}/empty.duckdb")
        started, cpu = time.monotonic(), sum(os.times()[:2])
        with prepared_load(warehouse, catalog, table, source, **options) as load:
            seconds, cpu = time.monotonic() - started, sum(os.times()[:2]) - cpu
            rows = load.landing.connection.execute(f"SELECT COUNT(*) FROM {name}").fetchall()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rows[0][0]:,} rows: {seconds:.2f} s, {cpu:.2f} s of CPU, peak {peak:,.0f} MiB")


main(Path(sys.argv[1]), *sys.argv[2:])
