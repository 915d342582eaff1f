"""Where the tables are: on DuckDB or Redshift, as the settings say."""

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import RedshiftSettings, Settings
from sparkify_assets.warehouse.base import Warehouse
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse


def warehouse_of(settings: Settings) -> Warehouse:
    """The warehouse that the settings choose; nothing is connected yet."""
    if settings.target == DuckDBWarehouse.kind:
        return DuckDBWarehouse(path=str(settings.duckdb_path))
    redshift = RedshiftSettings.from_environment()
    if not (settings.s3_work or "").startswith("s3://"):
        raise SparkifyError(
            f"SPARKIFY_S3_WORK is {settings.s3_work}: Redshift copies from S3. Set it to a folder "
            "that is for nothing else, s3://bucket/folder, which you may write and it may read."
        )
    # whoever uses no Redshift need not wait for its libraries
    from sparkify_assets.warehouse.redshift import RedshiftWarehouse

    return RedshiftWarehouse(
        s3_work=str(settings.s3_work).rstrip("/"), **redshift.model_dump(exclude={"password"})
    )
