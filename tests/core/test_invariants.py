"""What must hold after every operation, whatever the operations are."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER, GFP_KERNEL, GFP_USER, KernelHang, PageAllocator
from vmlab.mm.bootmem import BootmemAllocator
from vmlab.mm.mmzone import MAX_ORDER
from vmlab.mm.page import BLOCK_FREE

MASKS = [GFP_KERNEL, GFP_ATOMIC, GFP_USER, GFP_HIGHUSER, GFP_DMA, GFP_KERNEL | GFP_DMA, 0]
SMALL = vmlab.boot(ram="16M").snapshot()

operations = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), st.sampled_from(MASKS), st.integers(0, 10)),
        st.tuples(st.just("free"), st.integers(0, 10_000)),
        st.tuples(st.just("flags"), st.sampled_from([0, vmlab.PF_MEMALLOC])),
    ),
    max_size=60,
)


def small_machine() -> vmlab.Machine:
    machine = vmlab.Machine(ram="16M")
    machine.restore(SMALL)
    return machine


def perform(machine: vmlab.Machine, live: list[vmlab.Page], step: tuple[Any, ...]) -> None:
    if step[0] == "alloc":
        try:
            page = machine.alloc_pages(step[1], step[2])
        except KernelHang:
            return
        if page is not None:
            live.append(page)
    elif step[0] == "free" and live:
        machine.free_pages(live.pop(step[1] % len(live)))
    elif step[0] == "flags":
        machine.set_task_flags(step[1])


@settings(max_examples=60, deadline=None)
@given(operations)
def test_no_frame_is_lost_and_lists_equal_counters(steps: list[tuple[Any, ...]]) -> None:
    machine = small_machine()
    live: list[vmlab.Page] = []
    total = machine.nr_free_pages()
    for step in steps:
        perform(machine, live, step)
        machine.check()
        assert machine.nr_free_pages() + sum(1 << page.order for page in live) == total
        spans = sorted((page.pfn, page.pfn + (1 << page.order)) for page in live)
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False)), "two owners for one frame"


@settings(max_examples=25, deadline=None)
@given(operations)
def test_freeing_everything_gives_the_biggest_blocks_back(steps: list[tuple[Any, ...]]) -> None:
    machine = small_machine()
    before = sorted(p for z in machine.zones for p in z.free_area[9].free_list)
    live: list[vmlab.Page] = []
    for step in steps:
        perform(machine, live, step)
    for page in live:
        machine.free_pages(page)
    machine.check()
    assert sorted(p for z in machine.zones for p in z.free_area[9].free_list) == before


@settings(max_examples=40, deadline=None)
@given(operations)
def test_listening_changes_nothing(steps: list[tuple[Any, ...]]) -> None:
    quiet, heard = small_machine(), small_machine()
    heard.on_event = [].append
    for machine in (quiet, heard):
        live: list[vmlab.Page] = []
        for step in steps:
            perform(machine, live, step)
    assert not vmlab.compare(quiet, heard)
    assert quiet.snapshot() == heard.snapshot()


class OneByOne(PageAllocator):
    """The kernel's allocator by another class: boot may take no short cut with it."""

    def free_pages_ok(self, pfn: int, order: int) -> None:
        super().free_pages_ok(pfn, order)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 3000)), min_size=1, max_size=4),
    st.integers(200, 4000).map(lambda kib: (1024 + kib) << 10),
)
def test_the_boot_short_cut_is_exact(holes: list[tuple[int, int]], kernel_end: int) -> None:
    """Whole order-9 blocks are handed over at once at boot; page by page gives the same state."""
    e820 = [(0, 0x9FC00, 1), (0x100000, 31 << 20, 1), *(((256 + a) << 12, n << 12, 2) for a, n in holes)]
    try:
        fast = vmlab.boot(ram="32M", e820=e820, kernel_end=kernel_end)
    except vmlab.KernelBug:  # the kernel image lies in a hole: the real one would not boot either
        with pytest.raises(vmlab.KernelBug):
            vmlab.boot(ram="32M", e820=e820, kernel_end=kernel_end, page_allocator=OneByOne)
        return
    slow = vmlab.boot(ram="32M", e820=e820, kernel_end=kernel_end, page_allocator=OneByOne)
    assert fast.snapshot() == slow.snapshot()
    fast.check()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 300),
    st.lists(
        st.one_of(
            st.tuples(st.just("alloc"), st.integers(1, 40_000), st.sampled_from([1, 32, 4096, 16384]), st.integers(0, 4 << 20)),
            st.tuples(st.just("reserve"), st.integers(0, 4 << 20), st.integers(1, 20_000), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_bootmem_never_hands_out_a_byte_twice(first: int, steps: list[tuple[str, int, int, int]]) -> None:
    """Against a shadow model that keeps the bytes of each allocation, outside the allocator."""
    frames = 1024
    machine = vmlab.Machine(e820=[(0, (first + frames) << 12, 1)])
    bootmem, pgdat = machine.bootmem, machine.pgdats[0]
    bdata = pgdat.bdata
    bootmem.init_bootmem_core(pgdat, first, first, first + frames)
    bootmem.free_bootmem_core(bdata, first << 12, frames << 12)
    taken: list[tuple[int, int]] = []
    reserved: set[int] = set()
    for name, a, b, goal in steps:
        if name == "reserve":
            try:
                bootmem.reserve_bootmem_core(bdata, (first << 12) + a, b)
            except vmlab.KernelBug:
                continue
            reserved |= set(range(a >> 12, (a + b + 4095) >> 12))
            continue
        try:
            address = bootmem.alloc_bootmem_core(bdata, a, b, (first << 12) + goal)
        except KernelHang:
            continue
        if address is None:
            continue
        assert address % b == 0
        assert first << 12 <= address and address + a <= (first + frames) << 12
        assert all(address + a <= s or e <= address for s, e in taken), "handed out twice"
        taken.append((address, address + a))
    used = {f - first for s, e in taken for f in range(s >> 12, (e + 4095) >> 12)} | reserved
    assert bdata.map is not None
    assert {i for i in range(frames) if bdata.map[i]} == used


class Naive(BootmemAllocator):
    """The scan written the slow, obvious way."""

    @staticmethod
    def _scan(bitmap: bytearray, first: int, eidx: int, areasize: int, incr: int) -> int:
        for i in range(first, eidx, incr):
            if not bitmap[i] and all(j < eidx and not bitmap[j] for j in range(i + 1, i + areasize)):
                return i
        return -1


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.integers(0, 90), st.integers(0, 20), st.sampled_from([1, 2, 4, 8, 64]))
def test_the_fast_scan_equals_the_obvious_one(cells: bytes, first: int, areasize: int, incr: int) -> None:
    bitmap = bytearray(c & 1 for c in cells)
    for eidx in (len(bitmap), len(bitmap) // 2):
        assert BootmemAllocator._scan(bitmap, first, eidx, areasize, incr) == Naive._scan(bitmap, first, eidx, areasize, incr)


def test_check_notices_each_kind_of_damage() -> None:
    """The invariant check itself can fail: break one thing at a time."""

    def breakages() -> list[Any]:
        def lost(m: vmlab.Machine) -> None:
            zone = m.zones[0]
            pfn, _ = zone.free_area[9].free_list.popitem()
            m.mem.block[pfn] = 0
            zone.free_pages -= 512

        def counter(m: vmlab.Machine) -> None:
            m.zones[0].free_pages += 1

        def bit(m: vmlab.Machine) -> None:
            area = m.zones[0].free_area[0]
            area.map[area.blocks()[0] >> 1] ^= 1

        def twice(m: vmlab.Machine) -> None:
            zone = m.zones[0]
            pfn = zone.free_area[9].blocks()[0]
            zone.free_area[0].free_list[pfn] = None

        def misplaced(m: vmlab.Machine) -> None:
            zone = m.zones[0]
            zone.free_area[3].free_list[zone.end_pfn] = None

        def column(m: vmlab.Machine) -> None:
            m.mem.block[m.zones[0].free_area[9].blocks()[0]] = BLOCK_FREE | 3

        def unmerged(m: vmlab.Machine) -> None:
            zone = m.zones[0]
            pfn = zone.free_area[9].blocks()[0]
            del zone.free_area[9].free_list[pfn]
            zone.free_area[8].free_list |= {pfn: None, pfn + 256: None}
            m.mem.block[pfn] = m.mem.block[pfn + 256] = BLOCK_FREE | 8

        return [lost, counter, bit, twice, misplaced, column, unmerged]

    for damage in breakages():
        machine = small_machine()
        machine.check()
        damage(machine)
        with pytest.raises(vmlab.KernelBug):
            machine.check()


def test_state_per_frame_is_small() -> None:
    machine = small_machine()
    maps = sum(len(a.map) for z in machine.zones for a in z.free_area)
    assert machine.mem.bytes_per_frame() + maps / machine.mem.frames <= 64
    assert array("I").itemsize == 4 and MAX_ORDER == 10
