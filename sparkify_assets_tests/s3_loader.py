"""A warehouse that event files are loaded into from S3, without Dagster."""

import json
from pathlib import Path
from typing import Any

from sparkify_assets.catalog import Catalog
from sparkify_assets.definitions import SQL
from sparkify_assets.findings import Load
from sparkify_assets.loading import prepared_load
from sparkify_assets.sources.base import Source
from sparkify_assets.sources.s3 import S3Source
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse
from sparkify_assets_tests.duckdb_file import attached
from sparkify_assets_tests.s3_server import (
    BUCKET,
)
from sparkify_assets_tests.test_loading import event, written


def lines(*numbers: int, text: str = "") -> str:
    return "".join(json.dumps(event(n)) + "\n" for n in numbers) + text


def source(folder: str = "log_data", bucket: str = BUCKET) -> S3Source:
    return S3Source("event_files", "SPARKIFY_LOG_DATA", bucket, folder, anonymous=False)


def keys(folder: str = "log_data", prefix: str = "") -> list[str]:
    return [o.uri.removeprefix(f"s3://{BUCKET}/") for o in source(folder).objects(prefix)]


class Loader:
    """A warehouse that event files are loaded into from S3."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.duckdb"
        self.said: list[str] = []

    def load(self, origin: Source | None = None, prefix: str = "") -> Load:
        catalog = Catalog.load(SQL)
        warehouse = DuckDBWarehouse(path=str(self.path))
        with prepared_load(
            warehouse,
            catalog,
            catalog.tables["staging_events"],
            origin or source(),
            max_rejected_share=1,
            prefix=prefix,
            run_id="run",
            log=self.said.append,
        ) as load:
            return written(load, warehouse)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with attached(self.path) as connection:
            return connection.execute(sql).fetchall()

    def events(self) -> list[int]:
        return [n for (n,) in self.query("SELECT sessionId FROM staging_events ORDER BY 1")]

    def is_empty(self) -> bool:
        return not self.path.exists() or self.query("SELECT * FROM duckdb_tables()") == []
