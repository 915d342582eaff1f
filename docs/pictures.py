"""Makes the pictures of the README from the product: `python docs/pictures.py`, with Chromium.

It starts `dg dev` on the sample data in a folder of its own, materializes everything in the
UI, and photographs the checks of an asset, the preview of a table, and the report. `pictures.json`
then holds, for each picture, a digest of the files that it shows: a test fails where they have
changed since. `lineage.png` is not made here.
"""

import hashlib
import json
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
DIGESTS = Path(__file__).with_suffix(".json")
SHOWS = {
    "asset_checks.png": ("sql/star/songplays.sql", "sql/checks/songplays__*.sql"),
    "preview.png": ("sql/marts/most_played_songs.sql", "sparkify_assets/sample/**/*.zip"),
    "report.png": (
        "sparkify_assets/*.jinja",
        "sparkify_assets/report.py",
        "sql/marts/*.sql",
        "sparkify_assets/sample/**/*.zip",
    ),
}


def digests() -> dict[str, str]:
    """A digest of what each picture shows, by its name: of the files' names and bytes."""
    found = {}
    for picture, patterns in SHOWS.items():
        digest = hashlib.sha256()
        for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
        found[picture] = digest.hexdigest()
    return found


def main() -> None:
    """Makes the pictures, then writes their digests."""
    from sparkify_assets_tests.chromium import ViewportSize, chromium, expect
    from sparkify_assets_tests.processes import checkout, dagster_dev
    from sparkify_assets_tests.test_browser import ALL, button, run_started_by

    docs = DIGESTS.parent
    wide = ViewportSize(width=2100, height=1140)
    with (
        TemporaryDirectory() as folder,
        dagster_dev(checkout(Path(folder) / "sparkify")) as server,
        chromium() as browser,
    ):
        with closing(browser.new_page(viewport=wide)) as page:
            page.goto(f"{server.url}/asset-groups")
            run_started_by(server, button(page, ALL).click)
            page.goto(f"{server.url}/assets/songplays")
            page.get_by_role("tab", name="Checks").click()
            page.get_by_text("unique_key", exact=True).first.click()
            expect(page.get_by_text("Passed", exact=True)).to_be_visible()
            page.wait_for_timeout(3_000)  # its plot is drawn
            page.screenshot(path=docs / "asset_checks.png")
            page.set_viewport_size({"width": 2600, "height": 1600})
            page.goto(f"{server.url}/assets/most_played_songs")
            preview = page.get_by_role("row").filter(has_text="preview").get_by_role("table")
            expect(preview.get_by_role("row")).to_have_count(1 + 10)
            preview.screenshot(path=docs / "preview.png")
        with closing(browser.new_page(viewport=ViewportSize(width=1100, height=1640))) as page:
            page.goto((server.folder / "listening_report.html").as_uri())
            card = page.locator("figure").nth(3)  # in the second row
            height = card.evaluate("card => card.getBoundingClientRect().bottom") + 12
            page.screenshot(
                path=docs / "report.png",
                clip={"x": 0, "y": 0, "width": 1100, "height": height},
            )
    DIGESTS.write_text(json.dumps(digests(), indent=2) + "\n")


if __name__ == "__main__":
    main()
