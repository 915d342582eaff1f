"""The environment, read and validated once into typed settings.

Every variable of the product is declared here, and nowhere else is the environment read.
`.env.example` lists the same variables for the user (a test compares the two).
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparkify_assets.errors import SparkifyError


class Environment(BaseSettings):
    """Variables that share a prefix, read and validated."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, populate_by_name=True)
    unsaid: ClassVar[tuple[str, ...]] = ()  # variables whose wrong values may hold secrets

    @classmethod
    def from_environment(cls) -> Self:
        """Reads the variables.

        Raises:
            SparkifyError: one message that names every variable with a wrong value or name.
        """
        prefix = cls.model_config["env_prefix"]
        known = {
            str(field.validation_alias or prefix + name.upper())
            for name, field in cls.model_fields.items()
        }
        problems = []
        for name in sorted(name for name in os.environ if name.startswith(prefix)):
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
                    name = prefix + str(problem["loc"][0]).upper().removeprefix(prefix)
                    value = "wrong" if name in cls.unsaid else repr(str(problem["input"]))
                    message = f"{name} is {value}: {message[0].lower()}{message[1:]}"
                problems.append(message)
        if problems:
            raise SparkifyError(
                "Wrong settings: " + "; ".join(problems) + ". "
                "See .env.example; a file .env in this folder overrides the shell."
            )
        return settings


class Settings(Environment):
    """What the user decides, each as an environment variable `SPARKIFY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SPARKIFY_")

    target: Literal["duckdb", "redshift"] = Field(
        "duckdb", description="engine of the warehouse; redshift needs the variables REDSHIFT_*"
    )
    duckdb_path: Path = Field(Path("sparkify.duckdb"), description="file of the DuckDB warehouse")
    report_path: Path = Field(
        Path("listening_report.html"), description="file of the listening report"
    )
    song_data: str | None = Field(None, description="folder or s3:// address of the song files")
    log_data: str | None = Field(None, description="folder or s3:// address of the event files")
    s3_anonymous: bool = Field(False, description="read S3 without credentials: public buckets")
    s3_work: str | None = Field(
        None, description="s3:// folder for the files that Redshift copies from"
    )
    sample_scale: float = Field(
        1, gt=0, le=1_000, allow_inf_nan=False, description="size of the sample data"
    )
    max_rejected_share: float = Field(
        0.01, ge=0, le=1, description="share of rejected records that a load may have, 0 to 1"
    )

    @field_validator("duckdb_path", "report_path")
    @classmethod
    def _a_file(cls, path: Path) -> Path:
        if ":" in path.parts[0]:
            raise ValueError("it names no file on this machine")
        return path.expanduser()

    @model_validator(mode="after")
    def _both_sources_or_none(self) -> Self:
        if (self.song_data is None) != (self.log_data is None):
            given, missing = ("SONG", "LOG") if self.song_data else ("LOG", "SONG")
            raise ValueError(
                f"SPARKIFY_{given}_DATA is set and SPARKIFY_{missing}_DATA is not: set both, "
                "or neither for the sample data"
            )
        return self


class RedshiftSettings(Environment):
    """Where a Redshift warehouse is and who enters it, each as a variable `REDSHIFT_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="REDSHIFT_")
    unsaid = ("REDSHIFT_HOST", "REDSHIFT_COPY_ROLE")

    host: str | None = Field(None, description="endpoint; with IAM it is looked up")
    port: int = Field(5439, ge=1, le=65_535, description="port of the endpoint")
    database: str = Field("dev", description="database")
    schema_name: str = Field(
        "sparkify",
        validation_alias="REDSHIFT_SCHEMA",
        pattern="^[a-z_][a-z0-9_]{0,126}$",  # Redshift folds names to lower case, even quoted ones
        description="schema of the tables; made if missing",
    )
    user: str | None = Field(None, description="database user")
    password: SecretStr | None = Field(None, description="password of the user")
    cluster: str | None = Field(None, description="cluster identifier, to log in by IAM")
    workgroup: str | None = Field(None, description="Serverless workgroup, to log in by IAM")
    region: str | None = Field(None, description="region of the cluster or workgroup, for IAM")
    sslmode: Literal["verify-full", "verify-ca"] = Field(
        "verify-full", description="verify-ca where a tunnel or CNAME hides the endpoint's name"
    )
    copy_role: str = Field(
        "default", description="ARN of the role by which COPY reads SPARKIFY_S3_WORK"
    )
    slices: int = Field(4, ge=1, le=128, description="slices of the cluster: files of a COPY")
    timeout_seconds: int = Field(
        3_600, ge=1, description="how long a statement may take, and wait for another run"
    )

    @field_validator("host")
    @classmethod
    def _only_a_host(cls, host: str | None) -> str | None:
        if host and re.search(r"[@/\s]", host):
            raise ValueError("it is not the name of a host alone, without user, password and path")
        return host

    @field_validator("copy_role")
    @classmethod
    def _a_role(cls, role: str) -> str:
        if role != "default" and not re.fullmatch(r"arn:[\w:/+=,.@-]+", role):
            raise ValueError("it is neither the ARN of a role nor default")
        return role

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        given = [name for name in ("password", "cluster", "workgroup") if getattr(self, name)]
        variables = " and ".join(f"REDSHIFT_{name.upper()}" for name in given)
        if len(given) > 1:
            raise ValueError(f"{variables} are set: choose one way to log in")
        if not given:
            raise ValueError(
                "set REDSHIFT_PASSWORD (with REDSHIFT_HOST and REDSHIFT_USER), or, to log in by "
                "IAM, REDSHIFT_CLUSTER or REDSHIFT_WORKGROUP"
            )
        needed = {"password": ("host", "user"), "cluster": ("user",), "workgroup": ()}[given[0]]
        if missing := [f"REDSHIFT_{n.upper()}" for n in needed if not getattr(self, n)]:
            raise ValueError(f"{variables} is set and {' and '.join(missing)} is not: set both")
        return self
