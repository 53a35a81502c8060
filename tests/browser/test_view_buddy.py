"""The buddy view in JupyterLab: acting and time travel by mouse and keyboard; picture and machine agree at every event."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator

from tests.browser.lab_page import LabPage

BOOT = "import vmlab\nfrom vmlab import views\nm = vmlab.boot(ram='64M', kernel_objects=None)\n"
SHOW = BOOT + "b = views.buddy(m)\nb"
# The lists up to order 8 are used up first, so that the next page splits a block of order 9.
SPLIT = BOOT + """for order in (0, 1, 2, 3, 4, 5, 8): m.alloc_pages(vmlab.GFP_KERNEL, order, owner='filler')
b = views.buddy(m)
page = m.alloc_pages(vmlab.GFP_KERNEL, 0, owner='me')
m.free_pages(page)
b"""


def shown(lab: LabPage, cell: str = SHOW) -> Locator:
    """The view, run and drawn."""
    lab.scratch([cell]).run_all()
    lab.page.wait_for_selector(".vml-buddy[data-painted]")
    return lab.output(0).locator(".vml-buddy")


def push(view: Locator, name: str, times: int = 1) -> None:
    """Press a button of the view."""
    for _ in range(times):
        view.get_by_role("button", name=name, exact=True).click()


def at(lab: LabPage, event: int) -> None:
    """Wait until the picture and Python stand at an event."""
    lab.page.wait_for_selector(f'.vml-buddy[data-event="{event}"]')
    lab.kernel_says("b.position", event)


def pictured_lists(view: Locator) -> list[tuple[int, list[int]]]:
    """For each order the count and the frames on its chips."""
    return [(int(count), chips) for count, chips in view.locator(".vml-list[data-order]").evaluate_all(
        "rows => rows.map(r => [r.querySelector('.vml-count').textContent.replace(/\\s/g, ''),"
        "[...r.querySelectorAll('.vml-chip')].map(c => Number(c.dataset.pfn))])")]


def kernel_lists(lab: LabPage, machine: str = "b.machine", zone: int = 1) -> list[list[int]]:
    """The free lists in the kernel, head first."""
    found: list[list[int]] = lab.kernel(f"[a.blocks() for a in {machine}.zones[{zone}].free_area]")
    return found


def agree(lab: LabPage, view: Locator, machine: str = "b.machine") -> None:
    """The chips are the heads of the kernel's lists, in their order."""
    for (count, chips), blocks in zip(pictured_lists(view), kernel_lists(lab, machine), strict=True):
        assert count == len(blocks) and chips == blocks[: len(chips)] and len(chips) >= min(2, len(blocks))


def tree(view: Locator) -> list[list[Any]]:
    """The boxes of the tree: first frame and look."""
    return view.locator(".vml-tree g").evaluate_all("gs => gs.map(g => [Number(g.dataset.pfn), g.dataset.look])")


def test_allocating_and_freeing_by_mouse(lab: LabPage) -> None:
    view = shown(lab)
    agree(lab, view)
    view.get_by_label("Order to allocate").select_option("3")
    view.get_by_label("Owner, a label for the pictures").fill("editor")
    push(view, "Allocate")
    lab.kernel_says("m.stat.alloc", 1)
    pfn = lab.kernel("b.picture.choices[0][0]")
    assert lab.kernel(f"[m.page({pfn}).order, m.page({pfn}).owner, m.page({pfn}).state]") == [3, "editor", "allocated"]
    at(lab, lab.kernel("len(m.tape) - 1"))
    agree(lab, view)
    assert [pfn, "allocated"] in tree(view)
    assert f"frame {pfn} of zone Normal" in view.locator(".vml-message").inner_text()

    view.get_by_label("Allocated block to free").select_option(str(pfn))
    push(view, "Free")
    lab.kernel_says(f"m.page({pfn}).state", "free")
    at(lab, lab.kernel("len(m.tape) - 1"))
    agree(lab, view)
    assert view.get_by_label("Allocated block to free").is_disabled(), "nothing left to free"


