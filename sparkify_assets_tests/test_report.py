"""The listening report: what it says, that text stays text, and how it looks in a browser."""

import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from xml.etree import ElementTree

import pytest

from sparkify_assets_tests import star
from sparkify_assets_tests.chromium import Browser, ViewportSize, chromium, needs_chromium
from sparkify_assets_tests.platform import Platform, failure_of

FIGURES = 7
# What XML cannot hold; of the first 31, those that repair knows as halves of quotes are kept out.
NO_XML = "".join(map(chr, {*range(1, 32)} - {9, 10, 13, 19, 20, 24, 25, 28, 29})) + "\ufffe\uffff"
HOSTILE = {
    "song": "<svg/onload=\"document.title='ran'\">",
    "artist": "'\"><img src=x onerror=\"document.title='ran'\">",
    "location": "</svg><script >document.title='ran'</script >{{ 7 * 7 }}",
}
TEXT = re.compile(r"<[^>]*>")


def report_of(platform: Platform) -> str:
    return platform.report.read_text(encoding="utf-8")


def test_what_it_says(
    sample: Platform, events: list[star.Record], catalogue: list[star.Record]
) -> None:
    page = report_of(sample)
    text = " ".join(TEXT.sub(" ", page).split())
    (best,) = (r for r in star.most_played_songs(events, catalogue) if r[0] == 1)
    assert f"The most played song is {best[1]} by {best[2]}: {best[3]} plays by {best[4]}" in text
    plays = star.songplays(events, catalogue)
    matched = sum(play[4] is not None for play in plays)
    assert f"knows the song of {matched:,} of {len(plays):,} plays" in text
    assert f"plays {len(plays):,}" in text
    assert f"users {len(star.users(events))}" in text
    checks = len([*sample.defs().resolve_asset_graph().asset_check_keys])
    assert f"All {checks} checks pass" in text
    assert f"staging_songs: 1,000 records of 1,000 files of {sample.song_data}, " in text
    assert page.count("<figure>") == page.count('<div role="img" aria-label="') == FIGURES
    for day in star.plays_by_day(events, catalogue):
        assert f"<td>{day[0]}</td>" in page


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
    name, _, picture = str(metadata["picture"]).partition("(data:image/svg+xml;base64,")
    assert name == "![Most played songs]"
    drawing = ElementTree.fromstring(b64decode(picture.removesuffix(")")))
    assert "Made" in [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    *_, chart = drawing.iter("{http://www.w3.org/2000/svg}svg")
    assert float(drawing.get("viewBox", "").split()[3]) > float(chart.get("height", "")) + 36


def test_violations_and_rejections_are_told(made: Platform) -> None:
    made.settings["max_rejected_share"] = 0.5
    made.write_events([{"sessionId": 9, "userId": ""}, {"ts": "soon"}], name="more.json")
    assert made.run().success
    text = " ".join(TEXT.sub(" ", report_of(made)).split())
    assert "checks pass on the tables as they are published; the others found:" in text
    assert "Warning : songplays, known_user: 1 violating row. Every play has a user" in text
    assert "1 of them rejected" in text


def test_a_file_that_cannot_be_written(published: Platform) -> None:
    published.settings["report_path"] = published.folder / "nowhere" / "report.html"
    result = published.run("listening_report")
    assert "report.html cannot be written: No such file or directory" in failure_of(result)
    assert "SPARKIFY_REPORT_PATH names the file" in failure_of(result)


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


def test_drawings_hold_what_xml_can_hold(hostile: Platform) -> None:
    page = report_of(hostile)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == FIGURES
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert not set(NO_XML) & set(page)


def test_characters_that_cannot_be_shown_are_told(hostile: Platform) -> None:
    text = " ".join(TEXT.sub(" ", report_of(hostile)).split())
    assert "Warning : most_played_songs, legible_text: 4 illegible songs." in text
    assert "Warning : plays_by_location, legible_text: 1 illegible place." in text
    repaired = hostile.rows("SELECT repaired_text FROM repaired_text WHERE raw_text LIKE 'Noise%'")
    assert repaired == [(f"Noise{NO_XML[:-2]}\ufffd\ufffd",)]  # its last two are no characters


def test_texts_that_look_the_same_have_a_bar_each(hostile: Platform) -> None:
    drawing = ElementTree.fromstring(re.findall(r"<svg.*?</svg>", report_of(hostile), re.DOTALL)[0])
    twin = "Twin\N{REPLACEMENT CHARACTER}"
    labels = [text for text in drawing.itertext() if text.strip() == twin]
    assert len(labels) == 3
    tops = {
        mark.get("y")
        for mark in drawing.iter("{http://www.w3.org/2000/svg}rect")
        if mark.get("class") == "mark main"
    }
    assert len(tops) == len(hostile.rows("SELECT * FROM most_played_songs"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    platform = Platform(tmp_path_factory.mktemp("hostile"))
    platform.write_songs([{}])
    noise = {"song": f"Noise{NO_XML}", "artist": f"Noise{NO_XML}", "location": NO_XML[:3]}
    twins = [{"song": f"Twin{character}"} for character in "\1\2\x1b"]
    platform.write_events(
        {"level": ("free", "paid")[moment % 2], "ts": 1541105830796 + moment, **event}
        for moment, event in enumerate([HOSTILE, HOSTILE, noise, *twins])
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
    with closing(browser.new_page(viewport=viewport, color_scheme=theme)) as page:  # type: ignore[arg-type]
        page.on("console", lambda said: noise.append(said.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda asked: noise.append(asked.url))
        page.goto(platform.report.as_uri())
        page.wait_for_load_state("networkidle")
        assert noise == [platform.report.as_uri()]
        assert page.title().startswith("Sparkify listening report")  # no text from data ran
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        assert page.locator("script").count() == 0
        assert page.locator("figure").count() == FIGURES
        ink = page.evaluate("getComputedStyle(document.body).color")
        light = theme == "dark"
        assert (sum(map(int, re.findall(r"\d+", ink))) > 3 * 128) == light
        for figure in page.locator("figure").all():
            title = figure.get_by_role("heading").inner_text()
            chart = figure.locator("div[role=img]")
            assert (chart.get_attribute("aria-label") or "").startswith(f"{title}. ")
            box = figure.locator("svg.chart").bounding_box()
            assert box, title
            assert box["width"] > 250, title
            assert box["height"] > 50, title  # three bars on a phone
            marks = figure.locator(".mark").all()
            drawn = [mark.bounding_box() or {"width": 0, "height": 0} for mark in marks]
            assert any(mark["width"] * mark["height"] > 1 for mark in drawn), title
            label = figure.locator("text.label").first
            assert label.evaluate("text => getComputedStyle(text).fill") == ink, title
            tall = label.bounding_box()
            assert tall, title
            assert tall["height"] > 9, title  # pixels: readable
            explained = figure.locator("text.title, svg title").all_text_contents()
            assert explained, title
            assert all(explained), title
