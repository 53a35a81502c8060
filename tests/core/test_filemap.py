"""The page cache: hash, lists, locks, read-ahead, truncation, mappings of files."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.errors import KernelBug, KernelHang, KernelPanic
from vmlab.mm import filemap_view
from vmlab.mm.errno import EBADF, EBUSY, EFBIG, EINVAL, EIO, ENOMEM
from vmlab.mm.fs import FMODE_READ, FMODE_WRITE, AddressSpace, File
from vmlab.mm.gfp import GFP_KERNEL
from vmlab.mm.page_flags import PG_dirty, PG_error, PG_locked, PG_lru, PG_uptodate
from vmlab.mm.task import CAP_IPC_LOCK, RLIMIT_FSIZE, Task

LOCKED, DIRTY, UPTODATE, ERROR, LRU = 1 << PG_locked, 1 << PG_dirty, 1 << PG_uptodate, 1 << PG_error, 1 << PG_lru
BOTH = FMODE_READ | FMODE_WRITE


def boot(io_mode: int = 0) -> vmlab.Machine:
    return vmlab.boot("16M", kernel_objects="outside", io_mode=io_mode)


def check_cache(m: vmlab.Machine) -> None:
    """Hash, lists, counts and columns tell the same story."""
    fm, mem = m.filemap, m.mem
    hashed = {}
    for slot, first in enumerate(fm.page_hash_table):
        pfn = first
        while pfn != 0xFFFFFFFF:
            mapping = m.mappings[mem.mapping[pfn]]
            assert fm.page_hashfn(mapping, mem.index[pfn]) == slot
            key = mapping.id, mem.index[pfn]
            assert key not in hashed, "two pages for one place"
            hashed[key] = pfn
            pfn = mem.next_hash[pfn]
    assert len(hashed) == fm.page_cache_size == sum(mapping.nrpages for mapping in m.mappings.values())
    for mapping in m.mappings.values():
        pages = fm.cached_pages(mapping)
        assert len(pages) == len(set(pages)) == mapping.nrpages
        for pfn in pages:
            assert hashed[mapping.id, mem.index[pfn]] == pfn and mem.count[pfn] >= 1
        for pfn in mem.list.walk(mapping.dirty_pages):
            assert mem.mapping[pfn] == mapping.id


def a_file(m: vmlab.Machine, pages: int, fd: int = 1) -> File:
    return m.diskfs.fake_file(fd, pages, pages * 4096, BOTH)


def read(m: vmlab.Machine, file: File, page: int, pages: int = 1) -> int:
    file.f_pos = page * 4096
    return m.filemap.generic_file_read(file, None, pages * 4096)


# How large is the page hash?
@pytest.mark.parametrize(("ram", "bits"), [("16M", 12), ("64M", 14), ("24M", 13)])
def test_the_page_hash_has_a_slot_for_each_page_at_least(ram: str, bits: int) -> None:
    m = vmlab.boot(ram, kernel_objects="outside")
    assert m.filemap.page_hash_bits == bits
    assert len(m.filemap.page_hash_table) == 1 << bits >= m.num_physpages


def test_without_any_memory_there_is_no_hash_and_no_kernel() -> None:
    m = boot()
    while m.page_allocator.alloc_pages(0x20, 0) is not None:
        pass
    m.init_task.flags = 0x800
    while m.page_allocator.alloc_pages(0x20, 0) is not None:
        pass
    with pytest.raises(KernelPanic, match="page hash table"):
        m.filemap.page_cache_init(4096)


# What do adding, finding and removing keep true?
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "dirty"]), st.integers(0, 2), st.integers(0, 30)), max_size=60))
def test_the_cache_finds_what_was_put_in_and_nothing_else(steps: list[tuple[str, int, int]]) -> None:
    m = MACHINE
    fm = m.filemap
    files = [a_file(m, 64, fd) for fd in range(3)]
    spaces = [file.inode.i_mapping for file in files]
    model: dict[tuple[int, int], int] = {}
    for what, n, index in steps:
        mapping = spaces[n]
        pfn = fm.find_page_nolock(mapping, index * 1024)
        assert pfn == model.get((n, index))
        if what == "add":
            new = m.alloc_page(GFP_KERNEL)
            assert new is not None
            assert fm.add_to_page_cache_unique(new, mapping, index * 1024) == (pfn is not None)
            if pfn is None:
                model[n, index] = new
                assert m.mem.flags[new] & (LOCKED | UPTODATE | DIRTY | LRU) == LOCKED | LRU and m.mem.count[new] == 2
                fm.unlock_page(new)
            m.put_page(new)
        elif pfn is not None and what == "dirty":
            fm.set_page_dirty(pfn)
            assert m.mem.list.next[mapping.dirty_pages] == pfn or m.mem.flags[pfn] & DIRTY
        elif pfn is not None:
            del model[n, index]
            fm.lock_page(pfn)
            m.swap.lru_cache_del(pfn)
            fm.remove_inode_page(pfn)
            fm.unlock_page(pfn)
            m.put_page(pfn)
        check_cache(m)
    for mapping in spaces:
        fm.truncate_inode_pages(mapping, 0)
    check_cache(m)
    assert not fm.page_cache_size


MACHINE = boot()


def test_reclaimed_references_are_counted() -> None:
    m = boot()
    file = a_file(m, 8)
    read(m, file, 0, 8)
    mapping = file.inode.i_mapping
    pfn = m.filemap.find_get_page(mapping, 3)
    assert pfn is not None and m.mem.count[pfn] == 2
    m.filemap.invalidate_inode_pages(file.inode)
    assert mapping.nrpages == 1  # ours alone
    m.put_page(pfn)
    m.filemap.invalidate_inode_pages(file.inode)
    assert mapping.nrpages == 0
    check_cache(m)


# Who may touch a page lock?
def test_locks() -> None:
    m = boot()
    fm = m.filemap
    pfn = m.alloc_page(GFP_KERNEL)
    assert pfn is not None
    assert fm.try_lock_page(pfn) is False and fm.try_lock_page(pfn) is True
    with pytest.raises(KernelHang, match="no transfer"):
        fm.lock_page(pfn)
    with pytest.raises(KernelHang, match="no transfer"):
        fm.wait_on_page(pfn)
    fm.unlock_page(pfn)
    with pytest.raises(KernelBug, match="not locked"):
        fm.unlock_page(pfn)
    with pytest.raises(KernelBug, match="not locked"):
        fm.add_to_page_cache_locked(pfn, a_file(m, 1).inode.i_mapping, 0)
    with pytest.raises(KernelBug, match="not locked"):
        fm.remove_inode_page(pfn)
    with pytest.raises(KernelPanic, match="not locked"):
        m.block.brw_page(0, pfn, 0, 0)


def test_waiting_for_a_queued_transfer_ends_when_it_is_done() -> None:
    m = boot(1)
    file = a_file(m, 4)
    mapping = file.inode.i_mapping
    assert m.filemap.page_cache_read(file, 2) == 0
    pfn = m.filemap.find_get_page(mapping, 2)
    assert pfn is not None and m.mem.flags[pfn] & LOCKED and len(m.block.queue) == 1
    assert m.filemap.find_trylock_page(mapping, 2) is None
    assert m.filemap.grab_cache_page_nowait(mapping, 2) is None
    m.filemap.wait_on_page(pfn)
    assert m.mem.flags[pfn] & (LOCKED | UPTODATE) == UPTODATE and not m.block.queue
    assert m.ram.words(pfn)[0] == 0x46010002
    assert m.sched.jiffies == 0


def test_wait_queues_are_spread_over_the_table_of_the_zone() -> None:
    m = boot()
    zone = m.zone_table[m.mem.flags[1000] >> 24]
    used = {m.filemap.page_waitqueue(pfn) for pfn in range(zone.start_pfn, zone.end_pfn)}
    assert max(used) < zone.wait_table_size and len(used) > zone.wait_table_size // 2


# When does a read run ahead, and how far?
def test_an_instant_disk_is_never_read_ahead() -> None:
    m = boot(0)
    file = a_file(m, 64)
    for page in range(20):
        assert read(m, file, page) == 4096
    assert m.block.file_reads == 20


def test_sequential_reads_open_the_window_and_double_it() -> None:
    m = boot(1)
    file = a_file(m, 200)
    windows = []
    for page in range(64):
        assert read(m, file, page) == 4096
        windows.append((file.f_raend, file.f_ramax))
    assert windows[0] == (4, 6)  # the first page and three more
    assert [ramax for _, ramax in windows] == sorted(ramax for _, ramax in windows) and windows[-1][1] == 31
    assert file.f_raend > 64


def test_a_jump_closes_the_window() -> None:
    m = boot(1)
    file = a_file(m, 200)
    for page in range(8):
        read(m, file, page)
    assert file.f_ramax > 3
    before = m.block.file_reads
    read(m, file, 150)
    assert m.block.file_reads - before <= 3 and file.f_ramax <= 4


def test_a_short_read_at_the_start_does_not_read_ahead() -> None:
    m = boot(1)
    file = a_file(m, 50)
    file.f_pos = 0
    assert m.filemap.generic_file_read(file, None, 2048) == 2048
    assert m.block.file_reads == 1
    check_cache(m)


def test_reads_end_at_the_end_of_the_file() -> None:
    m = boot()
    file = m.diskfs.fake_file(1, 3, 9000, BOTH)
    file.f_pos = 8000
    buf = bytearray()
    assert m.filemap.generic_file_read(file, buf, 5000) == 1000 and len(buf) == 1000 and file.f_pos == 9000
    assert m.filemap.generic_file_read(file, buf, 5000) == 0
    assert m.filemap.generic_file_read(file, None, -1) == -EINVAL


def test_readahead_reads_at_most_half_the_inactive_list() -> None:
    m = boot()
    file = a_file(m, 100)
    assert m.filemap.sys_readahead(file, 0, 40 * 4096) == 0 and not file.inode.i_mapping.nrpages
    read(m, file, 0, 20)
    assert m.filemap.sys_readahead(file, 30 * 4096, 40 * 4096) == 0
    assert file.inode.i_mapping.nrpages == 30
    file.f_mode = FMODE_WRITE
    assert m.filemap.sys_readahead(file, 0, 4096) == -EBADF


# What stops a write?
def test_write_limits() -> None:
    m = boot()
    file = a_file(m, 4)
    assert m.filemap.generic_file_write(file, None, -5) == -EINVAL
    file.f_error = -EIO
    assert m.filemap.generic_file_write(file, None, 5) == -EIO  # told once
    assert m.filemap.generic_file_write(file, None, 5) == 5
    m.current.rlim[RLIMIT_FSIZE] = 10000
    file.f_pos = 9990
    assert m.filemap.generic_file_write(file, None, 50) == 10
    assert m.filemap.generic_file_write(file, None, 50) == -EFBIG
    m.current.pending.clear()
    m.current.rlim[RLIMIT_FSIZE] = 0xFFFFFFFF
    file.f_pos = 0x7FFFFFFF - 3
    assert m.filemap.generic_file_write(file, None, 50) == 3
    assert m.filemap.generic_file_write(file, None, 50) == -EFBIG
    check_cache(m)


# What does truncating leave?
@settings(max_examples=20, deadline=None)
@given(io_mode=st.sampled_from([0, 1]), size=st.integers(0, 12 * 4096), dirty=st.sets(st.integers(0, 9)))
def test_truncation_leaves_exactly_the_pages_below_and_zeroes_the_rest_of_the_last(io_mode: int, size: int, dirty: set[int]) -> None:
    m = boot_cached(io_mode)
    file = a_file(m, 10)
    mapping = file.inode.i_mapping
    for page in range(10):
        read(m, file, page)
    for page in sorted(dirty):
        pfn = m.filemap.find_page_nolock(mapping, page)
        assert pfn is not None
        m.filemap.set_page_dirty(pfn)
        m.ram.words(pfn)[1023] = 7
    m.filemap.filemap_fdatasync(mapping)  # with a slow disk they are locked now
    assert m.memory.vmtruncate(file.inode, size) == 0
    kept = sorted(m.mem.index[pfn] for pfn in m.filemap.cached_pages(mapping))
    assert kept == list(range(min(10, (size + 4095) >> 12)))
    if size & 4095 and size < 10 * 4096:
        pfn = m.filemap.find_page_nolock(mapping, size >> 12)
        assert pfn is not None and not any(m.ram.read_page(pfn)[size & 4095 :])
    check_cache(m)
    m.filemap.truncate_inode_pages(mapping, 0)
    m.sched.end_of_op()
    assert not m.filemap.page_cache_size


_BOOTED: dict[int, vmlab.Machine] = {}


def boot_cached(io_mode: int) -> vmlab.Machine:
    if io_mode not in _BOOTED:
        _BOOTED[io_mode] = boot(io_mode)
    return _BOOTED[io_mode]


@pytest.mark.parametrize("io_mode", [0, 1])
def test_invalidate_2_empties_a_file_but_for_pages_in_use(io_mode: int) -> None:
    m = boot(io_mode)
    file = a_file(m, 6)
    mapping = file.inode.i_mapping
    read(m, file, 0, 6)
    m.sched.end_of_op()
    held = m.filemap.find_get_page(mapping, 2)
    dirty = m.filemap.find_page_nolock(mapping, 4)
    assert held is not None and dirty is not None
    m.filemap.set_page_dirty(held)
    m.filemap.set_page_dirty(dirty)
    m.filemap.invalidate_inode_pages2(mapping)
    assert m.filemap.cached_pages(mapping) == [held]
    assert not m.mem.flags[held] & (DIRTY | UPTODATE | LOCKED)
    check_cache(m)


def test_fdatasync_writes_the_dirty_list_and_fdatawait_reports_errors() -> None:
    m = boot(1)
    file = a_file(m, 6)
    mapping = file.inode.i_mapping
    read(m, file, 0, 6)
    pages = m.filemap.cached_pages(mapping)
    for pfn in pages:
        m.filemap.set_page_dirty(pfn)
    m.block.disks[file.inode.info.disk].bad_writes.add(5)
    m.block.log = True
    m.block.fio_log.clear()
    assert m.filemap.filemap_fdatasync(mapping) == 0
    assert m.block.fio_log == [[1, 1, n] for n in range(6)]  # oldest first
    assert list(m.mem.list.walk(mapping.locked_pages)) == list(reversed(pages))
    assert m.filemap.filemap_fdatawait(mapping) == -EIO
    assert sorted(m.mem.list.walk(mapping.clean_pages)) == sorted(pages)
    assert m.mem.flags[pages[5]] & ERROR


def test_fail_writepage_keeps_the_page_dirty() -> None:
    m = boot()
    file = a_file(m, 1)
    read(m, file, 0)
    pfn = m.filemap.find_lock_page(file.inode.i_mapping, 0)
    assert pfn is not None
    assert m.filemap.fail_writepage(pfn) == 0
    assert m.mem.flags[pfn] & (DIRTY | LOCKED) == DIRTY


# The rarer ways in
def test_read_cache_page_fills_a_page_once() -> None:
    m = boot()
    file = a_file(m, 3)
    mapping = file.inode.i_mapping
    calls = []

    def filler(data: File, pfn: int) -> int:
        calls.append(pfn)
        ret: int = mapping.a_ops.readpage(data, pfn)
        return ret

    first = m.filemap.read_cache_page(mapping, 1, filler, file)
    assert m.filemap.read_cache_page(mapping, 1, filler, file) == first and calls == [first]
    assert m.mem.count[first] == 3

    def broken(data: File, pfn: int) -> int:
        m.filemap.unlock_page(pfn)
        return -EIO

    assert m.filemap.read_cache_page(mapping, 2, broken, file) == -EIO


def test_find_or_create_page() -> None:
    m = boot()
    mapping: AddressSpace = a_file(m, 3).inode.i_mapping
    pfn = m.filemap.grab_cache_page(mapping, 7)
    assert pfn is not None and m.mem.flags[pfn] & LOCKED and m.mem.count[pfn] == 2
    m.filemap.unlock_page(pfn)
    assert m.filemap.find_or_create_page(mapping, 7, mapping.gfp_mask) == pfn
    m.filemap.unlock_page(pfn)
    assert m.filemap.grab_cache_page_nowait(mapping, 7) == pfn and m.mem.count[pfn] == 4
    check_cache(m)


# Files in memory
def process(m: vmlab.Machine) -> Task:
    """A process with an empty address space, made the running one."""
    task: Task | None = m.fork.new_task(1)
    assert task is not None
    m.current = task
    return task


def mapped(m: vmlab.Machine, file: File, pages: int, shared: bool = True, pgoff: int = 0) -> int:
    return m.mmap.do_mmap_pgoff(file, 0, pages * 4096, 3, 1 if shared else 2, pgoff)


def test_errors_of_msync_madvise_and_mincore() -> None:
    m = boot()
    process(m)
    fm = m.filemap
    file = a_file(m, 16)
    start = mapped(m, file, 16)
    hole = start + 16 * 4096
    vec = bytearray(64)
    for call in (fm.sys_msync, fm.sys_madvise):
        assert call(start + 1, 4096, 0) == -EINVAL
        assert call(start, 0, 0) == 0
        assert call(start, 0xFFFFF001, 0) == 0  # its length is 0 once rounded up... to 4 GiB
        assert call(0xC0001000, 0xFFFFE000, 0) == -EINVAL
        assert call(hole, 4096, 0) == -ENOMEM
        assert call(start, 17 * 4096, 0) == -ENOMEM
    assert fm.sys_msync(start, 4096, 8) == fm.sys_msync(start, 4096, 5) == -EINVAL
    assert fm.sys_madvise(start, 4096, 9) == -EINVAL
    assert fm.sys_mincore(start + 1, 4096, vec) == -EINVAL and fm.sys_mincore(hole, 4096, vec) == -ENOMEM
    anonymous = m.mmap.do_mmap_pgoff(None, 0, 8192, 3, 0x22, 0)
    assert fm.sys_mincore(anonymous, 8192, vec) == -ENOMEM and fm.sys_madvise(anonymous, 8192, 3) == -EBADF
    m.current.cap_effective = 1 << CAP_IPC_LOCK
    assert m.mlock.sys_mlock(start, 4096) == 0
    assert fm.sys_msync(start, 4096, 2) == -EBUSY and fm.sys_madvise(start, 4096, 4) == -EINVAL


def test_mincore_shows_what_willneed_brought_in() -> None:
    m = boot(1)
    process(m)
    file = a_file(m, 64)
    start = mapped(m, file, 64)
    vec = bytearray(64)
    assert m.filemap.sys_mincore(start, 64 * 4096, vec) == 0 and not any(vec)
    assert m.filemap.sys_madvise(start + 17 * 4096, 4096, 3) == 0
    assert m.filemap.sys_mincore(start, 64 * 4096, vec) == 0
    cluster = 1 << m.swap.page_cluster
    first = 17 // cluster * cluster
    assert [n for n in range(64) if vec[n]] == list(range(first, first + cluster))


@pytest.mark.parametrize(("first", "last", "areas"), [(0, 16, 1), (0, 4, 2), (12, 16, 2), (4, 8, 3)])
def test_advice_splits_areas_and_keeps_their_place_in_the_file(first: int, last: int, areas: int) -> None:
    m = boot()
    process(m)
    file = a_file(m, 32)
    start = mapped(m, file, 16, pgoff=5)
    assert m.filemap.sys_madvise(start + first * 4096, (last - first) * 4096, 1) == 0
    mm = m.current.mm
    assert mm is not None
    found = mm.areas()
    assert len(found) == mm.map_count == areas and file.f_count == 1 + areas
    for vma in found:
        assert vma.vm_pgoff == 5 + (vma.vm_start - start) // 4096
        assert bool(vma.vm_flags & 0x10000) == (vma.vm_start == start + first * 4096)
    assert sorted(vma.vm_start for vma in file.inode.i_mapping.i_mmap_shared) == [vma.vm_start for vma in found]
    assert [vma.vm_end for vma in found] == [*[vma.vm_start for vma in found[1:]], start + 16 * 4096]


def test_what_is_stored_through_a_shared_mapping_reaches_the_file_with_msync() -> None:
    m = boot(1)
    process(m)
    m.diskfs.create("f", b"a" * 20000)
    file = m.diskfs.open("f", BOTH)
    assert isinstance(file, File)
    start = mapped(m, file, 5)
    disk = m.block.disks[file.inode.info.disk]
    assert m.fault.copy_to_user(start + 8190, b"bcde") == 0
    assert m.fault.copy_from_user(start + 8188, 8) == (b"aabcdeaa", 0)
    m.sched.end_of_op()
    assert disk.read_bytes(8190, 4) == b"aaaa"
    assert m.filemap.sys_msync(start, 5 * 4096, 4) == 0
    assert disk.read_bytes(8188, 8) == b"aabcdeaa" and m.block.file_writes == 2
    assert m.filemap.sys_msync(start, 5 * 4096, 4) == 0 and m.block.file_writes == 2  # clean now
    check_cache(m)


def test_a_fault_past_the_end_of_the_file_or_on_a_broken_disk_fails() -> None:
    m = boot()
    process(m)
    file = m.diskfs.fake_file(1, 2, 5000, BOTH)
    start = mapped(m, file, 4)
    m.block.disks[file.inode.info.disk].bad_reads.add(1)
    assert m.fault.copy_from_user(start, 4) == (b"\0\0\1\x46", 0)
    assert m.fault.copy_from_user(start + 4096, 4)[1] == 4
    assert m.fault.copy_from_user(start + 8192, 4)[1] == 4
    m.block.disks[file.inode.info.disk].bad_reads.clear()
    assert m.fault.copy_from_user(start + 4096, 4) == (b"\1\0\1\x46", 0)


def test_sequential_advice_reads_windows_ahead() -> None:
    m = boot()
    process(m)
    file = a_file(m, 400)
    start = mapped(m, file, 400)
    assert m.filemap.sys_madvise(start, 400 * 4096, 2) == 0
    for page in range(17):
        m.fault.copy_from_user(start + page * 4096, 4)
    cached = sorted(m.mem.index[pfn] for pfn in m.filemap.cached_pages(file.inode.i_mapping))
    assert cached == [*range(24), *range(32, 64)]  # half-way through the first window of 32, the next one is read


# Can people read the state?
def test_text_views() -> None:
    m = boot(1)
    m.diskfs.create("f", 20 * 4096)
    file = m.diskfs.open("f")
    assert isinstance(file, File)
    assert filemap_view.readahead_window(file).startswith("no window")
    assert filemap_view.io_queue(m) == "no transfer is under way"
    read(m, file, 0)
    assert m.filemap.page_cache_read(file, 9) == 0
    pfn = m.filemap.find_page_nolock(file.inode.i_mapping, 0)
    assert pfn is not None
    m.filemap.set_page_dirty(pfn)
    text = filemap_view.file_pages(m, file.inode)
    assert "5 of 20 pages cached: 0-3 9" in text and f"dirty      1  0={pfn}" in text
    assert f"frame {pfn}: page 0 of f, count 1" in filemap_view.page_line(m, pfn)
    assert filemap_view.page_line(m, 0).startswith("frame 0: in no file")
    assert "read  page 9 of f" in filemap_view.io_queue(m)
    assert "pages 0 to 3" in filemap_view.readahead_window(file)
    assert "5 pages on 4096 chains" in filemap_view.hash_chains(m) and "4091 chains of 0" in filemap_view.hash_chains(m)
    assert filemap_view.listing(m).splitlines()[1].split() == ["81920", "5", "f"]
    assert "5 pages" in repr(m.filemap) and "1 transfers" in repr(m.block) and "f>" in repr(m.diskfs)
