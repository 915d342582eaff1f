"""Turns tables into Dagster assets with their checks, and sources into the roots of the graph.

Every table is one asset that is written, audited and published in one transaction; one function
does so for staging tables and derived tables alike. What a table holds is said in `sql/`, how it
is stored in `warehouse/`, what is proved about it in `audit.py`, and how all that is shown in
`presentation.py`.
"""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from sparkify_assets import simulator
from sparkify_assets.audit import AuditResult, audits_of, run_audits
from sparkify_assets.catalog import Catalog, Table
from sparkify_assets.console import counted, text_table
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.loading import prepared_load
from sparkify_assets.presentation import (
    OWNERS,
    check_results,
    check_specs,
    load_metadata,
    log_load,
    log_warnings,
    spec_of,
    table_value,
)
from sparkify_assets.sources.base import Source
from sparkify_assets.sources.folder import FolderSource
from sparkify_assets.text_repair import repair_table
from sparkify_assets.values import verify_readable
from sparkify_assets.warehouse.base import Row, Session, Warehouse

MARTS = "marts"
PREVIEW_ROWS = 5
SOURCES = {
    "song_files": "JSON files of the song catalogue, one record a file.",
    "event_files": "JSON files of the activity log, one file a day, one record a line.",
}
SAMPLE_NOTE = " Made-up sample data; SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA name your own files."
SAMPLE_WRITERS = {
    "song_files": simulator.write_song_files,
    "event_files": simulator.write_event_files,
}

# Writes a table in a session; returns metadata about it, and its data version if it has its own.
Write = Callable[[Session], tuple[dict[str, Any], str | None]]
Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


@dataclass(frozen=True)
class Published:
    """A table as a transaction published it; `version` is its data version, if it has its own."""

    results: list[AuditResult]
    rows: int
    preview: list[Row]
    metadata: dict[str, Any]
    version: str | None


class AuditFailed(Exception):
    """A blocking audit found violations: rolls the transaction back, and carries what was found.

    `kept` is how many rows the table had before, None where there was no table.
    """

    def __init__(self, results: list[AuditResult], kept: int | None) -> None:
        super().__init__()
        self.results = results
        self.kept = kept


class PublishConfig(dg.Config):
    """How a table is published."""

    recreate: bool = Field(
        False,
        description="drop the table where its file changed shape, with the grants that were on it "
        "(Redshift; on DuckDB nothing is lost with it, and it needs no asking)",
    )


class LoadConfig(PublishConfig):
    """How a staging table is loaded."""

    prefix: str = Field(
        "", description="a folder of the source, such as 2018/11: load only what is in it"
    )
    full_reload: bool = Field(
        False, description="forget all that was loaded, and load what the source holds now"
    )


