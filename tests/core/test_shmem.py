"""Shared memory: the swap vector, pages that go to swap and come back, limits, mappings."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.mm.errno import EFBIG, EINVAL, EIO, ENOMEM, ENOSPC
from vmlab.mm.fs import File, Inode
from vmlab.mm.gfp import GFP_ATOMIC
from vmlab.mm.page_flags import PG_dirty
from vmlab.mm.shmem_swap import (
    SGP_CACHE,
    SGP_READ,
    SGP_WRITE,
    SHMEM_MAX_BYTES,
    SHMEM_MAX_INDEX,
    sb_info,
    shmem_i,
)
from vmlab.mm.swap_header import write_header
from vmlab.mm.task import CAP_SYS_ADMIN
from vmlab.mm.vfs import ATTR_SIZE, Iattr, fput
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE

from .processes import machine, new_task

PAGE = 4096
SLOTS = 1500


def squeeze(m: vmlab.Machine, pages: int) -> list[int]:
    """Take frames until only *pages* are free; returns them."""
    taken = []
    while m.nr_free_pages() > pages:
        pfn = m.page_allocator.alloc_pages(GFP_ATOMIC, 0)
        assert pfn is not None
        taken.append(pfn)
    return taken


def boot(pages: int = 0, swap: int = SLOTS, **options: Any) -> vmlab.Machine:
    """A machine with *swap* slots on disk 0 and (if given) only *pages* frames free."""
    m = machine(**options)
    m.current.cap_effective = 1 << CAP_SYS_ADMIN
    if swap:
        m.block.add_disk(0, swap + 1).write_page(0, write_header(2, 1, swap, ()))
        assert m.swapfile.sys_swapon(0) == 0
    if pages:
        squeeze(m, pages)
    return m


def a_file(m: vmlab.Machine, pages: int) -> File:
    m.mmap.sysctl_overcommit_memory = 1
    file = m.shmem.shmem_file_setup("test", pages * PAGE)
    assert isinstance(file, File)
    return file


def vector_pages(m: vmlab.Machine, inode: Inode) -> int:
    """How many frames the file's swap vector takes, counted from its roots."""
    info = shmem_i(inode)
    if not info.i_indirect:
        return 0
    count = 1
    top = m.shmem.words(info.i_indirect)
    count += sum(1 for address in top[:512] if address)
    for address in top[512:]:
        if address:
            count += 1 + sum(1 for block in m.shmem.words(address) if block)
    return count


def check(m: vmlab.Machine) -> None:
    """Every block that a file is charged for is a cached page, a page in swap or a frame of its vector."""
    used: dict[int, int] = {}
    for info in m.shmem.shmem_inodes:
        inode = info.inode
        assert inode.i_blocks // 8 == inode.i_mapping.nrpages + info.swapped + vector_pages(m, inode)
        used[id(inode.i_sb)] = used.get(id(inode.i_sb), 0) + inode.i_blocks // 8
    for sb in (m.shmem.shm_mnt, *m.shmem.mounts.values()):
        limits = sb_info(sb)
        assert limits.max_blocks - limits.free_blocks == used.get(id(sb), 0)


def store(m: vmlab.Machine, file: File, index: int, data: bytes) -> int:
    file.f_pos = index * PAGE
    return m.shmem.shmem_file_write(file, data)


def load(m: vmlab.Machine, file: File, index: int, count: int = PAGE) -> bytes:
    file.f_pos = index * PAGE
    data = bytearray()
    assert m.shmem.shmem_file_read(file, data, count) >= 0
    return bytes(data)


