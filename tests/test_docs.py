"""Does what the documentation shows still happen?"""

from __future__ import annotations

import doctest

import pytest

from tests.helpers import ROOT

PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if ">>>" in path.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_page_runs_as_it_says(page) -> None:
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0 and not failed


def test_there_are_such_pages() -> None:
    assert "machine.md" in [page.name for page in PAGES]
