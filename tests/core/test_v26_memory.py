"""2.6: faults, reverse mapping (both kinds), pagevecs, read-ahead, truncation, huge pages."""

from __future__ import annotations

import random
from typing import Any

import pytest

import vmlab
from vmlab.mm.page_flags import PG_active, PG_lru, PG_referenced
from vmlab.v26.fs import ANON, FileRaState
from vmlab.v26.page_flags import SWAPCACHE
from vmlab.v26.pgtable import HighPageTables
from vmlab.v26.pte_chain import NRPTE, PteChains
from vmlab.v26.rmap import SWAP_FAIL, SWAP_SUCCESS
from vmlab.v26.swapops import pgoff_to_pte, pte_file, pte_to_pgoff, pte_to_swp_entry, swp_entry, swp_entry_to_pte, swp_offset, swp_type

PAGE = 4096


def boot(ram: str = "16M", **options: Any) -> Any:
    options.setdefault("kernel_objects", "outside")
    return vmlab.Machine(ram, kernel="2.6", **options).power_on()


def mappings(m: Any) -> dict[int, list[tuple[Any, int]]]:
    """frame → (address space, address) of every entry that maps it, reserved frames left out."""
    found: dict[int, list[tuple[Any, int]]] = {}
    for task in m.sched.tasks.values():
        for i, pmd in enumerate(task.mm.pgd.table[:768]):
            for j, pte in enumerate(m.ram.contents[pmd >> 12]) if pmd else ():
                if pte & 0x81 and not m.mem.flags[pte >> 12] >> 14 & 1:
                    found.setdefault(pte >> 12, []).append((task.mm, i << 22 | j << 12))
    return found


def check_rmap(m: Any) -> None:
    """Counts of mappings are right, and every entry is found from its page."""
    found, rmap = mappings(m), m.rmap
    for pfn in range(m.mem.frames):
        assert rmap.mapcount[pfn] + 1 == len(found.get(pfn, ())), pfn
    assert m.page_allocator.page_state.nr_mapped == len(found)
    for pfn, places in found.items():
        mapping = m.mem.mapping[pfn]
        if mapping & ANON:
            areas = m.mappings[mapping].head
        else:
            areas = list(m.mmap.vma_prio_tree_foreach(m.mappings[mapping], m.mem.index[pfn], m.mem.index[pfn]))
        seen = [(area.vm_mm, rmap.find_pte(pfn, area)[2]) for area in areas if rmap.find_pte(pfn, area)]
        assert sorted(seen, key=lambda p: (p[0].pid, p[1])) == sorted(places, key=lambda p: (p[0].pid, p[1]))
    for task in m.sched.tasks.values():
        mine = [pfn for pfn, places in found.items() for mm, _ in places if mm is task.mm]
        assert task.mm.rss == len(mine)
        assert task.mm.anon_rss == sum(m.mem.mapping[pfn] & ANON != 0 for pfn in mine)
    if isinstance(rmap, PteChains):
        for pfn, places in found.items():
            assert sorted(rmap.rmap_ptep_map(pa)[3] for pa in rmap.entries(pfn)) == sorted(a for _, a in places)


def workload(m: Any, seed: int, steps: int = 200) -> list[bytes]:
    """Processes that map, write, fork, unmap, move and exit beyond what memory holds. Returns what they read back."""
    rng = random.Random(seed)
    m.add_swap("24M")
    m.create_file("text", b"".join(i.to_bytes(4, "little") * 1024 for i in range(300)))
    first = m.spawn("first")
    processes, maps, read = [first], {first.pid: []}, []
    for step in range(steps):
        p = rng.choice(processes)
        mine = maps[p.pid]
        kind = rng.randrange(8)
        if kind <= 1 or not mine:
            pages = rng.randrange(50, 700)
            if rng.random() < 0.3:
                fd = p.open("text", "r+")
                mine.append((p.mmap(min(pages, 300) * PAGE, "rw", fd=fd, shared=rng.random() < 0.5), min(pages, 300)))
            else:
                mine.append((p.mmap(pages * PAGE), pages))
        elif kind <= 4:
            start, pages = rng.choice(mine)
            for _ in range(min(pages, 200)):
                at = start + rng.randrange(pages) * PAGE
                if rng.random() < 0.6:
                    p.store(at, step)
                else:
                    read.append(p.load(at))
        elif kind == 5 and len(processes) < 5:
            child = p.fork()
            processes.append(child)
            maps[child.pid] = list(mine)
        elif kind == 6:
            start, pages = mine.pop(rng.randrange(len(mine)))
            assert p.munmap(start, pages * PAGE) == 0
        elif len(processes) > 1:
            processes.remove(p)
            p.exit()
    return read


