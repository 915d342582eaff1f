"""The documents: their commands run, their links lead somewhere, their generated parts are current.

A command that needs what no test has says so; one that another test runs is listed below. The steps
of docs/procedures.md are run by test_procedures.py.
"""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks.simulator import Plan, write_event_files, write_song_files
from sparkify_assets_tests.platform import ASSETS, GROUPS, Platform, failure_of
from sparkify_assets_tests.processes import ROOT, checkout, run, run_dg

README, TABLE = ROOT / "README.md", ROOT / "docs" / "add_a_table.md"
DOCUMENTS = [
    README,
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
]
TESTS = "sparkify_assets_tests"
ELSEWHERE = {  # commands, and what runs them: a file, and how the command is spelled there
    "pip install -e . && dg launch --job refresh && dg dev": (
        f"{TESTS}/test_command_line.py",
        "'dg launch --job refresh 2>",
    ),
    "pip install -e '.[test]' && pytest": (".ci/run", "pip install -q -e '.[test]'"),
    "pip install -e .": (".ci/run", "pip install -q -e '.[test]'"),
    "python docs/reference.py": (f"{TESTS}/test_docs.py", 'ROOT / "docs" / "reference.py"'),
    "dg launch --job refresh": (f"{TESTS}/test_command_line.py", "'dg launch --job refresh 2>"),
    "dagster asset materialize --select users -m sparkify_assets.definitions": (
        f"{TESTS}/test_command_line.py",
        '"dagster asset materialize --select users -m sparkify_assets.definitions"',
    ),
    "dg launch --job reload": (f"{TESTS}/test_staging.py", 'jobs("reload")'),
    "dg launch --job drop_removed_tables": (
        f"{TESTS}/test_removed_tables.py",
        'resolve_job_def("drop_removed_tables")',
    ),
    "dg check defs": (f"{TESTS}/test_command_line.py", '"dg check defs"'),
    "dg list defs": (f"{TESTS}/test_command_line.py", '"dg list defs --json"'),
    "dg scaffold defs dagster.schedule nightly.py": (
        f"{TESTS}/test_command_line.py",
        '"dg scaffold defs dagster.schedule nightly.py"',
    ),
    "dg dev": (f"{TESTS}/processes.py", '"dg dev"'),
    "dagster dev": (f"{TESTS}/test_history.py", '"dagster dev"'),
    "dagster-daemon run": (f"{TESTS}/test_history.py", '"dagster-daemon run -w workspace.yaml"'),
    "pytest -m faults": (".ci/run", "pytest ||"),
    "pytest -m browser -n 0": (".ci/run", "pytest -m browser -n 0"),
    "python -m benchmarks.redshift_cost": (f"{TESTS}/test_redshift_cost.py", "main("),
    "duckdb -readonly sparkify.duckdb < sql/analysis/who_listens_most.sql": (
        f"{TESTS}/test_analysis.py",  # duckdb's own command line is no dependency of the tests
        "who_listens_most",
    ),
}
HERE = {"/data/": "data/", "--scale 100 ": "--scale 0.02 ", "--scale 400 ": "--scale 0.02 "}
HERE |= {"'sparkify.duckdb'": "'mine.duckdb'"}
PROGRAMS = "aws|dg|dagster|dagster-daemon|docker|duckdb|pip|pytest|python|systemctl"
SPAN = rf"`((?:{PROGRAMS}) [^`]+)`(?: \((needs AWS)\))?"
LACKING = {"needs AWS", "needs a container engine", "needs systemd", "needs another machine"}


def blocks(document: Path, language: str) -> list[tuple[str, str]]:
    """Text of the fenced blocks, and what is said beside the language."""
    found = re.findall(r"^```(\w+)(.*)\n((?:.*\n)*?)```", document.read_text(), re.MULTILINE)
    return [(text.strip(), said.strip()) for kind, said, text in found if kind == language]


def commands() -> dict[str, bool]:
    """Every command in the documents, in their order, and whether it needs what no test has."""
    found: dict[str, bool] = {}
    for document in DOCUMENTS:
        found |= {text: said in LACKING for text, said in blocks(document, "sh")}
        prose = re.sub(r"^```(.|\n)*?^```", "", document.read_text(), flags=re.MULTILINE)
        found |= {text: bool(said) for text, said in re.findall(SPAN, prose)}
    return found


