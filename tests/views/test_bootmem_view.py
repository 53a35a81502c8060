"""The boot memory view: every step against the real bitmap, the whole boot against a machine booted apart."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import KernelBug, KernelHang, views
from vmlab.mm.mmzone import BootmemData
from vmlab.views.bootmem import amount
from vmlab.views.bootmem_lab import FREE, Recorder, changes, paint, record_boot
from vmlab.views.bootmem_trial import Trial

NODES = [(0, 4096, 4096, 0, 758, 0), (8192, 0, 8192, 0, 16, 40)]
MACHINES: dict[str, dict[str, Any]] = {
    "16M": {"ram": "16M"},
    "64M": {"ram": "64M"},
    "1G": {"ram": "1G"},
    "nopse": {"ram": "48M", "pse": False},
    "nodes": {"ram": "64M", "nodes": NODES},
    "hole": {"e820": [(0, 0x9F000, 1), (0x100000, 30 << 20, 1), (0x2000000, 4 << 20, 2), (0x2400000, 20 << 20, 1)]},
}


@pytest.fixture(scope="module", params=list(MACHINES))
def boot(request: pytest.FixtureRequest) -> tuple[Recorder, vmlab.Machine]:
    """A recorded boot, and a machine of the same kind booted without anybody listening."""
    options = MACHINES[request.param]
    return record_boot(vmlab.Machine(**options)), vmlab.Machine(**options).power_on(until="mem_init")


# -- the small parts ----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40), st.integers(0, 5)), max_size=12))
def test_painting_ranges_is_painting_cells(strokes: list[tuple[int, int, int]]) -> None:
    cells = [9] * 40
    ranges = [[0, 40, 9]]
    for start, length, owner in strokes:
        end = min(start + length, 40)
        cells[start:end] = [owner] * (end - start)
        ranges = paint(ranges, start, end, owner)
    assert [owner for a, b, owner in ranges for _ in range(a, b)] == cells
    assert all(a < b for a, b, _ in ranges) and all(x[2] != y[2] for x, y in zip(ranges, ranges[1:], strict=False))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000), st.data())
def test_changes_are_all_the_changes(before: bytes, data: st.DataObject) -> None:
    old = bytes(b & 1 for b in before)
    new = bytearray(old)
    for at in data.draw(st.lists(st.integers(0, max(len(old) - 1, 0)), max_size=20)):
        if old:
            new[at] ^= 1
    found = {i: bit for a, b, bit in changes(old, bytes(new)) for i in range(a, b)}
    assert found == {i: bit for i, (was, bit) in enumerate(zip(old, new, strict=True)) if was != bit}


@pytest.mark.parametrize(
    ("text", "value"), [("28", 28), (" 4K ", 4096), ("0x1000", 4096), ("16M", 16 << 20), ("", 0), (0, 0), ("1.5M", 3 << 19)]
)
def test_amounts_as_people_type_them(text: Any, value: int) -> None:
    assert amount(text, "size") == value


@pytest.mark.parametrize("text", ["a lot", "-4", "0x", "4G", "1e3", "4096.5.1"])
def test_what_is_not_an_amount_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="^size .*(is not an amount|unsigned 32-bit)"):
        amount(text, "size")


# -- a boot ---------------------------------------------------------------------------------------------


def test_are_the_coloured_ranges_what_the_bitmap_says_at_every_step(boot: tuple[Recorder, vmlab.Machine]) -> None:
    recorder, _ = boot
    handing_over = False
    for step, (_, saved) in zip(recorder.steps, recorder.states, strict=True):
        ranges = step["ranges"]
        if not ranges:
            assert not step["alive"]
            continue
        assert ranges[0][0] == step["base"] and ranges[-1][1] == step["end"]
        assert all(x[1] == y[0] for x, y in zip(ranges, ranges[1:], strict=False))
        handing_over = handing_over or step["kind"] == "retire"
        if saved is None or handing_over:
            continue
        bitmap = zlib.decompress(saved[0])
        free = {i for i, bit in enumerate(bitmap[: step["end"] - step["base"]]) if not bit}
        painted = {i - step["base"] for a, b, owner in ranges if owner == FREE for i in range(a, b)}
        assert painted == free and len(free) == step["free"]


def test_does_the_recorded_boot_end_where_a_plain_boot_ends(boot: tuple[Recorder, vmlab.Machine]) -> None:
    recorder, machine = boot
    assert recorder.steps[-1]["lists"] == {str(z.index): z.nr_free() for z in machine.zones}
    assert recorder.machine.snapshot() == machine.snapshot()  # listening changed nothing
    handed = {step["node"]: step["handed"] for step in recorder.steps if step["kind"] == "retire"}
    low = {p.nid: sum(z.free_pages for z in p.node_zones[:2]) for p in machine.pgdats}
    assert handed == low
    assert all(owner != FREE for _, _, owner in recorder.steps[-1]["ranges"])


def test_is_every_consumer_of_the_boot_log_named_at_its_address(boot: tuple[Recorder, vmlab.Machine]) -> None:
    recorder, machine = boot
    shown = {(c["name"], c["start"], c["size"]) for c in recorder.consumers}
    assert {(c.name, c.start_pa, c.size) for c in machine.boot_log} == shown


def test_steps_say_where_the_last_page_is_and_when_a_request_merges() -> None:
    steps = record_boot(vmlab.Machine("64M")).steps
    mem_map = next(s for s in steps if "mem_map" in s["text"] and s["kind"] == "alloc")
    table = steps[steps.index(mem_map) + 1]
    assert (mem_map["last_pos"], mem_map["last_offset"], mem_map["merged"]) == (4288, 48, False)
    assert mem_map["goal"] == 16 << 20 and mem_map["runs"] == [[4096, 4289]]
    assert (table["address"], table["merged"], table["runs"], table["last_offset"]) == (4288 * 4096 + 64, True, [], 192)
    assert "at offset 64, and no new page is taken" in table["text"]
    assert [s["stage"] for s in steps if s["kind"] == "stage"] == [
        "setup_memory_region",
        "setup_memory",
        "paging_init",
        "register_memory",
        "kmem_cache_init",
        "mem_init",
    ]


def test_the_buddy_lists_grow_in_step_with_the_pages_handed_over() -> None:
    retire = [s for s in record_boot(vmlab.Machine("64M")).steps if s["kind"] == "retire"]
    assert len(retire) > 15
    for step in retire:
        assert sum(n << order for counts in step["lists"].values() for order, n in enumerate(counts)) == step["handed"]
    assert [s["handed"] for s in retire] == sorted(s["handed"] for s in retire)


class Wasteful(vmlab.BootmemAllocator):
    """A reader's own: never merges, and emits no events."""

    def alloc_bootmem_core(self, bdata: BootmemData, size: int, align: int, goal: int) -> int | None:
        bdata.last_offset = 0
        listener, self.on_event = self.on_event, None
        try:
            return super().alloc_bootmem_core(bdata, size, align, goal)
        finally:
            self.on_event = listener


