"""Write, audit, publish: how every table is brought up to date, in one transaction of its own.

What of the table is stale is written, and every audit that its file asks for runs on what was
written. If a blocking check fails, the transaction is rolled back: readers keep the table as it
was, each check is recorded with its count and samples, and nothing downstream runs. Otherwise the
table is committed, and its materialization is recorded together with the results of its checks. A
table of which nothing is stale is left alone, and its materialization says since when.

What is stale is the business of `maintenance.py`, what a table holds of `sql/`, how an engine
stores it of `warehouse/`, and what an audit is of `audit.py`.
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
from sparkify_assets.maintenance import Scope, Upkeep, forget, recorded
from sparkify_assets.presentation import (
    check_results,
    code_version,
    column_lineage,
    log_failed_checks,
    table_value,
    user_errors_as_failures,
)
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Session, ShapeDiffers, Warehouse
from sparkify_assets.wording import as_text, counted, launch_command, text_table

PREVIEW_ROWS = 5

# Writes what is stale of a table; returns its metadata, and its data version if it has its own.
Write = Callable[[Session, Upkeep], tuple[dict[str, Any], str | None]]
Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


class PublishConfig(dg.Config):
    """How a table is published."""

    rebuild: bool = Field(
        False, description="make and audit all rows again, not only those that are stale"
    )
    recreate: bool = Field(
        False,
        description="drop the table, with the grants on it, where its file declares another shape "
        "(Redshift; DuckDB has no grants to lose, and needs no asking)",
    )


@dataclass(frozen=True)
class Published:
    """A table as a transaction published it, or left it as it was `since` a time, UTC."""

    results: list[AuditResult]
    rows: int
    preview: list[Row]
    metadata: dict[str, Any]
    version: str | None
    since: datetime | None


class AuditFailed(Exception):
    """A blocking audit found violations: it rolls the transaction back."""

    def __init__(self, results: list[AuditResult]) -> None:
        super().__init__()
        self.results = results


def publish(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    catalog: Catalog,
    table: Table,
    write: Write,
    config: PublishConfig,
) -> Results:
    """Writes, audits and publishes a table; yields what Dagster records of it.

    Args:
        context: of the step that does it.
        warehouse: where the table is.
        catalog: all tables.
        table: a staging or derived table.
        write: writes what is stale of it, in the transaction.
        config: of this run.
    """
    started = time.monotonic()

    def write_and_audit(session: Session, *, rebuild: bool = config.rebuild) -> Published:
        upkeep = Upkeep(session, catalog, table, code_version, rebuild=rebuild)
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
            # somebody changed the rows, and they are made again
            return write_and_audit(session, rebuild=True)
        preview = session.first(table, table.shown_rows or PREVIEW_ROWS)
        rows = upkeep.record(results, preview, is_audit=is_due or upkeep.scope is Scope.ALL)
        return Published(results, rows, preview, metadata, version, since)

    with user_errors_as_failures(context):
        try:
            label = f"{table.name} {context.run.run_id}"
            published = warehouse.in_transaction(write_and_audit, label, recreate=config.recreate)
        except AuditFailed as failed:
            yield from check_results(context, table, failed.results)
            broken = [r for r in failed.results if not r.passed and r.audit.blocking]
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
    since = f" unchanged since {as_text(published.since)} UTC" if published.since else ""
    context.log.info(
        f"{table.name}:{since} {counted(published.rows, 'row')}, {passed} of "
        f"{len(published.results)} checks passed, {time.monotonic() - started:.2f} s"
    )
    if table.shown_rows:
        answer = [{name: row[name] for name in table.shown_columns} for row in preview]
        context.log.info(f"{table.name}, its first rows:\n\n{text_table(answer)}\n")
    # yielded before the commit, results would belong to the materialization before this one
    yield dg.MaterializeResult(
        asset_key=table.name,
        metadata={
            "dagster/row_count": published.rows,
            "preview": table_value(preview),
            **({"unchanged_since": as_text(published.since)} if published.since else {}),
            **({} if table.source else column_lineage(table, catalog)),
            **(
                {row[table.primary_key[0]]: row[table.plots] for row in preview}
                if table.plots
                else {}
            ),
            **published.metadata,
        },
        check_results=list(check_results(context, table, published.results)),
        data_version=dg.DataVersion(published.version) if published.version else None,
    )


def _passed(
    session: Session, table: Table, audits: Sequence[Audit], earlier: list[AuditResult]
) -> list[AuditResult]:
    """The results of audits, and earlier ones of others, unless a blocking one failed."""
    found = {result.audit.name: result for result in [*earlier, *run_audits(session, audits)]}
    # what ran on a part is shown as the query that anyone can run
    shown = [audit for audit in audits_of(table) if audit.name in found]
    results = [replace(found[audit.name], audit=audit) for audit in shown]
    if any(not result.passed and result.audit.blocking for result in results):
        raise AuditFailed(results)
    return results


def evaluate(
    context: dg.AssetExecutionContext, warehouse: Warehouse, catalog: Catalog, table: Table
) -> Results:
    """Evaluates the selected checks on the published table, and writes nothing."""
    selected = {key.name for key in context.selected_asset_check_keys}
    label = f"{table.name} {context.run.run_id}"

    def audit(session: Session) -> list[AuditResult]:
        for name in {table.name, *table.upstream}:
            require(session, catalog.tables[name], f"the checks of {table.name} read it")
        return run_audits(session, [a for a in audits_of(table) if a.name in selected])

    def begin_anew(session: Session) -> None:
        if all(session.shape(book) == "" for book in catalog.maintenance):
            forget(session, f"= '{table.name}'")

    with user_errors_as_failures(context):
        results = warehouse.in_transaction(audit, label, read_only=True)
    log_failed_checks(context, table, results)
    passed = sum(result.passed for result in results)
    context.log.info(f"{table.name}: {passed} of {len(results)} checks passed on all rows")
    if any(not result.passed and result.audit.blocking for result in results):
        with user_errors_as_failures(context):  # the next run is not to call it unchanged
            warehouse.in_transaction(begin_anew, label)
    yield from check_results(context, table, results)


def require(session: Session, table: Table, why: str, *, rows: bool = False) -> None:
    """Makes sure that a table that is about to be read is there, with `rows` not empty either.

    Raises:
        SparkifyError: it says `why` the table is needed, and which asset to materialize first.
    """
    difference = session.shape(table)
    if difference is None:
        problem = "does not exist yet"
    elif difference:
        problem = f"is not as {table.path.name} declares it: {difference}"
    elif rows and not session.count(table.name):
        problem = "is empty"
    else:
        return
    raise SparkifyError(
        f"{table.name} {problem}, and {why}. Materialize it first: dg launch --assets {table.name} "
        "(everything: dg launch --job refresh)"
    )
