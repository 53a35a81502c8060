"""vmalloc space: areas and their guards, the frames behind them, and how processes come to see them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from tests.core.processes import new_task
from vmlab.errors import KernelBug
from vmlab.hw.layout import PAGE_SIZE
from vmlab.mm.gfp import __GFP_HIGHMEM, GFP_ATOMIC, GFP_KERNEL
from vmlab.mm.page_flags import PG_highmem
from vmlab.mm.vmalloc import VM_ALLOC, VM_IOREMAP

MIB = 1 << 20


def boot(ram: str = "32M", **options: object) -> vmlab.Machine:
    return vmlab.boot(ram, kernel_objects="ram", **options)


# Where does the space begin? 8 MiB above the direct map at least, on an 8 MiB boundary.
@pytest.mark.parametrize(
    ("ram", "start", "end"),
    [("16M", 0xC1800000, 0xFDFFE000), ("17M", 0xC2000000, 0xFDFFE000), ("64M", 0xC4800000, 0xFDFFE000), ("1G", 0xF8800000, 0xFDFFE000)],
)
def test_the_window(ram: str, start: int, end: int) -> None:
    m = vmlab.Machine(ram, kernel_objects="ram")
    m.boot_step("setup_memory_region")
    m.boot_step("setup_memory")
    space = m.vmalloc_space
    assert (space.VMALLOC_START, space.VMALLOC_END) == (start, end)
    assert 8 * MIB <= space.VMALLOC_START - space.high_memory < 16 * MIB


def test_without_high_memory_the_space_reaches_the_fixmap() -> None:
    assert boot(highmem=False).vmalloc_space.VMALLOC_END == 0xFFFFC000


@pytest.mark.parametrize("pae", [False, True])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1 << 30))
def test_areas_are_apart_and_keep_their_bytes(pae: bool, seed: int) -> None:
    rnd = random.Random(seed)
    m = boot("40M", pae=pae)
    space = m.vmalloc_space
    space.vfree(space.vmalloc(24 * MIB))  # page tables for all that follows: they are never given back
    free = m.nr_free_pages()
    shadow: dict[int, bytes] = {}
    for _ in range(30):
        if shadow and (rnd.random() < 0.4 or len(shadow) == 8):
            address = rnd.choice(list(shadow))
            assert space.vread(address, len(shadow[address])) == shadow.pop(address)
            space.vfree(address)
        else:
            size = rnd.choice([1, 4096, 5000, 70_000, 3 * MIB])
            address = space.vmalloc(size)
            assert address and not address & 4095
            data = rnd.randbytes(min(size, 20_000))
            assert space.vwrite(data, address) == len(data)
            shadow[address] = data
        end = space.VMALLOC_START
        frames: set[int] = set()
        for area in space.vmlist:
            assert area.addr >= end, "areas overlap"
            end = area.addr + area.size
            behind = space.frames(area.addr)
            assert len(behind) == area.size // PAGE_SIZE - 1 and not frames & set(behind)
            frames |= set(behind)
            place = m.pgtable.pte_lookup(m.init_mm, end - PAGE_SIZE)
            assert place is None or not place[0][place[1]], "the guard page is mapped"
    assert all(space.vread(address, len(data)) == data for address, data in shadow.items())
    for address in shadow:
        space.vfree(address)
    m.slab.kmem_cache_shrink(m.slab.kmem_find_general_cachep(16, GFP_KERNEL))
    assert not space.vmlist and m.nr_free_pages() >= free, "a frame was lost"


def test_the_first_gap_that_fits() -> None:
    m = boot()
    space = m.vmalloc_space
    a, b, c = (space.vmalloc(size) for size in (8192, 4096, 8192))
    assert (b - a, c - b) == (3 * PAGE_SIZE, 2 * PAGE_SIZE)
    space.vfree(b)
    assert space.vmalloc(8192) > c, "two pages and a guard do not fit where one page was"
    assert space.vmalloc(1) == b


def test_what_cannot_be_had() -> None:
    m = boot()
    space = m.vmalloc_space
    free = m.nr_free_pages()
    assert space.vmalloc(0) == space.vmalloc(33 * MIB) == 0
    assert space.vmalloc_pages(31 * MIB, GFP_ATOMIC) == 0, "frames run out on the way"
    assert not space.vmlist
    assert free - m.nr_free_pages() <= 9, "only page tables are left of it"
    assert space.get_vm_area(0xFFFFF000) is None  # with its guard that is 0 bytes
    area = space.get_vm_area(0xFDFFE000 - space.VMALLOC_START)
    assert area is not None and area.addr + area.size > 0xFDFFE000, "into an empty list goes anything"
    assert space.get_vm_area(4096) is None
    space.vfree(area.addr)


def test_kinds_of_frames() -> None:
    m = boot("80M", highmem_pages=4096)
    space, flags = m.vmalloc_space, m.mem.flags
    assert all(flags[pfn] >> PG_highmem & 1 for pfn in space.frames(space.vmalloc(20 * PAGE_SIZE)))
    assert not any(flags[pfn] >> PG_highmem & 1 for pfn in space.frames(space.vmalloc_32(20 * PAGE_SIZE)))
    assert all(pfn < 4096 for pfn in space.frames(space.vmalloc_dma(20 * PAGE_SIZE)))
    assert space.vmalloc_pages(PAGE_SIZE, GFP_KERNEL | __GFP_HIGHMEM)


def test_mapping_given_frames() -> None:
    m = boot()
    space = m.vmalloc_space
    frames = [m.alloc_pages(GFP_KERNEL).pfn for _ in range(3)]  # type: ignore[union-attr]
    address = space.vmap([frames[2], frames[0], frames[2]])
    assert [m.mem.count[pfn] for pfn in frames] == [2, 1, 3]
    space.vwrite(b"here", address)
    assert m.ram.read(frames[2] << 12, 4) == b"here" == space.vread(address + 2 * PAGE_SIZE, 4)
    space.vunmap(address)
    assert [m.mem.count[pfn] for pfn in frames] == [1, 1, 1]
    assert space.vmap([]) == 0
    assert space.vmap([frames[0], None]) == 0, "a hole in the list"
    assert m.mem.count[frames[0]] == 1 and not space.vmlist


def test_what_vfree_complains_about() -> None:
    m = boot()
    said = len(m.console)
    space = m.vmalloc_space
    address = space.vmalloc(PAGE_SIZE)
    space.vfree(0)
    space.vfree(address + 1)
    space.vfree(address + PAGE_SIZE)
    assert m.console[said:] == [
        f"<3>Trying to vfree() bad address ({address + 1:08x})",
        f"<3>Trying to vfree() nonexistent vm area ({address + PAGE_SIZE:08x})",
    ]
    assert len(space.vmlist) == 1


def test_reading_over_gaps() -> None:
    m = boot()
    space = m.vmalloc_space
    a, b = space.vmalloc(PAGE_SIZE), space.vmalloc(PAGE_SIZE)
    space.vwrite(b"\1" * PAGE_SIZE, a)
    space.vwrite(b"\2" * PAGE_SIZE, b)
    whole = space.vread(a, 99 * PAGE_SIZE)
    assert whole == b"\1" * PAGE_SIZE + bytes(PAGE_SIZE) + b"\2" * PAGE_SIZE, "the guard reads as zeroes, nothing after the last area"
    assert space.vread(a - 5, 7) == bytes(5) + b"\1\1"
    assert space.vwrite(b"\3" * 3 * PAGE_SIZE, a) == 3 * PAGE_SIZE
    assert space.vread(b, 1) == b"\3"
    area = space.get_vm_area(PAGE_SIZE, VM_IOREMAP)
    assert area is not None
    with pytest.raises(KernelBug):
        space.vread(area.addr, 1)


# Do processes see a new area? Not before they touch it.
@pytest.mark.parametrize("pae", [False, True])
def test_a_process_learns_of_it_by_a_fault(pae: bool) -> None:
    m = boot("40M", pae=pae)
    task = new_task(m)
    address = m.vmalloc_space.vmalloc(PAGE_SIZE)
    m.vmalloc_space.vwrite(b"\x2a\0\0\0", address)
    mm = task.mm
    assert mm is not None
    if not pae:  # with PAE all processes share the kernel's middle directory
        assert m.pgtable.pte_lookup(mm, address) is None
    with m.running(task):
        frame = m.mmu.kernel_access(address, False, 0)
    assert m.ram.read(frame << 12, 4) == b"\x2a\0\0\0"
    assert m.pgtable.pte_lookup(mm, address) is not None


def test_the_map_as_text() -> None:
    m = boot()
    m.vmalloc_space.vmalloc(3 * PAGE_SIZE)
    m.vmalloc_space.get_vm_area(PAGE_SIZE)
    head, area, reserved = m.vmalloc_space.vmalloc_map().splitlines()
    assert "2 areas" in head and "vmalloc pages=3 frames" in area and reserved.endswith("ioremap pages=0")
    assert m.vmalloc_space.vmlist[0].flags == VM_ALLOC
