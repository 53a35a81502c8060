"""Swap in 2.6: where slots lie on the disk, the swap cache, turning areas on and off."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmlab
from vmlab.errors import KernelBug
from vmlab.mm.errno import EBUSY, EEXIST, EINVAL, ENOENT, ENOMEM, EPERM
from vmlab.mm.page_flags import PG_dirty, PG_locked, PG_uptodate
from vmlab.mm.swap_header import write_header
from vmlab.v26.gfp import GFP_KERNEL
from vmlab.v26.page_flags import SWAPCACHE
from vmlab.v26.swap_info import SwapInfo26
from vmlab.v26.swapops import pte_to_swp_entry, swp_entry, swp_entry_to_pte, swp_offset, swp_type

PAGE = 4096


def boot(mem: str = "16M", swap: int = 0, **options: Any) -> vmlab.Machine:
    options.setdefault("kernel_objects", "outside")
    m = vmlab.Machine(mem, kernel="2.6", **options).power_on()
    if swap:
        disk(m, 0, swap)
        assert m.swapfile.sys_swapon(0) == 0
    return m


def disk(m: vmlab.Machine, number: int, slots: int, last_page: int | None = None, magic: int = 2, bad: tuple[int, ...] = ()) -> None:
    header = write_header(magic, 1, slots if last_page is None else last_page, bad)
    m.block.add_disk(number, slots + 1).write_page(0, header)


def swap_file(m: vmlab.Machine, number: int, blkbits: int, blocks: list[int], last_page: int) -> Any:
    diskfs: Any = m.diskfs
    inode = diskfs.swap_file(number, blkbits, blocks)
    diskfs.write_swap_header(inode, write_header(2, 1, last_page))
    return inode


def area(m: vmlab.Machine, number: int = 0) -> SwapInfo26:
    p = m.swapfile.swap_info[number]
    assert isinstance(p, SwapInfo26)
    return p


@given(st.integers(0, 31), st.integers(0, 0xFFFFFF))
def test_an_entry_survives_the_way_through_a_page_table(kind: int, offset: int) -> None:
    entry = swp_entry(kind, offset)
    pte = swp_entry_to_pte(entry)
    assert not pte & 0xC1  # neither present nor PROTNONE nor a file's page
    assert pte_to_swp_entry(pte) == entry
    assert (swp_type(entry), swp_offset(entry)) == (kind, offset)


def pages_of(blocks: list[int], per_page: int) -> list[int]:
    """Blocks of a page's size that a file is good for: aligned runs, from wherever they begin."""
    found, at = [], 0
    while at + per_page <= len(blocks):
        run = blocks[at : at + per_page]
        if run[0] % per_page == 0 and run == list(range(run[0], run[0] + per_page)):
            found.append(run[0] // per_page)
            at += per_page
        else:
            at += 1
    return found


@pytest.mark.parametrize("seed", range(30))
def test_a_slot_lies_where_the_file_system_put_that_page(seed: int) -> None:
    rng = random.Random(seed)
    m = boot()
    blkbits = rng.randint(9, 12)
    runs, at = [], 1
    for _ in range(rng.randint(1, 12)):
        at += rng.randint(0, 9)
        length = rng.randint(1, 40)
        runs.append(range(at, at + length))
        at += length
    rng.shuffle(runs)
    blocks = [block for run in runs for block in run]
    expected = pages_of(blocks, PAGE >> blkbits)
    pages = (len(blocks) << blkbits) // PAGE
    inode = swap_file(m, 5, blkbits, blocks, max(pages, 1))
    ret = m.swapfile.sys_swapon(inode)
    if pages < 2 or not expected:
        assert ret == -EINVAL
        assert area(m).extent_list == []
        return
    assert ret == 0
    p = area(m)
    assert p.max == min(len(expected), pages) and p.highest_bit == p.max - 1 and p.pages == pages - 1
    assert sum(e.nr_pages for e in p.extent_list) == p.max
    swapfile: Any = m.swapfile
    order = list(range(p.max))
    rng.shuffle(order)
    for offset in order:
        assert swapfile.map_swap_page(p, offset) == expected[offset]
    with pytest.raises(KernelBug):
        swapfile.map_swap_page(p, p.max)


def test_a_file_with_holes_is_no_swap_area_and_one_in_use_is_busy() -> None:
    m = boot()
    holes = swap_file(m, 1, 12, [5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15, 16], 11)
    assert m.swapfile.sys_swapon(holes) == -EINVAL
    assert "swapon: swapfile has holes" in m.console[-1]
    good = swap_file(m, 2, 12, list(range(20, 40)), 19)
    assert m.swapfile.sys_swapon(good) == 0
    assert m.swapfile.sys_swapon(good) == -EBUSY
    assert m.swapfile.sys_swapoff(good) == 0
    assert area(m).extent_list == [] and good.i_flags == 0


def test_headers_that_are_refused() -> None:
    m = boot()
    disk(m, 0, 50, magic=1)
    assert m.swapfile.sys_swapon(0) == -EINVAL and "version 0 swap" in m.console[-1]
    disk(m, 1, 50, magic=0)
    assert m.swapfile.sys_swapon(1) == -EINVAL and "signature" in m.console[-1]
    disk(m, 2, 50, last_page=90)
    assert m.swapfile.sys_swapon(2) == -EINVAL and "shorter" in m.console[-1]
    disk(m, 3, 50, bad=(50,))
    assert m.swapfile.sys_swapon(3) == -EINVAL
    assert m.swapfile.sys_swapon(9) == -ENOENT
    assert m.swapfile.total_swap_pages == 0 and m.swapfile.least_priority == 0
    disk(m, 4, 50)
    m.block.disks[4].bad_reads.add(0)
    assert m.swapfile.sys_swapon(4) == 0  # the kernel says so ...
    assert m.swapfile.total_swap_pages == 0  # ... and does not use it
    m.current.cap_effective = 0
    assert m.swapfile.sys_swapon(4) == m.swapfile.sys_swapoff(4) == -EPERM


@pytest.mark.parametrize("io_mode", [0, 1])
def test_swapoff_gives_every_process_its_pages_back(io_mode: int) -> None:
    m = boot("8M", swap=3000, io_mode=io_mode)
    disk(m, 1, 100)
    p = m.spawn("a")
    a = p.mmap(1500 * PAGE)
    for i in range(1500):
        p.write(a + i * PAGE, i.to_bytes(4, "little"))
    q = p.fork()
    for i in range(0, 1500, 5):
        q.write(a + i * PAGE, (i + 7).to_bytes(4, "little"))
    assert m.fork.mmlist and area(m).inuse_pages > 300
    q.munmap(a + 400 * PAGE, 1100 * PAGE)
    p.munmap(a + 400 * PAGE, 1100 * PAGE)
    assert m.swapfile.sys_swapoff(0) == 0
    assert m.fork.mmlist == [] and m.swapfile.total_swap_pages == 0
    assert m.swap_state.swapper_space.nrpages == 0
    for i in range(400):
        assert int.from_bytes(p.read(a + i * PAGE, 4), "little") == i
        assert int.from_bytes(q.read(a + i * PAGE, 4), "little") == (i if i % 5 else i + 7)


def test_swapoff_is_refused_when_what_was_promised_would_not_fit() -> None:
    m = boot(swap=3000)
    mmap: Any = m.mmap
    mmap.sysctl_overcommit_memory = 2
    p = m.spawn("a")
    before = mmap.vm_committed_space
    mmap.vm_committed_space = mmap.vm_committed_space + 3000
    assert m.swapfile.sys_swapoff(0) == -ENOMEM
    assert area(m).flags == 3 and mmap.vm_committed_space == before + 3000
    mmap.vm_committed_space = before
    p.exit()
    assert m.swapfile.sys_swapoff(0) == 0


def test_slots_in_use_are_counted() -> None:
    m = boot(swap=20)
    entries = [m.swapfile.get_swap_page() for _ in range(20)]
    assert [swp_offset(e) for e in entries] == [*range(1, 20), 0]
    assert m.swapfile.swap_duplicate(entries[3]) == 1
    for entry in entries[:19]:
        m.swapfile.swap_free(entry)
    assert area(m).inuse_pages == 1 and m.swapfile.nr_swap_pages == 18
    assert "pages" not in m.swapfile.get_swaparea_info()
    assert m.swapfile.get_swaparea_info().split("\n")[1].split() == ["/dev/disk0", "partition", "76", "4", "-1"]


def test_a_page_in_the_swap_cache_is_found_freed_and_not_entered_twice() -> None:
    m = boot(swap=20)
    state: Any = m.swap_state
    pfn = m.alloc_page(GFP_KERNEL)
    assert pfn is not None
    m.filemap.lock_page(pfn)
    assert state.add_to_swap(pfn) == 1
    entry = m.mem.column("private")[pfn]
    assert m.mem.flags[pfn] & (SWAPCACHE | 1 << PG_dirty | 1 << PG_uptodate) == SWAPCACHE | 1 << PG_dirty | 1 << PG_uptodate
    assert state.lookup_swap_cache(entry) == pfn
    m.put_page(pfn)
    other = m.alloc_page(GFP_KERNEL)
    assert other is not None
    assert state.add_to_swap_cache(other, entry) == -EEXIST
    assert not m.mem.flags[other] & (SWAPCACHE | 1 << PG_locked)
    assert state.add_to_swap_cache(other, swp_entry(0, 19)) == -ENOENT
    assert m.swapfile.can_share_swap_page(pfn)
    assert m.swapfile.remove_exclusive_swap_page(pfn)
    assert m.swapfile.nr_swap_pages == 19 and m.mem.count[pfn] == 1
    m.filemap.unlock_page(pfn)
    state.free_pages_and_swap_cache([pfn, other])
    assert m.mem.count[pfn] == m.mem.count[other] == 0
    with pytest.raises(KernelBug):
        state.delete_from_swap_cache(pfn)
