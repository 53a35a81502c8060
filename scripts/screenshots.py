"""Take the README's pictures again, from the running thing: `python -m scripts.screenshots [NAME]…`.

Each picture is one widget (or one notebook) in a real JupyterLab in headless Chromium, driven the way a reader would drive it.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.browser.chromium import chromium_browser
from tests.browser.lab_page import LabPage
from tests.browser.server import LabServer

if TYPE_CHECKING:
    from playwright.sync_api import Locator

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs" / "images"

MIXED = """
import vmlab
from vmlab import views
m = vmlab.boot(ram="64M")
live = []
for i, step in enumerate(vmlab.workload("mixed", seed=7, n=1200)):
    if step[0] == "alloc":
        page = m.alloc_pages(step[1], step[2], owner=("editor", "compiler", "network", "disk")[i % 4])
        live.append(page)
    else:
        m.free_pages(live.pop(i * 7 % len(live)))
"""


def _widget(lab: LabPage, code: str) -> Locator:
    """The widget a cell shows, after the cell has run."""
    lab.scratch([code]).run_all()
    widget = lab.output(0).locator(".vml, .vml-view, .jp-OutputArea-output").first
    widget.scroll_into_view_if_needed()
    return widget


def frames(lab: LabPage) -> Locator:
    """The physical memory map, coloured by owner."""
    widget = _widget(lab, MIXED + "views.frames(m)")
    lab.page.get_by_role("button", name="owner").or_(lab.page.get_by_role("radio", name="owner")).first.click()
    lab.page.wait_for_timeout(400)
    return widget


def buddy(lab: LabPage) -> Locator:
    """The buddy allocator in the middle of a run."""
    busy = """
m = vmlab.boot(ram="64M")
tape = m.record()
m.run(vmlab.workload("mixed", seed=7, n=900))
tape.stop()
v = views.buddy(tape)
cuts = [i for i in range(len(tape)) if tape.event(i)[0] == "expand" and tape.event(i)[2] == 2]
v.position = cuts[-1]
v
"""
    return _widget(lab, "import vmlab\nfrom vmlab import views" + busy)


def zones(lab: LabPage) -> Locator:
    """Zones, watermarks and one request, pass by pass."""
    return _widget(lab, "from vmlab import views\nv = views.zones('2G', gfp=0x1d2)\nv.preset('low')\nv")


def bootmem(lab: LabPage) -> Locator:
    """The boot bitmap halfway through the boot."""
    widget = _widget(lab, "from vmlab import views\nviews.bootmem('64M')")
    slider = widget.locator("input[type=range]").first
    slider.focus()
    lab.press("Home")
    lab.press("ArrowRight", times=13)
    lab.wait_idle()
    return widget


def host(lab: LabPage) -> Locator:
    """The kernel under the notebook beside the model."""
    return _widget(lab, "from vmlab import views\nviews.host()")


def start(lab: LabPage) -> Locator:
    """The start page."""
    lab.open("notebooks/00-start.ipynb").run_all()
    lab.scroll_to_top()
    return lab.page.locator(".jp-Notebook").first


def exercise(lab: LabPage) -> Locator:
    """What a student sees after a wrong answer."""
    lab.scratch([
        'from vmlab import course\ncourse.question("06-buddy/place")',
        'q = course.question("06-buddy/place")\nplace = {"index": [1, 2], "pair": [0, 1], "buddy": [0, 0], "merged": [0, 0]}',
        'course.check("06-buddy/place")',
    ]).run_all()
    return lab.output(2).locator(".jp-OutputArea-output").first


SHOTS: dict[str, Callable[[LabPage], Locator]] = {f.__name__: f for f in (start, frames, buddy, zones, bootmem, host, exercise)}


def main() -> int:
    """Take the pictures named on the command line, or all; 1 if the console showed errors."""
    wanted = sys.argv[1:] or list(SHOTS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    errors: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, chromium_browser() as browser:
        server = LabServer(pathlib.Path(scratch))
        try:
            lab = LabPage(browser, server, 1280, 1400)
            for name in wanted:
                target = SHOTS[name](lab)
                lab.page.wait_for_timeout(600)
                target.screenshot(path=FOLDER / f"{name}.png")
                print(FOLDER / f"{name}.png")
            errors += lab.errors
        finally:
            server.stop()
    for error in errors:
        print(f"ERROR {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
