"""The boot memory view in JupyterLab: stepping, looking around and calling the allocator by hand."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator

from tests.browser.lab_page import LabPage


def open_view(lab: LabPage, cell: str = "from vmlab import views; v = views.bootmem('64M', position=0); v") -> Locator:
    lab.scratch([cell]).run_all()
    return lab.output(0).locator(".vml-bootmem")


def ink(view: Locator, selector: str) -> dict[str, int]:
    """How many pixels of a canvas have each colour, the common ones."""
    counted: dict[str, int] = view.locator(selector).evaluate("""canvas => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const count = {};
        for (let i = 0; i < data.length; i += 4) {
            const key = '#' + [data[i], data[i + 1], data[i + 2]].map(v => v.toString(16).padStart(2, '0')).join('');
            count[key] = (count[key] ?? 0) + 1;
        }
        return count; }""")
    return counted


def test_stepping_with_the_mouse_moves_picture_and_widget(lab: LabPage) -> None:
    view = open_view(lab)
    assert "step 1 of" in view.inner_text() and "no bitmap yet" in view.inner_text()
    for _ in range(3):
        view.get_by_role("button", name="One step forward").click()
    lab.wait_idle()
    lab.kernel_says("v.position", 3)
    assert lab.kernel("v.steps[3]['text']") in view.inner_text()
    view.get_by_role("button", name="To the next stage of the boot").click()
    lab.wait_idle()
    assert lab.kernel("v.steps[v.position]['stage']") == "paging_init"
    kernel_blue = ink(view, ".vml-whole").get("#0072b2", 0)
    assert kernel_blue > 200
    view.get_by_role("button", name="To the end").click()
    lab.wait_idle()
    assert lab.kernel("v.position == len(v.steps) - 1")
    assert ink(view, ".vml-whole").get("#009e73", 0) > 10 * kernel_blue  # nearly everything is in the buddy lists
    lists = view.locator(".vml-columns").all()
    spoken = [element.get_attribute("aria-label") for element in lists]
    shown: list[list[int]] = lab.kernel("[z.nr_free() for z in __import__('vmlab').Machine('64M').power_on(until='mem_init').zones]")
    for label, counts in zip(spoken, shown, strict=True):
        assert label is not None and label.endswith(", ".join(f"{n} of order {order}" for order, n in enumerate(counts)))
    view.get_by_text("In words and numbers").click()
    assert view.locator(".vml-details p").inner_text() == lab.kernel("v.text_alternative")


def test_the_keyboard_steps_plays_and_walks_over_the_frames(lab: LabPage) -> None:
    view = open_view(lab)
    slider = view.get_by_label("Step of the boot", exact=True)
    lab.tab_to(slider)
    lab.press("ArrowRight", times=10)
    lab.wait_idle()
    lab.kernel_says("v.position", 10)
    assert "mem_map" in view.inner_text()
    lab.press("ArrowLeft")
    lab.press("Shift+ArrowLeft")
    lab.wait_idle()
    assert lab.kernel("(v.position, v.steps[v.position]['kind'])") == [7, "stage"]
    lab.press("Space")  # plays
    lab.page.wait_for_function("() => document.querySelector('.vml-bootmem .vml-where').textContent.startsWith('step 11 ')")
    lab.press("Space")
    lab.wait_idle()
    stopped = lab.kernel("v.position")
    assert stopped >= 10
    assert view.get_by_role("button", name="Play").inner_text() == "▶"

    frames = view.get_by_label("Frames one by one", exact=False)
    lab.tab_to(frames)
    assert lab.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    lab.press("Home")
    assert view.locator(".vml-info").inner_text().startswith("Frame 0 at 0x0 · bit 1 · BIOS data page")
    lab.press("ArrowDown", times=4)
    assert "Frame 256 at 0x100000 · bit 1 · kernel image" in view.locator(".vml-info").inner_text()
    lab.press("ArrowLeft")
    assert "Frame 255 at 0xff000 · bit 1 · reserved: not known to be RAM" in view.locator(".vml-info").inner_text()
    lab.press("PageDown", times=8)
    assert "Frame 4\u202f351" in view.locator(".vml-info").inner_text()
    lab.press("End")
    assert "Frame 16\u202f383" in view.locator(".vml-info").inner_text()
    assert not view.get_by_label("follow the request").is_checked()
    assert lab.kernel("v.position") == stopped  # looking around is not stepping


def test_the_mouse_points_at_frames_and_jumps(lab: LabPage) -> None:
    view = open_view(lab, "from vmlab import views; v = views.bootmem('64M', position=30); v")
    view.get_by_role("button", name="Look at the kernel image").click()
    assert "kernel image" in view.locator(".vml-info").inner_text()
    assert ink(view, ".vml-close").get("#0072b2", 0) > 5000
    whole = view.locator(".vml-whole")
    box = whole.bounding_box()
    assert box
    lab.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 10)
    text = view.locator(".vml-info").inner_text()
    frame = int(text.split(" at ")[0].removeprefix("Frame ").replace("\u202f", ""))
    assert abs(frame - 8192) < 100
    lab.page.mouse.click(box["x"] + box["width"] - 1, box["y"] + 10)  # the last frames have a window, too
    view.get_by_role("button", name="Look at the first frames").click()
    geometry: dict[str, Any] = view.locator(".vml-close").evaluate("canvas => canvas.geometry")
    view.locator(".vml-close").hover(position={"x": geometry["left"] + geometry["cell"] * 1.5, "y": 6})
    assert "Frame 1 at 0x1000 · bit 1 · page tables: fixmap page table (the whole page)" in view.locator(".vml-info").inner_text()


def test_calling_the_allocator_by_hand(lab: LabPage) -> None:
    view = open_view(lab, "from vmlab import views; v = views.bootmem('64M', position=11); v")
    hands = view.locator(".vml-try")
    size = hands.get_by_label("Size in bytes", exact=False)
    size.fill("5000")
    hands.get_by_role("button", name="Make this call").click()
    lab.wait_idle()
    assert lab.kernel("(v.mode, len(v.steps), v.steps[-1]['merged'])") == ["trial", 2, False]
    assert "yours 1: 5\u202f000 bytes" in view.inner_text()
    assert ink(view, ".vml-close").get("#ffffff", 0) > 100
    lab.tab_to(size)  # from here on, the keyboard
    lab.press("Control+a")
    lab.page.keyboard.type("28")
    lab.press("Enter")
    lab.wait_idle()
    assert lab.kernel("(v.steps[-1]['merged'], v.steps[-1]['address'] & 4095)") == [True, 928]
    assert "Merged: this request begins in the rest of the page" in view.inner_text()
    align = hands.get_by_label("Alignment in bytes")
    lab.tab_to(align)
    lab.press("Control+a")
    lab.page.keyboard.type("24")
    lab.tab_to(hands.get_by_role("button", name="Make this call"))
    lab.press("Enter")
    lab.wait_idle()
    assert "BUG in __alloc_bootmem_core: alignment 24 is not a power of two. The machine stops here." in view.inner_text()
    size.fill("plenty")
    size.press("Enter")
    lab.wait_idle()
    assert hands.get_by_role("alert").inner_text().startswith("size 'plenty' is not an amount")
    hands.get_by_role("button", name="Take the last call back").click()
    lab.wait_idle()
    assert lab.kernel("len(v.steps)") == 3
    hands.get_by_role("radio", name="free", exact=True).click()
    assert hands.get_by_label("Address in bytes").is_visible() and not align.is_visible()
    size.fill("4K")
    hands.get_by_label("Address in bytes").fill("1M")
    hands.get_by_label("Address in bytes").press("Enter")
    lab.wait_idle()
    assert "frame 256 becomes free" in view.inner_text() and lab.kernel("v.trial.bdata.map[256]") == 0
    hands.get_by_role("button", name="End the trial").click()
    lab.wait_idle()
    assert lab.kernel("(v.mode, v.position)") == ["boot", 11] and "step 12 of" in view.inner_text()


def test_python_moves_the_picture_and_targets_are_large_enough(lab: LabPage) -> None:
    view = open_view(lab)
    lab.execute("v.position = 24")
    lab.wait_idle()
    assert "step 25 of" in view.inner_text() and "buddy bitmap" in view.locator(".vml-request").inner_text()
    small = """() => [...document.querySelectorAll('.vml-bootmem :is(button, select, input, summary)')].map(e => e.closest('label') ?? e)
        .filter(e => e.offsetParent).map(e => [e.innerText || e.ariaLabel, e.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24).map(([name]) => name)"""
    assert lab.page.evaluate(small) == []
