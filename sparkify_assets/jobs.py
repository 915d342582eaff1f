"""The jobs that people and schedulers start; `automation.py` has what starts by itself."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from sparkify_assets.catalog import Catalog
from sparkify_assets.console import readable
from sparkify_assets.failures import user_errors_as_failures
from sparkify_assets.formats import counted
from sparkify_assets.maintenance import removed_tables
from sparkify_assets.warehouse.base import Session, Warehouse

READABLE: dict[str, Any] = {"loggers": {"readable": {}}}
# the UI lists a job's runs by this tag, and `dg launch` does not set it
LISTED = {".dagster/repository": "__repository__@sparkify_assets"}


def _asset_job(
    name: str, description: str, selection: dg.AssetSelection | None = None, config: Any = READABLE
) -> Any:
    return dg.define_asset_job(name, selection, config, description, LISTED)


refresh = _asset_job(
    "refresh", "Everything: loads new files, then updates, checks and publishes every table."
)


def all_jobs(catalog: Catalog) -> list[Any]:
    """Every job, configured for the tables of the catalog."""

    @dg.config_mapping(config_schema={"user_id": int})
    def of_user(config: dict[str, Any]) -> dict[str, Any]:
        forget = {"forget_user": config["user_id"]}
        return _configured({table.name: forget for table in catalog.staging if table.person})

    return [
        refresh,
        _asset_job(
            "audit",
            "Audits every row of every published table, and changes nothing.",
            dg.AssetSelection.all_asset_checks(),
        ),
        _asset_job(
            "rebuild",
            "Loads new files, then rebuilds, audits and publishes every table as a whole.",
            config=_configured({table.name: {"rebuild": True} for table in catalog.assets}),
        ),
        _asset_job(
            "reload",
            "Forgets everything loaded, loads what the sources hold now, and refreshes.",
            config=_configured({table.name: {"full_reload": True} for table in catalog.staging}),
        ),
        _asset_job(
            "forget_user",
            "Deletes everything about a user, and never loads them again.",
            config=of_user,
        ),
        *_warehouse_jobs(catalog),
    ]


def _configured(options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return READABLE | {"ops": {name: {"config": config} for name, config in options.items()}}


def _warehouse_jobs(catalog: Catalog) -> list[dg.JobDefinition]:
    """The jobs that create and drop tables."""

    def job(work: Callable[[Session], str], description: str) -> dg.JobDefinition:
        name = work.__name__

        @dg.op(name=f"{name}_now")
        def do(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
            with user_errors_as_failures(context):
                done = warehouse.in_transaction(work, name)
            context.log.info(f"{warehouse.address}: {done}")

        graph = dg.GraphDefinition(name, node_defs=[do], description=description)
        return graph.to_job(config=READABLE, tags=LISTED, logger_defs={"readable": readable})

    def create_tables(session: Session) -> str:
        missing = [t for t in catalog.tables.values() if session.shape(t) is None]
        for table in missing:
            session.create(table)
        created = ", ".join(table.name for table in missing) or "nothing"
        there = counted(len(catalog.tables) - len(missing), "table")
        return f"created {created}; {there} existed already"

    def drop_removed_tables(session: Session) -> str:
        removed = removed_tables(session, catalog)
        for name in removed:
            session.drop(name)
            session.execute("DELETE FROM published_tables WHERE table_name = ?", [name])
        return f"dropped {', '.join(removed) or 'nothing'}"

    return [
        job(create_tables, "Creates missing tables, empty, and touches no other."),
        job(drop_removed_tables, "Drops tables published here whose file in sql/ is gone."),
    ]