def test_a_workload_runs_from_the_keyboard(lab: LabPage) -> None:
    view = shown(lab)
    lab.tab_to(view.get_by_label("Workload", exact=True))
    lab.tab_to(view.get_by_label("Seed"))
    lab.page.keyboard.type("7")  # the field's content is selected by Tab
    lab.tab_to(view.get_by_label("Steps"))
    lab.page.keyboard.type("150")
    lab.press("Enter")
    lab.kernel_says("m.tape.n_ops >= 75", True)
    lab.execute("twin = vmlab.boot(ram='64M', kernel_objects=None); twin.run(vmlab.workload('mixed', 7, 150))")
    assert lab.kernel("m.buddyinfo() == twin.buddyinfo()"), "the seed and the number of steps were taken"
    at(lab, lab.kernel("len(m.tape) - 1"))
    agree(lab, view)
    assert lab.kernel("len(b.charts._lines[0].x)") > 50
    assert lab.output(0).locator(".vml-charts .bqplot path.line").count() >= 14


def test_stepping_through_a_split_shows_every_state(lab: LabPage) -> None:
    view = shown(lab, SPLIT)
    push(view, "To the start")
    at(lab, -1)
    end_of_alloc = lab.kernel("m.tape.op_end(0)")
    for event in range(end_of_alloc + 1):
        push(view, "One event forward")
        lab.page.wait_for_selector(f'.vml-buddy[data-event="{event}"]')
        # Between the events of one step the kernel is ahead: its lists change before the first of them is told.
        if lab.kernel(f"m.tape.event({event})[0]") in ("list_add", "list_del", "alloc") and event % 2:
            lab.execute(f"then = m.tape.seek({event})")
            agree(lab, view, "then")
            assert view.locator(".vml-sentence").inner_text() == lab.kernel(f"vmlab.describe(m.tape.event({event}))")
    boxes = tree(view)
    assert [look for _, look in boxes].count("free") == 9, "nine lower halves went to the lists"
    assert boxes[-2:] == [[lab.kernel("page.pfn"), "allocated"], [lab.kernel("page.pfn - 1"), "free"]]
    push(view, "One operation forward")
    at(lab, lab.kernel("len(m.tape) - 1"))
    looks = [look for _, look in tree(view)]
    assert looks.count("free") == 1 and looks.count("split") == 18, "everything merged into one block"
    assert "merges with" in (view.locator(".vml-tree").get_attribute("aria-label") or "")
    agree(lab, view, "m")


def test_pair_bits_are_the_kernels(lab: LabPage) -> None:
    view = shown(lab, SPLIT)
    toggle = lab.kernel("next(i for i in range(len(m.tape)) if m.tape.event(i)[0] == 'map_toggle' and m.tape.event(i)[2] == 4)")
    lab.execute(f"b.position = {toggle}")
    at(lab, toggle)
    _, zone, order, index, bit = lab.kernel(f"m.tape.event({toggle})")
    assert "order 4" in view.locator("h4", has_text="Pair bits").inner_text()
    found = view.locator(".vml-pair").evaluate_all("ps => ps.map(p => [Number(p.dataset.pair), Number(p.querySelector('b').textContent)])")
    bits = lab.kernel(f"list(m.tape.seek({toggle}).zones[{zone}].free_area[{order}].map)")
    assert len(found) > 5 and all(bits[i] == value for i, value in found)
    assert view.locator(f'.vml-pair.vml-new[data-pair="{index}"] b').inner_text() == str(bit)


def test_the_time_line_by_keyboard_alone(lab: LabPage) -> None:
    view = shown(lab, SPLIT)
    end = lab.kernel("len(m.tape) - 1")
    lab.tab_to(view.get_by_label("Position on the tape, in events"))
    lab.press("Home")
    at(lab, -1)
    lab.press("ArrowRight", times=3)
    at(lab, 2)
    lab.press("ArrowLeft")
    at(lab, 1)
    lab.press("Shift+ArrowRight")
    at(lab, lab.kernel("m.tape.op_end(0)"))
    lab.press("Shift+ArrowLeft")
    at(lab, -1)
    lab.press("End")
    at(lab, end)
    lab.press("Home")
    lab.press("Space")
    lab.page.wait_for_function("() => Number(document.querySelector('.vml-buddy').dataset.event) >= 3")
    lab.press("Space")
    stopped = int(view.get_attribute("data-event") or 0)
    lab.page.wait_for_timeout(900)
    assert int(view.get_attribute("data-event") or 0) == stopped, "paused"
    assert "event" in (view.get_by_label("Position on the tape, in events").get_attribute("aria-valuetext") or "")


