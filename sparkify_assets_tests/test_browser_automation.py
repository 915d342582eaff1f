"""What a person sees of what runs by itself: a real `dg dev`, files that come and break."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from sparkify_assets_tests.chromium import Locator, Page, chromium, expect, needs_chromium, new_page
from sparkify_assets_tests.daemon import Webhook, webhook
from sparkify_assets_tests.lineage import GROUPS, UPSTREAM
from sparkify_assets_tests.platform import Platform
from sparkify_assets_tests.processes import Server, checkout, dagster_dev, wait_for
from sparkify_assets_tests.test_lineage import MADE_FROM

pytestmark = [pytest.mark.browser, needs_chromium]

MATERIALIZED = UPSTREAM.keys() - GROUPS["source"]
VALUE = "Xyzzy"
LINEAGE = """{ assetNodeOrError(assetKey: {path: ["most_played_songs"]}) { ... on AssetNode {
  assetMaterializations(limit: 1) { metadataEntries { ... on TableColumnLineageMetadataEntry {
    lineage { columnName columnDeps { assetKey { path } columnName } } } } } } } }"""
STATUS = """{ sensorOrError(sensorSelector: { repositoryLocationName: "sparkify_assets",
  repositoryName: "__repository__", sensorName: "new_files" }) {
  ... on Sensor { minIntervalSeconds sensorState { status } } } }"""


@pytest.fixture(scope="module")
def channel() -> Iterator[Webhook]:
    with webhook() as channel:
        yield channel


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The folders of a catalogue and of a log, each with a file."""
    platform = Platform(tmp_path_factory.mktemp("files"))
    platform.write_songs([{"song_id": "SO1", "title": "Made"}])
    platform.write_events([{}, {"ts": 1541105831796}])
    return platform


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, files: Platform, channel: Webhook
) -> Iterator[Server]:
    folder = checkout(tmp_path_factory.mktemp("dagster_dev") / "checkout")
    settings = {"SONG_DATA": files.song_data, "LOG_DATA": files.log_data}
    settings["ALERT_WEBHOOK"] = channel.url  # type: ignore[assignment]
    lines = [f"SPARKIFY_{name}={value}\n" for name, value in settings.items()]
    (folder / ".env").write_text("".join(lines))
    with dagster_dev(folder) as started:
        yield started


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    with chromium() as browser, new_page(browser) as opened:
        yield opened


def switch_of(page: Page, name: str) -> Locator:
    """The switch of a sensor or schedule on the page Automation, behind the box that selects it."""
    row = page.locator("[data-index]").filter(has=page.get_by_text(name, exact=True))
    return row.locator("label").nth(1)


def materializations(server: Server) -> set[str]:
    found = server.ask(
        "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }"
    )
    return {n["assetKey"]["path"][-1] for n in found["assetNodes"] if n["assetMaterializations"]}


def test_files_come_and_break_and_nobody_has_to_look(
    page: Page, server: Server, files: Platform, channel: Webhook
) -> None:
    a_switch_turns_the_sensor_on(page, server)
    files.write_events([{"sessionId": 2, "song": "Late"}], "late.json")
    run = a_run_begins_within_a_minute(page, server)
    wait_for("the load", lambda: "staging_events" in materializations(server))
    files.write_events([{"ts": VALUE}] * 1_200, "damaged.json")  # while the run goes on
    its_tables_checks_and_report_are_there(page, server, run)
    what_columns_are_made_from_is_served(server)
    an_alert_links_to_the_run_that_failed(page, channel)


def a_switch_turns_the_sensor_on(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/automation")
    for name in ("changed_tables", "daily_refresh", "new_files"):
        expect(switch_of(page, name).get_by_role("checkbox")).to_be_enabled()
        expect(switch_of(page, name).get_by_role("checkbox")).not_to_be_checked()
    switch_of(page, "new_files").click()
    expect(switch_of(page, "new_files").get_by_role("checkbox")).to_be_checked()
    # who leaves the page before the server has heard of it changes nothing
    wait_for("the switch", lambda: "RUNNING" in str(server.ask(STATUS)))


def a_run_begins_within_a_minute(page: Page, server: Server) -> str:
    """Which is two looks at the files, if the machine is not busy."""
    assert server.ask(STATUS)["sensorOrError"]["minIntervalSeconds"] <= 30
    page.goto(f"{server.url}/runs")
    (run,) = wait_for("a run", server.statuses)
    expect(page.locator(f"a[href*='{run}']").first).to_be_visible()
    expect(page.get_by_text("new_files").first).to_be_visible()  # who started it
    return run


def its_tables_checks_and_report_are_there(page: Page, server: Server, run: str) -> None:
    page.goto(f"{server.url}/runs/{run}")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    assert materializations(server) == MATERIALIZED
    page.goto(f"{server.url}/assets/most_played_songs?view=events")
    preview = page.get_by_role("row").filter(has_text="preview").get_by_role("table")
    for number, cells in enumerate((("1", "Made", "The Makers", "2"), ("2", "Late")), start=1):
        for cell in cells:
            expect(preview.get_by_role("row").nth(number)).to_contain_text(cell)
    made_from = page.get_by_role("row").filter(has_text="columns_made_from").get_by_role("table")
    listeners = made_from.get_by_role("row").filter(has_text="listeners")
    expect(listeners).to_contain_text("songplays.user_id")
    page.goto(f"{server.url}/assets/songplays?view=checks")
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()
    page.goto(f"{server.url}/assets/listening_report?view=events")
    report = server.folder / "listening_report.html"
    expect(page.get_by_role("link", name=report.as_uri())).to_be_visible()
    assert "Late" in report.read_text()


def what_columns_are_made_from_is_served(server: Server) -> None:
    """The open-source UI of 1.13 draws nothing of it, but what asks its server is told."""
    (latest,) = server.ask(LINEAGE)["assetNodeOrError"]["assetMaterializations"]
    (lineage,) = (entry["lineage"] for entry in latest["metadataEntries"] if "lineage" in entry)
    found: dict[str, Any] = {
        column["columnName"]: {
            f"{dep['assetKey']['path'][-1]}.{dep['columnName']}" for dep in column["columnDeps"]
        }
        for column in lineage
    }
    assert found == MADE_FROM["most_played_songs"]


def an_alert_links_to_the_run_that_failed(page: Page, channel: Webhook) -> None:
    wait_for("the alert", lambda: channel.texts)
    (text,) = channel.texts
    title, said, link = text.splitlines()
    assert title == "Sparkify: the job refresh failed."
    assert said.startswith("- staging_events was not loaded: 1,200 of 1,200 records of event_files")
    assert "The table staging_events stays as it was." in said
    assert VALUE not in text
    page.goto(link)
    expect(page.get_by_text("Failure", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile("staging_events was not loaded")).first).to_be_visible()
