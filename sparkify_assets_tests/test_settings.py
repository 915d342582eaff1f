"""The environment as settings: defaults, values, and one clear message for all that is wrong."""

import re
from pathlib import Path

import pytest

from sparkify_assets.definitions import PACKAGE
from sparkify_assets.errors import SparkifyError, warn_once
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
    assert settings.max_rejected_share == 0.01
    sources = sources_of(settings)
    assert all(source.is_sample for source in sources.values())


def test_values_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARKIFY_DUCKDB_PATH", "other.duckdb")
    monkeypatch.setenv("SPARKIFY_SONG_DATA", "songs")
    monkeypatch.setenv("SPARKIFY_LOG_DATA", "~/logs")
    monkeypatch.setenv("SPARKIFY_MAX_REJECTED_SHARE", "0")
    settings = Settings.from_environment()
    assert settings.duckdb_path == Path("other.duckdb")
    assert settings.max_rejected_share == 0
    sources = sources_of(settings)
    assert sources["song_files"].uri == f"file://{tmp_path / 'songs'}"
    assert sources["event_files"].uri == f"file://{Path.home() / 'logs'}"


@pytest.mark.parametrize("blank", ["", "   ", "\N{NO-BREAK SPACE}"])
def test_a_blank_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for name in VARIABLES | REDSHIFT:
        monkeypatch.setenv(name, blank)
    assert Settings.from_environment() == Settings()
    with pytest.raises(SparkifyError, match="set REDSHIFT_PASSWORD"):
        RedshiftSettings.from_environment()
    monkeypatch.setenv("REDSHIFT_WORKGROUP", "w")
    assert RedshiftSettings.from_environment().schema_name == "sparkify"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"TARGET": "redshift", "EXPORT_PATH": "export"},
            "SPARKIFY_EXPORT_PATH is only for DuckDB",
        ),
        ({"EXPORT_PATH": "s3://bucket/export"}, "it is not a folder on this machine"),
    ],
)
def test_an_export_is_of_duckdb_and_to_this_machine(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"SPARKIFY_{name}", value)
    with pytest.raises(SparkifyError, match=said):
        Settings.from_environment()


@pytest.mark.parametrize("path", [".", "..", "/", "./x"])
def test_a_path_may_name_anything_here(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("SPARKIFY_DUCKDB_PATH", path)
    monkeypatch.setenv("SPARKIFY_REPORT_PATH", path)
    settings = Settings.from_environment()
    assert settings.duckdb_path == settings.report_path == Path(path)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SPARKIFY_TARGET": "secret-word"}, "SPARKIFY_TARGET is wrong: input should be 'duckdb'"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "1.5"}, "SPARKIFY_MAX_REJECTED_SHARE is wrong: input"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "-0.1"}, "SPARKIFY_MAX_REJECTED_SHARE is wrong: input"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "few"}, "SPARKIFY_MAX_REJECTED_SHARE is wrong: input"),
        ({"SPARKIFY_MAX_REJECTED_SHARE": "nan"}, "SPARKIFY_MAX_REJECTED_SHARE is wrong: input"),
        ({"SPARKIFY_SAMPLE_SCALE": "2"}, "SPARKIFY_SAMPLE_SCALE is not a variable of Sparkify[.]"),
        ({"SPARKIFY_DUCKDB_PATH": ":memory:"}, "SPARKIFY_DUCKDB_PATH is wrong: it is not the path"),
        ({"SPARKIFY_DUCKDB_PATH": "md:cloud"}, "SPARKIFY_DUCKDB_PATH is wrong: it is not the path"),
        ({"SPARKIFY_DUCKDB_PATH": "caf\udce9"}, "SPARKIFY_DUCKDB_PATH is wrong: .* not UTF-8 text"),
        (
            {"SPARKIFY_REPORT_PATH": "s3://b/r.html"},
            "SPARKIFY_REPORT_PATH is wrong: it is not the path",
        ),
        (
            {"SPARKIFY_REPORT_PATH": "a\x1b[31m"},
            "SPARKIFY_REPORT_PATH is wrong: it contains control",
        ),
        (
            {"SPARKIFY_LOG_DATA": "logs"},
            "only one of SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA is set",
        ),
        (
            {"SPARKIFY_SONG_DATA": "s"},
            "only one of SPARKIFY_SONG_DATA and SPARKIFY_LOG_DATA is set",
        ),
        ({"SPARKIFY_LOGDATA": "x"}, "SPARKIFY_LOGDATA is not a variable .*SPARKIFY_LOG_DATA"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match=said) as error:
        Settings.from_environment()
    assert "secret-word" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3:///logs",
        "s3:logs",
        "s3://AKIA:secret-word@bucket/logs",  # as Hadoop once wrote it
        "https://etl:secret-word@b.s3.amazonaws.com/x",
        "arn:aws:s3:::secret-word/logs",
        "gs://secret-word",
        "file:///secret-word",
    ],
)
@pytest.mark.parametrize("variable", ["SONG_DATA", "LOG_DATA", "S3_WORK"])
def test_an_address_that_is_none_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    monkeypatch.setenv("SPARKIFY_SONG_DATA", "songs")
    monkeypatch.setenv("SPARKIFY_LOG_DATA", "logs")
    monkeypatch.setenv(f"SPARKIFY_{variable}", address)
    said = f"SPARKIFY_{variable} is wrong: it is neither a folder nor s3://bucket/folder"
    with pytest.raises(SparkifyError, match=said) as error:
        Settings.from_environment()
    assert "secret-word" not in str(error.value)


