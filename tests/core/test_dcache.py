"""The dentry cache: names looked up, unused names, names that do not exist, and reclaim that throws them away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.errors import KernelBug
from vmlab.mm.dcache import DCACHE_REFERENCED, full_name_hash
from vmlab.mm.errno import EBUSY, ENFILE, ENOENT

GFP_KSWAPD, GFP_NOFS = 0x1F0, 0x70


def machine(ram: str = "16M", **options: Any) -> vmlab.Machine:
    return vmlab.Machine(ram, **options).power_on()


def unused(m: vmlab.Machine) -> list[str]:
    """Names on the unused list, head first."""
    return [d.d_name for d in reversed(m.dcache.dentry_unused.values())]


def use(m: vmlab.Machine, p: vmlab.Process, *names: str) -> None:
    for name in names:
        m.syscall(p.pid, "access", name)


def files(m: vmlab.Machine, *names: str) -> vmlab.Process:
    for name in names:
        m.create_file(name, b"12345")
    return m.spawn("user")


def test_hash_tables_have_the_size_the_kernel_prints() -> None:
    m = machine("64M")
    said = [line.removeprefix("<6>") for line in m.console]
    assert "Dentry cache hash table entries: 8192 (order: 4, 65536 bytes)" in said
    assert "Inode cache hash table entries: 4096 (order: 3, 32768 bytes)" in said
    assert "Mount cache hash table entries: 1024 (order: 1, 8192 bytes)" in said
    assert "Buffer cache hash table entries: 4096 (order: 2, 16384 bytes)" in said
    assert m.page(m.dcache.hash_pfn).owner == "dentry hash table" and m.page(m.dcache.hash_pfn).order == 4
    sizes = {c.name: (c.objsize, c.num) for c in m.slab.caches()}
    assert (sizes["dentry_cache"], sizes["inode_cache"], sizes["filp"]) == ((128, 30), (480, 8), (128, 30))
    m.check()


def test_a_machine_without_the_file_layer_has_none_of_it() -> None:
    m = machine(vfs=False)
    assert not m.dcache.hash_pfn and not m.icache.hash_pfn and "dentry_cache" not in m.slabinfo()
    p = files(m, "a")
    m.syscall(p.pid, "open", "a")
    assert m.dcache.nr_dentry == m.icache.nr_inodes == m.file_table.nr_files == 0
    with pytest.raises(ValueError, match="vfs"):
        vmlab.Machine("16M", kernel_objects="outside", vfs=True)


def test_full_name_hash() -> None:
    assert full_name_hash("") == 0
    assert full_name_hash("a") == (0x61 * 16 + 6) * 11
    assert full_name_hash("ab") == (full_name_hash("a") + 0x62 * 16 + 6) * 11
    assert full_name_hash("x" * 40) < 1 << 32


def test_opening_fills_the_cache_and_closing_leaves_the_name_unused() -> None:
    m = machine()
    p = files(m, "a")
    assert m.dcache.nr_dentry == 2 and m.icache.nr_inodes == 2, "two roots"
    fd = p.open("a")
    root = m.diskfs.sb.s_root
    assert root is not None
    dentry = m.dcache.find(root, "a")
    assert dentry is not None and dentry.d_count == 1 and dentry.d_inode is m.diskfs.lookup("a")
    assert m.slab.find(dentry.address).cache is m.dcache.dentry_cachep  # type: ignore[union-attr]
    assert unused(m) == []
    m.check()
    p.close(fd)
    assert unused(m) == ["a"] and dentry.d_count == 0 and not dentry.d_vfs_flags & DCACHE_REFERENCED
    p.open("a")
    assert m.dcache.find(root, "a") is dentry and dentry.d_vfs_flags & DCACHE_REFERENCED and unused(m) == []
    m.check()


def test_a_name_that_does_not_exist_is_remembered_until_there_is_a_file() -> None:
    m = machine()
    p = files(m)
    assert m.syscall(p.pid, "open", "no") == -ENOENT
    assert unused(m) == ["no"] and m.dcache.entries()[0].d_inode is None
    address = m.dcache.entries()[0].address
    fd = p.open("no", "w")
    assert m.dcache.entries()[0].address == address and m.dcache.entries()[0].d_inode is m.diskfs.lookup("no")
    p.close(fd)
    assert m.syscall(p.pid, "open", "late") == -ENOENT
    m.create_file("late", b"x")
    assert p.open("late") >= 0
    m.check()


def test_a_long_name_has_memory_of_its_own() -> None:
    m = machine()
    p = files(m, "n" * 15, "n" * 16)
    m.file_table.putname(m.file_table.getname())  # the slab of path names is described in size-32 too
    small = m.slab.cache("size-32")
    before = small.active_objs
    use(m, p, "n" * 15)
    assert small.active_objs == before
    use(m, p, "n" * 16)
    assert small.active_objs == before + 1
    m.dcache.prune_dcache(0)
    assert small.active_objs == before
    m.check()


def test_prune_takes_the_longest_unused_and_gives_a_second_chance() -> None:
    m = machine()
    p = files(m, "a", "b", "c", "d")
    use(m, p, "a", "b", "c", "d", "a")
    assert unused(m) == ["a", "d", "c", "b"]
    m.dcache.prune_dcache(1)
    assert unused(m) == ["a", "d", "c"]
    use(m, p, "c", "d")
    assert unused(m) == ["d", "c", "a"]
    m.dcache.prune_dcache(1)  # all three were found lately: each is moved to the head once, then the first of them goes
    assert unused(m) == ["d", "c"]
    assert m.icache.nr_unused == 2
    m.check()


def test_prune_of_none_is_prune_of_all() -> None:
    m = machine()
    p = files(m, "a", "b", "c")
    use(m, p, "a", "b", "c")
    assert m.dcache.nr_unused // 6 == 0
    m.dcache.shrink_dcache_memory(6, GFP_KSWAPD)
    assert unused(m) == [] and m.dcache.nr_dentry == 2


def test_one_file_system_is_emptied_and_no_other() -> None:
    m = machine()
    m.mount_tmpfs()
    t = m.tmpfs()
    p = files(m, "a", "b", "c")
    use(m, p, "a", "b", "c")
    assert t.stat("/x") == t.stat("/y") == -ENOENT
    use(m, p, "a")
    gone: list[str] = []
    m.on_event = lambda event: gone.append(event[1]) if event[0] == "prune_dentry" else None
    m.dcache.shrink_dcache_sb(t.sb)
    assert (gone, unused(m)) == (["x", "y"], ["a", "c", "b"])
    m.dcache.shrink_dcache_sb(m.diskfs.sb)
    assert (gone[2:], unused(m), m.icache.nr_unused) == (["b", "c", "a"], [], 3)
    m.check()


def test_who_may_not_enter_a_file_system_shrinks_nothing() -> None:
    m = machine()
    p = files(m, "a")
    use(m, p, "a")
    assert m.vmscan.shrink_dcache_memory(1, GFP_NOFS) == m.vmscan.shrink_icache_memory(1, GFP_NOFS) == 0
    assert unused(m) == ["a"]


def test_shrinking_gives_pages_back() -> None:
    m = machine()
    names = [f"f{i}" for i in range(200)]
    p = files(m, *names)
    use(m, p, *names)
    free = m.nr_free_pages()
    pages = m.vmscan.shrink_dcache_memory(1, GFP_KSWAPD) + m.vmscan.shrink_icache_memory(1, GFP_KSWAPD)
    assert pages == 6 + 25 and m.nr_free_pages() == free + pages
    assert m.dcache.nr_dentry == m.icache.nr_inodes == 2
    m.check()


def test_delete_with_and_without_another_user() -> None:
    m = machine()
    p = files(m, "a", "b")
    fd = p.open("a")
    m.remove_file("a")
    assert m.dcache.nr_dentry == 3 and m.dcache.entries() == [], "unhashed: nobody finds it, the open file keeps it"
    assert m.syscall(p.pid, "read", fd, 5) == (5, b"12345")
    assert m.syscall(p.pid, "open", "a") == -ENOENT
    p.close(fd)
    use(m, p, "b")
    m.remove_file("b")
    assert [d.d_inode for d in m.dcache.entries()] == [None, None] and m.icache.nr_inodes == 2
    m.check()


def test_structures_of_files_are_kept_for_the_next_and_ten_for_root() -> None:
    m = machine()
    p = files(m, "a")
    fds = [p.open("a") for _ in range(12)]
    for fd in fds:
        p.close(fd)
    table = m.file_table
    assert (table.nr_files, table.nr_free_files) == (12, 12)
    last = table.free_list[-1]
    fd = p.open("a")
    assert table.nr_free_files == 11 and p.task.files[fd].address == last
    more = [p.open("a"), p.open("a")]
    assert (table.nr_files, table.nr_free_files) == (13, 10), "the last ten are root's"
    root = m.spawn("root", uid=0)
    root.open("a")
    assert (table.nr_files, table.nr_free_files) == (13, 9)
    table.max_files = 13
    assert m.syscall(p.pid, "open", "a") == -ENFILE
    assert "<6>VFS: file-max limit 13 reached" in m.console
    assert len(more) == 2 and table.file_nr() == "13\t9\t13\n"
    m.check()


def test_bugs_are_found() -> None:
    m = machine()
    p = files(m, "a")
    use(m, p, "a")
    dentry = m.dcache.entries()[0]
    with pytest.raises(KernelBug, match="no users"):
        m.dcache.dput(dentry)
    dentry.d_count = 0
    with pytest.raises(KernelBug, match="hashed already"):
        m.dcache.d_rehash(dentry)
    with pytest.raises(KernelBug, match="has an inode"):
        m.dcache.d_instantiate(dentry, dentry.d_inode)
    m.check()
    m.dcache.nr_unused += 1
    with pytest.raises(KernelBug, match="unused"):
        m.check()


def test_tmpfs_names_are_pinned_and_its_missing_names_are_not() -> None:
    m = machine()
    m.mount_tmpfs()
    t = m.tmpfs()
    assert t.mkdir("/d") == t.create("/d/f") == 0
    assert t.stat("/d/none") == -ENOENT and unused(m) == ["none"]
    m.dcache.prune_dcache(0)
    assert unused(m) == [] and m.dcache.nr_dentry == 5
    assert t.rename("/d/f", "/g") == 0 and t.listdir("/d") == [".", ".."]
    assert t.link("/g", "/h") == 0 and t.unlink("/g") == 0
    assert {d.d_name for d in m.dcache.entries() if d.d_inode} == {"d", "h"}
    assert t.stat("/d/x") == -ENOENT
    assert t.rmdir("/d") == 0
    file = t.open("/h")
    assert not isinstance(file, int) and t.umount() == -EBUSY
    m.check()
    t.close(file)
    assert t.umount() == 0
    m.check()
    assert m.dcache.nr_dentry == m.icache.nr_inodes == 2


def test_time_and_copies_keep_the_caches() -> None:
    tape = vmlab.record(ram="16M")
    m = tape.live
    p = files(m, "a", "b")
    use(m, p, "a", "b", "nothing")
    middle, then = len(tape) - 1, (unused(m), m.slabinfo())
    m.dcache.prune_dcache(0)
    assert unused(m) == []
    tape.seek(middle)
    assert (unused(tape.machine), tape.machine.slabinfo()) == then
    other, _ = tape.branch(middle)
    use(other, other.process(p.pid), "a")
    assert unused(other)[0] == "a"
    twin = other.copy()
    twin.check()
    assert unused(twin) == unused(other) and twin.icache.nr_inodes == other.icache.nr_inodes


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("acoxups"), st.integers(0, 7)), max_size=60))
def test_any_order_of_calls_keeps_every_count_right(steps: list[tuple[str, int]]) -> None:
    m = machine()
    p = m.spawn("user")
    fds: list[int] = []
    for what, n in steps:
        name = f"file number {n}" if n & 1 else f"f{n}"
        if what == "a":
            use(m, p, name)
        elif what == "c" and name not in m.diskfs.files:
            m.create_file(name, b"x" * n * 1000)
        elif what == "o":
            fd = m.syscall(p.pid, "open", name, 0o102 if n & 2 else 0)
            if isinstance(fd, int) and fd >= 0:
                fds.append(fd)
                m.syscall(p.pid, "write", fd, b"data" * n)
        elif what == "x" and fds:
            p.close(fds.pop(n % len(fds)))
        elif what == "u":
            m.remove_file(name)
        elif what == "p":
            m.dcache.prune_dcache(n)
        elif what == "s":
            m.vmscan.shrink_icache_memory(1 + n % 6, GFP_KSWAPD)
        m.check()
    for fd in fds:
        p.close(fd)
    for name in list(m.diskfs.files):
        m.remove_file(name)
    m.dcache.prune_dcache(0)
    m.vmscan.shrink_icache_memory(1, GFP_KSWAPD)
    assert m.dcache.nr_dentry == m.icache.nr_inodes == 2
    m.check()
