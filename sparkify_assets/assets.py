"""Turns sources, tables and the report into Dagster assets.

`publishing.py` writes, audits and publishes a table; `presentation.py` describes it to Dagster.
"""

import time
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from sparkify_assets import report
from sparkify_assets.catalog import MARTS, Catalog
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.failures import user_errors_as_failures
from sparkify_assets.forgetting import find_forgotten
from sparkify_assets.formats import counted
from sparkify_assets.loading import prepared_load
from sparkify_assets.maintenance import Scope, Upkeep, removed_tables
from sparkify_assets.presentation import (
    check_specs,
    load_metadata,
    log_load,
    table_spec,
    table_value,
)
from sparkify_assets.publishing import PublishConfig, Results, evaluate, publish, require
from sparkify_assets.sources.base import Source
from sparkify_assets.tables import Table
from sparkify_assets.text_repair import repair
from sparkify_assets.values import verify_readable
from sparkify_assets.warehouse.base import Session, Warehouse
from sparkify_assets.warehouse.landing import insert_rows, landing_for


class LoadConfig(PublishConfig):
    """How a staging table is loaded."""

    prefix: str = Field("", description="load only this folder of the source, such as 2018/11")
    full_reload: bool = Field(
        False, description="forget everything loaded, and load what the source holds now"
    )
    forget_user: int | None = Field(
        None, description="the id of a user: delete their records, and never load them again"
    )


def source_asset(source: Source) -> dg.AssetSpec:
    """The files of a source, as an external asset."""
    return dg.AssetSpec(
        source.name,
        group_name="source",
        kinds=source.kinds,
        description=source.description,
        metadata={"dagster/uri": source.uri},
    )


def staging_asset(
    table: Table, catalog: Catalog, sources: dict[str, Source], *, target: Warehouse, share: float
) -> dg.AssetsDefinition:
    """A table that is loaded from a source; `share` of a load's records may be rejected.

    Raises:
        SparkifyError: its file names no known source, or a type that JSON cannot be read into.
    """
    source = sources.get(table.source or "")
    if source is None:
        raise SparkifyError(
            f"{table.path}: loaded from {table.source}: expected one of {', '.join(sources)}"
        )
    verify_readable(table)

    @dg.multi_asset(
        name=table.name,
        specs=[table_spec(table, [source.name], target)],
        check_specs=check_specs(table),
        can_subset=True,
    )
    def load(
        context: dg.AssetExecutionContext, config: LoadConfig, warehouse: Warehouse
    ) -> Results:
        if not context.selected_asset_keys:
            yield from evaluate(context, warehouse, catalog, table)
            return
        options = config.model_dump(exclude={*PublishConfig.model_fields}) | {
            "max_rejected_share": share,
            "run_id": context.run.run_id,
            "log": context.log.info,
        }
        with (
            user_errors_as_failures(context),
            prepared_load(warehouse, catalog, table, source, **options) as staging,
        ):

            def write(session: Session, upkeep: Upkeep) -> tuple[dict[str, Any], str]:
                done = staging.write(session, upkeep)
                log_load(context, table, done)
                return load_metadata(done), done.version

            yield from publish(context, warehouse, catalog, table, write, config)

    return load


def derived_asset(table: Table, catalog: Catalog, *, target: Warehouse) -> dg.AssetsDefinition:
    """A table made from other tables, by its INSERT or by repairing their texts."""
    names = set(table.upstream)
    if names & {ledger.name for ledger in catalog.ledgers}:
        names |= {staging.name for staging in catalog.staging}  # their loads write the ledgers
    # in build order, so that an error names the first missing one
    parents = [t for t in catalog.tables.values() if t.name in names and t in catalog.assets]

    @dg.multi_asset(
        name=table.name,
        specs=[table_spec(table, [parent.name for parent in parents], target)],
        check_specs=check_specs(table),
        can_subset=True,
        # a table whose rows the run shows is built last
        op_tags={"dagster/priority": "-1"} if table.shown_rows else None,
    )
    def build(
        context: dg.AssetExecutionContext, config: PublishConfig, warehouse: Warehouse
    ) -> Results:
        if not context.selected_asset_keys:
            yield from evaluate(context, warehouse, catalog, table)
            return

        def write(session: Session, upkeep: Upkeep) -> tuple[dict[str, Any], None]:
            if upkeep.scope is Scope.NOTHING:
                return {}, None
            for parent in parents:
                why = f"{table.name} is made from it"
                require(session, parent, why, rows=not parent.may_be_empty)
            if table.suspects:
                suspect, damaged = _repair_texts(session, table, upkeep)
                return {"texts_suspect": suspect, "texts_damaged": damaged}, None
            upkeep.build()
            return {}, None

        yield from publish(context, warehouse, catalog, table, write, config)

    return build


