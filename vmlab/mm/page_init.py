"""Building nodes and zones at boot: sizes, watermarks, wait tables, bitmaps, zonelists.

kernel: mm/page_alloc.c (the second half of the file)
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import (
    MAX_DMA_ADDRESS,
    PAGE_SHIFT,
    SIZEOF_WAIT_QUEUE_HEAD,
    SMP_CACHE_BYTES,
    long_align,
)
from .gfp import DMA, HIGHMEM
from .kernel import BootConsumer, Part
from .mmzone import MAX_NR_ZONES, MAX_ORDER, ZONE_DMA, ZONE_HIGHMEM, ZONE_NORMAL, FreeArea
from .page import BLOCK_FREE, BLOCK_RESERVED
from .page_alloc import PageAllocator
from .page_flags import RESERVED, ZONE_SHIFT, PG_highmem

if TYPE_CHECKING:
    from .kernel import Kernel
    from .mmzone import PgData

ZONE_BALANCE_MIN = 20  # pages
ZONE_BALANCE_MAX = 255  # pages
PAGES_PER_WAITQUEUE = 256
MAX_WAIT_TABLE = 4096


class ZoneSetup(Part):
    """How physical memory becomes zones. Override a method to build them your own way."""

    sizeof_wait_queue_head = SIZEOF_WAIT_QUEUE_HEAD  # bytes; 12 on a machine with several processors, for its spinlock

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def zones_size(self, max_low_pfn: int, highend_pfn: int) -> list[int]:
        """Pages of [DMA, Normal, HighMem] on a one-node PC. kernel: arch/i386/mm/init.c:zone_sizes_init"""
        max_dma = MAX_DMA_ADDRESS >> PAGE_SHIFT
        if max_low_pfn < max_dma:
            return [max_low_pfn, 0, 0]
        return [max_dma, max_low_pfn - max_dma, highend_pfn - max_low_pfn if self.kernel.config.highmem else 0]

    def watermarks(self, zone_num: int, realsize: int) -> tuple[int, int, int]:
        """(pages_min, pages_low, pages_high) of a zone of *realsize* pages. kernel: mm/page_alloc.c:free_area_init_core"""
        mark = realsize // self.kernel.zone_balance_ratio[zone_num]
        mark = min(max(mark, ZONE_BALANCE_MIN), ZONE_BALANCE_MAX)
        return mark, mark * 2, mark * 3

    def wait_table_size(self, pages: int) -> int:
        """Wait queues of a zone of *pages*: a power of two. kernel: mm/page_alloc.c:wait_table_size"""
        size = 1
        while size < pages // PAGES_PER_WAITQUEUE:
            size <<= 1
        return min(size, MAX_WAIT_TABLE)

    def build_zonelists(self, pgdat: PgData) -> None:
        """Fill the node's 16 fallback orders, one for each value of gfp & 0xf: the zone asked for, then those below.

        Empty zones are left out; __GFP_DMA beats __GFP_HIGHMEM. kernel: mm/page_alloc.c:build_zonelists
        """
        for i in range(16):
            first = ZONE_NORMAL
            if i & HIGHMEM:
                first = ZONE_HIGHMEM
            if i & DMA:
                first = ZONE_DMA
            pgdat.node_zonelists[i] = []
            if first == ZONE_HIGHMEM and pgdat.node_zones[ZONE_HIGHMEM].size and not self.kernel.config.highmem:
                raise KernelBug("build_zonelists", f"node {pgdat.nid} has high memory, but this kernel is built without it", "highmem")
            pgdat.node_zonelists[i] = [pgdat.node_zones[j] for j in range(first, -1, -1) if pgdat.node_zones[j].size]

    # -- the kernel's own steps ---------------------------------------------------------------

    def setup_mem_frac(self, text: str) -> list[int]:
        """The boot parameter memfrac=DMA,NORMAL,HIGH: size divisors for the watermarks. kernel: mm/page_alloc.c:setup_mem_frac"""
        if not isinstance(text, str):
            raise TypeError(f"memfrac is text, such as '64,32,16', not {text!r}")
        parts = text.removesuffix(",").split(",")
        if not all(re.fullmatch(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*", part) for part in parts):
            raise ValueError(f"memfrac={text!r}: write up to three whole numbers, such as '64,32,16'")
        # As in C, 0x introduces a hexadecimal number and 0 an octal one.
        ratios = [int(part, 8 if part.startswith("0") and part[1:2] not in ("x", "X", "") else 0) for part in parts]
        if len(ratios) > MAX_NR_ZONES or min(ratios) < 1:
            raise ValueError(f"memfrac={text!r}: up to three numbers, each at least 1")
        return ratios + self.kernel.zone_balance_ratio[len(ratios) :]

    def free_area_init_core(self, pgdat: PgData, zones_size: list[int], start_pfn: int, holes: list[int] | None) -> None:
        """Set up a node: mem_map, and each zone with its wait table and buddy bitmaps, all from boot memory.

        Every page starts reserved with count 0. *zones_size* and *holes* are in pages,
        *start_pfn* is the node's first frame. kernel: mm/page_alloc.c:free_area_init_core, free_area_init
        """
        kernel = self.kernel
        mem = kernel.mem
        bootmem = kernel.bootmem
        totalpages = sum(zones_size)
        if min(zones_size) < 0:
            raise KernelBug("free_area_init_core", f"negative zone size in {zones_size}")
        sizeof_page = kernel.config.sizeof_page

        def take(what: str, size: int) -> int:
            pa = bootmem.alloc_bootmem_node(pgdat, size, SMP_CACHE_BYTES, MAX_DMA_ADDRESS)
            kernel.boot_log.append(BootConsumer(what, pa, size, "paging_init"))
            return pa

        mem_map_pa = take("mem_map", (totalpages + 1) * sizeof_page)
        mem_map_pa = -(-mem_map_pa // sizeof_page) * sizeof_page  # MAP_ALIGN: page - mem_map must divide evenly
        discontig = bool(kernel.config.nodes)
        pgdat.node_mem_map_pa = mem_map_pa
        pgdat.node_size = totalpages
        pgdat.node_start_pfn = start_pfn
        pgdat.node_start_mapnr = mem_map_pa // sizeof_page if discontig else 0
        pgdat.nr_zones = 0
        mapnr = pgdat.node_start_mapnr
        for j, zone in enumerate(pgdat.node_zones):
            kernel.zone_table[zone.index] = zone
            size = zones_size[j]
            zone.size = size
            zone.realsize = size - (holes[j] if holes else 0)
            zone.free_pages = zone.need_balance = 0
            if not size:
                continue
            zone.wait_table_size = self.wait_table_size(size)
            zone.wait_table_shift = 32 - (zone.wait_table_size.bit_length() - 1)
            zone.wait_table_pa = take(f"wait table {zone.name}", zone.wait_table_size * self.sizeof_wait_queue_head)
            pgdat.nr_zones = j + 1
            zone.pages_min, zone.pages_low, zone.pages_high = self.watermarks(j, zone.realsize)
            zone.start_pfn = start_pfn
            zone.end_pfn = end = start_pfn + size
            if end > mem.frames:
                raise KernelBug("free_area_init_core", f"zone {zone.name} ends at frame {end}, but there are only {mem.frames} frames")
            zone.zone_start_mapnr = mapnr
            mem.flags[start_pfn:end] = array("I", [zone.page_bits | RESERVED]) * size
            mem.block[start_pfn:end] = bytes([BLOCK_RESERVED]) * size
            start_pfn = end
            mapnr += size
            zone.free_area = [FreeArea() for _ in range(MAX_ORDER)]
            for order in range(MAX_ORDER - 1):
                map_bytes = long_align(((size - 1) >> (order + 4)) + 1)
                area = zone.free_area[order]
                area.map = bytearray(map_bytes * 8)
                area.map_pa = take(f"buddy bitmap {zone.name} order {order}", map_bytes)
            kernel.emit("zone_init", zone.index, size, zone.pages_min, zone.pages_low, zone.pages_high)
        self.build_zonelists(pgdat)
        for zonelist in pgdat.node_zonelists:
            for zone in zonelist:
                if zone.pgdat is not pgdat or not zone.size:
                    raise KernelBug(
                        "build_zonelists", f"zone {zone.name} of node {zone.pgdat.nid} does not belong in a zonelist of node {pgdat.nid}"
                    )
        kernel.ready_nodes.append(pgdat)

    def free_area_init_node(self, pgdat: PgData, zones_size: list[int], start_pfn: int, holes: list[int] | None) -> None:
        """Set up one of several nodes, and its bitmap of valid addresses. kernel: mm/numa.c:free_area_init_node"""
        self.free_area_init_core(pgdat, zones_size, start_pfn, holes)
        pgdat.node_id = pgdat.nid
        size = long_align((sum(zones_size) + 7) >> 3)
        pgdat.valid_addr_bitmap_pa = self.kernel.bootmem.alloc_bootmem_node(pgdat, size, SMP_CACHE_BYTES, MAX_DMA_ADDRESS)
        self.kernel.boot_log.append(BootConsumer("valid_addr_bitmap", pgdat.valid_addr_bitmap_pa, size, "paging_init"))


def free_boot_pages(kernel: Kernel, start: int, end: int, *, descending: bool = False, highmem: bool = False) -> int:
    """Un-reserve frames [start, end) and free them one order-0 page at a time; returns how many.

    A whole order-9 block of pages that nobody has touched takes a short cut with the same
    result: its 511 merges toggle every pair bit twice and leave one block at the list head.
    A listener hears one ``boot_block`` event for it. The allocator must be the kernel's own.
    kernel: mm/bootmem.c:free_all_bootmem_core, arch/i386/mm/init.c:one_highpage_init
    """
    allocator = kernel.page_allocator
    mem = kernel.mem
    exact = type(allocator).free_pages_ok is PageAllocator.free_pages_ok and type(allocator).free_pages is PageAllocator.free_pages
    big = 1 << (MAX_ORDER - 1)
    set_bits = 1 << PG_highmem if highmem else 0
    at, step = (end - 1, -1) if descending else (start, 1)
    while start <= at < end:
        zone = kernel.zone_table[mem.flags[at] >> ZONE_SHIFT]
        first = at if step > 0 else at - big + 1
        index = first - zone.start_pfn
        if exact and not index % big and start <= first and first + big <= min(end, zone.end_pfn) and _untouched(kernel, first, index, big):
            word = zone.page_bits | set_bits
            mem.flags[first : first + big] = array("I", [word]) * big
            mem.block[first : first + big] = bytes(big)
            mem.block[first] = BLOCK_FREE | (MAX_ORDER - 1)
            zone.free_area[MAX_ORDER - 1].free_list[first] = None
            zone.free_pages += big
            kernel.stat.free += big
            kernel.stat.merge += big - 1
            kernel.emit("boot_block", zone.index, first)
            at += step * big
            continue
        mem.flags[at] = mem.flags[at] & ~RESERVED | set_bits
        mem.count[at] = 1
        allocator.free_pages(at, 0)
        at += step
    return end - start


def _untouched(kernel: Kernel, first: int, index: int, big: int) -> bool:
    """All pages of the block still reserved in one zone, and every pair bit below clear."""
    mem = kernel.mem
    word = mem.flags[first]
    zone = kernel.zone_table[word >> ZONE_SHIFT]
    if word != zone.page_bits | RESERVED or mem.flags[first : first + big] != array("I", [word]) * big:
        return False
    return not any(1 in zone.free_area[order].map[index >> (order + 1) : (index + big) >> (order + 1)] for order in range(MAX_ORDER - 1))