def test_acting_in_the_past_makes_a_branch(lab: LabPage) -> None:
    view = shown(lab)
    for order in ("0", "1", "2"):
        view.get_by_label("Order to allocate").select_option(order)
        push(view, "Allocate")
        lab.kernel_says("m.stat.alloc", int(order) + 1)
    before = lab.kernel("m.buddyinfo()")
    push(view, "One operation back", 2)
    end_of_first = lab.kernel("m.tape.op_end(0)")
    at(lab, end_of_first)
    assert "You are in the past" in view.locator(".vml-past").inner_text()
    view.get_by_label("Order to allocate").select_option("6")
    view.get_by_role("button", name="Allocate", exact=True).click()
    lab.kernel_says("b.picture.run", 1)
    assert lab.kernel("m.buddyinfo()") == before and lab.kernel("b.machine is not m and b.machine.stat.alloc == 2")
    at(lab, lab.kernel("len(b.tape) - 1"))
    agree(lab, view)
    view.get_by_label("Run shown").select_option("0")
    lab.kernel_says("b.picture.run", 0)
    at(lab, lab.kernel("len(m.tape) - 1"))
    agree(lab, view, "m")


def test_lists_and_frames_are_walked_with_the_arrow_keys(lab: LabPage) -> None:
    view = shown(lab, SPLIT)
    lab.tab_to(view.locator('.vml-order[tabindex="0"]'))
    assert lab.focused().startswith("button · rowheader · order 9"), "the order of the last event"
    lab.press("ArrowUp", times=2)
    lab.kernel_says("b.picture.order", 7)
    lab.press("ArrowDown", times=2)
    lab.kernel_says("b.picture.order", 9)
    lab.press("ArrowRight", times=2)
    second = lab.kernel("m.zones[1].free_area[9].blocks()[1]")
    assert f"frame {second}, order 9" in lab.focused()
    lab.press("Enter")
    lab.page.wait_for_function(f"() => document.querySelector('.vml-strip').getAttribute('aria-label').includes('{second}')")
    lab.tab_to(view.locator("canvas.vml-strip"))
    lab.press("ArrowLeft")
    previous = lab.kernel(f"max(p for p in range({second}) if m.mem.block[p] & 0xc0)")
    lab.page.wait_for_function(
        f"() => /at frame {previous},/.test([...document.querySelectorAll('.vml-buddy [role=status]')].map(e => e.textContent).join())")


def test_a_long_tape_is_scrubbed_across_windows(lab: LabPage) -> None:
    view = shown(lab, BOOT + "t = m.record()\nm.run(vmlab.workload('mixed', 4, 1500))\nb = views.buddy(t)\nb")
    end = lab.kernel("len(t) - 1")
    assert end > 4000
    slider = view.get_by_label("Position on the tape, in events")
    for share in (0.5, 0.1, 0.9):
        box = slider.bounding_box()
        assert box
        lab.page.mouse.click(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        away = f"Math.abs(Number(document.querySelector('.vml-buddy').dataset.event) - {end * share})"
        lab.page.wait_for_function(f"() => {away} < {end * 0.05}")
        push(view, "One operation forward")
        lab.page.wait_for_timeout(300)
        at(lab, int(view.get_attribute("data-event") or 0))
        lab.execute("then = t.seek(b.position)")
        agree(lab, view, "then")


def test_the_boot_is_shown_from_the_first_event(lab: LabPage) -> None:
    view = shown(lab, "import vmlab\nfrom vmlab import views\nm = None\nt = vmlab.record(ram='16M')\nb = views.buddy(t)\nb")
    push(view, "To the start")
    at(lab, -1)
    assert "The zones are not set up yet." in view.inner_text()
    lab.execute("b.position = 900")
    at(lab, 900)
    lab.execute("then = t.seek(900)")
    for (count, chips), blocks in zip(pictured_lists(view), kernel_lists(lab, "then", 0), strict=True):
        assert count == len(blocks) and chips == blocks[: len(chips)]


def test_everything_is_there_for_those_who_do_not_see_it(lab: LabPage) -> None:
    view = shown(lab, SPLIT)
    described = view.locator("#" + (view.locator(".vml-lists").get_attribute("aria-describedby") or ""))
    assert described.text_content() == lab.kernel("b.picture.text_alternative")
    assert "order 9: " in (described.text_content() or "")
    for selector in ("canvas.vml-strip", ".vml-bits", ".vml-tree"):
        assert len(view.locator(selector).get_attribute("aria-label") or "") > 20, selector
    view.get_by_text("In words and numbers").click()
    assert view.locator("table tbody tr").count() == 10
    for target in view.locator("button:visible, input:visible, select:visible, summary:visible").all():
        box = target.bounding_box()
        assert box and box["height"] >= 24 and box["width"] >= 24, target.inner_text()