def _repair_texts(session: Session, table: Table, upkeep: Upkeep) -> tuple[int, int]:
    """Fills a table with the repairs of suspect texts; returns how many are suspect and damaged."""
    found = session.rows(upkeep.on_stale_part(table.suspects or ""))
    suspects = {text for row in found for text in row.values()}
    if upkeep.scope is Scope.PART:
        suspects -= {row["raw_text"] for row in session.rows(f"SELECT raw_text FROM {table.name}")}
    else:
        session.empty(table)
    upkeep.changed_nothing_below()  # rows with new texts are new themselves, and noted as such
    damaged = [(text, repaired) for text in suspects if (repaired := repair(text)) != text]
    with landing_for([table]) as landing:
        insert_rows(landing.connection, table, damaged)
        session.insert(landing)
    return len(suspects), len(damaged)


def report_asset(catalog: Catalog, path: Path) -> dg.AssetsDefinition:
    """The listening report: one HTML file, made last; it does not need marts it does not draw."""
    needed = [t for t in catalog.assets if t.layer != MARTS or t.name in report.READS]

    @dg.asset(
        deps=[table.name for table in needed if table.layer == MARTS],
        op_tags={"dagster/priority": "-2"},
        group_name="report",
        kinds={"html"},
        description="What is played most, when, where and by whom, and how reliable the figures "
        "are: one HTML page that works offline.",
    )
    def listening_report(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        started = time.monotonic()

        def read(session: Session) -> tuple[report.ReportData, list[str]]:
            for table in needed:
                why = "listening_report shows it"
                require(session, table, why, rows=not table.may_be_empty)
            shown = [t for t in catalog.assets if t in needed or session.shape(t) == ""]
            return report.ReportData.read(session, catalog, shown), removed_tables(session, catalog)

        with user_errors_as_failures(context):
            label = f"listening_report {context.run.run_id}"
            data, removed = warehouse.in_transaction(read, label, read_only=True)
            page = report.page_of(data)
            report.write(page, path)
        file = path.resolve()
        context.log.info(
            f"listening_report: {printable(str(file))}, {time.monotonic() - started:.2f} s"
        )
        if removed:
            context.log.warning(
                f"no file in sql/ for {', '.join(removed)}: still in {warehouse.address}, but no "
                "longer refreshed. To drop: dg launch --job drop_removed_tables"
            )
        return dg.MaterializeResult(
            metadata={
                **({"tables_without_a_file": ", ".join(removed)} if removed else {}),
                "path": dg.MetadataValue.path(str(file)),
                "link": dg.MetadataValue.url(file.as_uri()),
                "bytes": len(page.encode()),
                "Most played songs": table_value(
                    report.only(data.rows["most_played_songs"], *report.SONG)
                ),
            }
        )

    return listening_report


def no_forgotten_user(catalog: Catalog) -> dg.AssetChecksDefinition:
    """The check of the report, the last of a run, that no table contains a forgotten user."""

    @dg.asset_check(
        asset="listening_report",
        description="No column of any table contains a user of forgotten_users.",
    )
    def no_forgotten_user(
        context: dg.AssetCheckExecutionContext, warehouse: Warehouse
    ) -> dg.AssetCheckResult:
        with user_errors_as_failures(context):
            listed, places = warehouse.in_transaction(
                lambda session: find_forgotten(session, catalog),
                "no_forgotten_user",
                read_only=True,
            )
        said = f"{counted(listed, 'forgotten user')}, found in {', '.join(places) or 'no table'}"
        if places:
            context.log.warning(f"{said}. Run a refresh; if that does not help, the job rebuild.")
        return dg.AssetCheckResult(passed=not places, description=said)

    return no_forgotten_user
