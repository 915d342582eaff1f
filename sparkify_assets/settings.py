"""The environment, read and validated once into typed settings.

Every variable of the product is declared here, and nowhere else is the environment read.
`.env.example` lists the same variables for the user (a test compares the two).
"""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparkify_assets.errors import SparkifyError

PREFIX = "SPARKIFY_"


class Settings(BaseSettings):
    """What the user decides, each as an environment variable `SPARKIFY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    target: Literal["duckdb", "redshift"] = Field(
        "duckdb", description="engine of the warehouse; redshift is not built yet"
    )
    duckdb_path: Path = Field(Path("sparkify.duckdb"), description="file of the DuckDB warehouse")
    song_data: str | None = Field(None, description="folder or s3:// address of the song files")
    log_data: str | None = Field(None, description="folder or s3:// address of the event files")
    s3_anonymous: bool = Field(False, description="read S3 without credentials: public buckets")
    sample_scale: float = Field(
        1, gt=0, le=1_000, allow_inf_nan=False, description="size of the sample data"
    )
    max_rejected_share: float = Field(
        0.01, ge=0, le=1, description="share of rejected records that a load may have, 0 to 1"
    )

    @field_validator("duckdb_path")
    @classmethod
    def _a_file(cls, path: Path) -> Path:
        if ":" in path.parts[0]:
            raise ValueError("it names no file on this machine")
        return path.expanduser()

    @model_validator(mode="after")
    def _both_sources_or_none(self) -> "Settings":
        if (self.song_data is None) != (self.log_data is None):
            given, missing = ("SONG", "LOG") if self.song_data else ("LOG", "SONG")
            raise ValueError(
                f"{PREFIX}{given}_DATA is set and {PREFIX}{missing}_DATA is not: set both, "
                "or neither for the sample data"
            )
        return self

    @classmethod
    def from_environment(cls) -> "Settings":
        """Reads the variables `SPARKIFY_*`.

        Raises:
            SparkifyError: one message that names every variable with a wrong value or name.
        """
        known = {PREFIX + name.upper() for name in cls.model_fields}
        problems = []
        for name in sorted(name for name in os.environ if name.startswith(PREFIX)):
            if name not in known:
                guess = get_close_matches(name, known, n=1, cutoff=0.8)
                hint = f"maybe {guess[0]}" if guess else f"known are {', '.join(sorted(known))}"
                problems.append(f"{name} is not a variable of Sparkify: {hint}")
        try:
            settings = cls()
        except ValidationError as error:
            for problem in error.errors():
                message = problem["msg"].removeprefix("Value error, ")
                if problem["loc"]:
                    name = PREFIX + str(problem["loc"][0]).upper()
                    message = (
                        f"{name} is {str(problem['input'])!r}: {message[0].lower()}{message[1:]}"
                    )
                problems.append(message)
        if problems:
            raise SparkifyError(
                "Wrong settings: " + "; ".join(problems) + ". "
                "See .env.example; a file .env in this folder overrides the shell."
            )
        return settings
