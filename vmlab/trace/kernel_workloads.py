"""Workloads on which 2.4 and 2.6 behave differently: what each shows is measured in docs/kernels.md.

Each is a generator: a ``yield`` ends an operation and tells what it was and how many memory accesses it made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..mm.gfp import GFP_ATOMIC, GFP_DMA, GFP_KERNEL

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
    """A program that fills 18 MiB waits while another reads a file larger than memory, once, from end to end; then it goes on."""
    m.create_file("disk image", 64 << 20)
    editor, copier = m.spawn("editor"), m.spawn("backup")
    base = editor.mmap(18 << 20)
    pages = list(range((18 << 20) // PAGE_SIZE))
    yield "the editor fills its memory", _touch(m, editor.pid, base, pages, 1)
    fd = copier.open("disk image")
    for megabyte in range(64):
        for _ in range(16):
            copier.read_file(fd, 1 << 16)
        yield f"the backup reads megabyte {megabyte}", 0
    for at in range(0, len(pages), 256):
        yield "the editor goes on: 1 MiB", _touch(m, editor.pid, base, pages[at : at + 256], 0)


def dma(m: Machine) -> Steps:
    """Three programs fill a machine of 64 MiB, low memory as well; then an old disk controller wants 2 MiB below 16 MiB, page by page."""
    for number in range(3):
        p = m.spawn(f"program {number}")
        size = 20 << 20
        base = p.mmap(size)
        for at in range(0, size // PAGE_SIZE, 256):
            yield f"program {number} takes 1 MiB", _touch(m, p.pid, base, list(range(at, at + 256)), 1)
    for number in range(32):
        for _ in range(16):
            m.alloc_pages(GFP_KERNEL | GFP_DMA, 0)
        yield f"16 pages for the controller, {number}", 0


def burst(m: Machine) -> Steps:
    """Memory is full of file pages, and eight times a network card wants 280 pages before anybody else gets a turn."""
    m.create_file("data", 40 << 20)
    reader = m.spawn("reader")
    fd = reader.open("data")
    for megabyte in range(40):
        for _ in range(16):
            reader.read_file(fd, 1 << 16)
        yield f"megabyte {megabyte} is read", 0
    allocator = m.page_allocator
    for number in range(8):
        packets = [allocator.alloc_pages(GFP_ATOMIC, 0) for _ in range(280)]  # in interrupts: kswapd has no turn between
        m.tick()
        yield f"burst {number}", 0
        for pfn in packets:
            if pfn is not None:
                allocator.free_pages(pfn, 0)
        reader.seek(fd, 0)
        reader.read_file(fd, 1 << 20)
        yield "the pages come back, and a megabyte is read", 0


def loader(m: Machine) -> Steps:
    """A program maps a file of 4 MiB 16 KiB at a time, as a loader of plug-ins does, and touches each piece."""
    m.create_file("plug-ins", 4 << 20)
    p = m.spawn("loader")
    fd = p.open("plug-ins")
    base = 0x50000000
    for piece in range(256):
        p.mmap(4 * PAGE_SIZE, "r", fd=fd, offset=piece * 4 * PAGE_SIZE, addr=base + piece * 4 * PAGE_SIZE, fixed=True)
        yield "16 KiB of the file", _touch(m, p.pid, base, [piece * 4], 0)


def sweep(m: Machine) -> Steps:
    """One program goes round and round through more memory than the machine has."""
    p = m.spawn("sweep")
    size = 40 << 20
    base = p.mmap(size)
    for number in range(3):
        for at in range(0, size // PAGE_SIZE, 256):
            yield f"round {number}, 1 MiB", _touch(m, p.pid, base, list(range(at, at + 256)), 1)


_SMALL = {"ram": "32M", "swap": "64M"}
KERNEL_WORKLOADS: dict[str, KernelWorkload] = {
    "backup": KernelWorkload(backup, _SMALL, "pages read once do not push a waiting program out"),
    "dma": KernelWorkload(
        dma, {"ram": "64M", "swap": "64M"}, "each zone has lists of its own, and the pages' owners are found from the pages"
    ),
    "burst": KernelWorkload(burst, _SMALL, "min_free_kbytes keeps more for those who cannot wait"),
    "loader": KernelWorkload(loader, _SMALL, "areas of a file merge"),
    "sweep": KernelWorkload(sweep, _SMALL, "more memory than there is, round and round: 2.6 does worse"),
}
