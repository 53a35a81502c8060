"""Bounce buffers: a low page that stands in for a high one, for disks that cannot reach high memory.

A write is copied down before the transfer, a read is copied up after it. The memory shortage that
makes the kernel write pages out must not stop it from getting the low pages for that: 32 pages and
32 buffer heads are kept in reserve.

kernel: mm/highmem.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT
from .fs import WRITE, Ops
from .gfp import GFP_ATOMIC, GFP_NOHIGHIO

if TYPE_CHECKING:
    from .events import Listener
    from .kernel import Kernel

POOL_SIZE = 32  # pages, and as many buffer heads
_KM_BOUNCE_READ, _KM_USER0 = 0, 3


class BufferHead:
    """A block of a disk and where it is in memory. kernel: include/linux/fs.h:buffer_head"""

    __slots__ = ("address", "b_blocknr", "b_dev", "b_end_io", "b_offset", "b_page", "b_private", "b_rsector", "b_size")

    def __init__(self, b_page: int, b_dev: int, b_blocknr: int, b_size: int = 4096, b_offset: int = 0) -> None:
        self.b_page = b_page  # frame
        self.b_offset = b_offset  # bytes into the page
        self.b_size = b_size  # bytes
        self.b_dev = b_dev  # number of the disk
        self.b_blocknr = b_blocknr  # of b_size bytes
        self.b_rsector = b_blocknr * (b_size >> 9)  # of 512 bytes
        self.b_end_io: EndIo | None = None
        self.b_private: BufferHead | None = None
        self.address = 0  # of the struct itself, in the slab cache

    def __repr__(self) -> str:
        return f"<BufferHead block {self.b_blocknr} of disk {self.b_dev}, {self.b_size} bytes, frame {self.b_page}>"


class EndIo(Ops):
    """What is to be done when a buffer's transfer has ended."""

    def end_io(self, bh: BufferHead, uptodate: bool) -> None:
        """The transfer of *bh* is over; *uptodate* says whether it succeeded."""
        raise NotImplementedError


class BounceEndIoWrite(EndIo):
    """kernel: mm/highmem.c:bounce_end_io_write"""

    name = "bounce_end_io_write"

    def end_io(self, bh: BufferHead, uptodate: bool) -> None:
        """The low copy is on the disk."""
        self.kernel.highmem.bounce_end_io(bh, uptodate)


class BounceEndIoRead(EndIo):
    """kernel: mm/highmem.c:bounce_end_io_read"""

    name = "bounce_end_io_read"

    def end_io(self, bh: BufferHead, uptodate: bool) -> None:
        """The low page has been read: copy it up."""
        if uptodate:
            self.kernel.highmem.copy_to_high_bh_irq(bh)
        self.kernel.highmem.bounce_end_io(bh, uptodate)


