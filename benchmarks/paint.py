"""Change → painted: how long from a changed machine to its memory map on the screen.

    python -m benchmarks.paint [--times 25]

In JupyterLab in a headless Chromium, for 262,144 frames (1 GiB) and 1,048,576 (4 GiB): the clock is read in the kernel
when `refresh()` begins and in the page two animation frames after the map was drawn (which by itself takes about
33 ms). Prints the median and the slowest of each.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile

SIZES = {"1G": 70, "4G": 110}  # RAM -> milliseconds to reach, median

CELL = """
import time, vmlab
from vmlab import views
m = vmlab.boot(ram="{ram}")
v = views.frames(m)
v
"""

CHANGE = """
page = m.alloc_pages(vmlab.GFP_KERNEL, 5)
v.serial += 1000
began = time.time()
v.refresh()
print(began, v.serial)
"""

WATCH = """() => {
    window.painted = {};
    const root = document.querySelector('.vml-frames');
    new MutationObserver(() => {
        const serial = root.dataset.painted;
        requestAnimationFrame(() => requestAnimationFrame(() => {
            window.painted[serial] ??= performance.timeOrigin + performance.now();
        }));
    }).observe(root, {attributes: true, attributeFilter: ['data-painted']});
}"""


def measure(ram: str, times: int) -> list[float]:
    """Milliseconds from change to painted, *times* times, for a machine with *ram*."""
    from tests.browser.chromium import chromium_browser
    from tests.browser.lab_page import LabPage
    from tests.browser.server import LabServer

    found = []
    with tempfile.TemporaryDirectory() as scratch, chromium_browser() as browser:
        server = LabServer(pathlib.Path(scratch))
        try:
            lab = LabPage(browser, server)
            lab.scratch([CELL.format(ram=ram)]).run_all()
            lab.page.wait_for_selector(".vml-frames[data-painted]")
            lab.page.evaluate(WATCH)
            for _ in range(times + 3):
                began, serial = lab.execute(CHANGE).split()
                lab.page.wait_for_function(f"() => window.painted[{serial}]", timeout=10_000)
                found.append(lab.page.evaluate(f"() => window.painted[{serial}]") - float(began) * 1000)
                lab.page.wait_for_timeout(60)
        finally:
            server.stop()
    return found[3:]  # the first ones find everything cold


def main() -> int:
    """Measure and print; 0 always: a busy machine is no failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=25)
    options = parser.parse_args()
    for ram, reach in SIZES.items():
        found = measure(ram, options.times)
        print(f"change → painted, {ram}: median {statistics.median(found):.0f} ms, slowest {max(found):.0f} ms of {len(found)} "
              f"(to reach: {reach} ms median)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
