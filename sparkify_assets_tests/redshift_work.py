"""A load and a publish on Redshift, each in a transaction of its own, and what they leave."""

from typing import Any

import sqlfluff

from sparkify_assets.findings import Load
from sparkify_assets.loading import prepared_load
from sparkify_assets.maintenance import Upkeep
from sparkify_assets.settings import Settings
from sparkify_assets.sources import sources_of
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets.warehouse.base import Session
from sparkify_assets.warehouse.redshift import RedshiftWarehouse
from sparkify_assets_tests.platform import (
    RedshiftPlatform,
)
from sparkify_assets_tests.s3_server import S3Server

WORK = "work/sparkify/"


def warehouse(platform: RedshiftPlatform) -> RedshiftWarehouse:
    found = warehouse_of(Settings(**platform.settings))
    assert isinstance(found, RedshiftWarehouse)
    return found


def load(platform: RedshiftPlatform, into: RedshiftWarehouse | None = None) -> Load:
    """Loads the events in a transaction of their own."""
    catalog = platform.catalog
    source = sources_of(Settings(**platform.settings))["event_files"]
    table, into = catalog.tables["staging_events"], into or warehouse(platform)
    with prepared_load(
        into, catalog, table, source, max_rejected_share=1, run_id="run", log=print
    ) as prepared:

        def work(session: Session) -> Load:
            upkeep = Upkeep(session, catalog, table, rebuild=False)
            done = prepared.write(session, upkeep)
            session.publish(table)
            return done

        return into.in_transaction(work, "staging_events run")


def publish(platform: RedshiftPlatform, into: RedshiftWarehouse | None = None) -> None:
    """Builds and publishes the users in a transaction of their own."""
    tables = platform.catalog.tables
    table, events = tables["users"], tables["events"]

    def work(session: Session) -> None:
        session.ensure(events)
        session.build(table)
        session.publish(table)

    (into or warehouse(platform)).in_transaction(work, "users run")


def state(platform: RedshiftPlatform) -> dict[str, list[tuple[Any, ...]]]:
    """All that others see, but for when and by which run it was loaded."""
    found = {}
    for name in sorted(platform.table_names()):
        rows = platform.rows(f"SELECT * FROM {name}")
        cut = -2 if name == "load_history" else None
        found[name] = sorted((row[:cut] for row in rows), key=repr)
    return found


def work_files(s3: S3Server) -> list[str]:
    return s3.names(WORK)


def sent(platform: RedshiftPlatform) -> list[str]:
    return [statement.sql for statement in platform.server.statements]


# --- What is sent ----------------------------------------------------------------------------


def is_redshift_sql(sql: str) -> bool:
    """Whether a second parser, sqlfluff's, knows it as Redshift's."""
    return "unparsable" not in str(sqlfluff.parse(sql, dialect="redshift"))