INDEXES = st.one_of(
    st.integers(0, 40),
    st.integers(1030, 1050),
    st.sampled_from([524303, 524304, 524305, 525328, 524304 + 1024 * 1024 - 1, 524304 + 1024 * 1024, SHMEM_MAX_INDEX - 1]),
    st.integers(0, SHMEM_MAX_INDEX - 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(INDEXES, min_size=1, max_size=30, unique=True))
def test_every_page_has_a_swap_entry_of_its_own(indexes: list[int]) -> None:
    m = _sparse
    free = m.nr_free_pages()
    file = a_file(m, SHMEM_MAX_INDEX)
    info = shmem_i(file.inode)
    for index in indexes:
        entry = m.shmem.shmem_swp_alloc(info, index, SGP_WRITE)
        assert not isinstance(entry, int)
        entry[0][entry[1]] = index + 1
    for index in indexes:
        entry = m.shmem.shmem_swp_entry(info, index, None)
        assert entry is not None and entry[0][entry[1]] == index + 1
        entry[0][entry[1]] = 0
    assert info.next_index == max(indexes) + 1
    assert free - m.nr_free_pages() == vector_pages(m, file.inode) == file.inode.i_blocks // 8
    check(m)
    fput(m, file)
    assert m.nr_free_pages() == free
    check(m)


_sparse = machine()


def test_the_largest_file() -> None:
    assert SHMEM_MAX_INDEX == 537395216
    m = boot(swap=0)
    assert m.shmem.shmem_file_setup("too large", SHMEM_MAX_BYTES + 1) == -EINVAL
    file = a_file(m, 1)
    assert m.shmem.shmem_getpage(file.inode, SHMEM_MAX_INDEX, SGP_WRITE) == (-EFBIG, None)


def test_what_lies_beyond_the_end() -> None:
    m = boot(swap=0)
    file = a_file(m, 3)
    assert m.shmem.shmem_getpage(file.inode, 3, SGP_READ) == (-EINVAL, None)
    assert m.shmem.shmem_getpage(file.inode, 3, SGP_CACHE) == (-EINVAL, None)
    error, page = m.shmem.shmem_getpage(file.inode, 3, SGP_WRITE)
    assert error == 0 and page is not None


def test_a_hole_is_read_without_a_page() -> None:
    m = boot(swap=0)
    file = a_file(m, 100)
    free = m.nr_free_pages()
    assert m.shmem.shmem_getpage(file.inode, 60, SGP_READ) == (0, m.empty_zero_page)
    assert load(m, file, 60, 2 * PAGE) == bytes(2 * PAGE)
    assert m.nr_free_pages() == free and file.inode.i_blocks == 0


def test_overcommitting_files_without_a_name_are_refused() -> None:
    m = boot(swap=0)
    assert m.shmem.shmem_file_setup("much", 1 << 30) == -ENOMEM


def test_a_file_larger_than_memory_survives_in_swap() -> None:
    m = boot(pages=250)
    file = a_file(m, 600)
    for index in range(600):
        assert store(m, file, index, index.to_bytes(4, "little") * 1024) == PAGE
        if index % 97 == 0:
            check(m)
    check(m)
    assert shmem_i(file.inode).swapped > 300
    order = list(range(600))
    random.Random(5).shuffle(order)
    for index in order:
        assert load(m, file, index) == index.to_bytes(4, "little") * 1024
    check(m)
    fput(m, file)
    check(m)
    assert m.swapfile.nr_swap_pages == m.swapfile.total_swap_pages == SLOTS - 1, "swap slots are lost"
    m.check()


class Shadow:
    """A file as it should be: bytes, kept outside the machine."""

    def __init__(self, m: vmlab.Machine, pages: int) -> None:
        self.m, self.file, self.bytes = m, a_file(m, pages), bytearray(pages * PAGE)

    def write(self, pos: int, data: bytes) -> None:
        self.file.f_pos = pos
        assert self.m.shmem.shmem_file_write(self.file, data) == len(data)
        if pos + len(data) > len(self.bytes):
            self.bytes.extend(bytes(pos + len(data) - len(self.bytes)))
        self.bytes[pos : pos + len(data)] = data

    def truncate(self, size: int) -> None:
        assert self.m.shmem.shmem_notify_change(self.file.inode, Iattr(ATTR_SIZE, ia_size=size)) == 0
        del self.bytes[size:]
        self.bytes.extend(bytes(size - len(self.bytes)))

    def read(self, pos: int, count: int) -> None:
        self.file.f_pos = pos
        data = bytearray()
        assert self.m.shmem.shmem_file_read(self.file, data, count) == len(data)
        assert data == self.bytes[pos : pos + count]
        assert self.file.f_pos == pos + len(data)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30))
