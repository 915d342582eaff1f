"""The jobs that people and schedulers start."""

from typing import Any

import dagster as dg

from sparkify_assets.catalog import Catalog
from sparkify_assets.console import readable
from sparkify_assets.presentation import user_errors_as_failures
from sparkify_assets.warehouse.base import Session, Warehouse

READABLE: dict[str, Any] = {"loggers": {"readable": {}}}

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    config=READABLE,
    description="Everything: loads what is new, rebuilds, checks and publishes every table.",
)

audit = dg.define_asset_job(
    "audit",
    selection=dg.AssetSelection.all_asset_checks(),
    config=READABLE,
    description="Audits every row of every published table, and changes none.",
)


def rebuild(catalog: Catalog) -> Any:
    """The job that makes every row of the derived tables again, whatever is known of them."""
    everything = {table.name: {"config": {"rebuild": True}} for table in catalog.assets}
    return dg.define_asset_job(
        "rebuild",
        selection=dg.AssetSelection.all(),
        config=READABLE | {"ops": everything},
        description="Loads what is new, and makes, audits and publishes every table as a whole.",
    )


def create_tables(catalog: Catalog) -> dg.JobDefinition:
    """The job that creates the tables that are missing."""

    @dg.op
    def create_missing_tables(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
        def create_missing(session: Session) -> list[str]:
            missing = [t for t in catalog.tables.values() if session.shape(t) is None]
            for table in missing:
                session.create(table)
            return [table.name for table in missing]

        with user_errors_as_failures():
            created = warehouse.in_transaction(create_missing, "create_tables")
        context.log.info(
            f"{warehouse.address}: created {', '.join(created) or 'nothing'}; "
            f"{len(catalog.tables) - len(created)} tables were there already"
        )

    return dg.GraphDefinition(
        "create_tables",
        node_defs=[create_missing_tables],
        description="Creates the tables that are missing, empty, and touches no other.",
    ).to_job(config=READABLE, logger_defs={"readable": readable})
