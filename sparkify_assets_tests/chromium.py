"""The system's Chromium, headless, for tests of what a person sees."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from sparkify_assets_tests.processes import PATIENCE

__all__ = ["Browser", "Locator", "Page", "ViewportSize", "expect"]

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Without a graphics card, a wheel that turns while a run goes on takes a whole processor.
STANDING_STILL = """
    const still = new CSSStyleSheet();
    still.replaceSync("*, ::before, ::after { animation: none !important }");
    document.adoptedStyleSheets = [still];
"""
expect.set_options(timeout=PATIENCE * 1000)

needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium, chromium-browser or google-chrome"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=PROGRAM, args=ARGUMENTS, timeout=PATIENCE * 1000
        )
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page with user data of its own."""
    with closing(browser.new_page(**options)) as page:
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(STANDING_STILL)
        yield page
