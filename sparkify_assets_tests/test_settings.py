"""The environment as settings: defaults, values, and one clear message for all that is wrong."""

import re
from pathlib import Path

import pytest

from sparkify_assets.definitions import PACKAGE
from sparkify_assets.errors import SparkifyError
from sparkify_assets.settings import Settings
from sparkify_assets.sources import sources_of

ROOT = PACKAGE.parent
VARIABLES = {f"SPARKIFY_{name.upper()}" for name in Settings.model_fields}


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
    assert {m[1] for line in lines if (m := re.match(r"# (SPARKIFY_\w+)=", line))} == VARIABLES


def test_every_variable_is_in_the_readme() -> None:
    assert set(re.findall(r"SPARKIFY_\w+", (ROOT / "README.md").read_text())) == VARIABLES