def test_random_writes_reads_and_truncations_under_pressure(seed: int) -> None:
    rng = random.Random(seed)
    m = boot(io_mode=rng.randrange(2))
    taken = squeeze(m, 150)
    files = [Shadow(m, rng.choice((1, 10, 40))) for _ in range(4)]
    for _ in range(250):
        shadow = rng.choice(files)
        what, pos = rng.random(), rng.randrange(0, 200 * PAGE)
        if what < 0.6:
            shadow.write(pos, rng.randbytes(rng.choice((1, 100, PAGE, 3 * PAGE))))
        elif what < 0.9:
            shadow.read(pos, rng.randrange(1, 5 * PAGE))
        else:
            shadow.truncate(rng.choice((0, pos, pos & -PAGE)))
        m.sched.end_of_op()
    check(m)
    m.check()
    for shadow in files:
        shadow.read(0, len(shadow.bytes) + 1)
    for pfn in taken:
        m.put_page(pfn)
    assert m.swapfile.sys_swapoff(0) == 0
    check(m)
    for shadow in files:
        shadow.read(0, len(shadow.bytes) + 1)


def test_swapoff_brings_the_pages_back_and_the_search_goes_round() -> None:
    m = boot(pages=350)
    files = [a_file(m, 100) for _ in range(4)]
    for index in range(100):
        for number, file in enumerate(files):
            store(m, file, index, bytes([number + 1]) * PAGE)
    swapped = [shmem_i(file.inode).swapped for file in files]
    assert min(swapped) > 0
    fput(m, files.pop(0))  # room for the rest
    before = list(m.shmem.shmem_inodes)
    assert m.swapfile.sys_swapoff(0) == 0
    assert sorted(map(id, before)) == sorted(map(id, m.shmem.shmem_inodes))
    at = before.index(m.shmem.shmem_inodes[0])
    assert m.shmem.shmem_inodes == before[at:] + before[:at]
    for number, file in enumerate(files):
        assert shmem_i(file.inode).swapped == 0
        for index in range(100):
            assert load(m, file, index) == bytes([number + 2]) * PAGE
    check(m)


def test_a_locked_file_stays_in_memory() -> None:
    m = boot(pages=250)
    locked, other = a_file(m, 80), a_file(m, 600)
    m.shmem.shmem_lock(locked, True)
    for index in range(80):
        store(m, locked, index, b"locked")
    for index in range(500):
        store(m, other, index, b"other")
    assert shmem_i(locked.inode).swapped == 0 and locked.inode.i_mapping.nrpages == 80
    assert shmem_i(other.inode).swapped > 0
    m.shmem.shmem_lock(locked, False)
    for index in range(500):
        store(m, other, index, b"again")
    assert shmem_i(locked.inode).swapped > 0


def test_a_clean_page_may_be_forgotten() -> None:
    """A page that was only read is dropped and its block with it; it reads as zeroes again."""
    m = boot(pages=200)
    file = a_file(m, 400)
    for index in range(400):
        error, page = m.shmem.shmem_getpage(file.inode, index, SGP_CACHE)
        assert error == 0 and page is not None and not m.mem.flags[page] >> PG_dirty & 1
        m.put_page(page)
    assert shmem_i(file.inode).swapped == 0 and file.inode.i_mapping.nrpages < 400
    check(m)


def test_enospc_leaves_room_for_the_page_itself() -> None:
    """Of the last block the vector takes nothing: it would have no page to point to."""
    m = boot(swap=0)
    sb = m.shmem.shmem_read_super("nr_blocks=3,nr_inodes=10")
    assert not isinstance(sb, int)
    inode = m.shmem.shmem_get_inode(sb, 0o100600)
    assert inode is not None
    file = File(inode, 3, m.shmem.file_ops)
    for index in (0, 1):
        assert store(m, file, index, b"x") == 1
    assert store(m, file, 16, b"x") == -ENOSPC and sb_info(sb).free_blocks == 1  # needs two frames of vector
    assert store(m, file, 2, b"x") == 1
    assert store(m, file, 3, b"x") == -ENOSPC and sb_info(sb).free_blocks == 0
    assert store(m, file, 2, b"y" * PAGE * 2) == PAGE, "a write that half fits is short"


# -- mappings -------------------------------------------------------------------------------------


def map_shared(m: vmlab.Machine, pages: int) -> int:
    return m.mmap.do_mmap_pgoff(None, 0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 0)