def test_the_home_of_nobody_is_a_folder_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARKIFY_DUCKDB_PATH", "~no-such-user/x.duckdb")
    assert Settings.from_environment().duckdb_path == Path("~no-such-user/x.duckdb")


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARKIFY_TARGET", "x")
    monkeypatch.setenv("SPARKIFY_MAX_REJECTED_SHARE", "x")
    monkeypatch.setenv("SPARKIFY_COLOUR", "x")
    with pytest.raises(SparkifyError, match=r"COLOUR.*TARGET.*MAX_REJECTED_SHARE.*\.env in this"):
        Settings.from_environment()


def test_every_variable_is_in_the_example_file_commented_out() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") for line in lines if line)
    assert {m[1] for line in lines if (m := re.match(r"# (\w+)=", line))} == (VARIABLES | REDSHIFT)


def test_every_variable_is_in_the_reference_and_no_document_has_another() -> None:
    documents = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    name = re.compile(r"(?:SPARKIFY|REDSHIFT)_\w+")
    named = {document.name: set(name.findall(document.read_text())) for document in documents}
    assert named["reference.md"] == VARIABLES | REDSHIFT
    assert set().union(*named.values()) == VARIABLES | REDSHIFT


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
        (
            {},
            "choose one way to log in: set REDSHIFT_PASSWORD with REDSHIFT_HOST and REDSHIFT_USER",
        ),
        ({"REDSHIFT_HOST": ""}, "REDSHIFT_PASSWORD with REDSHIFT_HOST and"),
        ({"REDSHIFT_HOST": "", "REDSHIFT_USER": ""}, "REDSHIFT_HOST and REDSHIFT_USER"),
        ({"REDSHIFT_WORKGROUP": "w"}, "choose one way to log in: .*, or REDSHIFT_WORKGROUP"),
        ({"REDSHIFT_SSLMODE": "prefer"}, "REDSHIFT_SSLMODE is wrong: input should be 'verify-f"),
        ({"REDSHIFT_PORT": "https"}, "REDSHIFT_PORT is wrong: input should be a valid integer"),
        ({"REDSHIFT_SCHEMA": "Music"}, "REDSHIFT_SCHEMA is wrong: it may have only lower-case"),
        (
            {"REDSHIFT_COPY_ROLE": "aws_access_key_id=a;aws_secret_access_key=secret-word"},
            "REDSHIFT_COPY_ROLE is wrong: it is neither the ARN of a role",
        ),
        (
            {"REDSHIFT_HOST": "etl:secret-word@host"},
            "REDSHIFT_HOST is wrong: it must be a host name",
        ),
        ({"REDSHIFT_HOST": "jdbc://host/dev"}, "REDSHIFT_HOST is wrong: it must be a host name"),
        ({"REDSHIFT_HOST": "host secret-word"}, "REDSHIFT_HOST is wrong: it must be a host name"),
        ({"REDSHIFT_SSLMODE": "secret-word"}, "REDSHIFT_SSLMODE is wrong: input should be"),
        ({"REDSHIFT_PORT": "secret-word"}, "REDSHIFT_PORT is wrong: input should be"),
        (
            {"REDSHIFT_SCHEMA": "secret-word"},
            "REDSHIFT_SCHEMA is wrong: it may have only lower-case",
        ),
        ({"REDSHIFT_USER": "secret-word\n"}, "REDSHIFT_USER is wrong: it contains control char"),
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


@pytest.mark.parametrize(
    ("name", "maybe"),
    [
        ("REDSHIFT_PASWORD", "REDSHIFT_PASSWORD"),
        ("REDSHIFT_USERNAME", "REDSHIFT_USER"),
        ("REDSHIFT_SSL_MODE", "REDSHIFT_SSLMODE"),
        ("REDSHIFT_DBNAME", None),
        ("REDSHIFT_CONN_ID", None),
        ("REDSHIFT_PASSWORDS", None),  # it is set: somebody else's is another one
    ],
)
def test_what_may_be_a_neighbours_variable_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, maybe: str | None
) -> None:
    warn_once.cache_clear()
    ours = {"REDSHIFT_WORKGROUP": "w"} if maybe else PASSWORD
    for variable, value in {**ours, name: "secret-word"}.items():
        monkeypatch.setenv(variable, value)
    for _ in range(2):
        RedshiftSettings.from_environment()
    said = f"{name} is not a variable of Sparkify: maybe {maybe}"
    assert caplog.messages == ([said] if maybe else [])


@pytest.mark.parametrize("work", [None, "secret-work"])
def test_redshift_needs_a_work_folder(monkeypatch: pytest.MonkeyPatch, work: str | None) -> None:
    for name, value in PASSWORD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SparkifyError, match="SPARKIFY_S3_WORK is not a folder in S3") as error:
        warehouse_of(Settings(target="redshift", s3_work=work))
    assert "secret-work" not in str(error.value)


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
