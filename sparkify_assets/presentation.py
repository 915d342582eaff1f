"""How tables, loads and checks appear in Dagster's UI and in the log of a run.

`console.py` formats the log at a terminal.
"""

import warnings
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import dagster as dg

from sparkify_assets.audit import SAMPLES, AuditResult, audits_of
from sparkify_assets.catalog import Catalog
from sparkify_assets.dialect import lineage_of
from sparkify_assets.failures import Context
from sparkify_assets.findings import Load
from sparkify_assets.formats import as_text, counted
from sparkify_assets.tables import Table
from sparkify_assets.warehouse.base import Row, Warehouse

PREVIEW_WIDTH = 40
SHOWN = 10  # JSON keys in one line


def table_spec(table: Table, deps: list[str], warehouse: Warehouse) -> dg.AssetSpec:
    """The asset spec of a table in a warehouse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # of code references
        file = dg.LocalFileCodeReference(
            file_path=str(table.path), line_number=1, label=table.path.name
        )
        references = dg.CodeReferencesMetadataValue(code_references=[file])
    return dg.AssetSpec(
        table.name,
        deps=deps,
        description=table.description,
        group_name=table.layer,
        kinds={warehouse.kind, "json" if table.source else "python" if table.suspects else "sql"},
        code_version=table.version,
        metadata={
            "dagster/table_name": f"{warehouse.schema_address}.{table.name}",
            "dagster/storage_kind": warehouse.kind,
            "dagster/column_schema": _column_schema(table),
            "dagster/code_references": references,
        },
    )


def _column_schema(table: Table) -> dg.TableSchema:
    columns = []
    for column in table.columns:
        other = ["primary key"] if column.name in table.primary_key else []
        if reference := column.references:
            other.append(f"references {reference.table}.{reference.column}")
        constraints = dg.TableColumnConstraints(
            nullable=column.nullable, unique=table.primary_key == (column.name,), other=other
        )
        columns.append(dg.TableColumn(column.name, column.type, column.description, constraints))
    return dg.TableSchema(columns)


def column_lineage(table: Table, catalog: Catalog) -> dict[str, Any]:
    """Column lineage of a derived table, as metadata.

    Also as a table, because the open-source UI does not show `dagster/column_lineage`.
    """
    columns = tuple(
        (name, c.name, c.type) for name in table.reads for c in catalog.tables[name].columns
    )
    made_from = lineage_of(table.insert or table.suspects or "", columns)
    if table.suspects:  # both columns come from the one text of the query
        [both] = made_from.values()
        made_from = {column.name: both for column in table.columns}
    assets = {asset.name for asset in catalog.assets}  # ledgers are not assets
    deps = {
        name: [dg.TableColumnDep(dg.AssetKey(p), column) for p, column in found if p in assets]
        for name, found in made_from.items()
    }
    shown = [
        dg.TableRecord({"column": name, "made from": ", ".join(map(".".join, found))})
        for name, found in made_from.items()
    ]
    return {
        "dagster/column_lineage": dg.TableColumnLineage(deps),
        "columns_made_from": dg.MetadataValue.table(shown),
    }


def check_specs(table: Table) -> list[dg.AssetCheckSpec]:
    """The check specs of a table."""
    return [
        dg.AssetCheckSpec(a.name, asset=table.name, description=a.description, blocking=a.blocking)
        for a in audits_of(table)
    ]


def check_results(
    context: dg.AssetExecutionContext, table: Table, results: list[AuditResult]
) -> Iterator[dg.AssetCheckResult]:
    """The results of the selected checks."""
    selected = {key.name for key in context.selected_asset_check_keys}
    severity = {True: dg.AssetCheckSeverity.ERROR, False: dg.AssetCheckSeverity.WARN}
    for result in results:
        if result.audit.name in selected:
            samples = {"samples": table_value(result.samples)} if result.samples else {}
            yield dg.AssetCheckResult(
                asset_key=table.name,
                check_name=result.audit.name,
                passed=result.passed,
                severity=severity[result.audit.blocking],
                metadata={
                    f"{result.audit.unit}s".replace(" ", "_"): result.violations,
                    **samples,
                    "query": dg.MetadataValue.md(f"```sql\n{result.audit.query}\n```"),
                },
            )


def log_failed_checks(context: Context, table: Table, results: list[AuditResult]) -> None:
    """Logs a warning for each failed check."""
    for result in results:
        if not result.passed:
            context.log.warning(f"{table.name}: {result.sentence}")


def log_load(context: dg.AssetExecutionContext, table: Table, load: Load) -> None:
    """Logs what a load found and did."""
    context.log.info(
        f"{table.name}: {counted(load.new + load.changed, 'file')} read ({load.new:,} new, "
        f"{load.changed:,} changed; {load.unchanged:,} unchanged, {load.vanished:,} vanished), "
        f"{counted(load.records, 'record')}, {load.rejected:,} rejected"
    )
    said = []
    if load.forgotten:
        deleted = counted(load.forgotten, "row")
        context.log.info(f"{table.name}: deleted {deleted} of forgotten users")
    if load.rejected:
        examples = "; ".join(load.rejected_samples)
        records = counted(load.rejected, "record")
        said.append(f"{records} rejected, see rejected_records. For example: {examples}")
    if files := load.unread_files:
        count = counted(len(files), "file")
        said.append(f"nothing could be read from {count}: {_first(SAMPLES, files, ', ')}")
    if load.with_repeated_keys:
        records = counted(load.with_repeated_keys, "record")
        said.append(f"{records} with a repeated key: its first value is kept")
    if load.unknown_keys:
        keys = counted(len(load.unknown_keys), "key")
        said.append(
            f"{keys} of the JSON without a column: {_first(SHOWN, load.unknown_keys, '; ')}. "
            "To keep one, add a line with its name and a type to "
            f"sql/{table.layer}/{table.path.name}."
        )
    if load.missing_keys:
        keys = counted(len(load.missing_keys), "key")
        missing = f"{keys} in no new record, so null: {', '.join(load.missing_keys)}"
        if load.unknown_keys:
            said.append(f"{missing}. Check the spelling.")
        else:
            context.log.info(f"{table.name}: {missing}")
    for sentence in said:
        context.log.warning(f"{table.name}: {sentence}")


def _first(count: int, items: list[str], separator: str) -> str:
    return separator.join(items[:count] + ["..."] * (len(items) > count))


def load_metadata(load: Load) -> dict[str, Any]:
    """What a load found and did, as metadata that Dagster plots over time."""
    figures = {f.metadata["name"]: getattr(load, f.name) for f in fields(load) if f.metadata}
    lists = ("rejected_samples", "unknown_keys", "missing_keys")
    said = {name: "\n".join(lines) for name in lists if (lines := getattr(load, name))}
    counts = {"objects_read": load.new + load.changed, "files_not_read": len(load.unread_files)}
    return counts | figures | said


def table_value(rows: list[Row]) -> dg.TableMetadataValue:
    """Rows as a Dagster table, with long text cut and other values (timestamps) as text."""

    def shown(value: object) -> str | float | None:
        if value is None or isinstance(value, int | float):
            return value
        text = as_text(value)
        return text if len(text) <= PREVIEW_WIDTH else f"{text[:PREVIEW_WIDTH]}…"

    return dg.MetadataValue.table(
        [dg.TableRecord({name: shown(value) for name, value in row.items()}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in rows[0]] if rows else []),
    )
