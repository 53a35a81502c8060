"""Starting the Chromium that scripts/system.py finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from scripts.system import find_chromium

# Root needs --no-sandbox; the rest keeps it from asking the network for things nobody here wants.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

MISSING = (
    "no Chromium for the browser tests: set VMLAB_CHROMIUM, or install chromium or google-chrome, "
    "or run `playwright install chromium` in the environment"
)


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own; FileNotFoundError says what to do if there is none."""
    executable = find_chromium()
    if executable is None:
        raise FileNotFoundError(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
