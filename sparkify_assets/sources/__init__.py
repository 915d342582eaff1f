"""Chooses the sources: folders or S3 addresses from the settings, or the sample data.

To add a source: a name here, its setting, its description in `base.py`, and a table in
`sql/staging/` with `-- loaded from:`. For another kind of place than folders and S3, see `base.py`.
"""

import os
from pathlib import Path

from sparkify_assets.settings import Settings
from sparkify_assets.sources.base import Source
from sparkify_assets.sources.folder import FolderSource

SAMPLE_DATA = Path(__file__).resolve().parents[1] / "sample"  # made by benchmarks/simulator.py


def sources_of(settings: Settings) -> dict[str, Source]:
    """The two sources by name."""
    sources: dict[str, Source] = {}
    for name, setting in {"song_files": "song_data", "event_files": "log_data"}.items():
        variable, place = f"SPARKIFY_{setting.upper()}", getattr(settings, setting)
        if place is None:
            sources[name] = FolderSource(name, None, SAMPLE_DATA / setting)
        elif not place.startswith("s3://"):
            sources[name] = FolderSource(name, variable, _folder(place))
        else:
            # imported here because it takes 0.7 s
            from sparkify_assets.sources.s3 import S3Source

            bucket, _, folder = place.removeprefix("s3://").rstrip("/").partition("/")
            sources[name] = S3Source(name, variable, bucket, folder, settings.s3_anonymous)
    return sources


def _folder(place: str) -> Path:
    """A normalized path: absolute, without `..` and `//`, but with its links."""
    written = Path(place).absolute()
    plain = Path("/", os.path.abspath(written).lstrip("/"))  # noqa: PTH100  # resolves no links
    # behind a link, `..` is the parent of its target, not of the link
    return plain if os.path.realpath(plain) == os.path.realpath(written) else written
