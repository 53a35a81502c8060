"""The bench of lesson 5 in a real browser: with the mouse, with the keyboard, and what it says to a screen reader."""

from __future__ import annotations

CELL = "from vmlab.course.lab05 import Toy, bench\nb = bench(Toy(free=[(1, 5), (6, 12)]))\nb"


def test_the_bench_with_mouse_and_keyboard(lab):
    lab.scratch([CELL]).run_all()
    cell = lab.cell(0)
    picture = cell.get_by_role("img", name="page 0 reserved")
    assert "page 1 free" in picture.get_attribute("aria-label")

    cell.get_by_role("button", name="Allocate").click()
    lab.wait_idle()
    assert lab.kernel("b.toy.bdata.last_offset") == 100
    picture = cell.get_by_role("img", name="page 1 allocated, 100 bytes used")
    picture.wait_for()
    assert "address 4096" in cell.get_by_role("status").inner_text()

    size = cell.get_by_label("Size, bytes")
    lab.tab_to(size)
    lab.page.keyboard.press("Control+a")
    lab.page.keyboard.type("3968")
    lab.press("Tab", times=2)
    lab.page.keyboard.press("ArrowDown")  # the goal: page 1
    lab.press("Tab")
    lab.page.keyboard.press("Enter")  # Allocate
    lab.wait_idle()
    assert lab.kernel("[list(r) for r in b.toy.requests]") == [[100, 32, 0, 4096, False], [3968, 32, 4096, 4224, True]]
    assert "last_offset 0" in cell.get_by_role("status").inner_text()

    lab.press("Tab")
    lab.page.keyboard.press("Space")  # Take back
    lab.wait_idle()
    assert lab.kernel("len(b.toy.requests)") == 1
    lab.press("Tab")
    lab.page.keyboard.press("Space")  # Start again
    lab.wait_idle()
    assert lab.kernel("b.toy.requests") == []
    lab.screenshot("bench05.png")
