"""Write, audit, publish: how every table is replaced, in one transaction of its own.

The table is written, and every audit that its file asks for runs on what was written. If a blocking
check fails, the transaction is rolled back: readers keep the table as it was, each check is
recorded with its count and samples, and nothing downstream runs. Otherwise the table is committed,
and its materialization is recorded together with the results of its checks.

What a table holds is the business of `sql/`, how an engine stores it of `warehouse/`, and what an
audit is of `audit.py`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sparkify_assets.audit import AuditResult, audits_of, run_audits
from sparkify_assets.catalog import Catalog, Table
from sparkify_assets.errors import SparkifyError
from sparkify_assets.presentation import (
    check_results,
    log_failed_checks,
    table_value,
    user_errors_as_failures,
)
from sparkify_assets.warehouse.base import Row, Session, ShapeDiffers, Warehouse
from sparkify_assets.wording import counted, launch_command, text_table

PREVIEW_ROWS = 5

# Writes a table in a session; returns its metadata, and its data version if it has its own.
Write = Callable[[Session], tuple[dict[str, Any], str | None]]
Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


@dataclass(frozen=True)
class Published:
    """A table as a transaction published it."""

    results: list[AuditResult]
    rows: int
    preview: list[Row]
    metadata: dict[str, Any]
    version: str | None


class AuditFailed(Exception):
    """A blocking audit found violations: it rolls the transaction back."""

    def __init__(self, results: list[AuditResult]) -> None:
        super().__init__()
        self.results = results


def publish(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    table: Table,
    write: Write,
    *,
    recreate: bool,
) -> Results:
    """Writes, audits and publishes a table; yields what Dagster records of it.

    `recreate` lets it drop the table where that has another shape than its file declares.
    """
    started = time.monotonic()

    def write_and_audit(session: Session) -> Published:
        metadata, version = write(session)
        results = run_audits(session, audits_of(table))
        if any(not r.passed and r.audit.blocking for r in results):
            raise AuditFailed(results)
        session.publish(table)
        preview = session.first(table, table.shown_rows or PREVIEW_ROWS)
        return Published(results, session.count(table.name), preview, metadata, version)

    with user_errors_as_failures():
        try:
            label = f"{table.name} {context.run.run_id}"
            published = warehouse.in_transaction(write_and_audit, label, recreate=recreate)
        except AuditFailed as failed:
            yield from check_results(context, table, failed.results)
            broken = [r for r in failed.results if not r.passed and r.audit.blocking]
            found = " ".join(result.sentence for result in broken)
            remedies = " ".join(result.audit.remedy for result in broken)
            raise SparkifyError(
                f"{table.name} was not published. {found} It is unchanged in {warehouse.address}, "
                f"and nothing downstream was touched. {remedies}".rstrip()
            ) from None
        except ShapeDiffers as difference:
            raise SparkifyError(
                f"{difference}. To recreate it, which drops the grants on it: "
                f"{launch_command(table.name, recreate=True)}"
            ) from None
    log_failed_checks(context, table, published.results)
    passed = sum(result.passed for result in published.results)
    context.log.info(
        f"{table.name}: {counted(published.rows, 'row')}, {passed} of {len(published.results)} "
        f"checks passed, {time.monotonic() - started:.2f} s"
    )
    if table.shown_rows:
        context.log.info(f"{table.name}:\n\n{text_table(published.preview)}\n")
    # yielded before the commit, results would belong to the materialization before this one
    yield dg.MaterializeResult(
        asset_key=table.name,
        metadata={
            "dagster/row_count": published.rows,
            "preview": table_value(published.preview),
            **published.metadata,
        },
        check_results=list(check_results(context, table, published.results)),
        data_version=dg.DataVersion(published.version) if published.version else None,
    )


def evaluate(
    context: dg.AssetExecutionContext, warehouse: Warehouse, catalog: Catalog, table: Table
) -> Results:
    """Evaluates the selected checks on the published table, and writes nothing."""
    selected = {key.name for key in context.selected_asset_check_keys}

    def audit(session: Session) -> list[AuditResult]:
        for name in {table.name, *table.upstream}:
            require(session, catalog.tables[name], f"the checks of {table.name} read it")
        return run_audits(session, [a for a in audits_of(table) if a.name in selected])

    with user_errors_as_failures():
        label = f"{table.name} {context.run.run_id}"
        results = warehouse.in_transaction(audit, label, read_only=True)
    log_failed_checks(context, table, results)
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
