"""The first hour of a new user: the README's commands, the UI, own files, a mistake, and back."""

import json
import re
import shutil
from pathlib import Path

import pytest

from sparkify_assets.definitions import PACKAGE, SQL
from sparkify_assets_tests.chromium import chromium, expect, needs_chromium, new_page
from sparkify_assets_tests.platform import EVENT, SONG
from sparkify_assets_tests.processes import checkout, dagster_dev, run
from sparkify_assets_tests.test_browser import WINDOW, button, run_started_by
from sparkify_assets_tests.test_docs import README, blocks

pytestmark = [pytest.mark.browser, needs_chromium]


def test_the_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, _), _, (own, _), *_ = blocks(README, "sh")
    _, refresh, server_command = first.strip().split(" && ")  # the tests run where it is installed
    home = checkout(tmp_path / "home")
    shutil.rmtree(home / ".home")
    (home / ".home").mkdir()  # nothing has ever run there
    for part in (PACKAGE, SQL):  # of one's own, to change
        (home / part.name).unlink()
        shutil.copytree(part, home / part.name)
    monkeypatch.setenv("PYTHONPATH", str(home))

    done = run(home, refresh)
    assert done.returncode == 0, done.stdout
    assert f"listening_report: {home}/listening_report.html, " in done.stdout

    (home / "song_data").mkdir()
    (home / "log_data").mkdir()
    (home / "song_data" / "song.json").write_text(json.dumps(SONG))
    (home / "log_data" / "day.json").write_text(json.dumps(EVENT))
    variables = dict(re.findall(r"(SPARKIFY_\w+)=(\S+)", own.replace("/data/", f"{home}/")))
    mine = run(home, own.strip().splitlines()[-1], **variables)
    assert mine.returncode == 0, mine.stdout
    assert re.search(r"^1 +Made +The Makers +1 +1$", mine.stdout, re.MULTILINE)
    assert (home / "mine.html").exists()

    table, [(text, _)] = home / "sql" / "marts" / "plays_by_user.sql", blocks(README, "sql")
    with (
        dagster_dev(home, server_command) as server,
        chromium() as browser,
        new_page(browser, viewport=WINDOW) as page,
    ):
        page.goto(f"{server.url}/jobs")  # the run of the command line is there, and only that
        row = page.get_by_role("link", name="refresh").locator("xpath=ancestor::*[position()=4]")
        expect(row).to_contain_text("ago")
        page.goto(f"{server.url}/runs")
        expect(page.get_by_text("Success", exact=True)).to_have_count(1)

        table.write_text(text.replace("SELECT p.user_id,", "SELECT p.user_idd AS user_id,"))
        said = f"{table}:8: Unknown column: user_idd: maybe user_id"
        checked = run(home, "dg check defs")
        assert checked.returncode == 1
        assert said in checked.stdout
        page.goto(f"{server.url}/deployment/locations")
        page.get_by_role("button", name="Reload all").click()
        expect(page.get_by_text(said).first).to_be_visible()

        table.write_text(text)
        page.goto(f"{server.url}/deployment/locations")
        page.get_by_role("button", name="Reload all").click()
        expect(page.get_by_text("Loaded", exact=True)).to_be_visible()
        page.goto(f"{server.url}/assets/plays_by_user")
        made = run_started_by(server, button(page, "Materialize").click)
        assert made.materialized == {"plays_by_user"}
        assert all(made.checked.values())

        page.goto((home / "listening_report.html").as_uri())
        printed = page.pdf(format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 2
    again = run(home, refresh)  # without the variables: the sample, and nothing is new
    assert "staging_events: 0 files read (0 new, 0 changed; 30 unchanged" in again.stdout
