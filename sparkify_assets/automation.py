"""The jobs that people and schedulers start."""

from typing import Any

import dagster as dg

from sparkify_assets.catalog import Catalog
from sparkify_assets.console import readable
from sparkify_assets.errors import SparkifyError
from sparkify_assets.warehouse.base import Session, Warehouse

READABLE: dict[str, Any] = {"loggers": {"readable": {}}}

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    config=READABLE,
    description="Everything: loads what is new, rebuilds, checks and publishes every table.",
)


def create_tables(catalog: Catalog) -> dg.JobDefinition:
    """The job that creates the tables that are missing."""

    @dg.op(required_resource_keys={"warehouse"})
    def create_missing_tables(context: dg.OpExecutionContext) -> None:
        warehouse: Warehouse = context.resources.warehouse

        def create_missing(session: Session) -> list[str]:
            created = []
            for table in catalog.tables.values():
                difference = session.shape(table)
                if difference is None:
                    session.create(table)
                    created.append(table.name)
                elif difference:
                    context.log.warning(f"{table.name} is left as it is: {difference}")
            return created

        try:
            created = warehouse.in_transaction(create_missing, "create_tables")
        except SparkifyError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(
            f"{warehouse.address}: created {', '.join(created) or 'nothing'}; "
            f"{len(catalog.tables) - len(created)} tables were there already"
        )

    return dg.GraphDefinition(
        "create_tables",
        node_defs=[create_missing_tables],
        description="Creates the tables that are missing, empty, and touches no other.",
    ).to_job(config=READABLE, logger_defs={"readable": readable})