@pytest.mark.parametrize("seed", range(3))
def test_every_entry_is_found_from_its_page(seed: int) -> None:
    m = boot("8M")
    workload(m, seed)
    assert m.page_allocator.page_state.pswpout > 100
    check_rmap(m)
    m.check()


@pytest.mark.parametrize("what", ["mapcount", "nr_active", "tag", "tree", "nr_dirty"])
def test_the_check_sees_what_is_wrong(what: str) -> None:
    m = boot("8M")
    workload(m, 2, 60)
    m.swap.lru_add_drain()
    m.check()
    mapping = m.diskfs.lookup("text").i_mapping
    index, pfn = next(iter(mapping.page_tree.items()))
    if what == "mapcount":
        m.rmap.mapcount[pfn] += 1
    elif what == "nr_active":
        m.zones[0].nr_active += 1
    elif what == "tag":
        mapping.writeback_tags[index] = None
    elif what == "tree":
        m.mem.index[pfn] += 1
    else:
        m.page_allocator.page_state.nr_dirty += 1
    with pytest.raises(vmlab.KernelBug):
        m.check()


def test_chains_and_areas_lead_to_the_same_entries() -> None:
    chained, plain = boot("8M", parts={"rmap": PteChains}), boot("8M")
    read = workload(chained, 1)
    check_rmap(chained)
    assert workload(plain, 1) == read  # the programs see no difference
    assert chained.rmap.chains
    for p in list(chained.processes):
        p.exit()
    assert chained.rmap.chain_bytes() == 0 and not chained.rmap.direct


def test_a_chain_grows_by_links_of_a_cache_line_and_shrinks_to_a_pointer() -> None:
    m = boot(parts={"rmap": PteChains})
    p = m.spawn()
    a = p.mmap(PAGE)
    p.store(a, 7)
    pfn = p.frame(a)
    children = [p.fork() for _ in range(2 * NRPTE)]
    links = m.rmap.chains[pfn]
    assert [NRPTE - link.idx for link in links] == [1, NRPTE, NRPTE]
    for child in children:
        child.exit()
    assert m.rmap.page_referenced(pfn, 1, 0) >= 1
    assert pfn in m.rmap.direct and pfn not in m.rmap.chains


def test_new_anonymous_pages_wait_for_fourteen_and_begin_active() -> None:
    m = boot()
    p = m.spawn()
    a = p.mmap(20 * PAGE)
    p.touch_pages(a, 13, write=1)
    waiting = [p.frame(a + i * PAGE) for i in range(13)]
    assert m.swap.lru_add_active_pvecs == waiting and not m.swap.active()
    assert all(m.mem.count[pfn] == 2 for pfn in waiting)
    p.touch(a + 13 * PAGE, 1)
    pages = [*waiting, p.frame(a + 13 * PAGE)]
    assert m.swap.active() == pages[::-1] and not m.swap.lru_add_active_pvecs
    word = m.mem.flags[pages[0]]
    assert word >> PG_lru & word >> PG_active & word >> PG_referenced & 1 and m.mem.count[pages[0]] == 1


