"""Wires everything together for Dagster, and sets the owners and the executor."""

import sys
from pathlib import Path

import dagster as dg

from sparkify_assets.assets import derived_asset, report_asset, source_asset, staging_asset
from sparkify_assets.automation import audit, create_tables, rebuild, refresh
from sparkify_assets.catalog import Catalog
from sparkify_assets.console import readable
from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import Settings
from sparkify_assets.sources import sources_of
from sparkify_assets.warehouse import warehouse_of

PACKAGE = Path(__file__).parent
# beside the package in a checkout, inside it in a wheel
SQL = PACKAGE / "sql" if (PACKAGE / "sql").is_dir() else PACKAGE.parent / "sql"
OWNERS = ["team:data-platform"]


def build_defs(*, settings: Settings, sql: Path = SQL) -> dg.Definitions:
    """Definitions for these settings and a folder of tables: used by the server and by tests."""
    catalog, sources, warehouse = Catalog.load(sql), sources_of(settings), warehouse_of(settings)
    share, kind = settings.max_rejected_share, warehouse.kind
    assets: list[dg.AssetSpec | dg.AssetsDefinition] = [
        *(source_asset(source) for source in sources.values()),
        *(
            staging_asset(table, catalog, sources, kind=kind, max_rejected_share=share)
            for table in catalog.staging
        ),
        *(derived_asset(table, catalog, kind=kind) for table in catalog.derived),
        report_asset(catalog, settings.report_path),
    ]
    return dg.Definitions(
        assets=dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=OWNERS), assets),
        jobs=[refresh, audit, rebuild(catalog), create_tables(catalog)],
        resources={"warehouse": warehouse},
        loggers={"readable": readable, "console": dg.colored_console_logger},
        executor=dg.in_process_executor,  # one writer per DuckDB file, and no process start a step
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster dev` and `dg` load, for the settings of the environment."""
    try:
        return build_defs(settings=Settings.from_environment())
    except SparkifyError:
        sys.tracebacklimit = 0  # the message says all that the user needs; a traceback hides it
        raise
