"""Write, audit, publish: updates each table in one transaction of its own.

The stale rows are written and audited. If a blocking check fails, the transaction rolls back:
readers keep the old table, the checks run so far are recorded with counts and samples, nothing
downstream runs, and the step fails with a message made of their sentences. Otherwise it commits,
then records the materialization with its check results. A table without stale rows is left alone.
`maintenance.py` decides what is stale.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from sparkify_assets.audit import Audit, AuditResult, audits_of, run_audits
from sparkify_assets.catalog import Catalog
from sparkify_assets.errors import SparkifyError
from sparkify_assets.failures import user_errors_as_failures
from sparkify_assets.formats import as_text, counted, launch_command, text_table
from sparkify_assets.maintenance import Scope, Upkeep, distrust, recorded
from sparkify_assets.presentation import (
    check_results,
    column_lineage,
    log_failed_checks,
    table_value,
)
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Session, ShapeDiffers, Warehouse

PREVIEW_ROWS = 5

# Writes the stale rows of a table; returns metadata, and a data version if the table has its own.
Write = Callable[[Session, Upkeep], tuple[dict[str, Any], str | None]]
Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


class PublishConfig(dg.Config):
    """How a table is published."""

    rebuild: bool = Field(False, description="rebuild and audit all rows, not only stale ones")
    recreate: bool = Field(
        False,
        description="on Redshift: drop the table, with its grants, if its columns changed (on "
        "DuckDB this happens unasked: there are no grants to lose)",
    )


@dataclass(frozen=True)
class Published:
    """A table as published, or as left unchanged `since` a time in UTC."""

    results: list[AuditResult]
    rows: int
    preview: list[Row]
    metadata: dict[str, Any]
    version: str | None
    since: datetime | None


class AuditFailed(Exception):
    """A blocking audit found violations; rolls the transaction back. Its argument: all results."""


def publish(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    catalog: Catalog,
    table: Table,
    write: Write,
    config: PublishConfig,
) -> Results:
    """Writes, audits and publishes a staging or derived table, and yields the results.

    Raises:
        dg.Failure: a blocking check failed, or the table could not be written.
    """
    started = time.monotonic()

    def write_and_audit(session: Session, *, rebuild: bool = config.rebuild) -> Published:
        upkeep = Upkeep(session, catalog, table, rebuild=rebuild)
        metadata, version = write(session, upkeep)
        last, is_due = upkeep.last, upkeep.is_audit_due(warehouse.audit_days)
        since = last["published_at"] if last and upkeep.scope is Scope.NOTHING else None
        if last and since and not is_due:
            results, preview = recorded(table, last)
            return Published(results, last["row_count"], preview, metadata, version, since)
        before, after = upkeep.audits(is_due=is_due)
        results = _passed(session, table, before, [])
        upkeep.publish()
        try:
            results = _passed(session, table, after, results)
        except AuditFailed:
            if since is None or table.source:
                raise
            return write_and_audit(session, rebuild=True)  # someone changed the rows by hand
        preview = session.first(table, table.shown_rows or PREVIEW_ROWS)
        rows = upkeep.record(results, preview, is_audit=is_due or upkeep.scope is Scope.ALL)
        return Published(results, rows, preview, metadata, version, since)

    with user_errors_as_failures(context):
        try:
            label = f"{table.name} {context.run.run_id}"
            published = warehouse.in_transaction(write_and_audit, label, recreate=config.recreate)
        except AuditFailed as failed:
            [results] = failed.args
            yield from check_results(context, table, results)
            broken = [r for r in results if not r.passed and r.audit.blocking]
            found = " ".join(result.sentence for result in broken)
            remedies = " ".join(result.audit.remedy for result in broken)
            raise SparkifyError(
                f"{table.name} was not published. It is unchanged in {warehouse.address}, and "
                "nothing downstream was touched.",
                f" {found} {remedies}".rstrip(),
            ) from None
        except ShapeDiffers as difference:
            raise SparkifyError(
                f"{difference}. To recreate it, which drops the grants on it: "
                f"{launch_command(table.name, recreate=True)}"
            ) from None
    preview = published.preview
    log_failed_checks(context, table, published.results)
    passed = sum(result.passed for result in published.results)
    since = f" unchanged since {as_text(published.since)} UTC," if published.since else ""
    context.log.info(
        f"{table.name}:{since} {counted(published.rows, 'row')}, {passed} of "
        f"{len(published.results)} checks passed, {time.monotonic() - started:.2f} s"
    )
    if table.shown_rows:
        answer = [{name: row[name] for name in table.shown_columns} for row in preview]
        context.log.info(f"{table.name}, its first rows:\n\n{text_table(answer)}\n")
    # check results yielded before this would attach to the previous materialization
    yield dg.MaterializeResult(
        asset_key=table.name,
        metadata={
            "dagster/row_count": published.rows,
            "preview": table_value(preview),
            **({"unchanged_since": as_text(published.since)} if published.since else {}),
            **({} if table.source else column_lineage(table, catalog)),
            **{
                as_text(row[table.primary_key[0]]): row[table.plots]
                for row in preview
                if table.plots
            },
            **published.metadata,
        },
        check_results=list(check_results(context, table, published.results)),
        data_version=dg.DataVersion(published.version) if published.version else None,
    )


def _passed(
    session: Session, table: Table, audits: Sequence[Audit], earlier: list[AuditResult]
) -> list[AuditResult]:
    """Earlier results and those of these audits; raises AuditFailed if a blocking one failed."""
    found = {result.audit.name: result for result in [*earlier, *run_audits(session, audits)]}
    # an audit of some rows is shown with its query over all rows, which users can run
    shown = [audit for audit in audits_of(table) if audit.name in found]
    results = [replace(found[audit.name], audit=audit) for audit in shown]
    if any(not result.passed and result.audit.blocking for result in results):
        raise AuditFailed(results)
    return results


def evaluate(
    context: dg.AssetExecutionContext, warehouse: Warehouse, catalog: Catalog, table: Table
) -> Results:
    """Evaluates the selected checks on the published table without changing it."""
    selected = {key.name for key in context.selected_asset_check_keys}
    label = f"{table.name} {context.run.run_id}"

    def audit(session: Session) -> list[AuditResult]:
        for read in catalog.tables.values():  # in build order: an error names the first
            if read is table or read.name in table.upstream:
                require(session, read, f"the checks of {table.name} read it")
        return run_audits(session, [a for a in audits_of(table) if a.name in selected])

    def rebuild_next_time(session: Session) -> None:
        if all(session.shape(book) == "" for book in catalog.maintenance):
            distrust(session, f"= '{table.name}'")

    with user_errors_as_failures(context):
        results = warehouse.in_transaction(audit, label, read_only=True)
    log_failed_checks(context, table, results)
    passed = sum(result.passed for result in results)
    context.log.info(f"{table.name}: {passed} of {len(results)} checks passed on all rows")
    if any(not result.passed and result.audit.blocking for result in results):
        with user_errors_as_failures(context):
            warehouse.in_transaction(rebuild_next_time, label)
    yield from check_results(context, table, results)


def require(session: Session, table: Table, why: str, *, rows: bool = False) -> None:
    """Raises SparkifyError if a table is missing or outdated or, with `rows`, empty.

    The error says `why` the table is needed, and which asset to materialize first.
    """
    difference = session.shape(table)
    if difference is None:
        problem = "does not exist yet"
    elif difference:
        problem = f"differs from its file: {difference}"
    elif rows and not session.count(table.name):
        problem = "is empty"
    else:
        return
    raise SparkifyError(
        f"{table.name} {problem}, and {why}. Materialize it first: dg launch --assets {table.name} "
        "(everything: dg launch --job refresh)"
    )