def test_a_hit_in_the_cache_is_a_minor_fault_and_a_miss_reads_around() -> None:
    m = boot()
    m.create_file("f", 200 * PAGE)
    p = m.spawn()
    fd = p.open("f")
    a = p.mmap(200 * PAGE, "r", fd=fd)
    p.load(a + 100 * PAGE)
    inode = m.diskfs.lookup("f")
    assert sorted(inode.i_mapping.page_tree) == list(range(84, 116)) and (p.min_flt, p.maj_flt) == (0, 1)
    p.load(a + 90 * PAGE)
    assert (p.min_flt, p.maj_flt) == (1, 1)
    p.madvise(a, 200 * PAGE, "random")
    p.load(a + 10 * PAGE)
    assert 10 in inode.i_mapping.page_tree and 9 not in inode.i_mapping.page_tree


def test_read_ahead_grows_while_reading_in_order_and_stops_at_a_seek() -> None:
    m = boot()
    m.create_file("f", 400 * PAGE)
    p = m.spawn()
    fd = p.open("f")
    file = p.task.files[fd]
    windows = []
    for _ in range(60):
        p.read_file(fd, PAGE)
        ra = m.filemap.ra_state(file)
        if not windows or windows[-1] != (ra.start, ra.size, ra.ahead_start, ra.ahead_size):
            windows.append((ra.start, ra.size, ra.ahead_start, ra.ahead_size))
    # One page is asked for: 4 pages around it at first (the square of a small number would be 1).
    assert windows[0] == (0, 8, 0, 0)
    assert windows[1] == (8, 16, 24, 32) or windows[1] == (0, 8, 8, 16)
    assert all(size <= 32 and ahead <= 32 for _, size, _, ahead in windows) and windows[-1][1] == 32
    p.seek(fd, 300 * PAGE)
    p.read_file(fd, PAGE)
    assert m.filemap.ra_state(file).size == 0xFFFFFFFF
    tree = m.diskfs.lookup("f").i_mapping.page_tree
    assert 300 in tree and 301 not in tree


@pytest.mark.parametrize(("wanted", "first"), [(1, 8), (2, 8), (3, 8), (8, 8), (9, 32), (40, 32)])
def test_the_first_window_follows_the_first_read(wanted: int, first: int) -> None:
    m = boot()
    assert m.filemap.get_init_ra_size(min(wanted, 32), 32) == first
    ra = FileRaState(32)
    sizes = [first]
    for _ in range(4):
        sizes.append(m.filemap.get_next_ra_size(sizes[-1], 32, 4, ra))
    assert sizes[1:] == [min(32, (4 if sizes[0] < 2 else 2) ** i * first) for i in range(1, 5)]


def test_truncation_unmaps_private_copies_too_and_zeroes_the_rest() -> None:
    m = boot()
    m.create_file("f", b"\x11" * (10 * PAGE))
    p = m.spawn()
    fd = p.open("f", "r+")
    a = p.mmap(10 * PAGE, "rw", fd=fd)
    p.store(a + 5 * PAGE, 1)  # a copy
    p.load(a + 2 * PAGE)
    assert m.diskfs.truncate("f", 2 * PAGE + 100) == 0
    assert p.frame(a + 5 * PAGE) is None and p.frame(a + 2 * PAGE) is not None
    assert p.read(a + 2 * PAGE + 96, 8) == b"\x11" * 4 + bytes(4)
    with pytest.raises(vmlab.Signalled):
        p.load(a + 5 * PAGE)
    check_rmap(m)


def test_a_dirty_page_is_marked_until_it_is_written() -> None:
    m = boot(io_mode=1)
    m.create_file("f", 4 * PAGE)
    p = m.spawn()
    fd = p.open("f", "r+")
    p.write_file(fd, b"x" * PAGE)
    mapping, state = m.diskfs.lookup("f").i_mapping, m.page_allocator.page_state
    assert list(mapping.dirty_tags) == [0] and state.nr_dirty == 1
    with m.running(p.task):
        assert m.filemap.filemap_fdatasync(mapping) == 0
        assert list(mapping.writeback_tags) == [0] and (state.nr_dirty, state.nr_writeback) == (0, 1)
        assert m.filemap.filemap_fdatawait(mapping) == 0
    assert not mapping.dirty_tags and not mapping.writeback_tags and state.nr_writeback == 0


