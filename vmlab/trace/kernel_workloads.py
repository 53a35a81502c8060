"""Workloads on which 2.4 and 2.6 behave differently: what each shows is measured in docs/kernels.md.

Each is a generator: a ``yield`` ends an operation and tells what it was and how many memory accesses it made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from ..mm.gfp import GFP_ATOMIC

if TYPE_CHECKING:
    from ..machine import Machine

PAGE_SIZE = 4096
Steps = Iterator[tuple[str, int]]


class KernelWorkload(NamedTuple):
    """A workload, the machine it is meant for, and what it shows."""

    run: Callable[[Machine], Steps]
    options: Mapping[str, Any]
    about: str


def _touch(m: Machine, pid: int, base: int, pages: list[int], write: int) -> int:
    m.touch_list(pid, [(base >> 12) + page << 1 | write for page in pages])
    return len(pages)


def backup(m: Machine) -> Steps:
    """A program works on 8 MiB while another reads a file larger than memory, once, from one end to the other."""
    m.create_file("disk image", 48 << 20)
    editor, copier = m.spawn("editor"), m.spawn("backup")
    base = editor.mmap(8 << 20)
    pages = list(range((8 << 20) // PAGE_SIZE))
    yield "the editor fills its memory", _touch(m, editor.pid, base, pages, 1)
    fd = copier.open("disk image")
    rng = Random(1)
    for megabyte in range(48):
        for _ in range(16):
            copier.read_file(fd, 1 << 16)
        yield f"the backup reads megabyte {megabyte}", 0
        if megabyte % 4 == 3:
            some = rng.sample(pages, len(pages) // 4)
            yield "the editor works on a quarter of its memory", _touch(m, editor.pid, base, some, 0)


def prefork(m: Machine) -> Steps:
    """A server of 24 processes that share 6 MiB, written before they were forked, and a program that wants all the rest of memory."""
    server = m.spawn("server")
    base = server.mmap(6 << 20)
    pages = list(range((6 << 20) // PAGE_SIZE))
    yield "the server fills its memory", _touch(m, server.pid, base, pages, 1)
    children = [server.fork() for _ in range(24)]
    yield "24 children", 0
    for i, child in enumerate(children):
        yield f"child {i} reads all of it", _touch(m, child.pid, base, pages, 0)
    hog = m.spawn("hog")
    size = 28 << 20
    room = hog.mmap(size)
    step = 256
    for at in range(0, size // PAGE_SIZE, step):
        yield "the hog takes 1 MiB", _touch(m, hog.pid, room, list(range(at, at + step)), 1)


def burst(m: Machine) -> Steps:
    """Memory is full of file pages, and a network card wants 300 pages at once, without waiting, five times."""
    m.create_file("data", 40 << 20)
    reader = m.spawn("reader")
    fd = reader.open("data")
    for megabyte in range(40):
        for _ in range(16):
            reader.read_file(fd, 1 << 16)
        yield f"megabyte {megabyte} is read", 0
    for number in range(5):
        pages = [m.alloc_pages(GFP_ATOMIC, 0) for _ in range(300)]
        given = [page for page in pages if page is not None]
        yield f"burst {number}: 300 pages asked for", 0
        for page in given:
            m.free_pages(page)
        reader.read_file(fd, 1 << 16)
        yield "the pages come back", 0


def sweep(m: Machine) -> Steps:
    """One program goes round and round through more memory than the machine has."""
    p = m.spawn("sweep")
    size = 40 << 20
    base = p.mmap(size)
    step = 256
    for round_ in range(4):
        for at in range(0, size // PAGE_SIZE, step):
            yield f"round {round_}, 1 MiB", _touch(m, p.pid, base, list(range(at, at + step)), 1)


def guards(m: Machine) -> Steps:
    """An allocator of objects that protects pages and takes the protection away again, and asks for more in small pieces."""
    p = m.spawn("heap")
    base = p.mmap(4 << 20)
    for at in range(0, 1024, 2):
        p.mprotect(base + at * PAGE_SIZE, PAGE_SIZE, "r")
    yield "every second page is made read-only", 0
    for at in range(0, 1024, 2):
        p.mprotect(base + at * PAGE_SIZE, PAGE_SIZE, "rw")
    yield "and writable again", 0
    for _ in range(200):
        p.mmap(PAGE_SIZE)
    yield "200 pages more, one by one", 0


KERNEL_WORKLOADS: dict[str, KernelWorkload] = {
    "backup": KernelWorkload(backup, {"ram": "32M", "swap": "64M"}, "a file read once does not push out a program"),
    "prefork": KernelWorkload(prefork, {"ram": "32M", "swap": "64M"}, "pages mapped many times are found by the reverse mapping"),
    "burst": KernelWorkload(burst, {"ram": "32M", "swap": "64M"}, "min_free_kbytes keeps more for those who cannot wait"),
    "sweep": KernelWorkload(sweep, {"ram": "32M", "swap": "64M"}, "more memory than there is, round and round"),
    "guards": KernelWorkload(guards, {"ram": "32M", "swap": "64M"}, "areas that become alike again merge"),
}
