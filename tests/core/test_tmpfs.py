"""tmpfs by path: every call against the same call on the host's own file system, and the limits of a mount."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat as mode_of
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.mm import tmpfs
from vmlab.mm.errno import (
    EACCES,
    EBADF,
    EBUSY,
    EINVAL,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOSPC,
    EPERM,
    ETXTBSY,
)
from vmlab.mm.fs import File
from vmlab.mm.shmem_dir import memparse, simple_strtoul
from vmlab.mm.task import Task
from vmlab.mm.tmpfs import O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, SEEK_CUR, SEEK_END, Tmpfs
from vmlab.mm.vfs import deny_write_access
from vmlab.mm.vm import MAP_SHARED, PROT_READ, PROT_WRITE

from .processes import machine, new_task
from .test_shmem import check

PAGE = 4096
M = machine()


def mounted(m: vmlab.Machine = M, options: str = "size=4M", name: str = "t") -> Tmpfs:
    if name in m.shmem.mounts:
        assert Tmpfs(m, name).umount() == 0
    found = tmpfs.mount(m, options, name)
    assert isinstance(found, Tmpfs)
    return found


def opened(tmp: Tmpfs, path: str, flags: int = O_CREAT | O_RDWR) -> File:
    file = tmp.open(path, flags)
    assert isinstance(file, File), errno.errorcode.get(-file, file)
    return file


def put(tmp: Tmpfs, path: str, data: bytes) -> int:
    file = opened(tmp, path)
    written = tmp.write(file, data)
    tmp.close(file)
    return written


def get(tmp: Tmpfs, path: str) -> bytes:
    file = opened(tmp, path, O_RDONLY)
    data = tmp.read(file, 1 << 20)
    tmp.close(file)
    assert isinstance(data, bytes)
    return data


# -- against the host -------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
PLAIN = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATHS = st.one_of(PLAIN, st.sampled_from(["a/.", "a/..", "b/../c", ".", "a/", "b/c/"]))
CALLS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["mkdir", "rmdir", "unlink", "rename", "link", "create", "truncate"]), PATHS, PATHS, st.integers(0, 9000)
        ),
        st.tuples(st.just("symlink"), PATHS, PLAIN, st.just(0)),  # a link never leads above the top directory
    ),
    max_size=40,
)


class Host:
    """The same calls on a directory of the host."""

    def __init__(self, root: str) -> None:
        self.root = root

    def call(self, what: str, one: str, two: str, size: int) -> int:
        first, second = f"{self.root}/{one}", f"{self.root}/{two}"
        try:
            if what == "create":
                os.close(os.open(first, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
            elif what == "symlink":
                os.symlink(two, first)
            elif what == "link":
                os.link(first, second, follow_symlinks=False)
            elif what == "rename":
                os.rename(first, second)
            elif what == "truncate":
                os.truncate(first, size)
            else:
                getattr(os, what)(first)
        except OSError as error:
            if what == "create" and one.endswith(".") and error.errno == errno.EEXIST:
                return -EISDIR  # what 2.4 says; newer kernels look at O_EXCL first
            return -(error.errno or 0)
        return 0

    def tree(self, at: str = "") -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        for name in sorted(os.listdir(f"{self.root}/{at}")):
            path = f"{at}/{name}"
            info = os.lstat(f"{self.root}{path}")
            if mode_of.S_ISDIR(info.st_mode):
                found[path] = ("directory",)
                found |= self.tree(path)
            elif mode_of.S_ISLNK(info.st_mode):
                found[path] = ("link", os.readlink(f"{self.root}{path}"))
            else:
                found[path] = ("file", info.st_nlink, info.st_size)
        return found


def call(tmp: Tmpfs, what: str, one: str, two: str, size: int) -> int:
    first, second = f"/{one}", f"/{two}"
    if what == "create":
        file = tmp.open(first, O_CREAT | O_EXCL | O_RDWR)
        return file if isinstance(file, int) else tmp.close(file)
    if what == "symlink":
        return tmp.symlink(two, first)
    if what in ("link", "rename"):
        return getattr(tmp, what)(first, second)  # type: ignore[no-any-return]
    if what == "truncate":
        return tmp.truncate(first, size)
    return getattr(tmp, what)(first)  # type: ignore[no-any-return]


def tree(tmp: Tmpfs, at: str = "") -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    names = tmp.listdir(at or "/")
    assert isinstance(names, list)
    for name in sorted(names[2:]):
        path = f"{at}/{name}"
        info = tmp.stat(path, follow=False)
        assert not isinstance(info, int)
        if mode_of.S_ISDIR(info.st_mode):
            found[path] = ("directory",)
            found |= tree(tmp, path)
        elif mode_of.S_ISLNK(info.st_mode):
            found[path] = ("link", tmp.readlink(path))
        else:
            found[path] = ("file", info.st_nlink, info.st_size)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the host must be Linux too")
@settings(max_examples=150, deadline=None)
@given(CALLS)
def test_names_behave_as_on_the_host(calls: list[tuple[str, str, str, int]]) -> None:
    tmp = mounted()
    root = tempfile.mkdtemp()
    try:
        host = Host(root)
        for what, one, two, size in calls:
            assert call(tmp, what, one, two, size) == host.call(what, one, two, size), (what, one, two)
        assert tree(tmp) == host.tree()
    finally:
        shutil.rmtree(root)
    check(M)


@pytest.mark.skipif(sys.platform != "linux", reason="the host must be Linux too")
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30))
def test_contents_behave_as_on_the_host(seed: int) -> None:
    rng = random.Random(seed)
    tmp = mounted()
    with tempfile.TemporaryDirectory() as root:
        ours = opened(tmp, "/f")
        theirs = os.open(f"{root}/f", os.O_CREAT | os.O_RDWR)
        for _ in range(60):
            what = rng.choice(("read", "write", "seek", "cut"))
            if what == "write":
                data = rng.randbytes(rng.randrange(1, 9000))
                assert tmp.write(ours, data) == os.write(theirs, data)
            elif what == "read":
                count = rng.randrange(0, 20000)
                assert tmp.read(ours, count) == os.read(theirs, count)
            elif what == "seek":
                offset, whence = rng.randrange(0, 50000), rng.randrange(3)
                assert tmp.lseek(ours, offset, whence) == os.lseek(theirs, offset, whence)
                if tmp.lseek(ours, 0, SEEK_CUR) > 200000:
                    assert tmp.lseek(ours, 0) == os.lseek(theirs, 0, 0)
            else:
                size = rng.randrange(0, 60000)
                assert tmp.ftruncate(ours, size) == 0
                os.ftruncate(theirs, size)
        assert get(tmp, "/f") == Path(f"{root}/f").read_bytes()
        os.close(theirs)
        tmp.close(ours)
    check(M)


# -- what the host cannot tell ----------------------------------------------------------------------


def test_a_mount_gives_everything_back() -> None:
    m = machine()
    free = m.nr_free_pages()
    tmp = mounted(m)
    assert tmp.mkdir("/d") == 0 and put(tmp, "/d/f", b"x" * 100_000) == 100_000
    assert tmp.symlink("/" + "d" * 200, "/long") == 0
    assert free - m.nr_free_pages() == 25 + 2 + 1, "25 pages, a vector of two frames (16 entries are in the inode), a link"
    file = opened(tmp, "/d/f")
    assert tmp.umount() == -EBUSY
    tmp.close(file)
    assert tmp.umount() == 0 and m.nr_free_pages() == free
    assert not [info for info in m.shmem.shmem_inodes if info.inode.i_sb is not m.shmem.shm_mnt]


def test_a_file_without_a_name_lives_until_it_is_closed() -> None:
    tmp = mounted()
    file = opened(tmp, "/f")
    assert tmp.write(file, b"still here") == 10
    assert tmp.unlink("/f") == 0 and tmp.stat("/f") == -ENOENT
    used = tmp.statfs()
    assert used.f_blocks - used.f_bfree == 1
    tmp.lseek(file, 0)
    assert tmp.read(file, 100) == b"still here"
    tmp.close(file)
    left = tmp.statfs()
    assert left.f_bfree == left.f_blocks and left.f_ffree == left.f_files - 1, "only the top directory is left"


def test_the_limits_of_a_mount() -> None:
    tmp = mounted(options="size=64K,nr_inodes=4")
    assert tmp.statfs()[2:7] == (16, 16, 16, 4, 3)
    assert put(tmp, "/a", b"x" * 70_000) == 16 * PAGE, "the pages of a small file: 16 fit without a vector"
    assert put(tmp, "/b", b"x") == -ENOSPC
    assert tmp.create("/c") == 0 and tmp.create("/d") == -ENOSPC and tmp.mkdir("/e") == -ENOSPC
    assert tmp.remount("size=60K") == -EINVAL and tmp.remount("nr_inodes=3") == -EINVAL
    assert tmp.remount("size=128K,nr_inodes=5") == 0
    assert put(tmp, "/b", b"x") == 1 and tmp.create("/d") == 0
    assert tmp.unlink("/a") == 0 and tmp.statfs().f_bfree == 31
    check(M)


def test_half_of_memory_is_the_default() -> None:
    tmp = mounted(options="")
    assert tmp.statfs().f_blocks == tmp.statfs().f_files == M.totalram_pages // 2
    assert mounted(options="size=25%").statfs().f_blocks == M.totalram_pages * 25 // 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size", "tmpfs: No value for mount option 'size'\n"),
        ("size=1x", "tmpfs: Bad value '1x' for mount option 'size'\n"),
        ("mode=9", "tmpfs: Bad value '9' for mount option 'mode'\n"),
        ("colour=red", "tmpfs: Bad mount option colour\n"),
    ],
)
def test_bad_options_are_named(options: str, message: str) -> None:
    m = machine()
    assert tmpfs.mount(m, options) == -EINVAL
    assert m.console[-1] == "<3>" + message


def test_numbers_of_the_kernel() -> None:
    assert [memparse(text) for text in ("12", "4k", "0x10M", "1Gx", "010", "")] == [
        (12, ""),
        (4096, ""),
        (16 << 20, ""),
        (1 << 30, "x"),
        (8, ""),
        (0, ""),
    ]
    assert simple_strtoul("0xg") == (0, "xg") and simple_strtoul("778", 8) == (0o77, "8")


def test_options_set_owner_and_mode() -> None:
    tmp = mounted(options="uid=7,gid=8,mode=750")
    info = tmp.stat("/")
    assert not isinstance(info, int)
    assert (info.st_mode, info.st_uid, info.st_gid) == (0o40750, 7, 8)


def test_rights() -> None:
    m = machine()
    tmp = mounted(m)
    alice, bob = Task(1, "alice"), Task(2, "bob")
    alice.uid = alice.euid = 100
    bob.uid = bob.euid = 200
    with m.running(alice):
        assert tmp.mkdir("/private", 0o700) == 0 and tmp.mkdir("/open", 0o755) == 0
        assert put(tmp, "/private/f", b"x") == 1 and put(tmp, "/open/f", b"x") == 1
    with m.running(bob):
        assert tmp.stat("/private/f") == -EACCES
        assert tmp.open("/open/f", O_WRONLY) == -EACCES and isinstance(tmp.open("/open/f", O_RDONLY), File)
        assert tmp.unlink("/open/f") == -EACCES and tmp.create("/open/g") == -EACCES
        assert tmp.chmod("/open/f", 0o777) == -EPERM
        assert tmp.rename("/open", "/mine") == -EPERM, "the top directory is sticky"
    with m.running(alice):
        assert tmp.chown("/open/f", 200, 0) == -EPERM, "files cannot be given away"
        assert tmp.chmod("/open", 0o777) == 0
    with m.running(bob):
        assert tmp.unlink("/open/f") == 0


def test_links_in_circles_and_names_too_long() -> None:
    tmp = mounted()
    assert tmp.symlink("/b", "/a") == 0 and tmp.symlink("/a", "/b") == 0
    assert tmp.stat("/a") == -ELOOP and tmp.open("/a/x", O_RDONLY) == -ELOOP
    assert tmp.create("/" + "n" * 255) == 0 and tmp.create("/" + "n" * 256) == -ENAMETOOLONG
    assert tmp.symlink("x" * 4096, "/c") == -ENAMETOOLONG and tmp.symlink("x" * 4095, "/c") == 0
    assert tmp.readlink("/c") == "x" * 4095


def test_how_a_file_is_opened_matters() -> None:
    tmp = mounted()
    assert put(tmp, "/f", b"data") == 4
    reader, writer = opened(tmp, "/f", O_RDONLY), opened(tmp, "/f", O_WRONLY)
    assert tmp.write(reader, b"x") == -EBADF and tmp.read(writer, 1) == -EBADF
    assert tmp.ftruncate(reader, 0) == -EINVAL
    assert deny_write_access(reader) == -ETXTBSY
    tmp.close(writer)
    assert deny_write_access(reader) == 0 and tmp.open("/f", O_RDWR) == -ETXTBSY
    reader.inode.i_writecount += 1
    tmp.close(reader)
    assert tmp.open("/", O_RDWR) == -EISDIR
    tmp.close(opened(tmp, "/f", O_RDWR | O_TRUNC))
    assert get(tmp, "/f") == b""


def test_appending_and_the_largest_offset() -> None:
    tmp = mounted()
    put(tmp, "/f", b"one")
    file = opened(tmp, "/f", O_RDWR | 0o2000)
    tmp.lseek(file, 0)
    assert tmp.write(file, b"two") == 3 and get(tmp, "/f") == b"onetwo"
    far = opened(tmp, "/far")
    assert tmp.lseek(far, 1 << 40) == 1 << 40 and tmp.write(far, b"far") == 3, "through the second half of the vector"
    assert tmp.lseek(far, -3, SEEK_END) == 1 << 40 and tmp.read(far, 10) == b"far"
    info = tmp.stat("/far")
    assert not isinstance(info, int) and info.st_blocks == 8 * 4
    tmp.close(far)
    tmp.close(file)
    check(M)


def test_a_process_maps_a_file_and_writes_through_its_own_memory() -> None:
    m = machine()
    tmp = mounted(m)
    task = new_task(m)
    file = opened(tmp, "/f")
    with m.running(task):
        assert tmp.write(file, b"\x01\x00\x00\x00" * 1024) == PAGE
        base = m.mmap.do_mmap_pgoff(file, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0)
        assert m.mmu.touch(task, base) == 1 and m.mmu.loaded == 1
        m.mmu.touch(task, base + 8, 1, None, 0x64636261)
        assert tmp.lseek(file, 8) == 8 and tmp.read(file, 4) == b"abcd"
        assert tmp.lseek(file, 100) == 100 and tmp.write(file, base + 8, 4) == 4, "from the process's memory into the file"
        assert tmp.lseek(file, 8) == 8 and tmp.read(file, 4, base + 200) == 4, "and the other way"
        assert tmp.write(file, 0x10000, 10) == -14
    assert get(tmp, "/f")[100:104] == get(tmp, "/f")[200:204] == b"abcd"
