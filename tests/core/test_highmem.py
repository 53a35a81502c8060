"""High memory: pkmap slots and their counts, atomic slots, bounce buffers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.errors import KernelBug, KernelHang
from vmlab.mm.bounce import POOL_SIZE, BufferHead, EndIo
from vmlab.mm.fs import READ, WRITE
from vmlab.mm.gfp import GFP_ATOMIC, GFP_HIGHUSER, PF_MEMALLOC
from vmlab.mm.highmem import KM_TYPE_NR, KM_USER0, KM_USER1
from vmlab.mm.page_flags import PG_error, PG_highmem

PKMAP_BASE = 0xFE000000


def boot(pae: bool = False, **options: object) -> vmlab.Machine:
    """64 MiB of low memory and 16 MiB of high memory."""
    return vmlab.boot("80M", highmem_pages=4096, kernel_objects="ram", pae=pae, **options)


def high_frames(m: vmlab.Machine, n: int) -> list[int]:
    frames = [m.alloc_pages(GFP_HIGHUSER).pfn for _ in range(n)]  # type: ignore[union-attr]
    assert all(m.mem.flags[pfn] >> PG_highmem & 1 for pfn in frames)
    return frames


def slot_of(address: int) -> int:
    assert address >= PKMAP_BASE and not address & 4095
    return address - PKMAP_BASE >> 12


def check(m: vmlab.Machine, users: dict[int, int]) -> None:
    """Counts, page table and addresses tell the same story; *users* of each frame are those given."""
    highmem = m.highmem
    table = highmem.pkmap_page_table
    seen = {}
    for nr, count in enumerate(highmem.pkmap_count):
        assert bool(table[nr]) == bool(count)
        if count:
            pfn = table[nr] >> 12
            assert highmem.virtual[pfn] == PKMAP_BASE + (nr << 12)
            seen[pfn] = count - 1
    assert len(seen) == len(highmem.virtual), "a frame has two slots"
    assert {pfn: n for pfn, n in seen.items() if n} == {pfn: n for pfn, n in users.items() if n}


def test_low_memory_needs_no_window() -> None:
    m = boot()
    pfn = m.highstart_pfn - 1
    assert m.highmem.kmap(pfn) == m.highmem.kmap_atomic(pfn, KM_USER0) == 0xC0000000 + (pfn << 12)
    m.highmem.kunmap(pfn)
    assert not m.highmem.slot_counts()
    without = vmlab.boot("80M", highmem=False, kernel_objects="ram")
    assert without.highmem.kmap(20000) == 0xC0000000 + (20000 << 12)


@pytest.mark.parametrize(("pae", "slots"), [(False, 1024), (True, 512)])
def test_counts_and_the_flush_at_slot_0(pae: bool, slots: int) -> None:
    m = boot(pae)
    a, b, *rest = high_frames(m, slots + 1)
    highmem = m.highmem
    events = []
    assert slot_of(highmem.kmap(a)) == 1, "the search begins behind the last slot used"
    assert slot_of(highmem.kmap(a)) == 1 and highmem.pkmap_count[1] == 3
    highmem.kunmap(a)
    highmem.kunmap(a)
    assert highmem.pkmap_count[1] == 1 and a in highmem.virtual, "idle, but the TLB may know it"
    assert slot_of(highmem.kmap(b)) == 2
    m.on_event = lambda event: events.append(event) if event[0] == "kmap_flush" else None
    for pfn in rest[: slots - 3]:
        highmem.kmap(pfn)
        highmem.kunmap(pfn)
    assert not events and highmem.last_pkmap_nr == slots - 1
    assert slot_of(highmem.kmap(rest[-1])) == 0
    assert events == [("kmap_flush", slots - 2)] and a not in highmem.virtual
    assert highmem.slot_counts() == {0: 2, 2: 2}
    assert slot_of(highmem.kmap(a)) == 1
    check(m, {a: 1, b: 1, rest[-1]: 1})
    assert f"pkmap: {slots} slots, {slots - 3} empty, 0 idle, 3 used" in highmem.pkmap()


def test_when_all_slots_are_used() -> None:
    m = boot()
    frames = high_frames(m, 1025)
    for pfn in frames[:1024]:
        m.highmem.kmap(pfn)
    assert m.highmem.kmap_nonblock(frames[1024]) == 0
    with pytest.raises(KernelHang):
        m.highmem.kmap(frames[1024])
    assert m.highmem.kmap(frames[5]) and m.highmem.pkmap_count[6] == 3, "a mapped page is had without a slot"
    m.highmem.kunmap(frames[700])
    assert slot_of(m.highmem.kmap(frames[1024])) == 701


def test_unmapping_what_is_not_mapped() -> None:
    m = boot()
    a, b = high_frames(m, 2)
    with pytest.raises(KernelBug):
        m.highmem.kunmap(a)
    m.highmem.kmap(b)
    m.highmem.kunmap(b)
    with pytest.raises(KernelBug):
        m.highmem.kunmap(b)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1 << 30), st.booleans())
def test_any_order_of_maps_and_unmaps(seed: int, pae: bool) -> None:
    rnd = random.Random(seed)
    m = boot(pae)
    frames = high_frames(m, 900)
    users = dict.fromkeys(frames, 0)
    for step in range(4000):
        pfn = rnd.choice(frames)
        if users[pfn] and rnd.random() < 0.6:
            m.highmem.kunmap(pfn)
            users[pfn] -= 1
        elif sum(map(bool, users.values())) < m.highmem.last_pkmap or users[pfn]:
            address = m.highmem.kmap(pfn)
            assert m.highmem.pkmap_page_table[slot_of(address)] >> 12 == pfn
            users[pfn] += 1
        if not step % 500:
            check(m, users)
    check(m, users)


def test_atomic_slots() -> None:
    m = boot()
    a, b = high_frames(m, 2)
    addresses = [m.highmem.kmap_atomic(a, km_type) for km_type in range(KM_TYPE_NR)]
    assert addresses == [0xFFFFE000 - (i << 12) for i in range(KM_TYPE_NR)]
    assert m.highmem.kmap_atomic(b, KM_USER1) == addresses[KM_USER1]
    m.highmem.kunmap_atomic(addresses[KM_USER1], KM_USER1)
    ptes = []
    for address in addresses:
        found = m.pgtable.pte_lookup(m.init_mm, address)
        assert found is not None
        ptes.append(found[0][found[1]] >> 12)
    assert ptes == [b if i == KM_USER1 else a for i in range(KM_TYPE_NR)], "the slot keeps its page"
    assert not m.highmem.slot_counts()


def test_whole_pages() -> None:
    m = boot()
    a, b = high_frames(m, 2)
    m.ram.write(a << 12, b"\7" * 4096)
    m.highmem.copy_user_highpage(b, a, 0x8000000)
    assert m.ram.read_page(b) == b"\7" * 4096 and not m.highmem.slot_counts()
    m.highmem.memclear_highpage_flush(b, 100, 50)
    assert m.ram.read_page(b) == b"\7" * 100 + bytes(50) + b"\7" * 3946
    m.highmem.clear_user_highpage(a, 0)
    assert m.ram.read_page(a) == bytes(4096) and m.highmem.slot_counts() == {1: 1}
    m.highmem.clear_highpage(b)
    assert m.ram.read_page(b) == bytes(4096) and m.highmem.slot_counts() == {1: 1}, "one slot, still mapped"
    with pytest.raises(KernelBug):
        m.highmem.memclear_highpage_flush(b, 4000, 97)


# -- bounce buffers ---------------------------------------------------------------------------


class Done(EndIo):
    """Remembers how transfers ended."""

    name = "test_done"

    def __init__(self, m: vmlab.Machine) -> None:
        super().__init__(m)
        self.seen: list[tuple[int, bool]] = []

    def end_io(self, bh: BufferHead, uptodate: bool) -> None:
        self.seen.append((bh.b_page, uptodate))


def pools(m: vmlab.Machine) -> tuple[int, int]:
    return len(m.highmem.emergency_pages), len(m.highmem.emergency_bhs)


def test_the_pools_are_filled_at_boot() -> None:
    m = boot()
    assert pools(m) == (POOL_SIZE, POOL_SIZE)
    assert all(pfn < m.highstart_pfn for pfn in m.highmem.emergency_pages)
    assert "allocated 32 pages and 32 bhs reserved for the highmem bounces" in m.console
    assert pools(vmlab.boot("64M", kernel_objects="ram")) == (0, 0), "no high memory, no bounces"


@pytest.mark.parametrize("io_mode", [0, 1])
def test_a_transfer_by_way_of_low_memory(io_mode: int) -> None:
    m = boot(io_mode=io_mode)
    disk = m.block.add_disk(0, 8)
    disk.low_only = True
    high, other = high_frames(m, 2)
    m.ram.write(high << 12, b"abcd" * 1024)
    free = m.nr_free_pages()
    for rw, pfn in ((WRITE, high), (READ, other)):
        m.filemap.lock_page(pfn)
        m.block.brw_page(rw, pfn, 0, 3)
        assert pools(m) == (POOL_SIZE, POOL_SIZE), "the pool is for times of need"
        assert m.nr_free_pages() == free - io_mode, "the stand-in is given back when the disk is done"
        m.block.complete_all()
        assert not m.mem.flags[pfn] & 1, "and the page unlocked"
    assert disk.read_page(3) == m.ram.read_page(other) == b"abcd" * 1024
    assert (m.nr_free_pages(), pools(m)) == (free, (POOL_SIZE, POOL_SIZE))


def test_a_block_in_the_middle_of_a_page() -> None:
    m = boot()
    done = Done(m)
    (high,) = high_frames(m, 1)
    bh = BufferHead(high, 0, 6, b_size=2048, b_offset=1024)
    bh.b_end_io = done
    low = m.highmem.create_bounce(READ, bh)
    assert (low.b_offset, low.b_size, low.b_rsector) == (0, 2048, 24)
    m.ram.write(low.b_page << 12, b"abcd" * 1024)
    assert low.b_end_io is not None
    low.b_end_io.end_io(low, True)
    assert m.ram.read_page(high) == bytes(1024) + b"abcd" * 512 + bytes(1024)
    assert done.seen == [(high, True)]


def test_low_pages_are_not_bounced() -> None:
    m = boot()
    bh = BufferHead(m.alloc_pages(GFP_ATOMIC).pfn, 0, 0)  # type: ignore[union-attr]
    assert m.highmem.create_bounce(WRITE, bh) is bh


def test_a_failed_read_changes_nothing() -> None:
    m = boot()
    disk = m.block.add_disk(0, 8)
    disk.low_only = True
    disk.bad_reads.add(2)
    (high,) = high_frames(m, 1)
    m.ram.write(high << 12, b"old!")
    m.filemap.lock_page(high)
    m.block.brw_page(READ, high, 0, 2)
    assert m.mem.flags[high] >> PG_error & 1 and m.ram.read(high << 12, 4) == b"old!"


def test_without_memory_the_pool_helps() -> None:
    m = boot()
    m.block.add_disk(0, 64)
    frames = high_frames(m, 3)
    m.current.flags |= PF_MEMALLOC  # takes the last page, and reclaims nothing
    while m.alloc_page(GFP_ATOMIC) is not None:
        pass
    bounced = [m.highmem.create_bounce(WRITE, BufferHead(pfn, 0, i)) for i, pfn in enumerate(frames)]
    assert len(m.highmem.emergency_pages) == POOL_SIZE - 3
    assert all(bh.b_page < m.highstart_pfn for bh in bounced)
    for bh in bounced:
        assert bh.b_end_io is not None
        bh.b_end_io.end_io(bh, True)
    assert len(m.highmem.emergency_pages) == POOL_SIZE