class BounceBuffers:
    """The emergency pools, and making and ending a bounce."""

    on_event: Listener | None

    def __init__(self) -> None:
        super().__init__()
        self.emergency_pages: list[int] = []  # frames, list head first
        self.emergency_bhs: list[int] = []  # kernel addresses

    def attach(self, kernel: Kernel) -> None:
        """Make the method tables. Called once, before power-on."""
        self.kernel = kernel
        self.end_io_read, self.end_io_write = BounceEndIoRead(kernel), BounceEndIoWrite(kernel)

    if TYPE_CHECKING:

        def is_high(self, pfn: int) -> bool: ...
        def kmap_atomic(self, pfn: int, km_type: int) -> int: ...

    def init_emergency_pool(self) -> None:
        """Fill the pools, on a machine that has high memory. kernel: mm/highmem.c:init_emergency_pool"""
        kernel = self.kernel
        if not kernel.totalhigh_pages:
            return
        while len(self.emergency_pages) < POOL_SIZE:
            pfn = kernel.alloc_page(GFP_ATOMIC)
            if pfn is None:
                kernel.printk(None, "couldn't refill highmem emergency pages")
                break
            kernel.mem.owner[pfn] = kernel.owner_id("bounce pool")
            self.emergency_pages.insert(0, pfn)
        while len(self.emergency_bhs) < POOL_SIZE:
            address = kernel.slab.kmem_cache_alloc(kernel.slab.bh_cachep, GFP_ATOMIC)
            if not address:
                kernel.printk(None, "couldn't refill highmem emergency bhs")
                break
            self.emergency_bhs.insert(0, address)
        pages, bhs = len(self.emergency_pages), len(self.emergency_bhs)
        kernel.printk(None, f"allocated {pages} pages and {bhs} bhs reserved for the highmem bounces")

    def create_bounce(self, rw: int, bh_orig: BufferHead) -> BufferHead:
        """The buffer to give to the disk: *bh_orig* itself, or a stand-in in low memory when its page is high.

        kernel: mm/highmem.c:create_bounce, copy_from_high_bh
        """
        if not self.is_high(bh_orig.b_page):
            return bh_orig
        address = self.alloc_bounce_bh()
        bh = BufferHead(self.alloc_bounce_page(), bh_orig.b_dev, bh_orig.b_blocknr, bh_orig.b_size)
        bh.address = address
        bh.b_rsector = bh_orig.b_rsector
        bh.b_private = bh_orig
        bh.b_end_io = self.end_io_write if rw == WRITE else self.end_io_read
        if self.on_event is not None:
            self.on_event(("bounce", "write" if rw == WRITE else "read", bh_orig.b_page, bh.b_page))
        if rw == WRITE:
            self.kmap_atomic(bh_orig.b_page, _KM_USER0)
            self._copy(bh, bh_orig)
        return bh

    def copy_to_high_bh_irq(self, bh: BufferHead) -> None:
        """Copy what was read into the low page up to where it belongs. kernel: mm/highmem.c:copy_to_high_bh_irq"""
        assert bh.b_private is not None
        self.kmap_atomic(bh.b_private.b_page, _KM_BOUNCE_READ)
        self._copy(bh.b_private, bh)

    def _copy(self, to: BufferHead, source: BufferHead) -> None:
        ram = self.kernel.ram
        data = ram.read((source.b_page << PAGE_SHIFT) + source.b_offset, to.b_size)
        ram.write((to.b_page << PAGE_SHIFT) + to.b_offset, data)

    def bounce_end_io(self, bh: BufferHead, uptodate: bool) -> None:
        """End the transfer for the original buffer, and free the stand-in: into the pools first, if they are not full.

        kernel: mm/highmem.c:bounce_end_io
        """
        kernel = self.kernel
        bh_orig = bh.b_private
        assert bh_orig is not None
        if bh_orig.b_end_io is not None:
            bh_orig.b_end_io.end_io(bh_orig, uptodate)
        if len(self.emergency_pages) >= POOL_SIZE:
            kernel.mem.owner[bh.b_page] = 0
            kernel.put_page(bh.b_page)
        else:
            self.emergency_pages.insert(0, bh.b_page)
        if len(self.emergency_bhs) >= POOL_SIZE:
            kernel.slab.kmem_cache_free(kernel.slab.bh_cachep, bh.address)
        else:
            self.emergency_bhs.insert(0, bh.address)
        if self.on_event is not None:
            self.on_event(("bounce_end", bh_orig.b_page, bh.b_page, len(self.emergency_pages)))

    def alloc_bounce_page(self) -> int:
        """A low frame: a new one, or one of the pool, or (after waiting for transfers to end) of the pool again.

        kernel: mm/highmem.c:alloc_bounce_page
        """
        pfn = self.kernel.alloc_page(GFP_NOHIGHIO)
        while pfn is None:
            if self.emergency_pages:
                pfn = self.emergency_pages.pop(0)
                break
            self._wait_for_pool()
        return pfn

    def alloc_bounce_bh(self) -> int:
        """A buffer head's kernel address, in the same way. kernel: mm/highmem.c:alloc_bounce_bh"""
        slab = self.kernel.slab
        address: int = slab.kmem_cache_alloc(slab.bh_cachep, GFP_NOHIGHIO)
        while not address:
            if self.emergency_bhs:
                address = self.emergency_bhs.pop(0)
                break
            self._wait_for_pool()
        return address

    def _wait_for_pool(self) -> None:
        """Let transfers end, so that a stand-in comes back."""
        self.kernel.sched.run_task_queue()
        self.kernel.sched.yield_()
