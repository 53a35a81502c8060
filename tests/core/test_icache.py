"""The inode cache: in use, unused, dirty; inodes go after their pages; memory pressure really shrinks it."""

from __future__ import annotations

import random
from typing import Any

import pytest

import vmlab
from vmlab.errors import KernelBug
from vmlab.mm.icache import DIRTY, I_DIRTY, IN_USE, UNUSED

GFP_KSWAPD = 0x1F0


def machine(ram: str = "16M", **options: Any) -> vmlab.Machine:
    return vmlab.Machine(ram, **options).power_on()


def inode_of(m: vmlab.Machine, name: str) -> Any:
    inode = m.diskfs.lookup(name)
    assert inode is not None
    return inode


def test_a_file_on_the_disk_is_not_in_memory_until_somebody_looks() -> None:
    m = machine()
    m.create_file("a", b"12345")
    p = m.spawn("user")
    inode = inode_of(m, "a")
    assert (inode.address, inode.i_count, inode.i_list) == (0, 0, "")
    fd = p.open("a")
    place = m.slab.find(inode.address)
    assert place is not None and place.cache is m.icache.inode_cachep
    assert (inode.i_count, inode.i_list) == (1, IN_USE), "the entry's reference; the file has the entry's"
    p.close(fd)
    assert (inode.i_count, inode.i_list) == (1, IN_USE), "the unused entry keeps it"
    m.dcache.prune_dcache(0)
    assert (inode.i_count, inode.i_list, m.icache.nr_unused) == (0, UNUSED, 1)
    address = inode.address
    m.syscall(p.pid, "access", "a")
    assert (inode.i_count, inode.i_list, inode.address, m.icache.nr_unused) == (1, IN_USE, address, 0)
    m.check()


def test_an_inode_with_cached_pages_stays() -> None:
    m = machine()
    m.create_file("with", b"x" * 9000)
    m.create_file("without", b"x" * 9000)
    p = m.spawn("user")
    fds = [p.open("with"), p.open("without")]
    m.syscall(p.pid, "read", fds[0], 9000)
    for fd in fds:
        p.close(fd)
    m.dcache.prune_dcache(0)
    assert m.icache.nr_unused == 2
    m.icache.prune_icache(0)
    assert (inode_of(m, "with").i_list, inode_of(m, "without").address) == (UNUSED, 0)
    m.filemap.invalidate_inode_pages(inode_of(m, "with"))
    m.icache.prune_icache(0)
    assert inode_of(m, "with").address == 0 and m.icache.nr_unused == 0
    assert m.syscall(p.pid, "read", p.open("with"), 3) == (3, b"xxx")
    m.check()


def test_a_dirty_inode_is_written_before_it_goes() -> None:
    m = machine()
    p = m.spawn("user")
    fd = p.open("new", "w")
    m.syscall(p.pid, "write", fd, b"data" * 2000)
    inode = inode_of(m, "new")
    assert inode.i_list == DIRTY and inode.i_state & I_DIRTY
    p.close(fd)
    m.dcache.prune_dcache(0)
    assert (inode.i_list, inode.i_count, m.icache.nr_unused) == (DIRTY, 0, 1)
    m.icache.prune_icache(3)
    assert inode.address and m.sched.keventd_pending, "it cannot go yet; keventd is to write it"
    m.tick()
    assert (inode.i_list, inode.i_state & I_DIRTY) == (UNUSED, 0) and not m.sched.keventd_pending
    assert m.block.disks[inode.info.disk].read_bytes(0, 8000) == b"data" * 2000
    m.check()
    fd = p.open("new", "r+")
    m.syscall(p.pid, "write", fd, b"more")
    assert inode.i_list == DIRTY
    assert m.syscall(p.pid, "fsync", fd) == 0
    assert inode.i_list == DIRTY, "fsync writes the pages; the inode stays dirty until somebody syncs it"
    m.icache.sync_one(inode)
    assert inode.i_list == IN_USE
    m.check()


def test_the_last_use_of_a_file_without_names_deletes_it() -> None:
    m = machine()
    m.create_file("a", b"x" * 5000)
    p = m.spawn("user")
    fd = p.open("a")
    m.syscall(p.pid, "read", fd, 5000)
    inode = inode_of(m, "a")
    m.remove_file("a")
    assert inode.address and inode.i_mapping.nrpages == 2
    p.close(fd)
    assert (inode.address, inode.i_mapping.nrpages, m.icache.nr_inodes) == (0, 0, 2)
    with pytest.raises(KernelBug, match="already dead"):
        m.icache.iput(inode)
    m.check()


