"""Reads and validates the environment variables; no other module reads the environment.

To add one: a field here, a comment in `.env.example`, then `docs/reference.py`. Two checks are made
elsewhere: of SPARKIFY_S3_WORK in `warehouse_of`, of the schedule in `automation.py`.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sparkify_assets.errors import SparkifyError, printable, warn_once

FILE = "[^:/]*(/.*)?"
FOLDER = f"s3://[a-zA-Z0-9._-]+(/.*)?|{FILE}"
FORMS = {  # the pattern that a text must match, and the message if it does not
    **dict.fromkeys(("duckdb_path", "report_path"), (FILE, "it is not the path of a file")),
    "export_path": (FILE, "it is not a folder on this machine"),
    **dict.fromkeys(
        ("song_data", "log_data"), (FOLDER, "it is neither a folder nor s3://bucket/folder")
    ),
    "s3_work": (
        rf"(?!.*['\\])({FOLDER})",
        "it is neither a folder nor s3://bucket/folder, or has a quote in it",
    ),
    **dict.fromkeys(("ui_url", "alert_webhook"), (r"https?://[^\s@]+", "it is not an http URL")),
    "host": (r"[^@/\s]+", "it must be a host name, without user, password and path"),
    # Redshift folds names to lower case, even quoted ones
    "schema_name": ("[a-z_][a-z0-9_]{0,126}", "it may have only lower-case letters, digits and _"),
    "secret": (r"[\w/+=.@!:-]+", "it is neither the name nor the ARN of a secret"),
    "copy_role": (r"default|arn:[\w:/+=,.@-]+", "it is neither the ARN of a role nor default"),
}


class Environment(BaseSettings):
    """Variables that share a prefix; a blank one counts as unset."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True)
    is_prefix_shared: ClassVar[bool] = False  # with other programs

    @classmethod
    def from_environment(cls) -> Self:
        """Reads the variables.

        Raises:
            SparkifyError: names every wrong variable, but shows no value: it may be a secret.
        """
        prefix = cls.model_config["env_prefix"]
        fields = cls.model_fields.items()
        known = {str(field.validation_alias or prefix + name.upper()) for name, field in fields}
        problems = []
        for name in sorted(n for n in os.environ if n.startswith(prefix) and n not in known):
            guess = get_close_matches(name, known, n=1, cutoff=0.85)
            hint = f": maybe {guess[0]}" if guess else ""
            message = f"{name} is not a variable of Sparkify{hint}"
            if not cls.is_prefix_shared:
                problems.append(message)
            elif guess and guess[0] not in os.environ:
                warn_once(message)
        try:
            settings = cls()
        except ValidationError as error:
            for problem in error.errors():
                message = problem["msg"].removeprefix("Value error, ")
                if problem["loc"]:
                    name = prefix + str(problem["loc"][0]).upper().removeprefix(prefix)
                    message = f"{name} is wrong: {message[0].lower()}{message[1:]}"
                problems.append(message)
        if problems:
            raise SparkifyError(
                "Wrong settings: " + "; ".join(problems) + ". "
                "See .env.example; a file .env in this folder overrides the shell."
            )
        return settings

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.strip():
            return cls.model_fields[info.field_name].default
        if printable(value) != value:
            raise ValueError("it contains control characters, or is not UTF-8 text")
        form, problem = FORMS.get(info.field_name, (".*", ""))
        if not re.fullmatch(form, value):
            raise ValueError(problem)
        # Path.expanduser fails at ~nobody
        return os.path.expanduser(value) if form in (FILE, FOLDER) else value  # noqa: PTH111


class Settings(Environment):
    """The variables `SPARKIFY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SPARKIFY_")

    target: Literal["duckdb", "redshift"] = "duckdb"
    duckdb_path: Path = Path("sparkify.duckdb")
    report_path: Path = Path("listening_report.html")
    export_path: Path | None = None  # folder of Parquet files
    song_data: str | None = None  # a folder, or an address in S3
    log_data: str | None = None
    s3_anonymous: bool = False
    s3_work: str | None = None
    max_rejected_share: float = Field(0.01, ge=0, le=1)
    audit_days: float = Field(7, ge=0, le=365)  # between two audits of all rows
    automation: bool = False  # the initial state of sensors and the schedule
    schedule: str = "0 6 * * *"  # of the daily refresh, as cron
    timezone: str = "UTC"  # of the schedule
    max_age_hours: float | None = Field(None, ge=0.1, le=87_600)  # of refreshes and newest event
    alert_webhook: SecretStr | None = None  # secret: its URL lets anyone post to the channel
    ui_url: str = "http://127.0.0.1:3000"  # for the links in alerts

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.song_data is None) != (self.log_data is None):
            raise ValueError(
                "only one of SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA is set: set both, or neither "
                "for the sample data"
            )
        if self.export_path and self.target != "duckdb":
            raise ValueError(
                "SPARKIFY_EXPORT_PATH is only for DuckDB, where readers and runs block each other. "
                "On Redshift they do not: unset it, and let readers query the tables"
            )
        return self


class RedshiftSettings(Environment):
    """The variables `REDSHIFT_<NAME>`: where the warehouse is and how to log in."""

    model_config = SettingsConfigDict(env_prefix="REDSHIFT_")
    is_prefix_shared = True

    host: str | None = None  # optional with IAM, which looks it up
    port: int = Field(5439, ge=1, le=65_535)
    database: str = "dev"
    schema_name: str = Field("sparkify", validation_alias="REDSHIFT_SCHEMA")
    user: str | None = None
    password: SecretStr | None = None
    secret: str | None = None  # in Secrets Manager, instead of user and password
    cluster: str | None = None  # with IAM: this or the workgroup
    workgroup: str | None = None
    region: str | None = None  # of the cluster or workgroup
    sslmode: Literal["verify-full", "verify-ca"] = "verify-full"
    copy_role: str = "default"
    slices: int = Field(4, ge=1, le=128)
    timeout_seconds: int = Field(3_600, ge=1)

    @property
    def address(self) -> str:
        """Where the tables are, without a secret."""
        place = self.host or self.cluster or self.workgroup
        return f"{self.database}.{self.schema_name} on {place}"

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        ways = {
            "password": ("host", "user"),
            "secret": ("host",),
            "cluster": ("user",),
            "workgroup": (),
        }
        chosen = [way for way in ways if getattr(self, way)]
        if len(chosen) != 1 or not all(getattr(self, name) for name in ways[chosen[0]]):
            raise ValueError(
                "choose one way to log in: set REDSHIFT_PASSWORD with REDSHIFT_HOST and "
                "REDSHIFT_USER, or REDSHIFT_SECRET with REDSHIFT_HOST, or, for IAM, "
                "REDSHIFT_CLUSTER with REDSHIFT_USER, or REDSHIFT_WORKGROUP"
            )
        return self
