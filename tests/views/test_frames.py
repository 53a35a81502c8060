"""The memory map without a browser: what it sends, says and counts is what the machine holds."""

from __future__ import annotations

import pytest

import vmlab
from vmlab import views
from vmlab.views.base import esm
from vmlab.views.framebytes import HEAD, STATES, cells, changes, owner_cells, owner_names, state_of, tally
from vmlab.views.timeline import call


@pytest.fixture
def machine():
    m = vmlab.boot(ram="64M")
    pages = [m.alloc_pages(vmlab.GFP_KERNEL, i % 6, owner=("editor", "shell", "")[i % 3]) for i in range(60)]
    for page in pages[::2]:
        m.free_pages(page)
    return m


@pytest.mark.parametrize("numpy", [True, False])
def test_every_cell_says_what_the_page_says(machine, numpy):
    shown, owned = cells(machine, numpy), owner_cells(machine, numpy)
    assert len(shown) == len(owned) == machine.mem.frames
    for pfn in range(0, machine.mem.frames):
        page = machine.page(pfn)
        assert state_of(shown[pfn]) == page.state, pfn
        if page.state in ("free", "allocated"):
            assert shown[pfn] & 15 == page.order and bool(shown[pfn] & HEAD) == (page.head == pfn), pfn
        assert page.owner.startswith(owner_names(machine)[owned[pfn]]), pfn
        assert bool(owned[pfn]) == bool(page.owner), pfn


@pytest.mark.parametrize("options", [{"ram": "16M"}, {"ram": "1G"}, {"nodes": [(0, 4096, 8192), (16384, 0, 8192, 4096)]}])
def test_numpy_only_makes_it_faster(options):
    m = vmlab.boot(**options)
    m.run(vmlab.workload("mixed", 3, 500))
    m.alloc_pages(vmlab.GFP_KERNEL, 2, owner="me")
    assert cells(m, True) == cells(m, False) and owner_cells(m, True) == owner_cells(m, False)
    assert tally(m, True) == tally(m, False)
    counted = tally(m)
    assert sum(counted.total.values()) == m.mem.frames
    assert [zone["free"] for zone in counted.zones] == [zone.free_pages for zone in m.zones]
    assert counted.owners[m.owners.index("me")] == 4


def test_a_machine_that_is_off_is_all_hole_and_says_so():
    view = views.frames(vmlab.Machine("16M"))
    assert {state_of(c) for c in view.cells} == {"hole"} and view.zones == []
    assert "0 free" in view.text_alternative and "No block is free" in view.text_alternative


def test_frames_in_hand_are_moving():
    tape = vmlab.boot("64M").record()
    page = tape.live.alloc_pages(vmlab.GFP_KERNEL, 7)
    split = next(i for i in range(len(tape)) if tape.event(i)[0] == "expand")
    view = views.frames(tape)
    view.position = split
    low, high = tape.event(split)[3:]
    assert high == page.pfn and state_of(view.cells[low]) == "free" and state_of(view.cells[high]) == "moving"
    view.cursor = high
    assert view.detail["state"] == "moving between lists" and "moving" in view.text_alternative
    view.position = len(tape) - 1
    assert state_of(view.cells[page.pfn]) == "allocated"


def test_changes_are_exactly_the_cells_that_differ():
    before = bytes(1000)
    after = bytearray(before)
    after[3:7] = b"abcd"
    after[999] = 1
    assert changes(before, bytes(after)) == [(3, b"abcd"), (999, b"\1")]
    assert changes(before, before) == []
    assert changes(before, bytes([1]) * 1000) is None and changes(b"", before) is None and changes(before, bytes(999)) is None


def test_a_small_change_goes_out_as_a_patch_and_a_large_one_as_a_whole(machine, monkeypatch):
    view = views.frames(machine)
    sent = []
    monkeypatch.setattr(view, "send_state", lambda key=None: sent.append({key} if isinstance(key, str) else set(key)))
    page = machine.alloc_pages(vmlab.GFP_KERNEL, 4)
    view.refresh()
    names = set().union(*sent)
    assert "patch" in names and "cells" not in names
    assert view.cells == cells(machine) and page.pfn in [start for start, _ in view.patch]
    sent.clear()
    machine.run(vmlab.workload("fill", 1, 2500))
    view.refresh()
    assert "cells" in set().union(*sent) and view.cells == cells(machine)
    sent.clear()
    view.refresh()
    assert not set().union(*sent) & {"cells", "patch", "serial"}, "nothing changed: nothing to paint"


