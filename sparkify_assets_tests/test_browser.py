"""What a person sees: a real `dg dev`, clicked through in headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb
import pytest

from sparkify_assets_tests.chromium import (
    Browser,
    Locator,
    Page,
    ViewportSize,
    chromium,
    expect,
    needs_chromium,
    new_page,
)
from sparkify_assets_tests.lineage import GROUPS, UPSTREAM
from sparkify_assets_tests.processes import Server, checkout, dagster_dev, wait_for

WINDOW = ViewportSize(width=1400, height=1600)
WHOLE_GRAPH = ViewportSize(width=3600, height=5000)  # at a zoom that writes it out
pytestmark = [pytest.mark.browser, needs_chromium]

MATERIALIZED = UPSTREAM.keys() - GROUPS["source"]
TABLES = MATERIALIZED - GROUPS["report"]
ALL = f"Materialize all ({len(MATERIALIZED)})"


@dataclass(frozen=True)
class Run:
    """What a finished run did."""

    id: str
    materialized: set[str]
    checked: dict[tuple[str, str], bool]


def run_started_by(server: Server, click: Callable[[], None]) -> Run:
    """Clicks, waits for the one run that this starts to succeed, and says what it did."""
    before = server.statuses()
    click()
    (run_id,) = wait_for("a run to start", lambda: server.statuses().keys() - before.keys())

    def has_succeeded() -> bool:
        status = server.statuses()[run_id]
        assert status not in ("FAILURE", "CANCELED"), status
        return status == "SUCCESS"

    wait_for(f"run {run_id} to succeed", has_succeeded)
    run = server.ask(
        f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ eventConnection {{ events {{'
        "  ... on MaterializationEvent { assetKey { path } }"
        "  ... on AssetCheckEvaluationEvent {"
        "    evaluation { assetKey { path } checkName success } } } } } } }"
    )
    events = run["runOrError"]["eventConnection"]["events"]
    checks = [event["evaluation"] for event in events if "evaluation" in event]
    return Run(
        run_id,
        {event["assetKey"]["path"][-1] for event in events if "assetKey" in event},
        {(c["assetKey"]["path"][-1], c["checkName"]): c["success"] for c in checks},
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with dagster_dev(checkout(tmp_path_factory.mktemp("dagster_dev") / "checkout")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with new_page(browser, viewport=WINDOW) as opened:
        yield opened


@pytest.fixture(scope="module")
def first_run(server: Server, browser: Browser) -> Run:
    """The run of the first click on "Materialize all", on a server that has no data yet."""
    assert server.statuses() == {}
    with new_page(browser, viewport=WINDOW) as page:
        page.goto(f"{server.url}/asset-groups")
        return run_started_by(server, button(page, ALL).click)


@pytest.fixture(autouse=True)
def server_output(server: Server) -> Iterator[None]:
    """Prints what the server wrote during a test, which pytest shows if the test fails."""
    output = server.folder / "output.txt"
    start = output.stat().st_size
    yield
    print(output.read_bytes()[start:].decode(errors="replace"))


def button(page: Page, name: str) -> Locator:
    """The button with this text; an icon's name may stand before it."""
    return page.get_by_role("button", name=re.compile(rf"\b{re.escape(name)}$"))


def node(page: Page, asset: str) -> Locator:
    """The box of an asset in the graph."""
    return page.locator("foreignObject").filter(has=page.get_by_text(asset, exact=True))


def open_graph(page: Page, server: Server) -> None:
    """Opens the global lineage graph, all groups expanded."""
    page.set_viewport_size(WHOLE_GRAPH)
    page.goto(server.url)
    page.get_by_role("link", name=re.compile(r"\bLineage$")).click()
    expect(page.locator("foreignObject").filter(has_text="marts")).to_be_visible()
    page.get_by_role("button", name="settings", exact=True).click()
    page.get_by_role("menuitem", name="Expand all groups").click()
    expect(node(page, "users")).to_be_visible()
    page.reload()  # fits the graph into the window
    for asset in UPSTREAM:
        expect(node(page, asset)).to_be_visible()


def assert_all_green(page: Page) -> None:
    for asset in MATERIALIZED:
        expect(node(page, asset)).to_contain_text("Materialized")
        expect(node(page, asset)).to_contain_text(re.compile(r"checks(\d+) / \1 Passed"))
    expect(page.locator("foreignObject", has_text=re.compile("Failed|Unsynced"))).to_have_count(0)


