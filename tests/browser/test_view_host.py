"""The view of the kernel underneath, in JupyterLab: refreshed live, paused when out of sight, a sample when chosen."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import Locator

from tests.browser.lab_page import LabPage

# A /proc of the test's own, so that what is read is known and can change.
PROC = """
import pathlib, shutil, tempfile, vmlab
from vmlab import host, views
samples = pathlib.Path(host.__file__).parent / "samples" / "linux-6.18-x86_64"
proc = pathlib.Path(tempfile.mkdtemp())
for name in ("buddyinfo", "zoneinfo", "pagetypeinfo"): shutil.copy(samples / name, proc)
(proc / "sys" / "vm").mkdir(parents=True); (proc / "sys" / "vm" / "lowmem_reserve_ratio").write_text("256 256 32 0 0")
m = vmlab.boot(ram="64M")
v = views.host(m, interval=1); v._proc = str(proc); v.refresh()
asked = []; v.on_msg(lambda *message: asked.append(message[1]))  # readings that the page asked for
v
"""


def open_view(lab: LabPage, cell: str = PROC) -> Locator:
    lab.scratch([cell]).run_all()
    return lab.output(0).locator(".vml-host")


def until(lab: LabPage, expression: str, seconds: float = 10) -> Any:
    """The value of an expression in the kernel once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := lab.kernel(expression)):
        assert time.monotonic() < deadline, f"waited {seconds} s for {expression}"
        lab.page.wait_for_timeout(100)
    return value


def test_both_kernels_stand_in_one_table_with_what_changed(lab: LabPage) -> None:
    view = open_view(lab)
    assert "● live" in view.locator(".vml-label").inner_text()
    orders = view.locator(".vml-orders")
    assert orders.locator("thead th").all_inner_texts() == ["order", *map(str, range(11)), "pages free"]
    assert orders.locator("tr:has(td) th").all_inner_texts() == ["DMA", "Normal", "DMA", "DMA32", "Normal"]
    bodies = orders.locator("tbody")
    model = [row.locator("td").all_inner_texts() for row in bodies.nth(0).locator("tr:has(td)").all()]
    assert [[int(n.replace("\u202f", "")) for n in row[:10]] for row in model] == lab.kernel("[z.nr_free() for z in m.zones]")
    assert [row[10] for row in model] == ["none", "none"]
    now = [row.locator("td").all_inner_texts() for row in bodies.nth(1).locator("tr:has(td)").all()]
    assert [row[10] for row in now] == ["3", "752", "162"]
    sections = view.locator("section")
    assert sorted(s.get_attribute("data-row") or "" for s in sections.all()) == sorted(lab.kernel("list(host.CHANGES)"))
    for section in sections.all():
        assert len(section.locator(".vml-two p").all()) == 2
    assert "772\u202f915 managed pages ÷ 256 = 3\u202f019" in view.locator('[data-row="protection"]').inner_text()


def test_start_reads_again_and_again_and_stop_ends_it(lab: LabPage) -> None:
    view = open_view(lab)
    before = lab.kernel("len(asked)")
    view.get_by_role("button", name="Start reading again and again").click()
    until(lab, f"len(asked) >= {before + 2}")
    lab.execute("(proc / 'buddyinfo').write_text('Node 0, zone   Normal   4321  0 0 0 0 0 0 0 0 0 0\\n')")
    lab.page.wait_for_function("() => document.querySelector('.vml-host .vml-orders').innerText.includes('4\\u202f321')")
    view.get_by_role("button", name="Stop reading").click()
    lab.wait_idle()
    assert lab.kernel("v.running") is False
    stopped = lab.kernel("len(asked)")
    lab.page.wait_for_timeout(1500)
    assert lab.kernel("len(asked)") == stopped


def test_the_keyboard_reads_starts_and_chooses_a_sample(lab: LabPage) -> None:
    view = open_view(lab)
    before = lab.kernel("len(asked)")
    lab.tab_to(view.get_by_role("button", name="Read this kernel's memory once"))
    assert lab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    lab.press("Enter")
    lab.wait_idle()
    assert lab.kernel("len(asked)") == before + 1
    lab.tab_to(view.get_by_role("button", name="Start reading again and again"))
    lab.press("Space")
    until(lab, f"v.running and len(asked) > {before + 1}")
    lab.press("Space")
    lab.wait_idle()
    assert lab.kernel("v.running") is False
    lab.tab_to(view.get_by_label("look at"))
    lab.press("ArrowDown", times=3)
    lab.wait_idle()
    assert lab.kernel("v.source") == "linux-2.6.32-i386"
    assert "◆ sample A sample, not this computer: written by hand in the form of Linux 2.6.32" in view.locator(".vml-label").inner_text()
    assert "HighMem" in view.locator(".vml-orders tbody").nth(1).inner_text()
    assert view.get_by_role("button", name="Start reading again and again").is_disabled()
    view.get_by_text("In words and numbers").click()
    assert view.locator(".vml-details p").inner_text() == lab.kernel("v.text_alternative")


def test_it_pauses_while_it_cannot_be_seen(lab: LabPage) -> None:
    lab.scratch([PROC, "%%markdown\n" + "\n\n".join(f"line {n}" for n in range(200))]).run_all()
    view = lab.output(0).locator(".vml-host")
    view.get_by_role("button", name="Start reading again and again").click()
    start = lab.kernel("len(asked)")
    until(lab, f"len(asked) > {start}")
    lab.page.evaluate("() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(e => { e.scrollTop = e.scrollHeight; })")
    lab.page.wait_for_timeout(400)
    lab.wait_idle()
    hidden = lab.kernel("len(asked)")
    lab.page.wait_for_timeout(2300)
    assert lab.kernel("len(asked)") == hidden and lab.kernel("v.running") is True
    lab.scroll_to_top()
    until(lab, f"len(asked) > {hidden}")
    lab.execute("v.running = False")


def test_targets_are_large_enough(lab: LabPage) -> None:
    open_view(lab)
    small = """() => [...document.querySelectorAll('.vml-host :is(button, select, input, summary)')].map(e => e.closest('label') ?? e)
        .map(e => [e.innerText || e.ariaLabel, e.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24).map(([name]) => name)"""
    assert lab.page.evaluate(small) == []
