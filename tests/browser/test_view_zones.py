"""The zones view in JupyterLab: every knob by mouse and by keyboard, and what it does to the picture and the machine."""

from __future__ import annotations

from tests.browser.lab_page import LabPage

SHOW = "from vmlab import views; v = views.zones('64M'); v"


def open_view(lab: LabPage, cell: str = SHOW) -> LabPage:
    return lab.scratch([cell]).run_all()


def test_the_mouse_changes_the_machine_and_every_part_of_the_picture(lab: LabPage) -> None:
    open_view(lab)
    view = lab.output(0).locator(".vml-zones")
    assert view.locator(".vml-zone").count() == 2
    slider = view.get_by_label("RAM", exact=True)
    box = slider.bounding_box()
    assert box
    lab.page.mouse.click(box["x"] + box["width"] * 0.68, box["y"] + box["height"] / 2)
    lab.wait_idle()
    ram = lab.kernel("v.ram")
    assert ram > 1024 and view.locator(".vml-zone").count() == 3
    assert view.locator(".vml-membar > div").count() == 3
    text = view.locator(".vml-legend").first.inner_text()
    assert f"{lab.kernel('v.lab.machine.zones[2].size'):,}".replace(",", "\u202f") + " pages" in text

    view.get_by_label("machine").select_option("two")
    lab.wait_idle()
    assert lab.kernel("len(v.lab.machine.pgdats)") == 2 and view.locator(".vml-lists tbody tr").count() == 4
    numa = view.get_by_label("CONFIG_NUMA")
    assert "first node 1" in view.inner_text()
    numa.check()
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.config.numa") is True and "first node 0" in view.inner_text()


def test_a_request_is_followed_through_the_passes_and_made_by_the_mouse(lab: LabPage) -> None:
    open_view(lab, "from vmlab import views; v = views.zones('1G', gfp=0x1d2); v")
    view = lab.output(0).locator(".vml-zones")
    assert view.locator(".vml-passname").count() == 1 and view.locator(".vml-skipped").count() == 2
    view.get_by_role("button", name="Free levels exactly low").click()
    lab.wait_idle()
    assert view.locator(".vml-passname").count() == 2
    sums = view.locator(".vml-sum").all_inner_texts()
    assert sums[:3] == ["1 + 510 H = 511", "1 + 510 H + 510 N = 1\u202f021", "1 + 510 H + 510 N + 64 D = 1\u202f085"]
    assert "511 > 511? ✗ no" in view.locator(".vml-cell").first.inner_text()
    assert "HighMem serves the request, in pass 2." in view.locator(".vml-result").inner_text()
    free = lab.kernel("[z.free_pages for z in v.lab.machine.zones]")
    assert free == [1085, 1021, 511]

    view.get_by_role("button", name="Make this request for good").click()
    lab.wait_idle()
    assert lab.kernel("[z.free_pages for z in v.lab.machine.zones]") == [1085, 1021, 510]
    assert view.get_by_label("Free pages of HighMem, exactly").input_value() == "510"
    view.get_by_role("button", name="Make this request 32 times").click()
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.zones[2].free_pages") == 478

    exact = view.get_by_label("Free pages of Normal, exactly")
    exact.fill("300")
    exact.press("Enter")
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.zones[1].free_pages") == 300
    view.get_by_label("__GFP_HIGHMEM").uncheck()
    lab.wait_idle()
    assert lab.kernel("v.gfp") == 0x1D0
    assert view.locator(".vml-zonehead").all_inner_texts() == ["N Normal", "→ D DMA"]
    assert "300 > 511? ✗ no" in view.locator(".vml-cell").first.inner_text()
    lab.kernel("v.lab.machine.check()")


def test_the_keyboard_alone_reaches_and_moves_everything(lab: LabPage) -> None:
    open_view(lab)
    view = lab.output(0).locator(".vml-zones")
    lab.tab_to(view.get_by_label("RAM", exact=True))
    lab.press("ArrowRight", times=3)
    lab.wait_idle()
    assert lab.kernel("v.ram") == 192 and "192 MiB" in view.inner_text()
    assert lab.focused().endswith("RAM")  # redrawing has not taken the focus away
    outline = lab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"

    lab.tab_to(view.get_by_label("Free pages of Normal", exact=True))
    lab.press("Home")
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.zones[1].free_pages") == 0
    assert "0 pages, below min" in (view.get_by_label("Free pages of Normal", exact=True).get_attribute("aria-valuetext") or "")
    lab.press("ArrowRight")
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.zones[1].free_pages") > 0

    lab.tab_to(view.get_by_label("gfp mask"))
    lab.press("ArrowDown", times=3)  # GFP_ATOMIC
    lab.wait_idle()
    assert lab.kernel("v.gfp") == 0x20 and not view.get_by_label("__GFP_WAIT").is_checked()
    lab.tab_to(view.get_by_label("Order", exact=True))
    lab.press("ArrowRight", times=2)
    lab.wait_idle()
    assert lab.kernel("v.order") == 2 and "2: 4 pages" in view.inner_text()
    lab.tab_to(view.get_by_label("PF_MEMALLOC"))
    lab.press("Space")
    lab.wait_idle()
    assert lab.kernel("v.memalloc") is True
    lab.tab_to(view.get_by_role("button", name="Make this request for good"))
    before = lab.kernel("v.lab.machine.nr_free_pages()")
    lab.press("Enter")
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.nr_free_pages()") == before - 4
    lab.tab_to(view.get_by_role("button", name="Free levels nothing free"))
    lab.press("Space")
    lab.wait_idle()
    assert lab.kernel("v.lab.machine.nr_free_pages()") == 0
    assert "PF_MEMALLOC" in view.locator(".vml-result").inner_text()


def test_above_4_gib_the_badge_and_the_words_say_what_is_not_built(lab: LabPage) -> None:
    open_view(lab)
    view = lab.output(0).locator(".vml-zones")
    lab.tab_to(view.get_by_label("RAM", exact=True))
    lab.press("End")
    lab.wait_idle()
    assert lab.kernel("v.ram") == 65536 and view.locator(".vml-badge").inner_text() == "PAE"
    assert "takes 768 MiB of the 896 MiB of low memory" in view.inner_text() and "no frame is built" in view.inner_text()
    assert view.get_by_role("button", name="Make this request for good").is_disabled()
    view.get_by_label("Free pages of Normal, exactly").fill("10")
    view.get_by_label("Free pages of Normal, exactly").press("Enter")
    lab.wait_idle()
    assert lab.kernel("v.lab.kernel.zones[1].free_pages") == 10
    assert "DMA serves the request, in pass 1" in view.locator(".vml-result").inner_text()
    view.get_by_text("In words and numbers").click()
    assert view.locator(".vml-details p").inner_text() == lab.kernel("v.text_alternative")
    assert view.locator(".vml-details tbody tr").count() == 3


def test_targets_are_large_enough_in_both_themes(lab: LabPage) -> None:
    open_view(lab)
    small = """() => [...document.querySelectorAll('.vml-zones :is(button, select, input, summary)')].map(e => e.closest('label') ?? e)
        .map(e => [e.innerText || e.ariaLabel, e.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24).map(([name]) => name)"""
    assert lab.page.evaluate(small) == []
    lab.theme(dark=True)
    try:
        ink = lab.page.evaluate("() => getComputedStyle(document.querySelector('.vml-zones')).color")
        assert min(int(n) for n in ink.removeprefix("rgb(").rstrip(")").split(",")[:3] if n.strip().isdigit()) > 180
    finally:
        lab.theme(dark=False)
