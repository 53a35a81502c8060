"""Swap areas, slots, headers, the swap cache, and getting everything back with swapoff."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from tests.core.processes import machine, new_task
from vmlab.errors import KernelBug, KernelHang
from vmlab.mm.errno import EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, EPERM
from vmlab.mm.gfp import GFP_ATOMIC, GFP_KSWAPD
from vmlab.mm.swap_header import MAX_SWAP_BADPAGES, mkswap, write_header
from vmlab.mm.swap_info import SwapInfo, swp_entry, swp_offset, swp_type
from vmlab.mm.swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX, RamSwapMap, host_swap_map
from vmlab.mm.swapfile_on import SWAP_FLAG_PREFER
from vmlab.mm.task import CAP_SYS_ADMIN
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE

PREFER = SWAP_FLAG_PREFER
HEAP = 0x50000000


def with_swap(*areas: tuple[int, int], ram: str = "16M", **options: str) -> vmlab.Machine:
    """A machine with a disk for each (pages, swapon flags)."""
    m = machine(ram, **options)
    m.init_task.cap_effective |= 1 << CAP_SYS_ADMIN
    for number, (pages, flags) in enumerate(areas):
        m.block.add_disk(number, pages).write_page(0, mkswap(pages))
        assert m.swapfile.sys_swapon(number, flags) == 0
    return m


# -- slots ------------------------------------------------------------------------------------


class PlainScan:
    """scan_swap_map written slot by slot."""

    def __init__(self, si: SwapInfo) -> None:
        assert si.swap_map is not None
        self.map = [si.swap_map[i] for i in range(si.max)]
        self.low, self.high, self.next, self.nr, self.max = si.lowest_bit, si.highest_bit, si.cluster_next, si.cluster_nr, si.max

    def scan(self) -> int:
        found = self.rest_of_cluster()
        if found is None:
            self.nr = 256
            found = next((i for i in range(self.low, self.high - 254) if not any(self.map[i : i + 256])), None)
            if found is None:
                found = next((i for i in range(self.low, self.high + 1) if not self.map[i]), None)
                if found is None:
                    self.low, self.high = self.max, 0
                    return 0
                self.low = found + 1
        self.low += found == self.low
        self.high -= found == self.high
        if self.low > self.high:
            self.low, self.high = self.max, 0
        self.map[found] = 1
        self.next = found + 1
        return found

    def rest_of_cluster(self) -> int | None:
        if self.nr:
            while self.next <= self.high:
                self.next += 1
                if not self.map[self.next - 1]:
                    self.nr -= 1
                    return self.next - 1
        return None


@settings(deadline=None, max_examples=60)
@given(st.integers(10, 1500), st.integers(0, 1 << 30), st.sampled_from(["outside", "ram"]))
def test_slots_are_found_as_a_plain_search_finds_them(size: int, seed: int, where: str) -> None:
    rnd = random.Random(seed)
    m = BOOTED[where]
    sf = m.swapfile
    si = sf.swap_info[0]
    si.max = size
    si.swap_map = host_swap_map(size)
    if where == "ram":
        address = m.vmalloc_space.vmalloc(2 * size)
        si.swap_map = RamSwapMap(m, address, size, m.vmalloc_space.frames(address))
        si.swap_map.clear()
    density = rnd.random()
    for i in range(size):
        si.swap_map[i] = rnd.choice([1, 2, 0x100, SWAP_MAP_BAD, SWAP_MAP_MAX]) if rnd.random() < density**8 or not i else 0
    si.lowest_bit, si.highest_bit = 1, size - 1
    si.cluster_next, si.cluster_nr = rnd.randrange(1, size), rnd.choice([0, 3, 256])
    plain = PlainScan(si)
    for _ in range(rnd.choice([5, 400])):
        assert sf.scan_swap_map(si) == plain.scan()
        assert (si.lowest_bit, si.highest_bit, si.cluster_next, si.cluster_nr) == (plain.low, plain.high, plain.next, plain.nr)
    assert [si.swap_map[i] for i in range(size)] == plain.map
    if where == "ram":
        m.vmalloc_space.vfree(si.swap_map.address)  # type: ignore[attr-defined]


BOOTED = {where: machine(kernel_objects=where) for where in ("outside", "ram")}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1 << 30), st.sampled_from(["outside", "ram"]))
def test_counts_are_those_of_a_shadow(seed: int, where: str) -> None:
    rnd = random.Random(seed)
    m = with_swap((40, 0), (300, PREFER | 2), (64, PREFER | 2), kernel_objects=where)
    sf = m.swapfile
    shadow: dict[int, int] = {}
    total, said = sf.nr_swap_pages, len(m.console)
    for _ in range(400):
        what = rnd.random()
        if what < 0.5 or not shadow:
            entry = sf.get_swap_page()
            assert bool(entry) == (len(shadow) < total)
            if entry:
                assert entry not in shadow, "a slot was handed out twice"
                shadow[entry] = 1
        else:
            entry = rnd.choice(list(shadow))
            if what < 0.7:
                assert sf.swap_duplicate(entry) == 1
                shadow[entry] += 1
            else:
                sf.swap_free(entry)
                shadow[entry] -= 1
                if not shadow[entry]:
                    del shadow[entry]
        assert sf.nr_swap_pages == total - len(shadow)
    seen = {
        swp_entry(area, slot): count for area, p in enumerate(sf.swap_info[:3]) for slot, count in p.used_slots() if count != SWAP_MAP_BAD
    }
    assert seen == shadow
    assert len(m.console) == said, "nothing was complained about"
    for entry, count in shadow.items():
        for _ in range(count):
            sf.swap_free(entry)
    assert sf.nr_swap_pages == sf.total_swap_pages == total


@given(st.integers(0, 31), st.integers(0, 0xFFFFFF))
def test_entries_hold_area_and_slot(area: int, slot: int) -> None:
    entry = swp_entry(area, slot)
    assert (swp_type(entry), swp_offset(entry)) == (area, slot)
    assert not entry & 0x81, "an entry never looks like a mapped page"


def test_priorities_and_turns() -> None:
    m = with_swap((12, 0), (12, PREFER | 5), (12, PREFER | 5), (12, 0))
    taken = [swp_type(m.swapfile.get_swap_page()) for _ in range(40)]
    assert taken == [2, 1] * 10 + [0] * 10 + [3] * 10  # the newer of two equals stands first
    assert m.swapfile.get_swap_page() == 0


def test_freeing_in_a_better_area_makes_it_next() -> None:
    m = with_swap((12, 0), (12, PREFER | 5))
    entries = [m.swapfile.get_swap_page() for _ in range(15)]
    assert swp_type(entries[-1]) == 0
    m.swapfile.swap_free(entries[3])
    assert m.swapfile.swap_list.next == 1
    assert m.swapfile.get_swap_page() == entries[3]


def test_a_count_that_overflows_stays() -> None:
    m = with_swap((64, 0))
    sf = m.swapfile
    entry = sf.get_swap_page()
    swap_map = sf.swap_info[0].swap_map
    assert swap_map is not None
    swap_map[1] = SWAP_MAP_MAX - 2
    assert sf.swap_duplicate(entry) == 1 and swap_map[1] == SWAP_MAP_MAX - 1 and not sf.swap_overflow
    for _ in range(7):
        assert sf.swap_duplicate(entry) == 1
    assert swap_map[1] == SWAP_MAP_MAX and sf.swap_overflow == 7
    assert m.console.count("<4>swap_dup: swap entry overflow") == 5
    for _ in range(3):
        sf.swap_free(entry)
    assert swap_map[1] == SWAP_MAP_MAX
    assert sf.sys_swapoff(0) == 0
    assert m.console[-1] == "<4>swapoff: cleared swap entry overflow" and sf.swap_overflow == 0
    assert (sf.nr_swap_pages, sf.total_swap_pages) == (1, 0), "2.4.22 counts such a slot twice when it is freed"


@pytest.mark.parametrize(
    ("entry", "free", "duplicate", "read"),
    [
        (swp_entry(1, 5), "Bad swap file entry", "swap_dup: Bad swap file entry", "Bad swap file entry"),
        (swp_entry(0, 63), "Bad swap offset entry", None, "Bad swap offset entry"),
        (swp_entry(0, 5), "Unused swap offset entry", None, "Unused swap offset entry"),
    ],
)
def test_entries_that_are_none(entry: int, free: str, duplicate: str | None, read: str) -> None:
    m = with_swap((64, 0))
    sf = m.swapfile
    said = len(m.console)
    sf.swap_free(entry)
    assert sf.swap_duplicate(entry) == 0
    assert sf.get_swaphandle_info(entry)[1:] == (None, None)
    lines = [f"<3>swap_free: {free} {entry:08x}", f"<3>rw_swap_page: {read} {entry:08x}"]
    if duplicate:
        lines.insert(1, f"<3>{duplicate} {entry:08x}")
    assert m.console[said:] == lines


def test_what_is_read_together() -> None:
    m = with_swap((100, 0))
    for _ in range(40):
        m.swapfile.get_swap_page()
    m.swap.page_cluster = 3
    assert m.swapfile.valid_swaphandles(swp_entry(0, 21)) == (8, 16)
    assert m.swapfile.valid_swaphandles(swp_entry(0, 3)) == (7, 1), "page 0 is the header"
    m.swapfile.swap_free(swp_entry(0, 18))
    assert m.swapfile.valid_swaphandles(swp_entry(0, 21)) == (2, 16), "a free slot cuts it, even before the one wanted"
    m.swap.page_cluster = 4
    assert m.swapfile.valid_swaphandles(swp_entry(0, 99)) == (0, 96)
    m.swap.page_cluster = 0
    assert m.swapfile.valid_swaphandles(swp_entry(0, 3)) == (0, 0)


# -- swapon and swapoff -----------------------------------------------------------------------


def header(*args: int, **more: int) -> bytes:
    return write_header(*args, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pages", "page", "error", "said"),
    [
        (100, header(0, 1, 100), EINVAL, "Unable to find swap-space signature"),
        (100, header(2, 0, 100), EINVAL, "<4>Unable to handle swap header version 0"),
        (100, header(2, 1, 101), EINVAL, "<4>Swap area shorter than signature indicates"),
        (100, header(2, 1, 1), EINVAL, "<4>Empty swap-file"),
        (100, header(1, 1, 0), EINVAL, "<4>Empty swap-file"),
        (100, header(1, 1, 100), EINVAL, "<4>Swap area shorter than signature indicates"),
        (100, write_header(2, 1, 100, [100]), EINVAL, None),
        (100, write_header(2, 1, 100, [0]), EINVAL, None),
        (900, header(2, 1, 900, nr_badpages=MAX_SWAP_BADPAGES + 1), EINVAL, None),
        (0, bytes(4096), ENODEV, None),
    ],
)
@pytest.mark.parametrize("where", ["outside", "ram"])
def test_areas_that_are_refused(pages: int, page: bytes, error: int, said: str | None, where: str) -> None:
    m = with_swap((64, 0), kernel_objects=where)
    m.block.add_disk(1, max(pages, 1)).write_page(0, page)
    m.block.disks[1].npages = pages
    lines, frames, areas = len(m.console), m.nr_free_pages(), len(m.vmalloc_space.vmlist)
    assert m.swapfile.sys_swapon(1, 0) == -error
    assert m.console[lines:] == ([said] if said else [])
    assert m.swapfile.swap_info[1].flags == 0 and len(m.vmalloc_space.vmlist) == areas
    assert m.nr_free_pages() == frames, "no frame is lost"
    assert m.swapfile.least_priority == -1 and m.swapfile.swap_list.head == 0


def test_who_may_and_what_is_there() -> None:
    m = with_swap((64, 0))
    sf = m.swapfile
    assert sf.sys_swapon(9) == sf.sys_swapoff(9) == -ENOENT
    assert sf.sys_swapon(0) == -EBUSY
    m.block.add_disk(1, 64)
    assert sf.sys_swapoff(1) == -EINVAL
    m.init_task.cap_effective = 0
    assert sf.sys_swapon(1) == sf.sys_swapoff(0) == -EPERM


def test_there_are_32_areas() -> None:
    m = with_swap(*[(10, 0)] * 32)
    m.block.add_disk(32, 10).write_page(0, mkswap(10))
    assert m.swapfile.sys_swapon(32) == -EPERM
    assert m.swapfile.sys_swapoff(7) == 0
    assert m.swapfile.sys_swapon(32) == 0 and m.swapfile.swap_info[7].swap_device == 32


def test_the_swap_map_needs_memory() -> None:
    m = machine("16M", kernel_objects="ram")
    m.init_task.cap_effective |= 1 << CAP_SYS_ADMIN
    m.block.add_disk(0, 10).write_page(0, write_header(2, 1, 0xFFFFFFFF))
    assert m.swapfile.sys_swapon(0) == -ENOMEM
    assert m.swapfile.swap_info[0].flags == 0 and not m.vmalloc_space.vmlist


def test_old_headers_are_bitmaps() -> None:
    m = machine()
    m.init_task.cap_effective |= 1 << CAP_SYS_ADMIN
    m.block.add_disk(0, 50).write_page(0, mkswap(50, 1, [3, 7]))
    assert m.swapfile.sys_swapon(0) == 0
    slots = [swp_offset(m.swapfile.get_swap_page()) for _ in range(47)]
    assert slots == [i for i in range(1, 50) if i not in (3, 7)]
    assert m.swapfile.get_swap_page() == 0


def test_proc_swaps() -> None:
    m = with_swap((64, 0), (100, PREFER | 3))
    for _ in range(5):
        m.swapfile.get_swap_page()
    head, *rows = m.swapfile.get_swaparea_info().splitlines()
    assert head == "Filename\t\t\tType\t\tSize\tUsed\tPriority"
    assert [row.split()[-3:] for row in rows] == [["248", "0", "-1"], ["392", "20", "3"]]
    assert m.swapfile.si_swapinfo() == (160, 155)
    assert m.swapfile.is_swap_partition(1) and not m.swapfile.is_swap_partition(2)


# -- pages ------------------------------------------------------------------------------------


def test_the_swap_cache() -> None:
    m = with_swap((64, 0))
    state, sf = m.swap_state, m.swapfile
    entry = sf.get_swap_page()
    pfn = m.alloc_pages(GFP_ATOMIC, 0).pfn  # type: ignore[union-attr]
    assert state.add_to_swap_cache(pfn, entry) == 0
    assert m.mem.count[pfn] == 2 and sf.swap_info[0].used_slots()[-1] == (1, 2)
    other = m.alloc_pages(GFP_ATOMIC, 0).pfn  # type: ignore[union-attr]
    assert state.add_to_swap_cache(other, entry) == -EEXIST
    assert state.add_to_swap_cache(other, swp_entry(0, 9)) == -ENOENT
    assert state.lookup_swap_cache(entry) == pfn and m.mem.count[pfn] == 3
    m.put_page(pfn)
    with pytest.raises(KernelBug):
        state.add_to_swap_cache(pfn, entry)
    sf.swap_free(entry)  # the process that had the slot is gone
    assert sf.can_share_swap_page(pfn)
    assert sf.remove_exclusive_swap_page(pfn)
    assert m.mem.count[pfn] == 1 and not m.mem.mapping[pfn] and sf.nr_swap_pages == 62
    assert state.show_swap_cache_info() == "Swap cache: add 1, delete 1, find 1/1, race 1+1\n"


def filled(m: vmlab.Machine, pages: int, pid: int = 1) -> dict[int, int]:
    """Process *pid* writes a word to each of *pages* pages: address → word."""
    task = new_task(m, pid)
    with m.running(task):
        assert m.mmap.do_mmap(None, HEAP, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0) == HEAP
    words = {HEAP + (i << 12): (pid << 24) + 0x1234 + i for i in range(pages)}
    for address, word in words.items():
        m.mmu.touch(task, address, 1, value=word)
    return words


def all_there(m: vmlab.Machine, words: dict[int, int], pid: int = 1) -> None:
    task = m.sched.tasks[pid]
    for address, word in words.items():
        m.mmu.touch(task, address)
        assert m.mmu.loaded == word, hex(address)


def push_out(m: vmlab.Machine, rounds: int = 12) -> None:
    """Reclaim until much of what processes have is in swap."""
    zone = m.zones[-1]
    for _ in range(rounds):
        m.vmscan.try_to_free_pages_zone(zone, GFP_KSWAPD)
    m.sched.end_of_op()


@pytest.mark.parametrize("where", ["outside", "ram"])
@pytest.mark.parametrize("io_mode", [0, 1])
def test_pages_survive_swap_and_swapoff(where: str, io_mode: int) -> None:
    m = with_swap((600, 0), (300, PREFER | 1), kernel_objects=where, io_mode=io_mode)  # type: ignore[arg-type]
    words = filled(m, 700)
    more = filled(m, 300, 2)
    with m.running(m.sched.tasks[1]):
        assert m.fork.do_fork(3) == 0
    push_out(m)
    used = m.swapfile.total_swap_pages - m.swapfile.nr_swap_pages
    assert used > 200
    all_there(m, words, 3)
    assert m.swapfile.sys_swapoff(1) == 0
    assert m.swapfile.sys_swapoff(0) == 0
    m.sched.end_of_op()
    assert m.swapfile.total_swap_pages == m.swapfile.nr_swap_pages == m.swap_state.swapper_space.nrpages == 0
    assert not m.vmalloc_space.vmlist
    for pid, what in ((1, words), (2, more), (3, words)):
        all_there(m, what, pid)
        mm = m.sched.tasks[pid].mm
        assert mm is not None and mm.rss == len(what)


def test_a_slot_that_nobody_has_keeps_swapoff_searching() -> None:
    m = with_swap((64, 0))
    m.swapfile.get_swap_page()
    with pytest.raises(KernelHang, match="slot 1 of area 0"):
        m.swapfile.sys_swapoff(0)


def test_swapoff_without_memory_leaves_the_area_in_use() -> None:
    m = with_swap((3000, 0), (2000, PREFER | 1))
    words = filled(m, 4500)  # more than the machine has
    before = m.swapfile.nr_swap_pages, m.swapfile.total_swap_pages
    real = m.alloc_page
    m.alloc_page = lambda gfp: None  # type: ignore[method-assign]
    assert m.swapfile.sys_swapoff(1) == -ENOMEM
    m.alloc_page = real  # type: ignore[method-assign]
    assert (m.swapfile.nr_swap_pages, m.swapfile.total_swap_pages) == before
    assert [m.swapfile.swap_list.head, m.swapfile.swap_info[1].next, m.swapfile.swap_info[0].next] == [1, 0, -1]
    all_there(m, words)


def test_a_swap_file() -> None:
    m = machine()
    m.init_task.cap_effective |= 1 << CAP_SYS_ADMIN
    file = m.diskfs.fake_file(1, 400, 400 * 4096, 3)
    disk, block = m.diskfs.bmap(file.inode, 0) or (None, None)
    assert disk is not None and block == 0
    m.block.disks[disk].write_page(0, mkswap(400))
    assert m.swapfile.sys_swapon(file.inode) == 0
    assert m.swapfile.sys_swapon(file.inode) == -EBUSY
    words = filled(m, 300)
    push_out(m)
    assert m.swapfile.nr_swap_pages < 350
    all_there(m, words)
    assert "file" in m.swapfile.get_swaparea_info()
    assert m.swapfile.sys_swapoff(file.inode) == 0
    all_there(m, words)


def test_a_truncated_swap_disk_loses_its_pages_only() -> None:
    m = with_swap((600, 0))
    words = filled(m, 500)
    push_out(m)
    m.block.disks[0].resize(20)
    task = m.sched.tasks[1]
    lost = 0
    for address, word in words.items():
        m.mmu.touch(task, address)
        lost += m.mmu.loaded != word
        m.sched.end_of_op()
    assert 0 < lost < 500 and any("I/O error" in text for text in m.console)
