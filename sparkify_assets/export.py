"""Exports tables from DuckDB as Parquet files, so that readers and runs never block each other.

New files are written in a subfolder and moved into place when all are complete: a reader opens the
old file or the new one. A file's footer names its publish, so that unchanged tables are skipped and
files of other programs are left alone.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock

from sparkify_assets.catalog import Catalog
from sparkify_assets.dialect import quote
from sparkify_assets.errors import SparkifyError, printable
from sparkify_assets.failures import user_errors_as_failures
from sparkify_assets.formats import counted
from sparkify_assets.maintenance import last_published
from sparkify_assets.output_files import writable
from sparkify_assets.publishing import require
from sparkify_assets.warehouse.base import Session, Warehouse

OURS = "sparkify_assets"  # a key in the footer of each file
FOOTER_BYTES = 1_024  # at the end of a file, with the keys in them


def export_asset(catalog: Catalog, folder: Path) -> dg.AssetsDefinition:
    """The Parquet files of all derived tables, in a folder."""
    tables = catalog.derived

    @dg.asset(
        deps=[table.name for table in tables],
        group_name="export",
        kinds={"parquet"},
        description="A Parquet file per table, for readers that must not wait for a run.",
    )
    def parquet_files(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        started = time.monotonic()

        def work(session: Session) -> tuple[list[str], list[str]]:
            for table in tables:
                require(session, table, "parquet_files exports it", rows=not table.may_be_empty)
            published = last_published(session, catalog)
            marks = {
                name: f"published {row['published_at']}, {row['row_count']} rows"
                for name, row in published.items()
                if row["file_version"]
            }
            return export(session, {t.name: marks.get(t.name, "") for t in tables}, folder)

        with user_errors_as_failures(context):
            label = f"parquet_files {context.run.run_id}"
            written, removed = warehouse.in_transaction(work, label, read_only=True)
        place = str(folder.resolve())
        context.log.info(
            f"parquet_files: {counted(len(written), 'file')} written, {len(removed)} removed, "
            f"{len(tables) - len(written)} unchanged in {printable(place)}, "
            f"{time.monotonic() - started:.2f} s"
        )
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(place),
                "files_written": len(written),
                "files_removed": len(removed),
            }
        )

    return parquet_files


def export(session: Session, marks: dict[str, str], folder: Path) -> tuple[list[str], list[str]]:
    """Updates the Parquet files in a folder, all or none, and removes those of other tables.

    `marks` maps each table to the mark in the footer of an up-to-date file; a table with an empty
    mark is always written. Returns the names of the tables whose files were written and removed.

    Raises:
        SparkifyError: a file cannot be written, or was not written by Sparkify.
    """
    beside = folder / ".being_written"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            shutil.rmtree(beside, ignore_errors=True)  # left by a killed process
            beside.mkdir()
            try:
                return _write(session, marks, folder, beside)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(Path(error.filename or folder), error.strerror or str(error)) from None


def _write(
    session: Session, marks: dict[str, str], folder: Path, beside: Path
) -> tuple[list[str], list[str]]:
    paths = [p for p in folder.glob("*.parquet") if p.stem in marks or p.is_file()]
    found = {path.stem: b"" if path.is_symlink() else _footer(path) for path in paths}
    ours = {name for name, footer in found.items() if OURS.encode() in footer}
    stale = [n for n, mark in marks.items() if not mark or mark.encode() not in found.get(n, b"")]
    for name in stale:
        path = folder / f"{name}.parquet"
        if name in found and name not in ours:
            raise _cannot_write(path, "it was not written by Sparkify. Move it away")
        try:
            session.execute(
                f"COPY {quote(name)} TO ? (FORMAT parquet, KV_METADATA {{{OURS}: ?}})",
                [str(beside / path.name), marks[name]],
            )
        except SparkifyError as error:
            raise _cannot_write(path, "DuckDB stopped", f". {error}") from None
    for name in stale:
        (beside / f"{name}.parquet").replace(folder / f"{name}.parquet")
    removed = sorted(ours - marks.keys())
    for name in removed:
        (folder / f"{name}.parquet").unlink()
    return stale, removed


def _footer(path: Path) -> bytes:
    with writable(path).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - FOOTER_BYTES))
        return file.read()


def _cannot_write(path: Path, problem: str, details: str = ".") -> SparkifyError:
    return SparkifyError(
        f"{path} cannot be written: {problem}. Existing files were left unchanged. "
        "SPARKIFY_EXPORT_PATH sets their folder",
        details,
    )