def source_asset(source: Source, sample_scale: float) -> dg.AssetsDefinition | dg.AssetSpec:
    """The files of a source: made by this asset for the sample data, external otherwise."""
    spec = dg.AssetSpec(
        source.name,
        group_name="source",
        kinds={"json"} if isinstance(source, FolderSource) else {"json", "s3"},
        owners=OWNERS,
        description=SOURCES[source.name] + (SAMPLE_NOTE if source.is_sample else ""),
        metadata={"dagster/uri": source.uri},
    )
    if not (source.is_sample and isinstance(source, FolderSource)):
        return spec

    @dg.multi_asset(name=source.name, specs=[spec])
    def write_sample(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        plan = simulator.Plan.of_scale(sample_scale)
        try:
            written = SAMPLE_WRITERS[source.name](source.folder, plan)
        except OSError as error:
            raise dg.Failure(printable(f"{source.name}: {error}"), allow_retries=False) from None
        context.log.info(
            f"{source.name}: {written.files:,} sample files in {source.address}, "
            f"{written.changed:,} changed"
        )
        return dg.MaterializeResult(
            asset_key=source.name,
            metadata={
                "files": written.files,
                "files_changed": written.changed,
                "bytes": written.bytes,
            },
            data_version=dg.DataVersion(repr(plan)),
        )

    return write_sample


def staging_asset(
    table: Table,
    catalog: Catalog,
    sources: dict[str, Source],
    *,
    kind: str,
    max_rejected_share: float,
) -> dg.AssetsDefinition:
    """A table that is loaded from a source."""
    source = sources.get(table.source or "")
    if source is None:
        raise SparkifyError(
            f"{table.path}: loaded from {table.source}, which is none of {', '.join(sources)}"
        )
    verify_readable(table)

    @dg.multi_asset(
        name=table.name,
        specs=[spec_of(table, [source.name], kind)],
        check_specs=check_specs(table),
        can_subset=True,
        required_resource_keys={"warehouse"},
    )
    def load(context: dg.AssetExecutionContext, config: LoadConfig) -> Results:
        if not context.selected_asset_keys:
            yield from _evaluated(context, table, catalog)
            return
        options = config.model_dump() | {
            "max_rejected_share": max_rejected_share,
            "run_id": context.run.run_id,
            "log": context.log.info,
        }
        warehouse: Warehouse = context.resources.warehouse
        with (
            failures_told(),
            prepared_load(warehouse, catalog, table, source, **options) as staging,
        ):

            def write(session: Session) -> tuple[dict[str, Any], str]:
                done = staging.write(session)
                log_load(context, table, done)
                return load_metadata(done), done.version

            yield from _write_audited(context, table, write)

    return load


def derived_asset(table: Table, catalog: Catalog, *, kind: str) -> dg.AssetsDefinition:
    """A table that is made from other tables: by its own INSERT, or by repair of their texts."""
    names = set(table.upstream)
    if names & {ledger.name for ledger in catalog.ledgers}:  # written when staging is loaded
        names |= {staging.name for staging in catalog.staging}
    # in the catalogue's order: the first one that is missing is where to begin
    made_by = [
        parent
        for parent in catalog.tables.values()
        if parent.name in names and parent not in catalog.ledgers
    ]

    @dg.multi_asset(
        name=table.name,
        specs=[spec_of(table, [parent.name for parent in made_by], kind)],
        check_specs=check_specs(table),
        can_subset=True,
        required_resource_keys={"warehouse"},
        # the table that a run reports as its answer comes last of those that could be next
        op_tags={"dagster/priority": "-1"} if table.shown_rows else None,
    )
    def publish(context: dg.AssetExecutionContext, config: PublishConfig) -> Results:
        if not context.selected_asset_keys:
            yield from _evaluated(context, table, catalog)
            return

        def write(session: Session) -> tuple[dict[str, Any], None]:
            for parent in made_by:
                _require(
                    session,
                    parent,
                    f"{table.name} is made from it",
                    may_be_empty=parent.may_be_empty,
                )
            if table.suspects:
                suspect, damaged = repair_table(session, table, recreate=config.recreate)
                return {"texts_suspect": suspect, "texts_damaged": damaged}, None
            session.build(table, recreate=config.recreate)
            return {}, None

        yield from _write_audited(context, table, write)

    return publish


def report_asset(catalog: Catalog, path: Path) -> dg.AssetsDefinition:
    """The listening report: an HTML file made from the marts."""
    tables = [table for table in catalog.tables.values() if table not in catalog.ledgers]

    @dg.asset(
        deps=[table.name for table in tables if table.layer == MARTS],
        group_name="report",
        kinds={"html"},
        owners=OWNERS,
        description="What is played most, when, where and by whom, and how far to trust it: one "
        "HTML page that needs no network.",
        required_resource_keys={"warehouse"},
    )
    def listening_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from sparkify_assets import charts, report  # all other assets need no templates

        warehouse: Warehouse = context.resources.warehouse
        started = time.monotonic()

        def read(session: Session) -> report.Findings:
            missing = [table.name for table in tables if not _is_made(session, table)]
            if missing:
                raise SparkifyError(
                    f"listening_report tells of every table, and {warehouse.address} does not have "
                    f"{', '.join(missing)}, or not as declared. Make everything first: "
                    "dg launch --job refresh"
                )
            return report.Findings.read(session, catalog, warehouse.address)

        with failures_told():
            label = f"listening_report {context.run.run_id}"
            findings = warehouse.in_transaction(read, label, read_only=True)
            main, *_ = figures = report.figures_of(findings.rows)
            page = report.page_of(findings, figures)
            report.write(page, path)
        file, picture = path.resolve(), charts.picture(main.drawing, main.title).encode()
        context.log.info(
            f"listening_report: {printable(str(file))}, {time.monotonic() - started:.2f} s"
        )
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(file)),
                "link": dg.MetadataValue.url(file.as_uri()),
                "bytes": len(page.encode()),
                "picture": dg.MetadataValue.md(
                    f"![{main.title}](data:image/svg+xml;base64,{b64encode(picture).decode()})"
                ),
            }
        )

    return listening_report


