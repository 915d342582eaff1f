"""Where the tables are: on DuckDB or Redshift, as the settings say."""

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import RedshiftSettings, Settings
from sparkify_assets.warehouse.base import Warehouse
from sparkify_assets.warehouse.duckdb import DuckDBWarehouse


def warehouse_of(settings: Settings) -> Warehouse:
    """The warehouse that the settings choose; nothing is connected yet."""
    if settings.target == DuckDBWarehouse.kind:
        return DuckDBWarehouse(path=str(settings.duckdb_path))
    RedshiftSettings.from_environment()  # what is wrong is said before anything runs
    work = (settings.s3_work or "").rstrip("/")
    if not work.startswith("s3://"):
        raise SparkifyError(
            "SPARKIFY_S3_WORK names no folder in S3, which is where Redshift copies from. Set it "
            "to one that is for nothing else, s3://bucket/folder, which you may write and it may "
            "read."
        )
    for variable, place in (
        ("SPARKIFY_SONG_DATA", settings.song_data),
        ("SPARKIFY_LOG_DATA", settings.log_data),
    ):
        folders = [f"{work}/", f"{(place or '').rstrip('/')}/"]
        if folders[0].startswith(folders[1]) or folders[1].startswith(folders[0]):
            raise SparkifyError(
                f"SPARKIFY_S3_WORK is {settings.s3_work} and {variable} is {place}: what is copied "
                "from one would be read or removed as part of the other. Set SPARKIFY_S3_WORK to a "
                "folder that is for nothing else."
            )
    # imported here, since its libraries take long to load
    from sparkify_assets.warehouse.redshift import RedshiftWarehouse

    return RedshiftWarehouse(s3_work=work)