def test_fork_and_unmap_keep_the_page_until_the_last() -> None:
    m = boot()
    p = m.spawn()
    a = p.mmap(PAGE)
    p.store(a, 5)
    q = p.fork()
    pfn = p.frame(a)
    assert m.rmap.mapcount[pfn] == 1 and len(m.rmap.page_anon_vma(pfn).head) == 2
    q.store(a, 6)
    assert m.rmap.mapcount[pfn] == 0 and q.frame(a) != pfn and p.load(a) == 5
    p.munmap(a, PAGE)
    assert m.mem.mapping[pfn] == 0 and m.rmap.mapcount[pfn] == -1
    assert q.load(a) == 6


def test_what_was_used_lately_or_is_locked_stays_mapped() -> None:
    m = boot()
    m.add_swap("8M")
    p = m.spawn()
    a = p.mmap(3 * PAGE)
    for i in range(3):
        p.store(a + i * PAGE, i)
    p.mlock(a + 2 * PAGE, PAGE)
    results = []
    with m.running(m.init_task):
        for i in range(3):
            pfn = p.frame(a + i * PAGE)
            if i != 1:
                m.rmap.page_referenced(pfn, 1, 0)  # forget that it was used
            m.filemap.lock_page(pfn)
            assert m.swap_state.add_to_swap(pfn)
            results.append(m.rmap.try_to_unmap(pfn))
            m.filemap.unlock_page(pfn)
    assert results == [SWAP_SUCCESS, SWAP_FAIL, SWAP_FAIL]
    assert p.frame(a) is None and p.frame(a + PAGE) is not None
    assert p.mm in m.fork.mmlist
    assert p.load(a) == 0 and p.maj_flt == 0  # still in the swap cache
    assert m.mem.flags[p.frame(a + PAGE)] & SWAPCACHE


@pytest.mark.parametrize("offset", [0, 1, 31, 32, 255, 0x123456])
@pytest.mark.parametrize("kind", [0, 1, 31])
def test_swap_entries_and_file_entries_survive_the_page_table(kind: int, offset: int) -> None:
    entry = swp_entry(kind, offset)
    pte = swp_entry_to_pte(entry)
    assert (swp_type(entry), swp_offset(entry)) == (kind, offset)
    assert not pte & 0x81 and not pte_file(pte) and pte_to_swp_entry(pte) == entry
    named = pgoff_to_pte(offset * 32 + kind)
    assert not named & 0x81 and pte_file(named) and pte_to_pgoff(named) == offset * 32 + kind


def test_nonlinear_areas_remember_which_page_was_where() -> None:
    m = boot()
    m.create_file("f", b"".join(i.to_bytes(4, "little") * 1024 for i in range(64)))
    p = m.spawn()
    fd = p.open("f", "r+")
    a = p.mmap(64 * PAGE, "rw", fd=fd, shared=True)
    with m.running(p.task):
        for i in range(64):
            assert m.fremap.sys_remap_file_pages(a + i * PAGE, PAGE, 0, 63 - i, 0) == 0
    assert [p.load(a + i * PAGE) for i in range(64)] == list(range(63, -1, -1))
    mapping = m.diskfs.lookup("f").i_mapping
    (area,) = mapping.i_mmap_nonlinear
    pfn = p.frame(a)
    for i in range(64):  # not used any more
        table, slot = m.pgtable.pte_lookup(p.mm, a + i * PAGE)
        table[slot] &= ~0x20
    m.filemap.lock_page(pfn)
    m.rmap.try_to_unmap(pfn)
    m.filemap.unlock_page(pfn)
    left = [p.walk(a + i * PAGE) for i in range(64)]
    assert p.mm.rss < 64 and left and area.vm_private_data
    table, slot = m.pgtable.pte_lookup(p.mm, area.vm_start)
    assert pte_file(table[slot]) and pte_to_pgoff(table[slot]) == 63
    assert [p.load(a + i * PAGE) for i in range(64)] == list(range(63, -1, -1))


