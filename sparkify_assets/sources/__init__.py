"""Where the input comes from: a folder or S3, as the settings say, or the sample data."""

from pathlib import Path

from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import Settings
from sparkify_assets.sources.base import Source
from sparkify_assets.sources.folder import FolderSource

SAMPLE_FOLDER = Path("data/sample")


def sources_of(settings: Settings) -> dict[str, Source]:
    """The two sources by name: where the settings say, or the sample data below this folder."""
    chosen = {
        "song_files": ("SPARKIFY_SONG_DATA", settings.song_data, "song_data"),
        "event_files": ("SPARKIFY_LOG_DATA", settings.log_data, "log_data"),
    }
    sources: dict[str, Source] = {}
    for name, (variable, place, sample) in chosen.items():
        scheme, is_uri, path = (place or "").partition("://")
        bucket, _, folder = path.rstrip("/").partition("/")
        if place is None:
            sources[name] = FolderSource(name, None, SAMPLE_FOLDER.absolute() / sample)
        elif not is_uri:
            sources[name] = FolderSource(name, variable, Path(place).expanduser().absolute())
        elif scheme == "s3" and bucket:
            # whoever reads no S3 need not wait for its libraries: 0.7 s in every process
            from sparkify_assets.object_store import ObjectStore
            from sparkify_assets.sources.s3 import S3Source

            store = ObjectStore(use_unsigned_session=settings.s3_anonymous)
            sources[name] = S3Source(name, variable, bucket, folder, store)
        else:
            raise SparkifyError(
                f"{variable} is {place}: it names neither a folder nor s3://bucket/folder."
            )
    return sources
