"""How old the data may be: by the last refresh, which Dagster watches, and by the newest event."""

from datetime import UTC, datetime, timedelta
from typing import cast

import dagster as dg

from sparkify_assets.catalog import Catalog
from sparkify_assets.presentation import user_errors_as_failures
from sparkify_assets.publishing import require
from sparkify_assets.warehouse.base import Session, Warehouse

EVENTS = "events"  # the table of which column
TIME = "ts"  # says when something happened


def refreshed_within(hours: float) -> dg.FreshnessPolicy:
    """A table is fresh if it was refreshed in the last hours, whether or not anything was new."""
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours))


def newest_event(catalog: Catalog, hours: float) -> dg.AssetChecksDefinition:
    """The check that something happened in the last hours: it warns."""
    table = catalog.tables[EVENTS]

    @dg.asset_check(
        asset=table.name,
        description=f"The newest event is at most {hours:g} hours old (SPARKIFY_MAX_AGE_HOURS).",
    )
    def newest_event(
        context: dg.AssetCheckExecutionContext, warehouse: Warehouse
    ) -> dg.AssetCheckResult:
        def read(session: Session) -> datetime:
            require(session, table, "its newest event is looked up", rows=True)
            [row] = session.rows(f"SELECT MAX({TIME}) AS newest FROM {EVENTS}")
            return cast(datetime, row["newest"])

        with user_errors_as_failures(context):
            newest = warehouse.in_transaction(read, "newest_event", read_only=True)
        newest = newest.replace(tzinfo=UTC)
        age = (datetime.now(UTC) - newest) / timedelta(hours=1)
        said = f"the newest event is {age:,.1f} hours old, and {hours:g} are allowed"
        if age > hours:
            context.log.warning(f"{table.name}: {said}")
        return dg.AssetCheckResult(
            passed=age <= hours,
            severity=dg.AssetCheckSeverity.WARN,
            description=said,
            metadata={"newest_event": dg.MetadataValue.timestamp(newest), "age_hours": age},
        )

    return newest_event