def test_shared_anonymous_memory_has_entry_inode_and_file() -> None:
    m = machine()
    p = m.spawn("user")
    before = (m.dcache.nr_dentry, m.icache.nr_inodes, m.file_table.nr_files)
    address = p.mmap(8192, shared=True)
    assert (m.dcache.nr_dentry, m.icache.nr_inodes, m.file_table.nr_files) == tuple(n + 1 for n in before)
    p.write(address, b"shared")
    child = p.fork()
    assert child.read(address, 6) == b"shared"
    m.check()
    child.exit()
    p.munmap(address, 8192)
    assert (m.dcache.nr_dentry, m.icache.nr_inodes) == before[:2] and m.file_table.nr_free_files == 1
    m.check()


def test_memory_pressure_shrinks_both_caches() -> None:
    m = machine()
    count = 400
    for i in range(count):
        m.create_file(f"file {i}", f"contents of file {i}".encode())
    p = m.spawn("reader")
    for i in range(count):
        fd = p.open(f"file {i}")
        m.syscall(p.pid, "read", fd, 100)
        p.close(fd)
    assert m.dcache.nr_unused == count and m.icache.nr_inodes == count + 2
    slabs = sum(len(list(m.slab.cache(name).slabs())) for name in ("dentry_cache", "inode_cache"))
    assert slabs == 14 + 51
    m.add_swap("32M")
    seen = []
    m.on_event = lambda event: seen.append(event) if event[0] in ("shrink_dcache", "shrink_icache") else None
    big = p.mmap(24 << 20)
    for page in range(6144):
        p.touch(big + (page << 12), 1)
    m.on_event = None
    assert {event[0] for event in seen} == {"shrink_dcache", "shrink_icache"}
    assert all(vmlab.describe(event) for event in seen)
    assert m.dcache.nr_dentry < 20 and m.icache.nr_inodes < 20
    m.check()
    for i in range(0, count, 57):
        text = f"contents of file {i}".encode()
        assert m.syscall(p.pid, "read", p.open(f"file {i}"), 100) == (len(text), text)
    m.check()


def test_state_files() -> None:
    m = machine()
    m.create_file("a")
    p = m.spawn("user")
    p.close(p.open("a"))
    assert m.dcache.dentry_state() == "3\t1\t45\t0\t0\t0\n"
    assert m.icache.inode_state() == "3\t0\t0\t0\t0\t0\t0\n"
    assert m.file_table.file_nr() == "1\t1\t8192\n"
    assert m.file_table.max_files == 8192 and machine("512M").file_table.max_files == (512 << 8) * 4 // 10


@pytest.mark.parametrize("options", [{"io_mode": 1}, {"ram": "24M", "pae": True}])
def test_files_by_name_while_memory_is_short(options: dict[str, Any]) -> None:
    rnd = random.Random(7)
    m = machine(**options)
    m.add_swap("64M")
    m.mount_tmpfs("size=4m")
    p = m.spawn("p", uid=0)
    hog = m.spawn("hog")
    start = hog.mmap(24 << 20)
    contents: dict[str, bytes] = {}
    for step in range(400):
        n = rnd.randrange(60)
        name = ("/dev/shm/" if n % 3 == 0 else "") + f"name number {n}"
        kind = rnd.random()
        if kind < 0.4:
            fd = p.open(name, "w")
            contents[name] = f"{name} {step} ".encode() * rnd.randrange(1, 300)
            assert m.syscall(p.pid, "write", fd, contents[name]) == len(contents[name])
            p.close(fd)
        elif kind < 0.7:
            fd = p.open(name)
            assert (fd >= 0) == (name in contents)
            if fd >= 0:
                assert m.syscall(p.pid, "read", fd, 1 << 16) == (len(contents[name]), contents[name])
                p.close(fd)
        elif kind < 0.8:
            gone = m.tmpfs().unlink(name.removeprefix("/dev/shm")) if n % 3 == 0 else m.remove_file(name)
            assert (gone == 0) == (contents.pop(name, None) is not None)
        else:
            first = rnd.randrange(6000)
            for page in range(first, first + 144):
                hog.touch(start + (page << 12), 1)
        if step % 40 == 0:
            m.check()
    assert m.sched.kstat.pswpout > 500
    m.check()
    m.copy().check()
