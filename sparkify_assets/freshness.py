"""Freshness: how old the last refresh (a Dagster policy) and the newest event (a check) may be."""

from datetime import UTC, datetime, timedelta
from typing import cast

import dagster as dg

from sparkify_assets.catalog import Catalog
from sparkify_assets.failures import user_errors_as_failures
from sparkify_assets.publishing import require
from sparkify_assets.warehouse.base import Session, Warehouse

EVENTS, TIME = "events", "ts"  # a table, and its timestamp column


def refreshed_within(hours: float) -> dg.FreshnessPolicy:
    """A table is fresh if it was refreshed in the last hours, even without new data."""
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours))


def newest_event(catalog: Catalog, hours: float) -> dg.AssetChecksDefinition:
    """The check that warns if there was no event in the last hours."""
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
        said = f"the newest event is {age:,.1f} hours old; the limit is {hours:g}"
        if age > hours:
            context.log.warning(f"{table.name}: {said}")
        return dg.AssetCheckResult(
            passed=age <= hours,
            severity=dg.AssetCheckSeverity.WARN,
            description=said,
            metadata={"newest_event": dg.MetadataValue.timestamp(newest), "age_hours": age},
        )

    return newest_event