def test_huge_pages_are_mapped_at_once_and_come_back() -> None:
    m = boot("64M", kernel_objects="ram")
    huge = m.hugetlb
    free = m.nr_free_pages()
    assert huge.set_max_huge_pages(3) == 3 and huge.free_huge_pages == 3
    huge.create("big")
    file = huge.open("big")
    p = m.spawn()
    with m.running(p.task):
        a = m.mmap.do_mmap_pgoff(file, 0, 8 << 20, 3, 1, 0)
    assert a % huge.size == 0 and huge.free_huge_pages == 1 and p.rss == 2048
    faults = p.min_flt + p.maj_flt
    p.write(a + huge.size - 2, b"over")
    q = p.fork()
    assert q.read(a + huge.size - 2, 4) == b"over" and p.min_flt + p.maj_flt == faults
    q.exit()
    assert p.munmap(a, 8 << 20) == 0 and p.rss < 2048 and huge.free_huge_pages == 1
    p.exit()
    huge.unlink("big")
    m.filemap.fput(file)
    assert huge.free_huge_pages == 3 and huge.set_max_huge_pages(0) == 0
    assert abs(m.nr_free_pages() - free) < 64  # slabs may have grown


def test_page_tables_are_counted_and_may_lie_high() -> None:
    m = boot("1G", kernel_objects="ram", parts={"pgtable": HighPageTables})
    state = m.page_allocator.page_state
    p = m.spawn()
    before = state.nr_page_table_pages
    a = p.mmap(16 << 20)
    for i in range(4):
        p.store(a + (i << 22), 1)
    assert state.nr_page_table_pages - before in (4, 5) and p.mm.nr_ptes == state.nr_page_table_pages
    table = p.mm.pgd.table[a >> 22] >> 12
    assert m.highmem.is_high(table)
    p.exit()
    assert state.nr_page_table_pages == 0


def test_a_recording_of_reverse_mapping_can_go_back() -> None:
    m = boot("8M")
    workload(m, 3, 40)
    before = m.snapshot()
    seen = [p.rss for p in m.processes]
    for p in m.processes:
        p.exit()
    m.restore(before)
    assert [p.rss for p in m.processes] == seen
    check_rmap(m)


def test_a_writer_who_dirties_much_writes_himself() -> None:
    m = boot("16M")
    m.create_file("out")
    p = m.spawn()
    fd = p.open("out", "r+")
    state = m.page_allocator.page_state
    for _ in range(2500):
        assert p.write_file(fd, b"d" * PAGE) == PAGE
    limit = m.reclaim.total_memory * 40 // 100  # vm_dirty_ratio
    assert state.nr_dirty < limit + 100 and m.block.file_writes >= 2500 - limit - 100
    m.check()
    p.seek(fd, 1400 * PAGE)
    assert p.read_file(fd, PAGE) == b"d" * PAGE


def test_fsync_makes_a_write_last() -> None:
    m = boot(io_mode=1)
    m.create_file("out", 10 * PAGE)
    p = m.spawn()
    fd = p.open("out", "r+")
    p.seek(fd, 3 * PAGE - 2)
    assert p.write_file(fd, b"abcd") == 4
    disk = m.block.disks[m.diskfs.lookup("out").info.disk]
    assert disk.read_page(2) in (None, bytes(PAGE))
    assert p.fsync(fd) == 0
    assert disk.read_page(2)[-2:] == b"ab" and disk.read_page(3)[:2] == b"cd"
    assert m.page_allocator.page_state.nr_dirty == 0
