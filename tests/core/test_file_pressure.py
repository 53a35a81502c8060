"""Files read, written, mapped, cut and synced at random while memory is short: no byte may differ from a shadow copy."""

from __future__ import annotations

import random

import pytest

import vmlab
from tests.core.test_filemap import check_cache
from vmlab.mm.events import describe
from vmlab.mm.fs import FMODE_READ, FMODE_WRITE, File
from vmlab.mm.gfp import GFP_ATOMIC

PAGE = 4096
MOST = 125 * PAGE  # bytes of a file
KEPT = {"outside": 3300, "ram": 3000}  # frames taken away


class World:
    """A small machine with a process that has three files open and mapped, and what the files must hold."""

    def __init__(self, seed: int, io_mode: int, kernel_objects: str) -> None:
        self.random = random.Random(seed)
        self.m = m = vmlab.boot("16M", kernel_objects=kernel_objects, io_mode=io_mode)
        for _ in range(KEPT[kernel_objects]):
            assert m.page_allocator.alloc_pages(GFP_ATOMIC, 0) is not None
        task = m.fork.new_task(1)
        assert task is not None
        self.task = m.current = task
        self.files: list[File] = []
        self.shadows: list[bytearray] = []
        self.starts: list[int] = []
        for n in range(3):
            data = self.random.randbytes(self.random.randrange(1, MOST))
            m.diskfs.create(f"f{n}", data)
            file = m.diskfs.open(f"f{n}", FMODE_READ | FMODE_WRITE)
            assert isinstance(file, File)
            self.files.append(file)
            self.shadows.append(bytearray(data))
            self.starts.append(m.mmap.do_mmap_pgoff(file, 0, 130 * PAGE, 3, 1, 0))

    def place(self, shadow: bytearray, beyond: int, most: int) -> tuple[int, int]:
        """Somewhere in a file (or up to *beyond* bytes behind its end), and a length of at most *most* bytes."""
        pos = self.random.randrange(len(shadow) + beyond)
        return pos, self.random.randrange(1, most)

    def step(self) -> None:
        """One operation, checked against the shadow."""
        m, rng = self.m, self.random
        n = rng.randrange(3)
        file, shadow, start = self.files[n], self.shadows[n], self.starts[n]
        what = rng.choices(
            ["read", "write", "truncate", "fsync", "drop", "store", "load", "msync", "advise"], [25, 20, 7, 5, 3, 15, 17, 3, 5]
        )[0]
        if what == "read":
            pos, count = self.place(shadow, 5000, 40000)
            m.diskfs.lseek(file, pos)
            assert m.diskfs.read(file, count) == bytes(shadow[pos : pos + count])
        elif what == "write":
            pos, count = self.place(shadow, 5000, 30000)
            count = max(0, min(count, MOST - pos))
            m.diskfs.lseek(file, pos)
            data = rng.randbytes(count)
            assert m.diskfs.write(file, data) == count
            if count:
                shadow.extend(bytes(max(0, pos - len(shadow))))
                shadow[pos : pos + count] = data
        elif what == "truncate":
            size = rng.randrange(1, MOST)
            assert m.diskfs.truncate(f"f{n}", size) == 0
            del shadow[size:]
            shadow.extend(bytes(size - len(shadow)))
        elif what == "fsync":
            assert m.diskfs.fsync(file) == 0
        elif what == "drop":
            m.filemap.invalidate_inode_pages(file.inode)
        elif what == "store":
            pos, count = self.place(shadow, 0, 9000)
            data = rng.randbytes(min(count, len(shadow) - pos))
            assert m.fault.copy_to_user(start + pos, data) == 0
            shadow[pos : pos + len(data)] = data
        elif what == "load":
            pos, count = self.place(shadow, 0, 20000)
            count = min(count, len(shadow) - pos)
            assert m.fault.copy_from_user(start + pos, count) == (bytes(shadow[pos : pos + count]), 0)
        elif what == "msync":
            assert m.filemap.sys_msync(start, 130 * PAGE, rng.choice([1, 2, 4])) == 0
        else:
            m.filemap.sys_madvise(start + PAGE * rng.randrange(60), PAGE * rng.randrange(1, 60), rng.randrange(5))
        m.sched.end_of_op()

    @property
    def alive(self) -> bool:
        """Whether the process has not been killed for want of memory."""
        return self.task.mm is not None

    def check_disks(self) -> None:
        """Once everything is written, the disks hold the files."""
        for file, shadow, start in zip(self.files, self.shadows, self.starts, strict=True):
            assert self.m.diskfs.fsync(file) == 0
            if self.alive:
                assert self.m.filemap.sys_msync(start, 130 * PAGE, 4) == 0
            self.m.sched.end_of_op()
            disk = self.m.block.disks[file.inode.info.disk]
            on_disk = disk.read_bytes(0, min(len(shadow), disk.npages * PAGE))
            assert on_disk.ljust(len(shadow), b"\0") == shadow


@pytest.mark.parametrize("seed", range(6))
def test_no_byte_is_lost(seed: int) -> None:
    world = World(seed, seed % 2, ("outside", "ram")[seed // 2 % 2])
    for n in range(250):
        world.step()
        if not world.alive:
            world.m.current = world.m.init_task
            break
        if n % 50 == 0:
            check_cache(world.m)
    check_cache(world.m)
    world.check_disks()


def test_every_step_is_told_in_words() -> None:
    world = World(1, 1, "outside")
    names: set[str] = set()

    def listen(event: tuple[object, ...]) -> None:
        assert describe(event)
        names.add(str(event[0]))

    world.m.on_event = listen
    for _ in range(60):
        world.step()
    assert {"page_cache_add", "readahead", "read_cluster", "io_submit", "io_done", "wait_on_page", "set_page_dirty", "writepage"} <= names
    assert {"truncate_inode_pages", "msync", "madvise", "page_cache_remove"} <= names
