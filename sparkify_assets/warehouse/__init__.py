"""Chooses the engine that holds the tables: DuckDB or Redshift."""

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import RedshiftSettings, Settings
from sparkify_assets.warehouse.base import Warehouse
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse


def warehouse_of(settings: Settings) -> Warehouse:
    """The warehouse of these settings, not connected yet.

    Raises:
        SparkifyError: a setting is missing, wrong or in conflict with another.
    """
    if settings.target == DuckDBWarehouse.kind:
        return DuckDBWarehouse(path=str(settings.duckdb_path), audit_days=settings.audit_days)
    RedshiftSettings.from_environment()  # fails now, not in the middle of a run
    work = (settings.s3_work or "").rstrip("/")
    if not work.startswith("s3://"):
        raise SparkifyError(
            "SPARKIFY_S3_WORK is not a folder in S3. Redshift copies from there: set it to "
            "s3://bucket/folder, a folder used for nothing else."
        )
    for name in ("song_data", "log_data"):
        place = getattr(settings, name) or ""
        inner, outer = sorted([f"{work}/", f"{place.rstrip('/')}/"], key=len, reverse=True)
        if inner.startswith(outer):
            raise SparkifyError(
                f"SPARKIFY_S3_WORK is {settings.s3_work} and SPARKIFY_{name.upper()} is {place}: "
                "files of one would be read or removed with those of the other. Set "
                "SPARKIFY_S3_WORK to a folder used for nothing else."
            )
    # imported here because its libraries load slowly
    from sparkify_assets.warehouse.redshift import RedshiftWarehouse

    return RedshiftWarehouse(s3_work=work, audit_days=settings.audit_days)