def test_words_and_table_are_made_from_the_machine(machine):
    view = views.frames(machine)
    text, total = view.text_alternative, tally(machine).total
    assert f"{total['allocated']} allocated" in text and "\u202f".join(f"{total['free']:,}".split(",")) + " free" in text
    assert "editor" in text and "kernel image" in text and "Largest free block: order 9" in text
    *zones, everything = view.table["rows"]
    assert [row[0] for row in zones] == ["DMA", "Normal"] and view.table["head"][3:] == list(STATES[:4])
    assert [sum(column) for column in zip(*(row[3:] for row in zones), strict=True)] == everything[3:]
    assert repr(view).startswith("<Frames: Physical memory map") and len(repr(view)) < 1000


def test_the_cursor_stays_on_the_machine_and_is_described(machine):
    view = views.frames(machine)
    page = machine.alloc_pages(vmlab.GFP_KERNEL, 3, owner="me")
    view.refresh()
    view.cursor = page.pfn + 5
    assert view.detail == {
        "pfn": page.pfn + 5, "physical": f"{(page.pfn + 5) * 4096:#010x}", "virtual": f"{0xC0000000 + (page.pfn + 5) * 4096:#x}",
        "zone": "Normal", "state": "allocated", "block": f"order 3, frames {page.pfn} to {page.pfn + 7}",
        "count": 0, "flags": "none", "owner": "me"}
    view.hover = 0
    assert view.detail["pfn"] == 0 and view.detail["flags"] == "reserved"
    view.hover = -1
    assert view.detail["pfn"] == page.pfn + 5
    view.cursor = 10**9
    assert view.cursor == machine.mem.frames - 1


def test_high_memory_has_no_virtual_address():
    m = vmlab.boot(ram="1G")
    view = views.frames(m)
    view.cursor = 240_000
    assert view.detail["zone"] == "HighMem" and view.detail["virtual"] == "none (high memory)"


def test_owners_are_sent_when_they_are_shown(machine):
    view = views.frames(machine)
    assert view.owner_cells == b""
    view.mode = "owner"
    assert view.owner_cells == owner_cells(machine)
    assert {o["name"] for o in view.owners if o["frames"]} >= {"editor", "shell", "kernel image", "mem_map"}
    assert view.owners[0]["frames"] == tally(machine).owners[0] > 0


def test_a_tape_is_walked_by_event_and_by_operation():
    tape = vmlab.record(ram="16M", kernel_objects=None)
    view = views.frames(tape)
    assert view.length == len(tape) and view.position == len(tape) - 1 and view.cells == cells(tape.live)
    assert view.sentence.startswith("boot memory retires") and view.call == "boot_step('mem_init')"
    view._on_message(view, {"step": "op", "by": -1}, None)
    assert view.position == tape.ops[-1].first_event - 1 and tally(view.machine).total["free"] == 0
    view._on_message(view, {"step": "op", "by": 1}, None)
    assert view.position == len(tape) - 1
    view.position = -1
    assert view.sentence == "Before the first event." and {state_of(c) for c in view.cells} == {"hole"}
    view.position = -7
    assert view.position == -1


def test_what_is_neither_machine_nor_tape_is_refused():
    with pytest.raises(TypeError, match="machine .* or a tape"):
        views.frames(3)
    with pytest.raises(Exception, match="colour"):
        views.frames(vmlab.boot("16M"), mode="colour")


def test_the_module_is_one_piece():
    text = esm("frames_colours", "frames")
    assert text.startswith("const PALETTE = {") and text.count("export default") == 1


def test_a_recorded_operation_reads_like_the_call_it_was():
    assert call("syscall", (3, "mmap", 0, 4096, 3, 34, -1, 0)) == "process 3: mmap(0, 4096, 3, 34, -1, 0)"
    assert call("touch", (3, 0x40000000, 1, None, None)) == "touch(3, 0x40000000, 1, None, None)"
    assert call("add_swap", ("8M", {"priority": 2})) == "add_swap('8M', priority=2)"
    assert call("user_write", (1, 0x40000000, bytes(5000))).endswith("… (5000))")
    assert call("alloc_pages", (vmlab.GFP_KERNEL, 2, None, "me")) == "alloc_pages(GFP_KERNEL, 2, owner='me')"