def test_two_processes_share_pages_through_swap() -> None:
    m = boot(pages=300)
    parent = new_task(m, 1)
    with m.running(parent):
        base = map_shared(m, 400)
    child = m.fork.fork_task(parent, 2)
    assert child is not None
    for page in range(400):
        writer, reader = (parent, child) if page % 2 else (child, parent)
        assert m.mmu.touch(writer, base + page * PAGE, 1, None, page + 7) >= 0
        m.sched.end_of_op()
        assert m.mmu.touch(reader, base + page * PAGE) >= 0 and m.mmu.loaded == page + 7
        m.sched.end_of_op()
    inode = m.shmem.shmem_inodes[-1].inode
    assert shmem_i(inode).swapped > 0
    for page in range(400):
        assert m.mmu.touch(child, base + page * PAGE) >= 0 and m.mmu.loaded == page + 7
    check(m)


def test_a_fault_beyond_the_end_is_a_bus_error() -> None:
    m = boot(swap=0)
    task = new_task(m)
    file = a_file(m, 2)
    with m.running(task):
        base = m.mmap.do_mmap_pgoff(file, 0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0)
    assert m.mmu.touch(task, base + PAGE, 1) == 1
    assert m.mmu.touch(task, base + 2 * PAGE, 0) == -7
    m.shmem.shmem_notify_change(file.inode, Iattr(ATTR_SIZE, ia_size=PAGE))
    assert m.mmu.touch(task, base + PAGE, 0) == -7, "cut off under the mapping"


def test_the_end_of_a_page_is_cleared_even_when_it_was_in_swap() -> None:
    m = boot(pages=200)
    file = a_file(m, 400)
    for index in range(400):
        store(m, file, index, b"\xff" * PAGE)
    assert shmem_i(file.inode).i_direct[0], "page 0 is in swap"
    m.shmem.shmem_notify_change(file.inode, Iattr(ATTR_SIZE, ia_size=100))
    m.shmem.shmem_notify_change(file.inode, Iattr(ATTR_SIZE, ia_size=PAGE))
    assert load(m, file, 0) == b"\xff" * 100 + bytes(PAGE - 100)
    check(m)


def test_a_copy_of_the_machine_has_its_own_files() -> None:
    m = boot(pages=250)
    file = a_file(m, 400)
    for index in range(400):
        store(m, file, index, b"before")
    other = m.copy()
    twin = next(info.inode for info in other.shmem.shmem_inodes if info.inode.label == file.inode.label)
    for index in range(400):
        store(m, file, index, b"after!")
    handle = File(twin, 3, other.shmem.file_ops)
    for index in range(400):
        assert load(other, handle, index, 6) == b"before"
    check(m)
    check(other)


def test_a_page_that_cannot_be_read_from_swap_harms_no_other() -> None:
    m = boot(pages=250)
    file = a_file(m, 400)
    for index in range(400):
        store(m, file, index, b"%4d" % index * 1024)
    lost = next(index for index in range(16) if shmem_i(file.inode).i_direct[index])
    slot = shmem_i(file.inode).i_direct[lost] >> 8
    m.block.disks[0].bad_reads.add(slot)
    for index in range(400):
        file.f_pos = index * PAGE
        data = bytearray()
        if index == lost:
            assert m.shmem.shmem_file_read(file, data, PAGE) == -EIO and not data
        else:
            assert m.shmem.shmem_file_read(file, data, PAGE) == PAGE and data == b"%4d" % index * 1024
    task = new_task(m)
    with m.running(task):
        base = m.mmap.do_mmap_pgoff(file, 0, 400 * PAGE, PROT_READ, MAP_SHARED, 0)
    assert m.mmu.touch(task, base + lost * PAGE) == -7
    m.block.disks[0].bad_reads.clear()
    check(m)
    with m.running(task):
        assert task.mm is not None and m.mmap.do_munmap(task.mm, base, 400 * PAGE) == 0
    fput(m, file)
    check(m)
    assert m.swapfile.nr_swap_pages == SLOTS - 1


def test_when_swap_is_full_pages_stay() -> None:
    m = boot(pages=300, swap=60)
    file = a_file(m, 400)
    written = 0
    for index in range(230):
        written += store(m, file, index, b"%4d" % index * 1024)
    assert written == 230 * PAGE and shmem_i(file.inode).swapped <= 59
    for index in range(230):
        assert load(m, file, index) == b"%4d" % index * 1024
    check(m)
