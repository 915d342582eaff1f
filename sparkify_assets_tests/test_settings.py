"""The environment as settings: defaults, values, and one clear message for all that is wrong."""

import re
from pathlib import Path

import pytest

from sparkify_assets.definitions import PACKAGE
from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import RedshiftSettings, Settings
from sparkify_assets.sources import sources_of
from sparkify_assets.warehouse import warehouse_of

ROOT = PACKAGE.parent
VARIABLES = {f"SPARKIFY_{name.upper()}" for name in Settings.model_fields}
REDSHIFT = {f"REDSHIFT_{name.upper()}" for name in RedshiftSettings.model_fields}
REDSHIFT ^= {"REDSHIFT_SCHEMA_NAME", "REDSHIFT_SCHEMA"}
PASSWORD = {"REDSHIFT_HOST": "h", "REDSHIFT_USER": "u", "REDSHIFT_PASSWORD": "secret-word"}


def test_defaults_need_nothing() -> None:
    settings = Settings.from_environment()
    assert settings.target == "duckdb"
    assert settings.duckdb_path == Path("sparkify.duckdb")
    assert settings.sample_scale == 1
    assert settings.max_rejected_share == 0.01
    sources = sources_of(settings)
    assert all(source.is_sample for source in sources.values())
    assert sources["event_files"].address == str(Path.cwd() / "data" / "sample" / "log_data")


def test_values_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARKIFY_DUCKDB_PATH", "other.duckdb")
    monkeypatch.setenv("SPARKIFY_SONG_DATA", "songs")
    monkeypatch.setenv("SPARKIFY_LOG_DATA", "~/logs")
    monkeypatch.setenv("SPARKIFY_SAMPLE_SCALE", "2.5")
    monkeypatch.setenv("SPARKIFY_MAX_REJECTED_SHARE", "0")
    settings = Settings.from_environment()
    assert settings.duckdb_path == Path("other.duckdb")
    assert settings.sample_scale == 2.5
    assert settings.max_rejected_share == 0
    sources = sources_of(settings)
    assert sources["song_files"].address == str(tmp_path / "songs")
    assert sources["event_files"].address == str(Path.home() / "logs")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARKIFY_TARGET", "")
    assert Settings.from_environment().target == "duckdb"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"SPARKIFY_TARGET": "snowflake"},
            "SPARKIFY_TARGET is 'snowflake': input should be 'duckdb'",
        ),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "1.5"}, "SPARKIFY_MAX_REJECTED_SHARE is '1.5': input"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "-0.1"}, "SPARKIFY_MAX_REJECTED_SHARE is '-0.1': input"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "few"}, "SPARKIFY_MAX_REJECTED_SHARE is 'few': input"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "nan"}, "SPARKIFY_MAX_REJECTED_SHARE is 'nan': input"),
        ({"SPARKIFY_SAMPLE_SCALE": "0"}, "SPARKIFY_SAMPLE_SCALE is '0': input"),
        ({"SPARKIFY_SAMPLE_SCALE": "inf"}, "SPARKIFY_SAMPLE_SCALE is 'inf': input"),
        ({"SPARKIFY_DUCKDB_PATH": ":memory:"}, "SPARKIFY_DUCKDB_PATH is ':memory:': it names no"),
        ({"SPARKIFY_DUCKDB_PATH": "md:cloud"}, "SPARKIFY_DUCKDB_PATH is 'md:cloud': it names no"),
        ({"SPARKIFY_LOG_DATA": "logs"}, "SPARKIFY_LOG_DATA is set and SPARKIFY_SONG_DATA is not"),
        ({"SPARKIFY_SONG_DATA": "s"}, "SPARKIFY_SONG_DATA is set and SPARKIFY_LOG_DATA is not"),
        ({"SPARKIFY_LOGDATA": "x"}, "SPARKIFY_LOGDATA is not a variable .*SPARKIFY_LOG_DATA"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=said):
        Settings.from_environment()


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARKIFY_TARGET", "x")
    monkeypatch.setenv("SPARKIFY_SAMPLE_SCALE", "x")
    monkeypatch.setenv("SPARKIFY_COLOUR", "x")
    with pytest.raises(SparkifyError, match=r"COLOUR.*TARGET.*SAMPLE_SCALE.*\.env in this"):
        Settings.from_environment()


def test_every_variable_is_in_the_example_file_commented_out() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") for line in lines if line)
    assert {m[1] for line in lines if (m := re.match(r"# (\w+)=", line))} == (VARIABLES | REDSHIFT)


