"""The built-in sample data, as a source: a folder that the simulator writes."""

from dataclasses import dataclass
from pathlib import Path

from sparkify_assets import simulator
from sparkify_assets.errors import SparkifyError
from sparkify_assets.sources.base import SAMPLE
from sparkify_assets.sources.folder import FolderSource

FOLDER = Path("data/sample")
NOTE = "Made-up sample data; SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA name your own files."
WRITERS = {
    "song_files": simulator.write_song_files,
    "event_files": simulator.write_event_files,
}


@dataclass(frozen=True)
class SampleSource(FolderSource):
    """A folder of sample files; `plan` says how many."""

    plan: simulator.Plan

    @property
    def description(self) -> str:
        return f"{super().description} {NOTE}"

    @property
    def root(self) -> str:
        return f"{SAMPLE}{self.uri}"

    def write(self) -> simulator.Written:
        """Makes the folder hold exactly the files of the plan.

        Raises:
            SparkifyError: they cannot be written there.
        """
        try:
            return WRITERS[self.name](self.folder, self.plan)
        except OSError as error:
            raise SparkifyError(f"{self.name}: {error}") from None
