"""Shared memory of 2.6: does a file keep its contents wherever its pages go, and is everything given back?"""

from __future__ import annotations

import random
from typing import Any

import pytest

import vmlab
from vmlab.mm import tmpfs
from vmlab.mm.errno import EINVAL, ENOMEM, ENOSPC
from vmlab.mm.fs import File, Inode
from vmlab.mm.shmem_swap import ENTRIES_PER_PAGE, ENTRIES_PER_PAGEPAGE, SGP_CACHE, SGP_READ, SGP_WRITE, SHMEM_MAX_BYTES, sb_info
from vmlab.mm.swap_header import write_header
from vmlab.mm.vfs import ATTR_SIZE, Iattr, fput
from vmlab.v26.page_flags import SWAPCACHE
from vmlab.v26.page_writeback import WRITEPAGE_ACTIVATE
from vmlab.v26.shmem_swap import info26
from vmlab.v26.vm import VM_ACCOUNT

PAGE = 4096
FIRST_OF_TREE = 16 + ENTRIES_PER_PAGEPAGE // 2  # the first page whose entry lies two frames of slots down


def boot(mem: str = "16M", swap: int = 400, **options: Any) -> vmlab.Machine:
    m = vmlab.Machine(mem, kernel="2.6", kernel_objects="outside", **options).power_on()
    if swap:
        m.block.add_disk(0, swap + 1).write_page(0, write_header(2, 1, swap, ()))
        assert m.swapfile.sys_swapon(0) == 0
    return m


def a_file(m: vmlab.Machine, pages: int, flags: int = 0) -> File:
    file: Any = m.shmem.shmem_file_setup("test", pages * PAGE)  # type: ignore[call-arg]
    if not flags:
        fput(m, file)
        shmem: Any = m.shmem
        file = shmem.shmem_file_setup("test", pages * PAGE, flags)
    assert isinstance(file, File)
    return file


def page(m: vmlab.Machine, inode: Inode, index: int, sgp: int = SGP_CACHE) -> int | None:
    error, pfn = m.shmem.shmem_getpage(inode, index, sgp)
    assert not error, (index, error)
    return pfn


def store(m: vmlab.Machine, inode: Inode, index: int, value: int) -> None:
    pfn = page(m, inode, index)
    assert pfn is not None
    m.ram.words(pfn)[0] = value
    m.filemap.set_page_dirty(pfn)
    m.put_page(pfn)


def load(m: vmlab.Machine, inode: Inode, index: int) -> int:
    pfn = page(m, inode, index, SGP_READ)
    if pfn is None:
        return 0
    value = m.ram.words(pfn)[0]
    m.put_page(pfn)
    return value


def push_out(m: vmlab.Machine, inode: Inode, index: int) -> int | None:
    """What reclaim does with a page that nobody maps: to the swap cache, and to the disk."""
    filemap: Any = m.filemap
    pfn = filemap.find_lock_page(inode.i_mapping, index)
    if pfn is None:
        return None
    filemap.clear_page_dirty_for_io(pfn)
    ret: int = m.shmem.shmem_writepage(pfn)
    if ret:
        filemap.unlock_page(pfn)
    elif m.mem.flags[pfn] & SWAPCACHE:
        filemap.lock_page(pfn)
        m.mem.flags[pfn] &= ~(1 << 4)
        m.swap_state.aops.writepage(pfn)
        m.block.complete_all()
        filemap.lock_page(pfn)
        if m.mem.flags[pfn] & SWAPCACHE and m.mem.count[pfn] == 2:
            m.swap_state.delete_from_swap_cache(pfn)
        filemap.unlock_page(pfn)
    m.put_page(pfn)
    return ret


def cut(m: vmlab.Machine, inode: Inode, size: int) -> None:
    assert m.shmem.shmem_notify_change(inode, Iattr(ATTR_SIZE, size)) == 0


def settled(m: vmlab.Machine) -> tuple[int, int, int]:
    """Free frames, free slots, promised pages: what a file must give back."""
    lru: Any = m.swap
    lru.lru_add_drain()
    mmap: Any = m.mmap
    return m.nr_free_pages() + sum(p.count for z in m.zones for p in z.pcp), m.swapfile.nr_swap_pages, mmap.vm_committed_space  # type: ignore[attr-defined]