@pytest.mark.faults  # it is as slow as they are
def test_every_command_runs(tmp_path: Path) -> None:
    found = commands()
    assert found.keys() >= ELSEWHERE.keys()
    assert all(text in (ROOT / file).read_text() for file, text in ELSEWHERE.values())
    home = checkout(tmp_path / "home")
    for name in ("benchmarks", "docs", ".env.example", "README.md"):
        (home / name).symlink_to(ROOT / name)
    (home / "sql").unlink()
    shutil.copytree(ROOT / "sql", home / "sql")
    (home / "sql" / "marts" / "plays_by_user.sql").write_text(blocks(TABLE, "sql")[0][0])
    plan = Plan(songs=20, events=600, days=3)
    write_song_files(home / "data" / "song_data", plan)
    write_event_files(home / "data" / "log_data", plan)
    variables = {f"SPARKIFY_{n}_DATA": f"data/{n.lower()}_data" for n in ("SONG", "LOG")}
    variables |= {"SPARKIFY_DUCKDB_PATH": "mine.duckdb", "PYTHONPATH": str(home)}
    to_run = [c for c, is_lacking in found.items() if not is_lacking and c not in ELSEWHERE]
    assert "export SPARKIFY_SONG_DATA=/data" in to_run[0]  # loads what the others work on
    for command in to_run:
        for there, here in HERE.items():
            command = command.replace(there, here)
        given = variables | dict(re.findall(r"(SPARKIFY_\w+)=(\S+)", command))
        for line in command.splitlines():
            if line.startswith("dg ") and "plays_by_user" not in line:  # a table that forks lack
                done = run_dg(home, line.removeprefix("dg "), **given)
            else:
                done = run(home, shlex.join(["bash", "-ec", line]), **given)
            assert done.returncode == 0, f"{line}\n{done.stdout}"
    [(program, _)] = blocks(ROOT / "docs" / "queries.md", "python")
    program = program.replace("sparkify.duckdb", "mine.duckdb")
    done = run(home, shlex.join(["python", "-c", program]))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("user_id") == 1


def test_the_table_that_they_add_works_as_written(made: Platform) -> None:
    [(table, _)] = blocks(README, "sql")
    (same, _), (check, _), (tie, _) = blocks(TABLE, "sql")
    assert same == table
    (made.sql / "marts" / "plays_by_user.sql").write_text(table)
    (made.sql / "checks" / "plays_by_user__plausible.sql").write_text(check)
    result = made.make("plays_by_user")
    assert result.success, failure_of(result)
    evaluated = {e.check_name for e in result.get_asset_check_evaluations() if e.passed}
    said = re.findall(
        r"^\| `(\w+)` \| that|^\| `(\w+)` \| (?:NOT|PRIM|REF)", TABLE.read_text(), re.M
    )
    assert {a or b for a, b in said} | {"plausible"} <= evaluated
    counted = made.rows("SELECT user_id, plays FROM plays_by_user ORDER BY 1")
    assert counted == [(7, 3), (8, 1)]
    made.edit("marts/plays_by_user.sql", "plays.\n", f"plays.\n{tie}\n")
    made.write_events([{"userId": "8", "sessionId": 99}], name="more.json")
    result = made.run()
    assert result.success, failure_of(result)
    assert made.rows("SELECT user_id, plays FROM plays_by_user ORDER BY 1") == [(7, 3), (8, 2)]


def test_what_is_generated_is_current() -> None:
    for path, text in runpy.run_path(str(ROOT / "docs" / "reference.py"))["documents"]().items():
        assert path.read_text() == text, "run python docs/reference.py"


def test_the_readme_is_a_front_door() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    (first, _), (second, _), *_ = blocks(README, "sh")
    assert (first, second) == tuple(ELSEWHERE)[:2]
    [(drawing, _)] = blocks(README, "mermaid")
    drawn = set(re.findall(r"\w+", drawing))
    assert drawn >= ASSETS - {"listening_report"}
    [(diagram, _)] = blocks(ROOT / "docs" / "reference.md", "mermaid")
    assert set(re.findall(r"(\w+) \{$", diagram, re.M)) == GROUPS["star"]


def test_every_link_leads_somewhere() -> None:
    for document in [*DOCUMENTS, ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            file, _, anchor = target.partition("#")
            if file.startswith("https://"):
                continue
            path = document.parent / file if file else document
            assert path.exists(), f"{document.name}: {target}"
            heads = re.findall(r"^#+ (.+)$", path.read_text(), re.M) if anchor else []
            slugs = {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}
            assert not anchor or anchor in slugs, f"{document.name}: {target}"
    pictures = {path.name for path in ROOT.glob("docs/*.png")}
    shown = set(re.findall(r"\((?:docs/)?(\w+\.png)\)", "".join(d.read_text() for d in DOCUMENTS)))
    assert shown == pictures
