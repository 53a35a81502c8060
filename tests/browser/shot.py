"""Look at a notebook as a reader sees it: `python -m tests.browser.shot NOTEBOOK OUT.png [--run-all] …`.

NOTEBOOK is a path in the checkout, or `-` to take one code cell from standard input.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile

from tests.browser.chromium import chromium_browser
from tests.browser.lab_page import LabPage
from tests.browser.server import LabServer


def main() -> int:
    """Take one picture; 1 if the notebook failed or the console showed errors (they are printed, the picture is still made)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook")
    parser.add_argument("picture", type=pathlib.Path)
    parser.add_argument("--run-all", action="store_true", help="run every cell first")
    parser.add_argument("--scroll-to", metavar="TEXT", help="scroll the first element with this text into view")
    parser.add_argument("--whole", action="store_true", help="the whole notebook in one tall picture")
    parser.add_argument("--dark", action="store_true", help="JupyterLab's dark theme")
    parser.add_argument("--click", metavar="NAME", action="append", default=[], help="click the button with this name")
    parser.add_argument("--press", metavar="KEY", action="append", default=[], help="then press this key, e.g. ArrowRight")
    parser.add_argument("--size", default="1280x1000", help="of the window, default %(default)s")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch, chromium_browser() as browser:
        server = LabServer(pathlib.Path(scratch))
        try:
            lab = LabPage(browser, server, width, height)
            if options.notebook == "-":
                lab.scratch([sys.stdin.read()])
            else:
                lab.open(options.notebook)
            if options.dark:
                lab.theme(dark=True)
            if options.run_all or options.notebook == "-":
                lab.run_all(allow_errors=True)
                try:
                    lab.assert_no_failed_cell()
                except AssertionError as error:
                    failures.append(str(error))
            for name in options.click:
                lab.page.get_by_role("button", name=name).first.click()
                lab.wait_idle()
            for key in options.press:
                lab.press(key)
                lab.wait_idle()
            if options.scroll_to:
                lab.page.locator(".jp-Notebook").get_by_text(options.scroll_to).first.evaluate("e => e.scrollIntoView()")
            else:
                lab.scroll_to_top()
            lab.page.wait_for_timeout(500)
            print(lab.screenshot(options.picture.absolute(), whole=options.whole))
            failures += lab.errors
        finally:
            server.stop()
    for failure in failures:
        print(f"ERROR {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
