"""The commands of the README, run as a user runs them, in a folder of their own."""

import json
import re
import shutil
from pathlib import Path

import pytest

from sparkify_assets.definitions import PACKAGE, SQL
from sparkify_assets_tests.platform import ASSETS, GROUPS, RedshiftPlatform
from sparkify_assets_tests.processes import checkout, run, run_dg

MATERIALIZED = ASSETS - GROUPS["source"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return checkout(tmp_path / "home")


def test_refresh_reads_well_and_ends_with_the_answer(home: Path) -> None:
    # each of them by itself: `dg` passes both on as they come, and either may come first
    done = run(home, "bash -c 'dg launch --job refresh 2>log.txt'")
    log = (home / "log.txt").read_text()
    assert done.returncode == 0, log
    lines = log.splitlines()
    said = [line for line in lines if re.match(r"\d\d:\d\d:\d\d INFO    \w+: ", line)]
    assert {line.split()[2] for line in said} == {f"{a}:" for a in {*MATERIALIZED, "refresh"}}
    assert len(said) <= 2 * len(MATERIALIZED) + 1
    assert re.search(r"songplays: [\d,]+ rows, 6 of 6 checks passed, [\d.]+ s", log)
    assert not re.search("DEBUG|Traceback|Warning", log + done.stdout)
    head, _, *answer = [line for line in done.stdout.splitlines() if line.strip()]
    assert re.match(r"rank +song +artist +plays +listeners", head)
    assert len(answer) == 10
    assert max(map(len, answer)) <= 100
    report, summary = [line for line in lines if line.strip()][-2:]
    assert f"listening_report: {home}/listening_report.html, " in report
    checks = 1 + sum(map(int, re.findall(r"(\d+) of \1 checks passed", log)))  # the report's
    assert re.search(
        rf"INFO    refresh: {len(MATERIALIZED)} assets materialized, {checks} checks "
        r"passed, 0 warnings, [\d.]+ s. To see it: dg dev, page Runs$",
        summary,
    )
    assert (home / ".dagster").is_dir()

    assert (home / "listening_report.html").read_text().startswith("<!doctype html>")

    shutil.rmtree(home / ".dagster")  # past runs are forgotten, what they loaded is not
    again = run(home, "dg launch --assets 'group:staging'")
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("checks passed") == 2
    assert "Warning" not in again.stdout
    assert "staging_events: 0 files read (0 new, 0 changed; 30 unchanged, " in again.stdout


def test_redshift_is_a_matter_of_the_environment(home: Path, redshift: RedshiftPlatform) -> None:
    done = run_dg(
        home,
        "launch --assets staging_songs",
        SPARKIFY_TARGET="redshift",
        SPARKIFY_S3_WORK=redshift.settings["s3_work"],
    )
    assert done.returncode == 0, done.stdout
    assert "staging_songs: 1,000 rows, " in done.stdout
    assert not re.search("DEBUG|Traceback|Warning", done.stdout)
    assert redshift.server.password not in done.stdout
    assert redshift.rows("SELECT COUNT(*) FROM staging_songs") == [(1_000,)]
    assert not (home / "sparkify.duckdb").exists()


def test_a_failed_refresh_ends_with_a_paragraph(home: Path) -> None:
    for folder, text in {"song_data": '{"song_id": 1}', "log_data": "garbage\n"}.items():
        (home / folder).mkdir()
        (home / folder / "file.json").write_text(text)
    done = run_dg(
        home,
        "launch --job refresh",
        SPARKIFY_SONG_DATA="song_data",
        SPARKIFY_LOG_DATA="log_data",
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert (
        "staging_events was not loaded: 1 of 1 records of event_files cannot be read" in done.stdout
    )
    assert "file.json, line 1: not " in done.stdout
    assert "The table staging_events stays as it was." in done.stdout


def test_one_asset_without_its_staging_says_what_to_do(home: Path) -> None:
    done = run(home, "dagster asset materialize --select users -m sparkify_assets.definitions")
    assert done.returncode != 0
    assert "events does not exist yet, and users is made from it." in done.stdout
    assert "Materialize it first: dg launch --assets events" in done.stdout


def test_a_wrong_setting_is_one_line(home: Path) -> None:
    done = run(home, "dg launch --job refresh", SPARKIFY_TARGET="snowflake")
    assert done.returncode != 0
    assert "SPARKIFY_TARGET is wrong: input should be 'duckdb' or 'redshift'" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "command", ["dg check defs", "dagster definitions validate -w workspace.yaml"]
)
def test_definitions_validate_without_a_warning(home: Path, command: str) -> None:
    done = run(home, command)
    assert done.returncode == 0, done.stdout
    ours = [line for line in done.stdout.splitlines() if "Warning" in line and "click" not in line]
    assert ours == []


def test_what_dg_scaffolds_is_loaded(tmp_path: Path) -> None:
    home = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, home / PACKAGE.name, ignore=ignored)
    shutil.copytree(SQL, home / "sql")
    shutil.copy(PACKAGE.parent / "pyproject.toml", home)
    here = {"PYTHONPATH": str(home)}
    made = run(home, "dg scaffold defs dagster.schedule nightly.py", **here)
    assert made.returncode == 0, made.stdout
    listed = run(home, "dg list defs --json", **here)
    assert listed.returncode == 0, listed.stdout
    known = json.loads(listed.stdout[listed.stdout.index("{") :])
    assert {"nightly", "daily_refresh"} == {each["name"] for each in known["schedules"]}
    tree = run(home, "dg list component-tree", **here)
    assert tree.returncode == 0, tree.stdout