def frames(m: vmlab.Machine, inode: Inode) -> int:
    """Frames of the file's vector, counted from its root, each of which counts its own entries rightly."""
    info = info26(inode)
    if not info.i_indirect:
        assert info.swapped == sum(1 for entry in info.i_direct if entry)
        return 0
    shmem: Any = m.shmem
    swapped, found = sum(1 for entry in info.i_direct if entry), 1
    blocks = []
    for slot, address in enumerate(shmem.words(info.i_indirect)):
        if address and slot < ENTRIES_PER_PAGE // 2:
            blocks.append(address)
        elif address:
            found += 1
            blocks += [block for block in shmem.words(address) if block]
    for block in blocks:
        used = sum(1 for entry in shmem.words(block) if entry)
        assert m.mem.column("private")[shmem.frame_at(block)] == used
        swapped += used
    assert info.swapped == swapped
    return found + len(blocks)


PLACES = (0, 3, 15, 16, 17, 16 + 1023, 16 + 1024, 16 + 511 * 1024, FIRST_OF_TREE - 1, FIRST_OF_TREE, FIRST_OF_TREE + 1030)
DEEP = (FIRST_OF_TREE + ENTRIES_PER_PAGEPAGE - 1, FIRST_OF_TREE + ENTRIES_PER_PAGEPAGE, FIRST_OF_TREE + 3 * ENTRIES_PER_PAGEPAGE + 5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("io_mode", [0, 1])
def test_a_file_keeps_what_was_stored_wherever_its_pages_are(seed: int, io_mode: int) -> None:
    m = boot(io_mode=io_mode)
    before = settled(m)
    rng = random.Random(seed)
    places = PLACES + DEEP
    size = places[-1] + 1
    flags = VM_ACCOUNT if seed & 1 else 0
    mmap: Any = m.mmap
    mmap.sysctl_overcommit_memory = 1
    file = a_file(m, size, flags)
    inode = file.inode
    model: dict[int, int] = {}
    for step in range(400):
        index = rng.choice(places)
        op = rng.randrange(10)
        if op < 4 and index < size:
            store(m, inode, index, step + 1)
            model[index] = step + 1
        elif op < 6 and index < size:
            assert load(m, inode, index) == model.get(index, 0)
        elif op < 8:
            push_out(m, inode, index)
        elif op == 8 and not flags and rng.random() < 0.4:  # a file charged at once has a fixed size
            size = rng.choice(places) + rng.randrange(2)
            cut(m, inode, size * PAGE)
            model = {i: v for i, v in model.items() if i < size}
            if rng.random() < 0.5:
                size = places[-1] + 1
                cut(m, inode, size * PAGE)
        elif rng.random() < 0.15:
            assert m.swapfile.sys_swapoff(0) == 0
            assert info26(inode).swapped == 0
            assert m.swapfile.sys_swapon(0) == 0
        frames(m, inode)
        info = info26(inode)
        assert info.alloced >= info.swapped + inode.i_mapping.nrpages
    for index in places:
        if index < size:
            assert load(m, inode, index) == model.get(index, 0)
    fput(m, file)
    assert settled(m) == before


def test_a_hole_needs_no_page_to_be_read_but_one_to_be_mapped() -> None:
    m = boot()
    inode = a_file(m, 8).inode
    assert page(m, inode, 2, SGP_READ) is None
    assert inode.i_mapping.nrpages == 0
    pfn = page(m, inode, 2)
    assert pfn is not None and inode.i_mapping.nrpages == 1 and info26(inode).alloced == 1
    assert m.shmem.shmem_getpage(inode, 8, SGP_CACHE) == (-EINVAL, None)
    assert m.shmem.shmem_getpage(inode, 8, SGP_WRITE)[0] == 0


def test_reclaim_is_told_to_activate_what_cannot_move() -> None:
    m = boot(swap=0)
    inode = a_file(m, 2).inode
    store(m, inode, 0, 1)
    assert push_out(m, inode, 0) == WRITEPAGE_ACTIVATE  # no swap
    assert load(m, inode, 0) == 1


def test_a_locked_segment_stays_in_memory_and_is_charged_to_its_user() -> None:
    m = boot()
    file = a_file(m, 4)
    shmem, mlock = m.shmem, m.mlock
    store(m, file.inode, 1, 7)
    assert shmem.shmem_lock(file, True) == 0  # type: ignore[func-returns-value]
    assert mlock.locked_shm == {m.current.uid: 4}  # type: ignore[attr-defined]
    assert push_out(m, file.inode, 1) == WRITEPAGE_ACTIVATE
    assert shmem.shmem_lock(file, False) == 0  # type: ignore[func-returns-value]
    assert mlock.locked_shm == {m.current.uid: 0}  # type: ignore[attr-defined]
    assert push_out(m, file.inode, 1) == 0


def test_what_is_promised_at_once_and_what_page_by_page() -> None:
    m = boot()
    mmap: Any = m.mmap
    start = mmap.vm_committed_space
    fixed, sparse = a_file(m, 20, VM_ACCOUNT), a_file(m, 20, 0)
    assert mmap.vm_committed_space == start + 20
    store(m, fixed.inode, 0, 1)
    store(m, sparse.inode, 0, 1)
    store(m, sparse.inode, 1, 1)
    assert mmap.vm_committed_space == start + 22
    push_out(m, sparse.inode, 0)
    assert mmap.vm_committed_space == start + 22
    cut(m, sparse.inode, PAGE)
    assert mmap.vm_committed_space == start + 21
    fput(m, sparse)
    fput(m, fixed)
    assert mmap.vm_committed_space == start


def test_sizes_that_are_refused() -> None:
    m = boot()
    mmap: Any = m.mmap
    mmap.sysctl_overcommit_memory = 2
    assert m.shmem.shmem_file_setup("too large", SHMEM_MAX_BYTES + 1) == -EINVAL
    assert m.shmem.shmem_file_setup("too much", 1 << 30) == -ENOMEM


def test_reclaim_under_pressure_swaps_shared_pages_and_both_processes_see_them_again() -> None:
    m = boot("8M", swap=2000)
    p = m.spawn("a")
    a = p.mmap(1200 * PAGE, shared=True)
    q = p.fork()
    for i in range(1200):
        (p if i & 1 else q).write(a + i * PAGE, i.to_bytes(4, "little"))
    b = p.mmap(900 * PAGE)
    for i in range(900):
        p.write(b + i * PAGE, b"x")
    assert m.page_allocator.page_state.pswpout > 0  # type: ignore[attr-defined]
    for i in range(0, 1200, 7):
        assert int.from_bytes(p.read(a + i * PAGE, 4), "little") == int.from_bytes(q.read(a + i * PAGE, 4), "little") == i
    q.exit()
    p.exit()
    assert m.swapfile.nr_swap_pages == m.swapfile.total_swap_pages
    assert m.swap_state.swapper_space.nrpages == 0


def test_limits_of_a_mounted_tmpfs() -> None:
    m = boot()
    fs = tmpfs.mount(m, "size=12k,nr_inodes=4")
    assert not isinstance(fs, int)
    info = sb_info(m.shmem.mounts["/dev/shm"])
    file = fs.open("/a", tmpfs.O_CREAT | tmpfs.O_RDWR)
    assert isinstance(file, File)
    assert fs.write(file, b"z" * 5 * PAGE) == 3 * PAGE
    assert info.free_blocks == 0
    assert fs.write(file, b"z") == -ENOSPC
    assert info.free_inodes == 2
    assert fs.link("/a", "/b") == 0 and fs.link("/a", "/c") == 0  # names count as files
    assert fs.link("/a", "/d") == -ENOSPC
    assert fs.unlink("/b") == 0 and info.free_inodes == 1
    assert m.shmem.shmem_remount_fs(m.shmem.mounts["/dev/shm"], "size=0,nr_inodes=0") == -EINVAL
    file.f_pos = 0
    assert fs.read(file, 6 * PAGE) == b"z" * 3 * PAGE


def test_a_tmpfs_without_limits_counts_nothing() -> None:
    m = boot()
    fs = tmpfs.mount(m, "size=0,nr_blocks=0,nr_inodes=0")
    assert not isinstance(fs, int)
    file = fs.open("/a", tmpfs.O_CREAT | tmpfs.O_RDWR)
    assert isinstance(file, File)
    assert fs.write(file, b"z" * 5 * PAGE) == 5 * PAGE
    assert file.inode.i_blocks == 0 and fs.statfs().f_blocks == 0
    assert m.shmem.shmem_remount_fs(m.shmem.mounts["/dev/shm"], "size=1M") == -EINVAL
