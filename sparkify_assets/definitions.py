"""Builds the Dagster definitions from settings and `sql/`."""

import sys
import warnings
from pathlib import Path

import dagster as dg

from sparkify_assets.alerts import alerts
from sparkify_assets.assets import (
    derived_asset,
    no_forgotten_user,
    report_asset,
    source_asset,
    staging_asset,
)
from sparkify_assets.automation import UPSTREAM_CHANGED, changed_tables, daily_refresh, new_files
from sparkify_assets.catalog import Catalog
from sparkify_assets.console import readable
from sparkify_assets.errors import SparkifyError
from sparkify_assets.export import export_asset
from sparkify_assets.freshness import newest_event, refreshed_within
from sparkify_assets.jobs import all_jobs
from sparkify_assets.settings import Settings
from sparkify_assets.sources import sources_of
from sparkify_assets.warehouse import warehouse_of

PACKAGE = Path(__file__).parent
# beside the package in a checkout, inside it in a wheel
SQL = PACKAGE / "sql" if (PACKAGE / "sql").is_dir() else PACKAGE.parent / "sql"
OWNERS = ["team:data-platform"]

# of Dagster's about its own code, such as that behind `dg launch --assets group:star`
warnings.filterwarnings("ignore", category=dg.BetaWarning, module="dagster")


def build_defs(*, settings: Settings, sql: Path = SQL) -> dg.Definitions:
    """The definitions for these settings and this folder of SQL files.

    Raises:
        SparkifyError: a setting or a file is wrong.
    """
    catalog, sources, warehouse = Catalog.load(sql), sources_of(settings), warehouse_of(settings)
    share = settings.max_rejected_share
    assets: list[dg.AssetSpec | dg.AssetsDefinition] = [
        *(source_asset(source) for source in sources.values()),
        *(
            staging_asset(table, catalog, sources, target=warehouse, share=share)
            for table in catalog.staging
        ),
        *(derived_asset(table, catalog, target=warehouse) for table in catalog.derived),
        report_asset(catalog, settings.report_path),
    ]
    if settings.export_path:
        assets.append(export_asset(catalog, settings.export_path))
    is_on, hours = settings.automation, settings.max_age_hours

    def operated(spec: dg.AssetSpec) -> dg.AssetSpec:
        spec = spec.replace_attributes(owners=OWNERS)
        if hours and spec.group_name in ("staging", "marts"):
            spec = spec.replace_attributes(freshness_policy=refreshed_within(hours))
        if spec.group_name not in ("source", "staging"):
            spec = spec.replace_attributes(automation_condition=UPSTREAM_CHANGED)
        return spec

    return dg.Definitions(
        assets=dg.map_asset_specs(operated, assets),
        asset_checks=[
            no_forgotten_user(catalog),
            *([newest_event(catalog, hours)] if hours else []),
        ],
        sensors=[new_files(sources, is_on=is_on), changed_tables(is_on=is_on), *alerts(settings)],
        schedules=[daily_refresh(settings)],
        jobs=all_jobs(catalog),
        resources={"warehouse": warehouse},
        loggers={"readable": readable, "console": dg.colored_console_logger},
        executor=dg.in_process_executor,  # DuckDB allows one writer; and steps start at once
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The entry point of `dg` and `dagster`, for the settings of the environment."""
    try:
        own = build_defs(settings=Settings.from_environment())
        if not any(file.name[0] != "_" for file in (PACKAGE / "defs").iterdir()):
            return own  # loading an empty folder takes Dagster most of a second
        return dg.Definitions.merge(own, dg.load_from_defs_folder(path_within_project=PACKAGE))
    except SparkifyError:
        sys.tracebacklimit = 0  # a traceback would hide the message
        raise
