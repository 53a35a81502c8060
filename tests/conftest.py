"""Fixtures for every test: one Chromium, one JupyterLab server and one page for the session, and the golden traces.

tests/browser/__init__.py shows how a widget test uses `lab`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests import helpers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.lab_page import LabPage
    from tests.browser.server import LabServer

BROWSER_FIXTURES = {"chromium", "jupyter_server", "lab"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: the quick tests fail first, and Playwright's event loop is not there while others run theirs."""
    for item in items:
        if BROWSER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what this machine could not test, just above pytest's own last line."""
    if helpers.NOT_TESTED:
        terminalreporter.section("NOT TESTED ON THIS MACHINE", sep="!", red=True, bold=True)
        for reason in helpers.NOT_TESTED:
            terminalreporter.line(f"- {reason}", red=True)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], pathlib.Path]:
    """The function that finds a golden trace by name: `golden("buddy-a")`."""
    return helpers.golden


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium (Playwright's Browser) for the session."""
    from tests.browser.chromium import MISSING, chromium_browser

    if not chromium_executable():
        helpers.skip_loudly(MISSING)
    with chromium_browser() as browser:
        yield browser


def chromium_executable() -> str | None:
    """The Chromium the tests would use, looked for before Playwright starts: its event loop would be in the way."""
    from scripts.system import find_chromium

    return find_chromium()


@pytest.fixture(scope="session")
def jupyter_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab server for the session, on a temporary copy of the course."""
    from tests.browser.server import LabServer

    server = LabServer(tmp_path_factory.mktemp("jupyterlab"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _lab_page(chromium: Browser, jupyter_server: LabServer) -> Iterator[LabPage]:
    from tests.browser.lab_page import LabPage

    page = LabPage(chromium, jupyter_server)
    yield page
    page.close()


@pytest.fixture
def lab(_lab_page: LabPage, request: pytest.FixtureRequest) -> Iterator[LabPage]:
    """The JupyterLab page, with nothing open; fails the test if the browser's console showed an error.

    A test that failed leaves a picture of the page in test-results/.
    """
    _lab_page.errors.clear()
    yield _lab_page
    failed = getattr(request.node, "call_failed", False)
    try:
        if failed:
            _lab_page.screenshot(f"{request.node.name.replace('/', '-')}.png")
    finally:
        _lab_page.close_all()
    if not failed:
        assert not _lab_page.errors, "the browser's console shows errors:\n" + "\n".join(_lab_page.errors)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Tell the fixtures of a test whether its body failed."""
    report = yield
    if call.when == "call":
        item.call_failed = report.failed
    return report