def _write_audited(context: dg.AssetExecutionContext, table: Table, write: Write) -> Results:
    """Writes, audits and publishes a table in one transaction.

    The audit always runs whole; the results of the selected checks are yielded, after the commit,
    together with the materialization (yielded earlier they would belong to the one before), or
    after the rollback, before the failure.
    """
    warehouse: Warehouse = context.resources.warehouse
    audits = audits_of(table)
    started = time.monotonic()

    def write_and_audit(session: Session) -> Published:
        kept = None if session.shape(table) is None else session.count(table.name)
        metadata, version = write(session)
        results = run_audits(session, audits)
        if any(not r.passed and r.audit.blocking for r in results):
            raise AuditFailed(results, kept)
        session.publish(table)
        rows = session.count(table.name)
        preview = session.first(table, table.shown_rows or PREVIEW_ROWS)
        return Published(results, rows, preview, metadata, version)

    with failures_told():
        try:
            label = f"{table.name} {context.run.run_id}"
            published = warehouse.in_transaction(write_and_audit, label)
        except AuditFailed as failed:
            yield from check_results(context, table, failed.results)
            raise SparkifyError(_in_words(warehouse.address, table, failed)) from None
    log_warnings(context, table, published.results)
    context.log.info(
        f"{table.name}: {counted(published.rows, 'row')}, {_passed(published.results)}, "
        f"{time.monotonic() - started:.2f} s"
    )
    if table.shown_rows:
        context.log.info(f"{table.name}:\n\n{text_table(published.preview)}\n")
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


def _evaluated(context: dg.AssetExecutionContext, table: Table, catalog: Catalog) -> Results:
    """Evaluates the selected checks of a table as it is published."""
    selected = {key.name for key in context.selected_asset_check_keys}

    def evaluate(session: Session) -> list[AuditResult]:
        for name in {table.name, *table.upstream}:
            _require(session, catalog.tables[name], f"the checks of {table.name} read it")
        return run_audits(session, [a for a in audits_of(table) if a.name in selected])

    with failures_told():
        warehouse: Warehouse = context.resources.warehouse
        label = f"{table.name} {context.run.run_id}"
        results = warehouse.in_transaction(evaluate, label, read_only=True)
    log_warnings(context, table, results)
    yield from check_results(context, table, results)


@contextmanager
def failures_told() -> Iterator[None]:
    """Ends a step with the message alone where a user can mend what is wrong."""
    try:
        yield
    except SparkifyError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def _require(session: Session, table: Table, why: str, *, may_be_empty: bool = True) -> None:
    """Makes sure that a table that is read is there.

    Raises:
        SparkifyError: says which asset to materialize first.
    """
    difference = session.shape(table)
    if difference is None:
        problem = "does not exist yet"
    elif difference:
        problem = f"is not as {table.path.name} declares it: {difference}"
    elif not may_be_empty and not session.count(table.name):
        problem = "is empty"
    else:
        return
    raise SparkifyError(
        f"{table.name} {problem}, and {why}. Materialize it first: dg launch --assets {table.name} "
        "(everything: dg launch --job refresh)"
    )


def _is_made(session: Session, table: Table) -> bool:
    return session.shape(table) == "" and (table.may_be_empty or session.count(table.name) > 0)


def _in_words(address: str, table: Table, failed: AuditFailed) -> str:
    """What a failed audit means: what was found, what is still published, and what to do."""
    broken = [r for r in failed.results if not r.passed and r.audit.blocking]
    found = " ".join(r.in_words() for r in broken)
    stays = (
        f"There is still no table {table.name} in {address}"
        if failed.kept is None
        else f"{table.name} in {address} stays as it was ({counted(failed.kept, 'row')})"
    )
    remedies = " ".join(r.audit.remedy for r in broken)
    untouched = "nothing downstream of it was touched"
    return f"{table.name} was not published. {found} {stays}; {untouched}. {remedies}".rstrip()


def _passed(results: list[AuditResult]) -> str:
    passed = sum(r.passed for r in results)
    return f"{passed} of {len(results)} checks passed"