def test_materialize_all_makes_every_table(server: Server, first_run: Run) -> None:
    assert first_run.materialized == MATERIALIZED
    assert {asset for asset, _ in first_run.checked} == MATERIALIZED
    assert all(first_run.checked.values())
    with duckdb.connect(str(server.folder / "sparkify.duckdb"), read_only=True) as warehouse:
        for table in TABLES:
            assert warehouse.table(table).limit(1).fetchall(), table


def test_second_materialize_all_leaves_every_asset_and_edge_green_and_up_to_date(
    page: Page, server: Server, first_run: Run
) -> None:
    page.goto(f"{server.url}/asset-groups")
    second_run = run_started_by(server, button(page, ALL).click)
    assert second_run.materialized == first_run.materialized
    open_graph(page, server)
    assert_all_green(page)
    nodes = server.ask("{ assetNodes { assetKey { path } dependencyKeys { path } staleStatus } }")
    assert {node["staleStatus"] for node in nodes["assetNodes"]} == {"FRESH"}
    assert {
        node["assetKey"]["path"][-1]: {key["path"][-1] for key in node["dependencyKeys"]}
        for node in nodes["assetNodes"]
    } == UPSTREAM


@pytest.mark.usefixtures("first_run")
def test_one_asset_is_materialized_on_demand(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/assets/users")
    run = run_started_by(server, button(page, "Materialize").click)
    assert run.materialized == {"users"}
    assert {asset for asset, _ in run.checked} == {"users"}
    expect(page.locator(f"a[href*='{run.id}']").first).to_be_visible()


@pytest.mark.usefixtures("first_run")
def test_one_check_is_executed_alone(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/assets/songplays")
    page.get_by_role("tab", name="Checks").click()
    page.get_by_text("unique_key", exact=True).first.click()
    expect(page.get_by_text("No two rows have the same songplay_id.")).to_be_visible()
    run = run_started_by(server, button(page, "Execute").click)
    assert run.materialized == set()
    assert run.checked == {("songplays", "unique_key"): True}
    page.reload()  # it would look for the result by itself, some time
    expect(page.locator(f"a[href*='{run.id}']").first).to_be_visible()
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()


@pytest.mark.usefixtures("first_run")
def test_asset_page_says_what_songplays_is(page: Page, server: Server) -> None:
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    with duckdb.connect(str(server.folder / "sparkify.duckdb"), read_only=True) as warehouse:
        rows, _ = warehouse.table("songplays").shape
    page.goto(f"{server.url}/assets/songplays")
    for text in (
        "One row is one play: an event with page NextSong",
        f"{rows:,}",
        "data-platform",
        "DuckDB",
        "songplays.sql",
    ):
        expect(page.get_by_text(text).first).to_be_visible()
    for cells in (
        ("songplay_id", "VARCHAR(96)", "non-nullable", "unique", "natural key"),
        ("user_id", "BIGINT", "references users.user_id", "who played it"),
        ("artist", "VARCHAR(1024)", "artist as logged"),
    ):
        name = page.get_by_role("cell", name=cells[0], exact=True)
        row = page.get_by_role("row").filter(has=name).first
        for cell in cells:
            expect(row).to_contain_text(cell)
    preview = page.get_by_role("row").filter(has_text="preview").get_by_role("table")
    expect(preview.get_by_role("columnheader").first).to_have_text("songplay_id")
    expect(preview.get_by_role("row")).to_have_count(1 + 5)
    assert problems == []


@pytest.mark.usefixtures("first_run")
def test_most_played_songs_show_their_top_ten(page: Page, server: Server) -> None:
    with duckdb.connect(str(server.folder / "sparkify.duckdb"), read_only=True) as warehouse:
        top = warehouse.execute(
            "SELECT song, artist, plays FROM most_played_songs ORDER BY rank, song, artist LIMIT 10"
        ).fetchall()
    page.goto(f"{server.url}/assets/most_played_songs")
    preview = page.get_by_role("row").filter(has_text="preview").get_by_role("table")
    expect(preview.get_by_role("row")).to_have_count(1 + 10)
    for number, cells in enumerate(top, start=1):
        for cell in cells:
            shown = str(cell)[:40]  # long text is cut
            expect(preview.get_by_role("row").nth(number)).to_contain_text(shown)


@pytest.mark.usefixtures("first_run")
def test_the_report_shows_the_most_played_songs(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/assets/listening_report")
    file = server.folder / "listening_report.html"
    assert file.read_text().startswith("<!doctype html>")
    expect(page.get_by_text(str(file), exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=file.as_uri())).to_be_visible()
    table = page.get_by_role("row").filter(has_text="Most played songs").get_by_role("table")
    expect(table.get_by_role("row")).to_have_count(1 + 10)
    expect(table.get_by_role("columnheader").nth(1)).to_have_text("song")