def test_every_variable_is_in_the_readme() -> None:
    assert set(re.findall(r"(?:SPARKIFY|REDSHIFT)_\w+", (ROOT / "README.md").read_text())) == (
        VARIABLES | REDSHIFT
    )


@pytest.mark.parametrize(
    "variables",
    [
        PASSWORD,
        {"REDSHIFT_CLUSTER": "c", "REDSHIFT_USER": "u", "REDSHIFT_REGION": "us-west-2"},
        {"REDSHIFT_WORKGROUP": "w", "REDSHIFT_SCHEMA": "music"},
        {"REDSHIFT_WORKGROUP": "w", "REDSHIFT_HOST": "localhost", "REDSHIFT_SSLMODE": "verify-ca"},
    ],
)
def test_ways_into_redshift(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = RedshiftSettings.from_environment()
    assert settings.schema_name == variables.get("REDSHIFT_SCHEMA", "sparkify")
    assert settings.port == 5439
    assert "secret-word" not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "set REDSHIFT_PASSWORD .with REDSHIFT_HOST and REDSHIFT_USER., or, .* by IAM"),
        ({"REDSHIFT_HOST": ""}, "REDSHIFT_PASSWORD is set and REDSHIFT_HOST is not"),
        ({"REDSHIFT_HOST": "", "REDSHIFT_USER": ""}, "REDSHIFT_HOST and REDSHIFT_USER is not"),
        ({"REDSHIFT_WORKGROUP": "w"}, "REDSHIFT_PASSWORD and REDSHIFT_WORKGROUP are set: choose"),
        ({"REDSHIFT_SSLMODE": "prefer"}, "REDSHIFT_SSLMODE is 'prefer': input should be 'verify-f"),
        ({"REDSHIFT_PORT": "https"}, "REDSHIFT_PORT is 'https': input should be a valid integer"),
        ({"REDSHIFT_SCHEMA": "Music"}, "REDSHIFT_SCHEMA is 'Music': string should match pattern"),
        (
            {"REDSHIFT_COPY_ROLE": "aws_access_key_id=a;aws_secret_access_key=secret-word"},
            "REDSHIFT_COPY_ROLE is wrong: it is neither the ARN of a role",
        ),
        ({"REDSHIFT_HOST": "etl:secret-word@host"}, "REDSHIFT_HOST is wrong: it is not the name"),
        ({"REDSHIFT_HOST": "jdbc://host/dev"}, "REDSHIFT_HOST is wrong: it is not the name"),
        ({"REDSHIFT_HOST": "host secret-word"}, "REDSHIFT_HOST is wrong: it is not the name"),
        ({"REDSHIFT_PASWORD": "secret-word"}, "REDSHIFT_PASWORD is not .*maybe REDSHIFT_PASSWORD"),
    ],
)
def test_a_wrong_setting_of_redshift_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in {**(PASSWORD if variables else {}), **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=said) as error:
        RedshiftSettings.from_environment()
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize("work", [None, "work", "https://bucket/work", "s3://", "s3:///work"])
def test_redshift_needs_a_work_folder(monkeypatch: pytest.MonkeyPatch, work: str | None) -> None:
    for name, value in PASSWORD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=f"SPARKIFY_S3_WORK is {work}: Redshift copies from S3"):
        warehouse_of(Settings(target="redshift", s3_work=work))


@pytest.mark.parametrize(
    ("work", "data", "is_refused"),
    [
        ("s3://b/data", "s3://b/data", True),
        ("s3://b/data/work/", "s3://b/data", True),
        ("s3://b/work", "s3://b/work/log_data/", True),
        ("s3://b/work", "s3://b", True),
        ("s3://b", "s3://b/log_data", True),
        ("s3://b/data_work", "s3://b/data", False),
        ("s3://b/work", "s3://other/work", False),
        ("s3://b/work", "/data", False),
        ("s3://b/work", None, False),
    ],
)
def test_the_work_folder_is_apart_from_the_sources(
    monkeypatch: pytest.MonkeyPatch, work: str, data: str | None, is_refused: bool
) -> None:
    for name, value in PASSWORD.items():
        monkeypatch.setenv(name, value)
    songs = "elsewhere" if data else None
    settings = Settings(target="redshift", s3_work=work, log_data=data, song_data=songs)
    if is_refused:
        said = f"SPARKIFY_S3_WORK is {work} and SPARKIFY_LOG_DATA is {data}: .* Set SPARKIFY_S3_W"
        with pytest.raises(SparkifyError, match=said):
            warehouse_of(settings)
    else:
        assert warehouse_of(settings).kind == "redshift"
