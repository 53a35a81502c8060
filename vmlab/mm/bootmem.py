"""The boot memory allocator: a bitmap, first fit, and a memory of where the last request ended.

It lives from setup_memory to mem_init and serves whoever must allocate before the buddy
allocator exists: one bit (here: one byte) a page, 1 for reserved. All arithmetic is the
kernel's, in unsigned 32-bit words. kernel: mm/bootmem.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug, KernelHang
from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE, SMP_CACHE_BYTES
from .kernel import Part
from .page_init import free_boot_pages

if TYPE_CHECKING:
    from .kernel import Kernel
    from .mmzone import BootmemData, PgData

_OFFSET = PAGE_SIZE - 1  # ~PAGE_MASK


class BootmemAllocator(Part):
    """Memory before there is an allocator. Addresses and sizes in bytes, physical."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def init_bootmem_core(self, pgdat: PgData, mapstart: int, start: int, end: int) -> int:
        """Put node *pgdat* on the list and mark its frames [start, end) reserved.

        *mapstart* is the frame the bitmap itself occupies. Returns the bitmap's size in bytes.
        kernel: mm/bootmem.c:init_bootmem_core
        """
        bdata = pgdat.bdata
        mapsize = ((end - start & M32) + 7) // 8
        mapsize = (mapsize + 3) & ~3
        self.kernel.pgdat_list.insert(0, pgdat)
        bdata.map_pa = mapstart << PAGE_SHIFT
        bdata.node_boot_start = start << PAGE_SHIFT & M32
        bdata.node_low_pfn = end
        bdata.map = bytearray(b"\1") * (mapsize * 8)
        bdata.last_pos = bdata.last_offset = 0
        if self.on_event is not None:
            self.on_event(("bootmem_init", pgdat.nid, start, end))
        return mapsize

    def reserve_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> int:
        """Reserve every page that [addr, addr + size) touches. Returns how many already were.

        Raises KernelBug for size 0 or a range outside the node. kernel: mm/bootmem.c:reserve_bootmem_core
        """
        boot_start = bdata.node_boot_start
        sidx = (addr - boot_start & M32) // PAGE_SIZE
        eidx = (addr + size - boot_start + PAGE_SIZE - 1 & M32) // PAGE_SIZE
        end = (addr + size + PAGE_SIZE - 1 & M32) // PAGE_SIZE
        if not size:
            raise KernelBug("reserve_bootmem_core", "size 0", "size")
        if sidx >= eidx:
            raise KernelBug("reserve_bootmem_core", f"{addr:#x}+{size:#x} ends before it starts", "inverted")
        if (addr & M32) >> PAGE_SHIFT >= bdata.node_low_pfn:
            raise KernelBug("reserve_bootmem_core", f"{addr:#x}+{size:#x} starts past the node", "start")
        if end > bdata.node_low_pfn:
            raise KernelBug("reserve_bootmem_core", f"{addr:#x}+{size:#x} ends past the node", "end")
        bitmap = self._map(bdata, "reserve_bootmem_core", 0)
        # Nobody checks for a range below the node: its index wraps, and the kernel sets bits of whatever lies far past the bitmap.
        sidx, eidx = min(sidx, len(bitmap)), min(eidx, len(bitmap))
        twice = bitmap.count(1, sidx, eidx)
        bitmap[sidx:eidx] = b"\1" * (eidx - sidx)
        if self.on_event is not None:
            self.on_event(("bootmem_reserve", self._node(bdata), sidx, eidx, twice))
        return twice

    def free_bootmem_core(self, bdata: BootmemData, addr: int, size: int) -> None:
        """Mark the whole pages inside [addr, addr + size) free.

        Raises KernelBug for size 0, a range past the node's end, or a page that is free already:
        pages before that one stay freed. kernel: mm/bootmem.c:free_bootmem_core
        """
        boot_start = bdata.node_boot_start
        eidx = (addr + size - boot_start & M32) // PAGE_SIZE
        end = (addr + size & M32) // PAGE_SIZE
        if not size:
            raise KernelBug("free_bootmem_core", "size 0", "size")
        if end > bdata.node_low_pfn:
            raise KernelBug("free_bootmem_core", f"{addr:#x}+{size:#x} ends past the node", "end")
        start = (addr + PAGE_SIZE - 1 & M32) // PAGE_SIZE
        sidx = start - boot_start // PAGE_SIZE & M32
        if sidx < eidx:
            bitmap = self._map(bdata, "free_bootmem_core", 0)
            sidx = min(sidx, len(bitmap))
            free_already = bitmap.find(0, sidx, eidx)
            if free_already < 0 and eidx > len(bitmap):
                free_already = len(bitmap)  # a size that wraps: past its bitmap the kernel finds zeroes, that is, a free page
            stop = eidx if free_already < 0 else free_already
            bitmap[sidx:stop] = bytes(stop - sidx)
            if free_already >= 0:
                raise KernelBug("free_bootmem_core", f"page {free_already} is free already", "free")
        if self.on_event is not None:
            self.on_event(("bootmem_free", self._node(bdata), sidx, max(sidx, eidx)))

    def alloc_bootmem_core(self, bdata: BootmemData, size: int, align: int, goal: int) -> int | None:
        """Find and reserve *size* bytes aligned to *align*, above *goal* if possible.

        If the last allocation ended inside a page and this one's pages follow directly, it
        starts in the rest of that page. Returns the physical address, or None when nothing fits.
        Raises KernelHang where the kernel's restart loop never ends.
        2.6 also remembers where the last search succeeded. kernel: mm/bootmem.c:__alloc_bootmem_core
        """
        if not size:
            raise KernelBug("__alloc_bootmem_core", "size 0", "size")
        if align & (align - 1):
            raise KernelBug("__alloc_bootmem_core", f"alignment {align} is not a power of two", "align")
        boot_start = bdata.node_boot_start
        eidx = bdata.node_low_pfn - (boot_start >> PAGE_SHIFT) & M32
        bitmap = self._map(bdata, "__alloc_bootmem_core", eidx)
        offset = 0
        if align and boot_start & (align - 1):
            offset = align - (boot_start & (align - 1))
        offset >>= PAGE_SHIFT
        preferred = goal - boot_start if goal and goal >= boot_start and goal >> PAGE_SHIFT < bdata.node_low_pfn else 0
        preferred = ((preferred + align - 1 & M32) & ~(align - 1) & M32) >> PAGE_SHIFT
        preferred += offset
        areasize = (size + PAGE_SIZE - 1 & M32) // PAGE_SIZE
        incr = align >> PAGE_SHIFT or 1

        start = self._scan(bitmap, preferred, eidx, areasize, incr)
        if start < 0 and preferred:
            start = self._scan(bitmap, offset, eidx, areasize, incr)
            if start < 0 and offset:
                raise KernelHang(
                    "__alloc_bootmem_core", f"nothing fits, and the node's start is not aligned to {align:#x}: the scan restarts for ever"
                )
        if start < 0:
            return None

        if align <= PAGE_SIZE and bdata.last_offset and bdata.last_pos + 1 == start:
            # The rest of the last page, then the pages that follow it.
            offset = (bdata.last_offset + align - 1 & M32) & ~(align - 1) & M32
            room = PAGE_SIZE - offset
            address = bdata.last_pos * PAGE_SIZE + offset + boot_start & M32
            if size < room:
                areasize = 0
                bdata.last_offset = offset + size
            else:
                rest = size - room
                areasize = (rest + PAGE_SIZE - 1 & M32) // PAGE_SIZE
                bdata.last_pos = start + areasize - 1 & M32
                bdata.last_offset = rest
            bdata.last_offset &= _OFFSET
            merged = 1
        else:
            bdata.last_pos = start + areasize - 1 & M32
            bdata.last_offset = size & _OFFSET
            address = start * PAGE_SIZE + boot_start & M32
            merged = 0
        taken = bitmap.find(1, start, start + areasize)
        if taken >= 0 or start + areasize > len(bitmap):  # only if rounding *size* up to pages wrapped during the scan
            stop = taken if taken >= 0 else len(bitmap)
            bitmap[start:stop] = b"\1" * (stop - start)
            raise KernelBug("__alloc_bootmem_core", f"page {stop} is taken already", "taken")
        bitmap[start : start + areasize] = b"\1" * areasize
        if self.on_event is not None:
            self.on_event(("bootmem_alloc", self._node(bdata), address, size, align, goal, merged))
        return address

    @staticmethod
    def _scan(bitmap: bytearray, first: int, eidx: int, areasize: int, incr: int) -> int:
        """First index i = first, first + incr, … below *eidx* where *areasize* pages are free; -1 if none."""
        i = first
        while True:
            at = bitmap.find(0, i, eidx)
            if at < 0:
                return -1
            i += -(-(at - i) // incr) * incr
            if i >= eidx:
                return -1
            if bitmap[i]:
                i += incr
                continue
            if i + areasize > eidx and areasize > 1:
                return -1  # the run would leave the node, here and at every later i
            taken = bitmap.find(1, i + 1, i + areasize) if areasize > 1 else -1
            if taken < 0:
                return i
            i += -(-(taken + 1 - i) // incr) * incr

    def alloc_bootmem_node(self, pgdat: PgData, size: int, align: int, goal: int) -> int:
        """Allocate from one node; the machine cannot boot without it. kernel: mm/bootmem.c:__alloc_bootmem_node"""
        address = self.alloc_bootmem_core(pgdat.bdata, size, align, goal)
        if address is None:
            raise KernelBug("__alloc_bootmem_node", f"panic: bootmem alloc of {size} bytes failed")
        return address

    def alloc_bootmem(self, size: int, align: int = SMP_CACHE_BYTES, goal: int = 0) -> int:
        """Allocate from the first node that can. kernel: mm/bootmem.c:__alloc_bootmem"""
        for pgdat in self.kernel.pgdat_list:
            address = self.alloc_bootmem_core(pgdat.bdata, size, align, goal)
            if address is not None:
                return address
        raise KernelBug("__alloc_bootmem", f"panic: bootmem alloc of {size} bytes failed")

    def free_all_bootmem_core(self, pgdat: PgData) -> int:
        """Hand every free page to the buddy allocator, in address order, then the bitmap's own pages.

        Returns the number of pages. Boot memory is gone afterwards. kernel: mm/bootmem.c:free_all_bootmem_core
        """
        bdata = pgdat.bdata
        if bdata.map is None:
            raise KernelBug("free_all_bootmem_core", "the bitmap is gone: boot memory has retired already", "retired")
        total = 0
        base = bdata.node_boot_start >> PAGE_SHIFT
        shift = pgdat.node_start_pfn - base  # the kernel walks mem_map by index, from the node's first page
        for start, end in bdata.ranges():
            total += free_boot_pages(self.kernel, start + shift, end + shift)
        idx = bdata.node_low_pfn - base
        map_pages = (idx // 8 + PAGE_SIZE - 1) // PAGE_SIZE
        if pgdat not in self.kernel.ready_nodes:
            raise KernelBug("virt_to_page", f"the bitmap of node {pgdat.nid} is on a node that was never set up", "node")
        first = bdata.map_pa >> PAGE_SHIFT
        total += free_boot_pages(self.kernel, first, first + map_pages)
        bdata.map = None
        if self.on_event is not None:
            self.on_event(("bootmem_retire", pgdat.nid, total))
        return total

    def _map(self, bdata: BootmemData, function: str, limit: int) -> bytearray:
        if bdata.map is None:
            raise KernelBug(function, "there is no boot bitmap: before init_bootmem, or after retirement")
        if limit > len(bdata.map):
            raise KernelBug(function, f"page {limit - 1} lies beyond the bitmap")
        return bdata.map

    def _node(self, bdata: BootmemData) -> int:
        return next((p.nid for p in self.kernel.pgdat_list if p.bdata is bdata), 0)
