"""Rewrite the map of the course in notebooks/00-start.ipynb from vmlab/course/chapters.py: `make start-page`.

The map is prose, not an output: it is there before anything has run. tests/test_start_page.py says when it is out of date.
"""

from __future__ import annotations

import pathlib
import sys

import nbformat

from vmlab.course.chapters import table_html
from vmlab.tools.lab import START_PAGE

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAP_CELL = "chapter-map"


def map_source(course: pathlib.Path) -> str:
    """The source of the start page's map cell for this checkout."""
    return f"## The map\n\n{table_html(course)}"


def main() -> int:
    """Rewrite the one cell and say whether anything changed."""
    page = ROOT / START_PAGE
    notebook = nbformat.read(page, as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.id == MAP_CELL)
    changed = cell.source != map_source(ROOT)
    cell.source = map_source(ROOT)
    nbformat.write(notebook, page)
    print(f"{START_PAGE}: {'rewritten' if changed else 'was up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
