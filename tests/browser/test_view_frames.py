"""The memory map in JupyterLab: mouse and keyboard, what they do to the picture, and what the machine does to it."""

from __future__ import annotations

from playwright.sync_api import Locator

from tests.browser.lab_page import LabPage

BOOT = "import vmlab\nfrom vmlab import views\nm = vmlab.boot(ram='{}')\nv = views.frames(m)\nv"

# In the middle of a free block of order 9, in a machine of 64 MiB, which is shown in rows of 256 frames.
FREE = 10000


def shown(lab: LabPage, cell: str = BOOT.format("64M")) -> Locator:
    """The view, run and painted."""
    lab.scratch([cell]).run_all()
    view = lab.output(0).locator(".vml-frames")
    lab.page.wait_for_selector(".vml-frames[data-painted]")
    return view


def place(view: Locator, pfn: int) -> tuple[float, float]:
    """Where frame *pfn* is on the canvas that shows all of 64 MiB, in CSS pixels."""
    width, height = view.locator("canvas").evaluate("canvas => [canvas.clientWidth, canvas.clientHeight]")
    scale = float(view.get_attribute("data-scale") or 0)
    left, top = (width - 256 * scale) / 2, (height - 64 * scale) / 2
    return left + (pfn % 256 + 0.5) * scale, top + (pfn // 256 + 0.5) * scale


def colour(view: Locator, x: float, y: float) -> str:
    """The colour of a pixel of the map."""
    return view.locator("canvas").evaluate(
        """(canvas, [x, y]) => {
            const ratio = canvas.width / canvas.clientWidth;
            const [r, g, b] = canvas.getContext('2d').getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data;
            return '#' + [r, g, b].map(v => v.toString(16).padStart(2, '0')).join('').toUpperCase();
        }""",
        [x, y],
    )


def panel(view: Locator) -> dict[str, str]:
    """The words beside the numbers of the panel."""
    return dict(zip(view.locator("dt").all_inner_texts(), view.locator("dd").all_inner_texts(), strict=True))


def test_the_picture_follows_the_machine(lab: LabPage) -> None:
    view = shown(lab)
    spot = place(view, FREE)
    assert colour(view, *spot) == "#009E73"
    lab.execute("pages = [m.alloc_pages(vmlab.GFP_KERNEL, 9, owner='big') for _ in range(22)]\nv.refresh()")
    lab.wait_idle()
    page = lab.kernel("min(p.pfn for p in pages)")
    assert page <= FREE < lab.kernel("max(p.pfn for p in pages) + 512")
    lab.page.wait_for_function("() => Number(document.querySelector('.vml-frames').dataset.changed) === 22 * 512")
    lab.page.wait_for_timeout(3200)  # the outlines of what changed have gone
    assert colour(view, *spot) == "#E69F00"
    taken = lab.kernel("m.totalram_pages - m.nr_free_pages()")
    assert taken >= 22 * 512
    assert f"{taken:,} allocated".replace(",", "\u202f") in (view.locator(".vml-details p").text_content() or "")
    lab.execute("for p in pages: m.free_pages(p)\nv.refresh()")
    lab.page.wait_for_timeout(3200)
    assert colour(view, *spot) == "#009E73"


def test_it_refreshes_by_itself_after_a_cell(lab: LabPage) -> None:
    lab.scratch([BOOT.format("64M"), "p = m.alloc_pages(vmlab.GFP_KERNEL, 4)"]).run_all()
    lab.page.wait_for_selector(".vml-frames[data-painted]")
    before = lab.kernel("v.serial")
    lab.run_cell(1)
    assert lab.kernel("v.serial") == before + 1
    lab.page.wait_for_function("() => Number(document.querySelector('.vml-frames').dataset.changed) >= 16")


def test_the_mouse_points_clicks_zooms_and_drags(lab: LabPage) -> None:
    view = shown(lab)
    canvas = view.locator("canvas")
    x, y = place(view, FREE)
    canvas.hover(position={"x": x, "y": y})
    lab.page.wait_for_function(f"() => document.querySelector('.vml-frames').dataset.shown === '{FREE}'")
    assert panel(view) == {
        "frame": "10000", "physical": "0x02710000", "virtual": "0xc2710000", "zone": "Normal", "count": "0", "state": "free",
        "block": "order 9, frames 9728 to 10239", "owner": "none", "flags": "none"}
    canvas.click(position={"x": x, "y": y})
    lab.kernel_says("v.cursor", FREE)

    whole = float(view.get_attribute("data-scale") or 0)
    for _ in range(3):
        lab.page.mouse.wheel(0, -240)
        lab.wait_idle()
    near = float(view.get_attribute("data-scale") or 0)
    assert near > 3 * whole
    lab.page.mouse.down()
    box = canvas.bounding_box()
    assert box
    lab.page.mouse.move(box["x"] + x + 3 * near, box["y"] + y, steps=4)
    lab.page.mouse.up()
    lab.page.mouse.move(box["x"] + x, box["y"] + y)
    lab.kernel_says("v.hover", FREE - 3)
    assert lab.kernel("v.cursor") == FREE, "dragging moves the map, not the cursor"
    view.get_by_role("button", name="Show all frames").click()
    assert float(view.get_attribute("data-scale") or 0) == whole


def test_the_wheel_scrolls_the_notebook_over_a_map_nobody_clicked(lab: LabPage) -> None:
    view = shown(lab)
    view.locator("canvas").hover()
    before = view.get_attribute("data-scale")
    lab.page.mouse.wheel(0, -300)
    lab.wait_idle()
    assert view.get_attribute("data-scale") == before


def test_the_keyboard_alone_goes_from_all_of_ram_to_one_struct_page(lab: LabPage) -> None:
    view = shown(lab)
    canvas = view.locator("canvas")
    lab.tab_to(canvas)
    steps = [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowDown", 258), ("Shift+ArrowRight", 514), ("ArrowLeft", 513),
             ("Shift+ArrowLeft", 257), ("ArrowUp", 1), ("End", 16383), ("Home", 0), ("PageDown", 1), ("PageDown", 2)]
    for key, expected in steps:
        lab.press(key)
        lab.kernel_says("v.cursor", expected)
    head = lab.kernel("m.zones[1].free_area[9].blocks()[-1]")
    lab.execute(f"v.cursor = {head + 5}")
    lab.wait_idle()
    lab.press("PageUp")
    lab.kernel_says("v.cursor", head)
    lab.press("+")
    lab.press("Enter")
    lab.wait_idle()
    assert float(view.get_attribute("data-scale") or 0) == 72, "one frame is 72 pixels wide"
    lab.page.wait_for_function(
        f"() => /Frame {head}, Normal, free/.test(document.querySelector('.vml-frames [role=status]').textContent)")  # announced
    lab.press("0")
    assert float(view.get_attribute("data-scale") or 0) < 10
    outline = lab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"
    lab.press("Tab")
    assert "canvas" not in lab.focused(), "no keyboard trap"


def test_go_to_takes_frames_and_addresses_and_says_what_it_cannot(lab: LabPage) -> None:
    view = shown(lab)
    field = view.get_by_label("Go to frame or address")
    for text, pfn in [("4296", 4296), ("0x10c8000", 4296), ("0xc10c9000", 4297)]:
        field.fill(text)
        field.press("Enter")
        lab.kernel_says("v.cursor", pfn)
        assert float(view.get_attribute("data-scale") or 0) >= 20
    field.fill("99999")
    view.get_by_role("button", name="Go to this frame or address").click()
    lab.kernel_says("v.cursor", 4297)
    assert "is not a frame (0 to 16383)" in view.locator(".vml-hint").inner_text() and field.get_attribute("aria-invalid") == "true"


def test_colour_modes_by_keyboard_change_picture_and_legend(lab: LabPage) -> None:
    view = shown(lab)
    lab.tab_to(view.get_by_label("state", exact=True))
    x, y = place(view, FREE)
    seen = []
    for mode, word in [("order", "free, by order"), ("zone", "Normal: frames 4096 to 16383"), ("owner", "kernel image (502)")]:
        lab.press("ArrowRight")
        lab.kernel_says("v.mode", mode)
        assert word in view.locator(".vml-legend").inner_text()
        seen.append(colour(view, x, y))
    assert seen[:2] == ["#FDE725", "#56B4E9"] and len(set(seen)) == 3


def test_a_tape_is_scrubbed(lab: LabPage) -> None:
    view = shown(lab, "import vmlab\nfrom vmlab import views\nt = vmlab.record(ram='64M', kernel_objects=None)\nv = views.frames(t)\nv")
    end = lab.kernel("len(t) - 1")
    view.get_by_role("button", name="One operation back").click()
    lab.wait_idle()
    assert lab.kernel("v.position") < end - 1000 and "0 free" in (view.locator(".vml-details p").text_content() or "")
    lab.tab_to(view.get_by_label("Position on the tape, in events"))
    lab.press("Home")
    lab.kernel_says("v.position", -1)
    assert "Before the first event" in view.locator(".vml-sentence").inner_text()
    lab.press("ArrowRight", times=3)
    lab.kernel_says("v.position", 2)
    lab.press("End")
    lab.kernel_says("v.position", end)


def test_everything_is_there_for_those_who_do_not_see_it(lab: LabPage) -> None:
    view = shown(lab)
    canvas = view.locator("canvas")
    described = view.locator("#" + (canvas.get_attribute("aria-describedby") or ""))
    assert described.text_content() == lab.kernel("v.text_alternative")
    view.get_by_text("In words and numbers").click()
    assert view.locator("table tbody tr").count() == 3
    assert view.locator("table caption").inner_text() == "Frames by zone and state"
    for target in view.locator("button:visible, input:visible, summary:visible").all():
        box = target.bounding_box()
        assert box and box["height"] >= 24 and box["width"] >= 24
