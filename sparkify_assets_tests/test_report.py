"""The listening report: what it says, that text stays text, and how it looks in a browser."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sparkify_assets.report import ReportData, as_csv, page_of, ticks
from sparkify_assets.settings import Settings
from sparkify_assets.warehouse import warehouse_of
from sparkify_assets_tests import star
from sparkify_assets_tests.chromium import Browser, ViewportSize, chromium, needs_chromium, new_page
from sparkify_assets_tests.platform import Platform, failure_of
from sparkify_assets_tests.report_figures import (
    DAY,
    expected_figures,
    figures_of,
    part,
    plain,
    said,
    share,
)

FIGURES = {"sample": 10, "hostile": 9}  # which is too short for a week before the last
# What XML cannot hold; of the first 31, those that repair knows as halves of quotes are kept out.
NO_XML = "".join(map(chr, {*range(1, 32)} - {9, 10, 13, 19, 20, 24, 25, 28, 29})) + "\ufffe\uffff"
HOSTILE = {
    "song": "<svg/onload=\"document.title='ran'\">",
    "artist": "'\"><img src=x onerror=\"document.title='ran'\">",
    "location": "</svg><script >document.title='ran'</script >{{ 7 * 7 }}",
}
DRAWING = re.compile(r"<svg.*?</svg>", re.DOTALL)


def report_of(platform: Platform) -> str:
    return platform.report.read_text(encoding="utf-8")


@pytest.fixture(params=["sample", "real"])
def sample_or_real(request: pytest.FixtureRequest) -> Platform:
    platform: Platform = request.getfixturevalue(request.param)
    return platform


def data_of(platform: Platform) -> ReportData:
    return warehouse_of(Settings(**platform.settings)).in_transaction(
        lambda session: ReportData.read(session, platform.catalog, platform.catalog.assets),
        "test",
        read_only=True,
    )


@pytest.mark.parametrize("days_ago", [3_000, 1, 0])
def test_every_number_of_every_figure(sample_or_real: Platform, days_ago: int) -> None:
    """Even where the newest day is not over, or nothing is known of it but that."""
    events, catalogue = (
        star.records(sample_or_real.log_data),
        star.records(sample_or_real.song_data),
    )
    newest = max(map(star.moment, events)).date()
    made_at = datetime(newest.year, newest.month, newest.day, 12) + timedelta(days_ago)
    page = page_of(data_of(sample_or_real), made_at)
    found = figures_of(page)
    expected = expected_figures(events, catalogue, newest if days_ago else newest - DAY)
    assert list(found) == list(expected)
    for title, (says, rows, table) in expected.items():
        assert found[title][0] == says
        assert found[title][1][1:] == [[str(value) for value in row] for row in rows], title
        assert found[title][2] == table, title


def test_every_number_around_the_figures(sample_or_real: Platform) -> None:
    events, catalogue = (
        star.records(sample_or_real.log_data),
        star.records(sample_or_real.song_data),
    )
    page = report_of(sample_or_real)
    (best,) = (r for r in star.most_played_songs(events, catalogue) if r[0] == 1)
    plays = star.songplays(events, catalogue)
    days = sorted({star.moment(e).date() for e in events})
    matched = sum(play[4] is not None for play in plays)
    age = (datetime.now(UTC).date() - days[-1]).days
    users = star.users(events)
    assert part(page, "header") == (
        f"Sparkify listening report, {said(days[0])} to {said(days[-1])} "
        f"The most played song is {best[1]} by {best[2]}: {best[3]} plays by {best[4]} "
        "listeners. "
        "Every play counts, whether or not the song is in the catalogue: "
        f"{share(matched, len(plays))} of the plays are of songs in the catalogue, which lacks "
        f"this one. The data ends on {said(days[-1])}, {age:,} days before this report was made. "
        f"plays {len(plays):,} songs {len(star.most_played_songs(events, catalogue)):,} "
        f"artists {len(star.most_played_artists(events, catalogue)):,} users {len(users):,} "
        f"paying users {sum(user[4] == 'paid' for user in users)} "
        f"visits {len(star.visits(events)):,}"
    )
    known = {(str(s["title"]).strip(" "), str(s["artist_name"]).strip(" ")) for s in catalogue}
    before = sum(
        (e["song"].strip(" "), e["artist"].strip(" ")) in known for e in star.plays_of(events)
    )
    (repaired,) = sample_or_real.rows("SELECT COUNT(*) FROM repaired_text")[0]
    keys = sample_or_real.defs().resolve_asset_graph().asset_check_keys
    checks = sum(key.asset_key.to_user_string() != "listening_report" for key in keys)
    files = [len([*f.rglob("*.json")]) for f in (sample_or_real.log_data, sample_or_real.song_data)]
    loaded = [
        f"{said(moment)}, {moment:%H:%M} UTC."
        for (moment,) in sample_or_real.rows(
            "SELECT last_loaded_at FROM load_summary ORDER BY table_name"
        )
    ]
    assert part(page, "section") == (
        f"How reliable the figures are The song of {matched:,} of {len(plays):,} plays "
        f"({share(matched, len(plays))}) is in the catalogue; before {repaired} damaged texts were "
        f"repaired, it was {before:,}. All {checks} data checks passed. "
        f"event_files: {len(events):,} records in {files[0]} files, 0 rejected ; "
        f"last loaded on {loaded[0]} "
        f"song_files: {len(catalogue):,} records in {files[1]:,} files, 0 rejected ; "
        f"last loaded on {loaded[1]}"
    )


def test_no_path_of_the_machine_is_in_it(sample: Platform) -> None:
    page = report_of(sample)
    for name in (sample.folder, sample.folder.name + "/", sample.warehouse.name, "file:"):
        assert str(name) not in page


def test_made_up_data_is_called_so(tmp_path: Path, sample: Platform) -> None:
    platform = Platform(tmp_path)
    del platform.settings["song_data"], platform.settings["log_data"]
    result = platform.run()
    assert result.success, failure_of(result)
    assert "These are made-up sample data." in report_of(platform)
    assert "made-up" not in report_of(sample)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("x";"y")', 'a,b"'])
def test_no_field_of_a_csv_file_is_a_formula(text: str) -> None:
    _, row = csv.reader(io.StringIO(as_csv([{"song": text, "plays": -7}])))
    assert row == [f"'{text}" if text[0] in "=+-@" else text, "-7"]


def test_it_needs_nothing_else(sample: Platform) -> None:
    page = report_of(sample).replace("http://www.w3.org/", "")  # names, not addresses
    assert not re.search(r"https?://|<script|<link (?!rel=\"icon\" href=\"data:,\")", page)


def test_what_it_reports_in_dagster(published: Platform) -> None:
    result = published.run("listening_report")
    assert result.success, failure_of(result)
    (made_report,) = result.asset_materializations_for_node("listening_report")
    metadata = {name: value.value for name, value in made_report.metadata.items()}
    assert metadata["path"] == str(published.report)
    assert metadata["link"] == published.report.as_uri()
    assert metadata["bytes"] == published.report.stat().st_size
    first, *_ = metadata["Most played songs"].records  # type: ignore[union-attr]
    expected = {"rank": 1, "song": "Made", "artist": "The Makers", "plays": 2, "listeners": 2}
    assert first.data == expected


def test_bars_of_a_ranking_are_as_long_as_their_plays(
    sample: Platform, events: list[star.Record], catalogue: list[star.Record]
) -> None:
    page = report_of(sample)
    chart = page[page.index('<div class="ranking"') :]
    shares = [float(width) for width in re.findall(r'style="width: ([\d.]+)%"', chart)][:10]
    best = sorted(-song[3] for song in star.most_played_songs(events, catalogue))[:10]
    assert shares == [round(100 * plays / best[0], 1) for plays in best]


def test_bars_of_days_are_as_high_as_their_values(
    sample: Platform, events: list[star.Record], catalogue: list[star.Record]
) -> None:
    drawings = [ElementTree.fromstring(text) for text in DRAWING.findall(report_of(sample))]
    plays, active, levels, _ = drawings
    days = sorted(star.plays_by_day(events, catalogue))
    for drawing, of_day, noun in ((plays, 1, "plays"), (active, 5, "active users")):
        bars = [[float(bar.get(name, "")) for name in ("x", "y", "height")] for bar in drawing]
        titles = [bar[0].text for bar in drawing]
        assert titles == [f"{said(day[0])}: {day[of_day]:,} {noun}" for day in days if day[of_day]]
        assert bars == [
            [day[0].day - 1 + 0.075, -day[of_day], day[of_day]] for day in days if day[of_day]
        ]
    stacks: dict[float, float] = {}
    for bar in levels:
        stacks[float(bar.get("x", ""))] = float(bar.get("y", ""))
    assert stacks == {day[0].day - 1 + 0.075: -day[1] for day in days if day[1]}


@pytest.mark.parametrize(
    ("series", "marks"),
    [
        ([[0, 0]], [0, 1]),
        ([[0, 3]], [0, 1, 2, 3]),
        ([[479, 12]], [0, 200, 400, 600]),
        ([[300, 12], [179, 500]], [0, 200, 400, 600]),
        ([[2, 0], [0, -1]], [-1, 0, 1, 2]),
        ([[0, 0], [-70, 0]], [-80, -60, -40, -20, 0, 20]),
        ([[801_000]], [0, 500_000, 1_000_000]),
    ],
)
def test_ticks_are_round(series: list[list[int]], marks: list[int]) -> None:
    names = [str(number) for number in range(len(series))]
    down = [name for name, values in zip(names, series, strict=True) if min(values) < 0]
    rows = [dict(zip(names, map(abs, values), strict=True)) for values in zip(*series, strict=True)]
    assert ticks(rows, [name for name in names if name not in down], down) == marks


def test_violations_and_rejections_are_told(made: Platform) -> None:
    made.settings["max_rejected_share"] = 0.5
    made.write_events([{"sessionId": 9, "userId": ""}, {"ts": "soon"}], name="more.json")
    assert made.run().success
    text = plain(report_of(made))
    assert "data checks passed; the others found:" in text
    assert "Warning : songplays, known_user: 1 violating row. Every play has a user" in text
    assert "1 rejected" in text


def test_a_file_that_cannot_be_written(published: Platform) -> None:
    published.settings["report_path"] = published.folder / "nowhere" / "report.html"
    result = published.run("listening_report")
    assert "report.html cannot be written: No such file or directory" in failure_of(result)
    assert "SPARKIFY_REPORT_PATH sets the file" in failure_of(result)


def test_a_mart_that_was_taken_away_is_named(published: Platform) -> None:
    (published.sql / "marts" / "plays_by_hour.sql").unlink()
    (published.sql / "checks" / "plays_by_hour__every_play_counted.sql").unlink()
    said = failure_of(published.run("listening_report"))
    assert "listening_report shows plays_by_hour, which no file of sql/ declares" in said


def test_without_tables_it_says_what_to_do(platform: Platform) -> None:
    platform.song_data.mkdir()
    said = failure_of(platform.run("listening_report"))
    assert "does not exist yet, and listening_report" in said
    assert "dg launch --job refresh" in said


def test_hostile_text_is_text(hostile: Platform) -> None:
    page = report_of(hostile)
    assert "{{ 7 * 7 }}" in page
    assert not re.search(r"<(script|img|svg/)", page)
    _, rows, _ = figures_of(page)["Most played songs"]
    assert [HOSTILE["song"], "'\">"] in [row[1:3] for row in rows]  # repair takes its element out
    assert "'=1+1" in [row[1] for row in rows]


def test_the_page_holds_what_xml_can_hold(hostile: Platform) -> None:
    assert not set(NO_XML) & set(report_of(hostile))


def test_characters_that_cannot_be_shown_are_told(hostile: Platform) -> None:
    text = plain(report_of(hostile))
    assert "Warning : most_played_songs, legible_text: 4 illegible songs." in text
    assert "Warning : plays_by_location, legible_text: 1 illegible place." in text
    repaired = hostile.rows("SELECT repaired_text FROM repaired_text WHERE raw_text LIKE 'Noise%'")
    assert repaired == [(f"Noise{NO_XML[:-2]}\ufffd\ufffd",)]  # its last two are no characters


def test_texts_that_look_the_same_have_a_bar_each(hostile: Platform) -> None:
    _, chart, *_ = report_of(hostile).split('<div class="ranking"')
    assert chart.count('">Twin\N{REPLACEMENT CHARACTER}<br>') == 3
    bars = chart.count('<span class="bar"><i class="mark"')
    assert bars == len(hostile.rows("SELECT * FROM most_played_songs"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    platform = Platform(tmp_path_factory.mktemp("hostile"))
    platform.write_songs([{}])
    noise = {"song": f"Noise{NO_XML}", "artist": f"Noise{NO_XML}", "location": NO_XML[:3]}
    twins = [{"song": f"Twin{character}"} for character in "\1\2\x1b"]
    platform.write_events(
        {"level": ("free", "paid")[moment % 2], "ts": 1541105830796 + moment, **event}
        for moment, event in enumerate([HOSTILE, HOSTILE, noise, *twins, {"song": "=1+1"}])
    )
    result = platform.run()
    assert result.success, failure_of(result)
    return platform


# --- In Chromium ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


SIZES = {
    "wide": (ViewportSize(width=1400, height=900), "light"),
    "phone": (ViewportSize(width=390, height=844), "light"),
    "dark": (ViewportSize(width=1400, height=900), "dark"),
}


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data", ["sample", "hostile"])
def test_every_chart_is_drawn(
    browser: Browser, request: pytest.FixtureRequest, data: str, size: str
) -> None:
    platform: Platform = request.getfixturevalue(data)
    viewport, theme = SIZES[size]
    noise: list[str] = []
    with new_page(browser, viewport=viewport, color_scheme=theme) as page:
        page.on("console", lambda said: noise.append(said.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda asked: noise.append(asked.url))
        page.goto(platform.report.as_uri())
        page.wait_for_load_state("networkidle")
        assert noise == [platform.report.as_uri()]
        assert page.title().startswith("Sparkify listening report")  # no text from data ran
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        assert page.locator("script").count() == 0
        assert page.locator("figure").count() == FIGURES[data]
        ink = page.evaluate("getComputedStyle(document.body).color")
        light = theme == "dark"
        assert (sum(map(int, re.findall(r"\d+", ink))) > 3 * 128) == light
        for figure in page.locator("figure").all():
            title = figure.get_by_role("heading").inner_text()
            chart = figure.locator(".chart")
            assert (chart.get_attribute("aria-label") or "").startswith(f"{title}. ")
            box = chart.bounding_box()
            assert box, title
            assert box["width"] > 250, title
            assert box["height"] > 15, title  # one bar
            for table in chart.locator(".scroll").all():
                assert table.evaluate("it => it.scrollWidth <= it.clientWidth"), title
            if chart.get_attribute("role") == "group":  # which is a table, and no drawing
                continue
            marks = figure.locator(".mark").all()
            drawn = [mark.bounding_box() or {"width": 0, "height": 0} for mark in marks]
            assert any(mark["width"] * mark["height"] > 1 for mark in drawn), title
            label = figure.locator(".label").first
            assert label.evaluate("text => getComputedStyle(text).color") == ink, title
            tall = label.bounding_box()
            assert tall, title
            assert tall["height"] > 9, title  # pixels: readable
            names = figure.locator(".label").all_text_contents()
            assert all(name.strip() for name in names), title
            if not figure.locator(".ranking").count():  # whose bars have their names beside them
                explained = figure.locator("i[title], svg title").all()
                texts = [e.get_attribute("title") or e.text_content() for e in explained]
                assert texts, title
                assert all(re.fullmatch(r"\S.*: [\d,.]+ \w[\w ]*", text or "") for text in texts)


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_on_paper_it_is_two_pages(browser: Browser, sample: Platform, paper: str) -> None:
    with new_page(browser) as page:
        page.goto(sample.report.as_uri())
        printed = page.pdf(format=paper)
    assert len(re.findall(rb"/Type /Page\b", printed)) == 2


@pytest.mark.browser
@needs_chromium
def test_a_figure_is_downloaded(browser: Browser, sample: Platform) -> None:
    with new_page(browser) as page:
        page.goto(sample.report.as_uri())
        figure = page.locator("figure").filter(has_text="Most played songs")
        with page.expect_download() as download:
            figure.get_by_role("link", name="Download as CSV").click()
        assert download.value.suggested_filename == "most_played_songs.csv"
        text = download.value.path().read_text(encoding="utf-8")
    _, rows, _ = figures_of(report_of(sample))["Most played songs"]
    assert [*csv.reader(io.StringIO(text[1:]))] == rows
