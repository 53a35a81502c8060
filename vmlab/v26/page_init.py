"""Building zones at boot in 2.6, watermarks from min_free_kbytes, reserves for low memory. kernel: mm/page_alloc.c"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..hw.layout import M32, MAX_DMA_ADDRESS, PAGE_SHIFT, SMP_CACHE_BYTES
from ..mm.kernel import BootConsumer
from ..mm.mmzone import MAX_NR_ZONES, ZONE_HIGHMEM
from ..mm.page import BLOCK_FREE, BLOCK_PARKED, BLOCK_RESERVED
from ..mm.page_flags import RESERVED, ZONE_SHIFT, PG_highmem
from ..mm.page_init import ZoneSetup
from .mmzone import MAX_ORDER26, PgData26, Zone26
from .nodes import NodeOrder
from .page_alloc import PageAllocator26
from .page_flags import PRIVATE

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.mmzone import PgData

SWAP_CLUSTER_MAX = 32
BITS_PER_LONG = 32


class ZoneSetup26(NodeOrder, ZoneSetup):
    """How physical memory becomes zones in 2.6, and the two settings that say how much of it stays free."""

    state_names = ("min_free_kbytes", "lowmem_reserve_ratio", "nr_kernel_pages", "nr_all_pages")

    def __init__(self) -> None:
        super().__init__()
        self.min_free_kbytes = 1024  # kB
        self.lowmem_reserve_ratio = [256, 32]
        self.nr_kernel_pages = self.nr_all_pages = 0

    def watermarks(self, zone_num: int, realsize: int) -> tuple[int, int, int]:
        """In 2.6 no marks yet, because they depend on all of memory and come last (:meth:`init_per_zone_pages_min`); before that by zone.

        kernel: mm/page_alloc.c:free_area_init_core
        """
        return 0, 0, 0

    def wait_table_size(self, pages: int) -> int:
        """In 2.6 at least four, because small machines wait too; before that at least one.

        Wait queues of a zone.
        kernel: mm/page_alloc.c:wait_table_size
        """
        return max(super().wait_table_size(pages), 4)

    def setup_mem_frac(self, text: str) -> list[int]:
        """In 2.6 the parameter memfrac= is gone, because min_free_kbytes does its work; before that it set the ratio by zone.

        Raises ValueError.

        kernel: none (mm/page_alloc.c:setup_mem_frac of 2.4)
        """
        raise ValueError(f"memfrac={text!r}: Linux 2.6 has min_free_kbytes instead: machine.zone_setup.set_min_free_kbytes(kB)")

    def free_area_init_node(self, pgdat: PgData, zones_size: list[int], start_pfn: int, holes: list[int] | None) -> None:
        """In 2.6 a node has no bitmap of valid addresses, because pfn_valid() looks at the nodes; before that each had one.

        kernel: mm/page_alloc.c:free_area_init_node
        """
        self.free_area_init_core(pgdat, zones_size, start_pfn, holes)
        pgdat.node_id = pgdat.nid

    def free_area_init_core(self, pgdat: PgData, zones_size: list[int], start_pfn: int, holes: list[int] | None) -> None:
        """In 2.6 there are no bitmaps to allocate, because free blocks are marked in their pages; before that nine a zone.

        Set up a node: mem_map, and each zone with its wait table and per-CPU lists. Every page starts reserved with count 0.

        *zones_size* and *holes* are in pages.
        kernel: mm/page_alloc.c:free_area_init_node, free_area_init_core, memmap_init_zone
        """
        kernel, mem = self.kernel, self.kernel.mem
        if min(zones_size) < 0:
            raise KernelBug("free_area_init_core", f"negative zone size in {zones_size}")
        node = cast(PgData26, pgdat)

        def take(what: str, size: int) -> int:
            pa = kernel.bootmem.alloc_bootmem_node(pgdat, size, SMP_CACHE_BYTES, MAX_DMA_ADDRESS)
            kernel.boot_log.append(BootConsumer(what, pa, size, "paging_init"))
            return pa

        node.node_start_pfn = start_pfn
        node.node_size = sum(zones_size)
        node.node_present_pages = node.node_size - sum(holes or ())
        node.node_mem_map_pa = take("mem_map", (node.node_size + 1) * kernel.config.sizeof_page)
        node.nr_zones = 0
        node.kswapd_max_order = 0
        for j, any_zone in enumerate(node.node_zones):
            zone = cast(Zone26, any_zone)
            kernel.zone_table[zone.index] = zone
            size = zones_size[j]
            zone.size = size
            zone.realsize = size - (holes[j] if holes else 0)
            if j != ZONE_HIGHMEM:
                self.nr_kernel_pages += zone.realsize
            self.nr_all_pages += zone.realsize
            zone.free_pages = 0
            zone.init_pageset()
            if not size:
                continue
            zone.wait_table_size = self.wait_table_size(size)
            zone.wait_table_shift = 32 - (zone.wait_table_size.bit_length() - 1)
            zone.wait_table_pa = take(f"wait table {zone.name}", zone.wait_table_size * self.sizeof_wait_queue_head)
            node.nr_zones = j + 1
            zone.start_pfn = zone.zone_start_mapnr = start_pfn
            zone.end_pfn = end = start_pfn + size
            if end > mem.frames:
                raise KernelBug("free_area_init_core", f"zone {zone.name} ends at frame {end}, but there are only {mem.frames} frames")
            mem.flags[start_pfn:end] = array("I", [zone.page_bits | RESERVED]) * size
            mem.block[start_pfn:end] = bytes([BLOCK_RESERVED]) * size
            start_pfn = end
            kernel.emit("zone_init", zone.index, size, 0, 0, 0)
        self.build_zonelists(pgdat)
        kernel.ready_nodes.append(pgdat)

    # -- how much stays free ------------------------------------------------------------------

    def init_per_zone_pages_min(self) -> None:
        """In 2.6 one number rules the watermarks, because an administrator can then change it; before that a ratio by zone did.

        Set min_free_kbytes from the size of memory: 4·√(kB of low memory), from 128 kB to 64 MB; then all that depends on it.
        kernel: mm/page_alloc.c:init_per_zone_pages_min
        """
        kilobytes = self.kernel.page_allocator.nr_free_buffer_pages() << (PAGE_SHIFT - 10)
        self.min_free_kbytes = min(max(math.isqrt(kilobytes * 16 & M32), 128), 65536)
        self.setup_per_zone_pages_min()
        self.setup_per_zone_lowmem_reserve()

    def setup_per_zone_pages_min(self) -> None:
        """In 2.6 only low memory keeps a real reserve, because the kernel itself allocates there; before that every zone the same share.

        Share min_free_kbytes among the zones of low memory by size; high memory gets 32 to 128 pages. low is 5/4, high 6/4 of min.
        kernel: mm/page_alloc.c:setup_per_zone_pages_min
        """
        pages_min = self.min_free_kbytes >> (PAGE_SHIFT - 10) & M32
        zones = list(self.kernel.for_each_zone())
        lowmem_pages = sum(z.realsize for z in zones if z.zone_num != ZONE_HIGHMEM)
        for zone in zones:
            if zone.zone_num == ZONE_HIGHMEM:
                zone.pages_min = min(max(zone.realsize // 1024, SWAP_CLUSTER_MAX), 128)
            else:
                zone.pages_min = (pages_min * zone.realsize & M32) // lowmem_pages
            zone.pages_low = (zone.pages_min * 5 & M32) // 4
            zone.pages_high = (zone.pages_min * 6 & M32) // 4
            self.kernel.emit("watermarks", zone.index, zone.pages_min, zone.pages_low, zone.pages_high)

    def setup_per_zone_lowmem_reserve(self) -> None:
        """In 2.6 the reserve is by the zone the request begins with, because a kernel request may use what a user's may not; before that
        there was none.

        What each zone keeps from requests that could use a higher one: a share (1/256, 1/32) of the memory above it.
        kernel: mm/page_alloc.c:setup_per_zone_lowmem_reserve
        """
        for pgdat in self.kernel.pgdat_list:
            zones = [cast(Zone26, zone) for zone in pgdat.node_zones]
            for j in range(MAX_NR_ZONES):
                present = zones[j].realsize
                zones[j].lowmem_reserve[j] = 0
                for idx in range(j - 1, -1, -1):
                    zones[idx].lowmem_reserve[j] = present // self.lowmem_reserve_ratio[idx]
                    present += zones[idx].realsize
        for zone in self.kernel.for_each_zone():
            self.kernel.emit("lowmem_reserve", zone.index, *cast(Zone26, zone).lowmem_reserve)

    def set_min_free_kbytes(self, kilobytes: int) -> None:
        """In 2.6 only, because the marks were fixed at boot before that.

        Write /proc/sys/vm/min_free_kbytes.
        kernel: mm/page_alloc.c:min_free_kbytes_sysctl_handler
        """
        self.min_free_kbytes = kilobytes
        self.setup_per_zone_pages_min()

    def set_lowmem_reserve_ratio(self, ratio: list[int]) -> None:
        """In 2.6 only, because there was no reserve before that.

        Write /proc/sys/vm/lowmem_reserve_ratio: two numbers, each at least 1.
        kernel: mm/page_alloc.c:lowmem_reserve_ratio_sysctl_handler
        """
        if len(ratio) != MAX_NR_ZONES - 1 or min(ratio) < 1:
            raise ValueError(f"lowmem_reserve_ratio is two numbers, each at least 1, not {ratio!r}")
        self.lowmem_reserve_ratio = list(ratio)
        self.setup_per_zone_lowmem_reserve()


def free_boot_group(kernel: Kernel, first: int) -> None:
    """In 2.6 boot frees whole groups, because that saves 31 merges each; before that page by page.

    Un-reserve 32 aligned frames and free them as one block of order 5.
    kernel: mm/bootmem.c:free_all_bootmem_core
    """
    flags = kernel.mem.flags
    for pfn in range(first, first + BITS_PER_LONG):
        flags[pfn] &= ~RESERVED
    kernel.mem.block[first : first + BITS_PER_LONG] = bytes(BITS_PER_LONG)
    kernel.mem.count[first] = 1
    kernel.page_allocator.free_pages(first, 5)


def free_boot_page(kernel: Kernel, pfn: int, highmem: bool = False) -> None:
    """In 2.6 it goes through the hot list, because every single page does; before that it merged at once.

    Un-reserve one frame and free it.
    kernel: mm/bootmem.c:free_all_bootmem_core, arch/i386/mm/init.c:one_highpage_init
    """
    mem = kernel.mem
    mem.flags[pfn] = mem.flags[pfn] & ~RESERVED | (1 << PG_highmem if highmem else 0)
    mem.count[pfn] = 1
    kernel.page_allocator.free_pages(pfn, 0)


def free_high_pages(kernel: Kernel, start: int, end: int) -> int:
    """In 2.6 ascending, because expand() now gives ascending frames from a large block; before that descending.

    Free the frames [start, end) of high memory, from the bottom up; returns how many.

    A whole order-10 block that nobody has touched takes a short cut with the same result.
    kernel: arch/i386/mm/init.c:set_highmem_pages_init
    """
    allocator = cast(PageAllocator26, kernel.page_allocator)
    big = 1 << (MAX_ORDER26 - 1)
    exact = all(
        getattr(type(allocator), name) is getattr(PageAllocator26, name)
        for name in ("free_pages", "free_hot_cold_page", "free_pages_bulk", "free_pages_merge")
    )
    zone = cast(Zone26, kernel.zone_table[kernel.mem.flags[start] >> ZONE_SHIFT]) if start < end else None
    pfn = start
    while pfn < end:
        if exact and zone is not None and not (pfn - zone.start_pfn) % big:
            pfn += _free_high_blocks(kernel, allocator, zone, pfn, end, big)
            if pfn >= end:
                break
        free_boot_page(kernel, pfn, highmem=True)
        pfn += 1
    return end - start


def _free_high_blocks(kernel: Kernel, allocator: PageAllocator26, zone: Zone26, first: int, end: int, big: int) -> int:
    """Free as many whole blocks from *first* on as go through the hot list in order; returns the pages freed.

    The list is a queue here: what goes in comes out in batches from the other end. If it holds the frames
    just below *first* and its batches divide a block, each block pushes exactly as many frames out, and
    those end as one block of the largest order.
    """
    mem, hot = kernel.mem, zone.pcp[0]
    batch = hot.batch
    # Only when the list is full does every batch that goes in push one out.
    held = len(hot.list)
    if big % batch or first + big > min(end, zone.end_pfn) or held <= hot.high - batch or kernel.on_event is not None:
        return 0
    if list(hot.list) != list(range(first - 1, first - 1 - held, -1)) or first - held < zone.start_pfn:
        return 0
    blocks = (min(end, zone.end_pfn) - first) // big
    untouched = zone.page_bits | RESERVED
    pages = blocks * big
    if mem.flags[first : first + pages] != array("I", [untouched]) * pages:
        return 0
    # The frames that were on the list leave it one by one, as the kernel has them do: they complete the block below.
    out = first - held
    tail = hot.list.pop
    for _ in range(held):
        allocator.free_pages_merge(zone, tail(), 0)
    # All of the frames between come out, but for the last *held* ones.
    word = zone.page_bits | 1 << PG_highmem
    mem.flags[first : first + pages] = array("I", [word]) * pages
    mem.block[first : first + pages] = bytes(pages)
    for head in range(first, first + (blocks - 1) * big, big):
        mem.block[head] = BLOCK_FREE | (MAX_ORDER26 - 1)
        mem.flags[head] = word | PRIVATE
        allocator.private[head] = MAX_ORDER26 - 1
        zone.free_area[MAX_ORDER26 - 1].free_list[head] = None
    zone.free_pages += (blocks - 1) * big
    last = first + (blocks - 1) * big
    for pfn in range(last, out + pages):
        allocator.free_pages_merge(zone, pfn, 0)
    hot.list.extendleft(range(out + pages, first + pages))
    mem.block[out + pages : first + pages] = bytes([BLOCK_PARKED]) * held
    allocator.page_state.pgfree += pages
    kernel.stat.free += pages
    kernel.stat.merge += (blocks - 1) * (big - 1)
    return pages
