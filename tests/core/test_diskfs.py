"""Files with real bytes on the simple file system, through the page cache, with both kinds of disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.hw.disk import Disk, FileDisk
from vmlab.mm.errno import EBADF, EIO, ENOENT, ETXTBSY
from vmlab.mm.fs import FMODE_READ, FMODE_WRITE, O_APPEND, File
from vmlab.mm.vfs import deny_write_access

if TYPE_CHECKING:
    from pathlib import Path

BOTH = FMODE_READ | FMODE_WRITE


def boot(io_mode: int = 0) -> vmlab.Machine:
    return vmlab.boot("16M", kernel_objects="outside", io_mode=io_mode)


def opened(m: vmlab.Machine, name: str, mode: int = BOTH, flags: int = 0) -> File:
    file = m.diskfs.open(name, mode, flags)
    assert isinstance(file, File)
    return file


# What is on the disk itself?
def test_a_disk_reads_back_what_was_written_and_zeroes_elsewhere() -> None:
    disk = Disk(3)
    assert disk.read_page(1) is None
    disk.write_bytes(4000, b"x" * 200)
    assert disk.read_bytes(3998, 204) == b"\0\0" + b"x" * 200 + b"\0\0"
    assert disk.read_page(2) is None
    for page in (-1, 3):
        with pytest.raises(OSError, match="read error"):
            disk.read_page(page)
        with pytest.raises(OSError, match="write error"):
            disk.write_page(page, None)
    disk.resize(1)
    disk.resize(3)
    assert disk.read_bytes(0, 3 * 4096) == bytes(4000) + b"x" * 96 + bytes(2 * 4096)


def test_a_host_file_changes_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"a" * 5000)
    disk = FileDisk(path)
    assert disk.npages == 2 and disk.read_bytes(4990, 20) == b"a" * 10 + bytes(10)
    disk.write_bytes(0, b"new")
    assert path.read_bytes()[:3] == b"aaa" and disk.read_bytes(0, 4) == b"newa"
    assert disk.commit() == 1 and path.read_bytes()[:4] == b"newa"
    assert disk.read_bytes(0, 4) == b"newa"
    path.write_bytes(b"cut")
    for page in (0, 1):
        with pytest.raises(OSError, match="shorter"):
            disk.read_page(page)


# Does a file behave like a file?
@settings(max_examples=25, deadline=None)
@given(
    io_mode=st.sampled_from([0, 1]),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 20000), st.integers(0, 9000)),
            st.tuples(st.just("read"), st.integers(0, 25000), st.integers(0, 9000)),
            st.tuples(st.just("truncate"), st.integers(0, 25000), st.just(0)),
            st.tuples(st.just("fsync"), st.just(0), st.just(0)),
            st.tuples(st.just("forget"), st.just(0), st.just(0)),
        ),
        max_size=12,
    ),
)
def test_any_sequence_of_calls_agrees_with_a_bytearray(io_mode: int, steps: list[tuple[str, int, int]]) -> None:
    m = MACHINES[io_mode]
    fs = m.diskfs
    model = bytearray(bytes(range(256)) * 40)
    fs.create("f", bytes(model))
    file = opened(m, "f")
    for n, (what, pos, count) in enumerate(steps):
        file.f_pos = pos
        if what == "write":
            data = bytes([n + 1]) * count
            assert fs.write(file, data) == count
            if count:
                model.extend(bytes(max(0, pos - len(model))))
                model[pos : pos + count] = data
        elif what == "read":
            assert fs.read(file, count) == bytes(model[pos : pos + count])
        elif what == "truncate":
            assert fs.truncate("f", pos) == 0
            model = model[:pos].ljust(pos, b"\0")
        elif what == "fsync":
            assert fs.fsync(file) == 0
            disk = m.block.disks[file.inode.info.disk]
            assert disk.read_bytes(0, len(model))[: disk.npages * 4096] == bytes(model)[: disk.npages * 4096]
        else:
            m.sched.end_of_op()
            m.filemap.invalidate_inode_pages(file.inode)
        assert file.inode.i_size == len(model)
    free, cached = m.nr_free_pages(), file.inode.i_mapping.nrpages
    fs.unlink("f")
    assert file.inode.i_mapping.nrpages == cached  # still open
    fs.close(file)
    assert m.nr_free_pages() == free + cached and not m.filemap.page_cache_size


MACHINES = [boot(0), boot(1)]


@pytest.mark.parametrize("io_mode", [0, 1])
def test_written_data_reaches_the_disk_with_fsync(io_mode: int) -> None:
    m = boot(io_mode)
    m.diskfs.create("f", b"a" * 10000)
    file = opened(m, "f")
    disk = m.block.disks[file.inode.info.disk]
    file.f_pos = 4090
    assert m.diskfs.write(file, b"b" * 12) == 12
    assert disk.read_bytes(4090, 12) == b"a" * 12  # only cached
    assert m.diskfs.fsync(file) == 0
    assert disk.read_bytes(4086, 20) == b"aaaa" + b"b" * 12 + b"aaaa"
    assert m.block.file_writes == 2


def test_lseek_and_sendfile() -> None:
    m = boot(1)
    m.diskfs.create("from", b"0123456789" * 2000)
    m.diskfs.create("to", b"old")
    source, target = opened(m, "from", FMODE_READ), opened(m, "to")
    assert m.diskfs.lseek(source, 5) == 5 and m.diskfs.lseek(source, -1) < 0
    assert m.filemap.sys_sendfile(target, source, None, 12345) == (12345, 12350)
    assert source.f_pos == 12350 and target.f_pos == target.inode.i_size == 12345
    assert m.filemap.sys_sendfile(target, source, 19995, 100) == (5, 20000)
    assert m.filemap.sys_sendfile(source, target, None, 10)[0] == -EBADF
    m.diskfs.lseek(target, 0)
    assert m.diskfs.read(target, 20000) == (b"0123456789" * 2000)[5:12350] + b"56789"


def test_append_mode_writes_at_the_end() -> None:
    m = boot()
    m.diskfs.create("log", b"one")
    file = opened(m, "log", flags=O_APPEND)
    assert m.diskfs.write(file, b"two") == 3
    assert file.f_pos == 6
    file.f_pos = 0
    assert m.diskfs.read(file, 100) == b"onetwo"


# What happens where the disk is broken?
@pytest.mark.parametrize("io_mode", [0, 1])
def test_read_and_write_errors_are_reported(io_mode: int) -> None:
    m = boot(io_mode)
    m.diskfs.create("f", b"a" * 12288)
    file = opened(m, "f")
    disk = m.block.disks[file.inode.info.disk]
    disk.bad_reads.add(1)
    assert m.diskfs.read(file, 12288) == b"a" * 4096  # a short read first
    assert m.diskfs.read(file, 100) == -EIO
    assert any("I/O error" in line for line in m.console)
    file.f_pos = 5000
    assert m.diskfs.write(file, b"b") == -EIO  # needs the rest of the page
    disk.bad_reads.clear()
    disk.bad_writes.add(1)
    file.f_pos = 4096
    assert m.diskfs.write(file, b"c" * 4096) == 4096
    assert m.diskfs.fsync(file) == (-EIO if io_mode else 0)  # an instant disk is done before anybody waits
    assert disk.read_bytes(4096, 4096) == b"a" * 4096
    file.f_pos = 4096
    assert m.diskfs.read(file, 4096) == b"c" * 4096  # the cache still has it


def test_names_and_modes() -> None:
    m = boot()
    fs = m.diskfs
    fs.create("a", 5000)
    with pytest.raises(ValueError, match="taken"):
        fs.create("a")
    with pytest.raises(ValueError, match="name"):
        fs.create("")
    assert fs.open("b") == -ENOENT and fs.truncate("b", 0) == -ENOENT and fs.unlink("b") == -ENOENT
    reader = opened(m, "a", FMODE_READ)
    assert fs.read(reader, 10) == bytes(10)
    assert fs.write(reader, b"x") < 0
    assert fs.listing() == [("a", 5000, 1)]
    assert deny_write_access(reader) == 0  # a program runs from it
    assert fs.open("a", FMODE_WRITE) == -ETXTBSY


def test_a_host_file_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"hello " * 1000)
    m = boot(1)
    m.diskfs.create_from_host("text", path)
    file = opened(m, "text")
    assert m.diskfs.read(file, 10**6) == b"hello " * 1000
    file.f_pos = 0
    m.diskfs.write(file, b"HELLO")
    m.diskfs.fsync(file)
    assert path.read_bytes() == b"hello " * 1000
    for size in (3000, 9000):  # what was cut off is gone, here too
        assert m.diskfs.truncate("text", size) == 0
    m.filemap.invalidate_inode_pages(file.inode)
    m.diskfs.lseek(file, 0)
    assert m.diskfs.read(file, 10**6) == b"HELLO" + (b"hello " * 500)[5:] + bytes(6000)


# The traces' files
def test_a_fake_file_holds_its_numbers_and_is_not_found_by_fsync() -> None:
    m = boot()
    file = m.diskfs.fake_file(3, 4, 5 * 4096, BOTH)
    buf = bytearray()
    assert m.filemap.generic_file_read(file, buf, 10**6) == 5 * 4096
    assert [int.from_bytes(buf[i : i + 4], "little") for i in range(0, len(buf), 4096)] == [0x46030000 + i for i in range(4)] + [0]
    m.filemap.invalidate_inode_pages(file.inode)
    file.f_pos = 100
    assert m.filemap.generic_file_write(file, b"x", 1) == 1
    file.f_pos = 0
    buf = bytearray()
    assert m.filemap.generic_file_read(file, buf, 4) == 4 and buf == b"\0\0\3F" and m.block.file_reads == 5  # no transfer
    assert m.diskfs.fsync(file) == 0 and m.block.file_writes == 0  # and not on the dirty list


def test_a_machine_with_files_can_be_copied_and_restored() -> None:
    m = boot(1)
    m.diskfs.create("f", b"a" * 9000)
    file = opened(m, "f")
    m.diskfs.write(file, b"b" * 100)
    other = m.copy()
    again = other.diskfs.open("f")
    assert isinstance(again, File)
    m.diskfs.write(file, b"c" * 100)
    assert other.diskfs.read(again, 300) == b"b" * 100 + b"a" * 200
    assert m.filemap.page_cache_size == 1 and other.filemap.page_cache_size >= 1


# Can a disk that reaches only low memory serve pages in high memory?
@pytest.mark.parametrize("io_mode", [0, 1])
def test_transfers_are_bounced_where_the_disk_cannot_reach_the_page(io_mode: int) -> None:
    m = vmlab.boot("96M", highmem_pages=8192, io_mode=io_mode, kernel_objects="ram")
    fs = m.diskfs
    data = bytes(range(256)) * 64
    fs.create("f", data)
    file = opened(m, "f")
    disk = m.block.disks[file.inode.info.disk]
    disk.low_only = True
    seen: list[str] = []
    m.on_event = lambda event: seen.append(event[0])
    assert fs.read(file, 16384) == data
    first = m.filemap.find_page_nolock(file.inode.i_mapping, 0)
    assert first is not None and m.highmem.is_high(first)
    assert seen.count("bounce") == seen.count("bounce_end") == 4
    fs.lseek(file, 100)
    assert fs.write(file, b"x" * 5000) == 5000 and fs.fsync(file) == 0
    assert seen.count("bounce") == seen.count("bounce_end") == 6
    assert disk.read_bytes(0, 16384) == data[:100] + b"x" * 5000 + data[5100:]
    disk.bad_reads.add(1)
    m.filemap.invalidate_inode_pages(file.inode)
    fs.lseek(file, 4096)
    assert fs.read(file, 10) == -EIO
    m.sched.end_of_op()
    assert len(m.highmem.emergency_pages) == len(m.highmem.emergency_bhs) == 32