def test_an_allocator_of_ones_own_is_watched_through_its_bitmap() -> None:
    steps = record_boot(vmlab.Machine("64M", bootmem=Wasteful)).steps
    allocs = [s for s in steps if s["kind"] == "alloc"]
    requests = [c for c in vmlab.boot(ram="64M").boot_log if c.stage in ("paging_init", "register_memory")]
    assert len(allocs) == len(requests) and not any(s["merged"] for s in allocs)
    assert all(sum(b - a for a, b in s["runs"]) == -(-s["size"] // 4096) for s in allocs)


class Broken(vmlab.BootmemAllocator):
    def reserve_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> int:
        raise KernelBug("reserve_bootmem_core", "not written yet")


def test_a_boot_that_stops_shows_where() -> None:
    recorder = record_boot(vmlab.Machine("64M", bootmem=Broken))
    assert recorder.steps[-1]["kind"] == "bug" and "not written yet" in recorder.steps[-1]["text"]
    assert recorder.steps[-1]["stage"] == "setup_memory"


# -- by hand ----------------------------------------------------------------------------------------------


calls = st.one_of(
    st.tuples(
        st.just("alloc"),
        st.integers(0, 70000),
        st.sampled_from([0, 8, 24, 32, 4096, 65536]),
        st.sampled_from([0, 1 << 20, 16 << 20, 99 << 20]),
        st.just(0),
    ),
    st.tuples(st.sampled_from(["reserve", "free"]), st.integers(0, 30000), st.just(32), st.just(0), st.integers(0, 65 << 20)),
)
_BOOT = record_boot(vmlab.Machine("64M"))
_ALIVE = [i for i, s in enumerate(_BOOT.steps) if s["alive"] and s["kind"] != "retire"]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(_ALIVE), st.lists(calls, min_size=1, max_size=8))
def test_do_calls_by_hand_do_what_the_allocator_does(at: int, todo: list[tuple[str, int, int, int, int]]) -> None:
    trial = Trial(_BOOT, at)
    machine = vmlab.Machine("64M")  # the same calls, made without the picture
    bdata = BootmemData()
    packed, bdata.node_boot_start, bdata.node_low_pfn, bdata.map_pa, bdata.last_pos, bdata.last_offset = _BOOT.states[at][1]
    bdata.map = bytearray(zlib.decompress(packed))
    machine.pgdats[0].bdata = bdata
    for call, size, align, goal, address in todo:
        trial.do(call, size, align, goal, address)
        step = trial.recorder.steps[-1]
        try:
            if call == "alloc":
                result = machine.bootmem.alloc_bootmem_core(bdata, size, align, goal)
                assert step["address"] == result and step["kind"] == ("fail" if result is None else "alloc")
            elif call == "reserve":
                machine.bootmem.reserve_bootmem_core(bdata, address, size)
                assert step["kind"] == "reserve"
            else:
                machine.bootmem.free_bootmem_core(bdata, address, size)
                assert step["kind"] == "free"
        except (KernelBug, KernelHang) as stop:
            assert step["kind"] == "bug" and str(stop) in step["text"]
        assert (trial.bdata.map, trial.bdata.last_pos, trial.bdata.last_offset) == (bdata.map, bdata.last_pos, bdata.last_offset)
        free = sum(b - a for a, b, owner in step["ranges"] if owner == FREE)
        assert free == step["free"] == bdata.map.count(0)
    while trial.back():
        pass
    assert (bytes(trial.bdata.map), trial.bdata.last_pos, trial.bdata.last_offset) == (zlib.decompress(packed), *_BOOT.states[at][1][4:])


def test_there_is_nothing_to_try_before_and_after_boot_memory() -> None:
    view = views.bootmem("64M", position=0)
    with pytest.raises(ValueError, match="no boot allocator at this step"):
        view.try_call("alloc", 28)
    view.position = len(view.steps) - 1
    view._handle_custom_msg({"do": "try", "call": "alloc", "size": "28"}, [])
    assert "no boot allocator at this step" in view.said and view.mode == "boot"
    view.close()


# -- the widget ---------------------------------------------------------------------------------------------


def test_stepping_tells_the_step_in_words_and_numbers() -> None:
    view = views.bootmem("64M")
    assert view.steps[view.position]["stage"] == "setup_memory" and view.steps[view.position]["free"] == 15782
    view.position = 0
    assert "There is no boot bitmap yet." in view.text_alternative and view.table["rows"] == []
    view.position = 12
    step = view.steps[12]
    assert step["text"] in view.text_alternative and "256 to 757 kernel image" in view.text_alternative
    assert [row[0] for row in view.table["rows"]][:2] == ["BIOS data page", "fixmap page table"]
    serial = view.serial
    view.position = 10_000
    assert view.position == len(view.steps) - 1 and view.serial > serial and "The bitmap is gone" in view.text_alternative
    view.close()


def test_a_trial_starts_at_the_step_shown_and_leaves_the_boot_alone() -> None:
    view = views.bootmem("64M", position=30)
    boot_steps = view.steps
    view._handle_custom_msg({"do": "try", "call": "alloc", "size": "5000", "align": "32", "goal": "0"}, [])
    assert view.mode == "trial" and len(view.steps) == 2 and view.position == 1
    assert view.steps[1]["text"].startswith("yours 1: 5\u202f000 bytes.") and view.steps[1]["size"] == 5000
    view._handle_custom_msg({"do": "try", "call": "alloc", "size": "100", "align": "24"}, [])
    assert view.steps[2]["kind"] == "bug" and "alignment 24 is not a power of two. The machine stops here." in view.steps[2]["text"]
    view.position = 1
    view._handle_custom_msg({"do": "try", "call": "free", "size": "4K", "address": "1M"}, [])
    assert len(view.steps) == 3 and view.steps[2]["text"] == "free_bootmem of 4 KiB at 0x100000: frame 256 becomes free."
    view._handle_custom_msg({"do": "undo"}, [])
    assert len(view.steps) == 2
    view._handle_custom_msg({"do": "try", "call": "alloc", "size": "some"}, [])
    assert view.said.startswith("size 'some' is not an amount")
    view._handle_custom_msg({"do": "leave"}, [])
    assert view.mode == "boot" and view.steps == boot_steps and view.position == 30 and view.said == ""
    view.close()


class Unfinished(vmlab.BootmemAllocator):
    """Good enough for a boot, and no further."""

    def free_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> None:
        if size == 4096:
            raise ZeroDivisionError("division by zero")
        super().free_bootmem_core(bdata, addr, size)


def test_a_mistake_in_ones_own_class_is_said_not_swallowed() -> None:
    view = views.bootmem("64M", position=30, bootmem=Unfinished)
    view._handle_custom_msg({"do": "try", "call": "alloc", "size": "28"}, [])
    steps = len(view.steps)
    view._handle_custom_msg({"do": "try", "call": "free", "size": "4K", "address": "1M"}, [])
    assert view.said == "Your allocator raised ZeroDivisionError: division by zero."
    assert len(view.steps) == steps  # no step for a call that came to nothing
    view.close()


def test_a_machine_a_tape_and_a_size_show_the_same_boot() -> None:
    tape = vmlab.record(ram="32M")
    shown = [views.bootmem(source) for source in ("32M", vmlab.boot(ram="32M"), tape)]
    assert shown[0].steps == shown[1].steps == shown[2].steps
    own = views.bootmem("32M", bootmem=Wasteful)
    assert len(own.steps) == len(shown[0].steps) and own.steps != shown[0].steps
    with pytest.raises(TypeError, match="options are for a machine to be made"):
        views.bootmem(vmlab.boot(ram="32M"), pse=False)
    for view in [*shown, own]:
        view.close()
