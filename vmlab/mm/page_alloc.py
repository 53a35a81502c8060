"""The zoned buddy allocator.

Free memory is kept as blocks of 2^order pages, order 0 to 9, one list per order in each zone.
A block of order n starts at a multiple of 2^n pages from its zone's start; its *buddy* is the
neighbour with which it makes a block of order n + 1. One bit per pair says whether exactly one
of the two is free; it is toggled whenever either changes hands, so that freeing a block can tell
from the toggled bit alone whether its buddy is free too, and merge.

Pages are frame numbers here. kernel: mm/page_alloc.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .gfp import GFP_ZONEMASK, PF_FREE_PAGES, PF_MEMALLOC, PF_MEMDIE, WAIT
from .kernel import Part
from .mmzone import MAX_ORDER
from .page import BLOCK_FREE, BLOCK_USED
from .page_flags import (
    ACCESS_BITS,
    FORBIDDEN_WHEN_FREED,
    LRU,
    LRU_OR_ACTIVE,
    RESERVED,
    ZONE_BITS,
    ZONE_SHIFT,
    flag_names,
)

if TYPE_CHECKING:
    from .kernel import Kernel
    from .mmzone import FreeArea, Zone, Zonelist

_LAST = MAX_ORDER - 1
_SOUND = ZONE_BITS | LRU_OR_ACTIVE  # a page on a free list: in its zone, on no LRU list
_UNSOUND_FREE = FORBIDDEN_WHEN_FREED | LRU  # locked, active, or still on an LRU list


class PageAllocator(Part):
    """Physical page allocation: 2^order frames at a time, from the zones a request may use."""

    knows_nodes = False  # whether alloc_pages() itself looks for a node

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.block = kernel.mem.block
        self.mapping = kernel.mem.mapping if kernel.config.kernel_objects is not None else None  # without processes: no page cache
        self.zone_table = kernel.zone_table
        self.stat = kernel.stat

    # -- freeing ------------------------------------------------------------------------------

    def free_pages_ok(self, pfn: int, order: int) -> None:
        """Give a block back and merge it with its buddies as far as they are free.

        *pfn* is the block's first frame; a page on an LRU list leaves it. Raises KernelBug when
        the page is in use elsewhere or not aligned to its order. 2.6 first passes order-0 pages through per-CPU lists.
        kernel: mm/page_alloc.c:__free_pages_ok
        """
        page_flags = self.flags[pfn]
        if self.mapping is not None:
            if page_flags & LRU:
                self.kernel.swap.lru_cache_del(pfn)
                page_flags = self.flags[pfn]
            if self.mapping[pfn]:
                raise KernelBug("__free_pages_ok", f"frame {pfn} is freed while it is cached for mapping {self.mapping[pfn]}", "mapping")
        if page_flags & _UNSOUND_FREE:
            kind = "locked" if page_flags & 1 else "active" if page_flags & FORBIDDEN_WHEN_FREED else ""
            raise KernelBug("__free_pages_ok", f"frame {pfn} is freed while {'|'.join(flag_names(page_flags & _UNSOUND_FREE))}", kind)
        if page_flags & ACCESS_BITS:
            self.flags[pfn] = page_flags & ~ACCESS_BITS
        current = self.kernel.current
        if current.flags & PF_FREE_PAGES and not current.nr_local_pages:
            self._keep_local(pfn, order)
            return
        zone = self.zone_table[page_flags >> ZONE_SHIFT]
        base = zone.start_pfn
        page_idx = pfn - base
        if page_idx & ((1 << order) - 1):
            raise KernelBug("__free_pages_ok", f"frame {pfn} is not the start of an order-{order} block of zone {zone.name}", "aligned")
        if order > _LAST:
            zone.free_pages += 1 << order  # the kernel counts the pages before it looks at the order
            raise KernelBug("__free_pages_ok", f"order {order}: the largest block is order {_LAST}", "order")
        ev = self.on_event
        if ev is not None:
            ev(("free", pfn, order, zone.index))
        stat = self.stat
        stat.free += 1
        zone.free_pages += 1 << order
        area = zone.free_area[order]
        if order < _LAST:
            index = page_idx >> (1 + order)
            block = self.block
            block[pfn] = 0
            areas = zone.free_area
            first = order
            while order < _LAST:
                # One bit per pair: after the toggle it is 1 if the buddy is still allocated.
                bit = area.map[index] ^ 1
                area.map[index] = bit
                if ev is not None:
                    ev(("map_toggle", zone.index, order, index, bit))
                if bit:
                    break
                buddy = base + (page_idx ^ (1 << order))
                try:
                    del area.free_list[buddy]
                except KeyError:
                    raise KernelBug(
                        "__free_pages_ok",
                        f"buddy {buddy} of {base + page_idx} is not on the order-{order} list: the pair "
                        "bit lies (was a block freed twice, or with another order than it was allocated with?)",
                    ) from None
                block[buddy] = 0
                if ev is not None:
                    ev(("list_del", zone.index, order, buddy))
                    ev(("merge", zone.index, order, base + page_idx, buddy))
                order += 1
                area = areas[order]
                index >>= 1
                page_idx &= -1 << order
            if order != first:
                stat.merge += order - first
                pfn = base + page_idx
        area.free_list[pfn] = None
        self.block[pfn] = BLOCK_FREE | order
        if ev is not None:
            ev(("list_add", zone.index, order, pfn))

    def _keep_local(self, pfn: int, order: int) -> None:
        """Park a page for the task that is reclaiming, instead of freeing it."""
        current = self.kernel.current
        current.local_pages.insert(0, pfn)
        self.kernel.mem.index[pfn] = order
        current.nr_local_pages += 1
        if self.on_event is not None:
            self.on_event(("local_page", pfn, order))

    def free_pages(self, pfn: int, order: int) -> None:
        """Drop a reference; the last one frees the block. A reserved page is left alone.

        kernel: mm/page_alloc.c:__free_pages
        """
        if self.flags[pfn] & RESERVED:
            return
        left = self.count[pfn] - 1
        self.count[pfn] = left
        if not left:
            self.free_pages_ok(pfn, order)

    # -- taking from one zone -----------------------------------------------------------------

    def expand(self, zone: Zone, pfn: int, index: int, low: int, high: int, area: FreeArea) -> int:
        """Split a block of order *high* until it has order *low*; lower halves go to the lists.

        *index* is the block's place in the zone. Returns the first frame of what is kept: the
        upper end. kernel: mm/page_alloc.c:expand
        """
        areas = zone.free_area
        block = self.block
        ev = self.on_event
        size = 1 << high
        while high > low:
            high -= 1
            size >>= 1
            area = areas[high]
            area.free_list[pfn] = None
            block[pfn] = BLOCK_FREE | high
            pair = index >> (1 + high)
            area.map[pair] ^= 1
            if ev is not None:
                ev(("expand", zone.index, high, pfn, pfn + size))
                ev(("list_add", zone.index, high, pfn))
                ev(("map_toggle", zone.index, high, pair, area.map[pair]))
            index += size
            pfn += size
        return pfn

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        """Take a block of 2^order pages from *zone*: the head of the first list, from *order* up, that has one.

        Returns its first frame, or None. kernel: mm/page_alloc.c:rmqueue
        """
        areas = zone.free_area
        curr_order = order
        while curr_order < MAX_ORDER:
            area = areas[curr_order]
            if area.free_list:
                pfn, _ = area.free_list.popitem()
                if self.flags[pfn] & _SOUND != zone.page_bits:
                    raise KernelBug("rmqueue", f"frame {pfn} on a free list of zone {zone.name} belongs elsewhere or is on an LRU list")
                index = pfn - zone.start_pfn
                if curr_order != _LAST:
                    area.map[index >> (1 + curr_order)] ^= 1
                zone.free_pages -= 1 << order
                ev = self.on_event
                if ev is not None:
                    ev(("rmqueue", zone.index, order, curr_order, pfn))
                    ev(("list_del", zone.index, curr_order, pfn))
                    if curr_order != _LAST:
                        pair = index >> (1 + curr_order)
                        ev(("map_toggle", zone.index, curr_order, pair, area.map[pair]))
                if curr_order != order:
                    self.stat.split += curr_order - order
                    pfn = self.expand(zone, pfn, index, order, curr_order, area)
                self.count[pfn] = 1
                self.block[pfn] = BLOCK_USED | order
                self.stat.alloc += 1
                if ev is not None:
                    ev(("alloc", pfn, order, zone.index))
                return pfn
            curr_order += 1
        if order >= MAX_ORDER:
            # alloc_pages() refuses these orders, alloc_pages_node() does not: free_area[order] is then some other
            # field of the zone, and what it points to is no page of the zone.
            raise KernelBug("rmqueue", f"order {order}: zone {zone.name} has free lists up to order {_LAST} only", "range")
        return None

    # -- choosing a zone ----------------------------------------------------------------------

    def alloc_pages(self, gfp_mask: int, order: int) -> int | None:
        """Allocate 2^order contiguous frames. Returns the first frame, or None.

        kernel: include/linux/mm.h:alloc_pages
        """
        if order >= MAX_ORDER:
            if self.on_event is not None:
                self.on_event(("alloc_fail", gfp_mask, order))
            return None
        return self._alloc_pages(gfp_mask, order)

    def _alloc_pages(self, gfp_mask: int, order: int) -> int | None:
        """Ask the only node. With several nodes numa.py replaces this. kernel: mm/page_alloc.c:_alloc_pages"""
        return self.alloc_pages_zonelist(gfp_mask, order, self.kernel.pgdats[0].node_zonelists[gfp_mask & GFP_ZONEMASK])

    def alloc_pages_node(self, nid: int, gfp_mask: int, order: int) -> int | None:
        """Allocate for node *nid* in an allocator that knows nodes; numa.py does it for this one. kernel: mm/numa.c:alloc_pages_node"""
        return self._alloc_pages(gfp_mask, order)

    def alloc_pages_zonelist(self, gfp_mask: int, order: int, zonelist: Zonelist) -> int | None:
        """The heart of the allocator: try the zones in order, three passes, ever more willing.

        Pass 1 takes from a zone with more than 2^order pages above the *running sum* of
        pages_low; pass 2 wakes kswapd and goes down to the sum of pages_min (a quarter of it
        for a caller that cannot wait); then the task reclaims pages itself and pass 3 tries the
        full pages_min again. Order ≤ 3 never gives up. 2.6 replaces the sum by a lowmem reserve.

        Returns a frame or None. Raises KernelHang when it would retry for ever.
        kernel: mm/page_alloc.c:__alloc_pages
        """
        if not zonelist:
            return None
        ev = self.on_event
        if ev is not None:
            ev(("alloc_begin", gfp_mask, order, zonelist[0].pgdat.nid))
        least = 1 << order
        for zone in zonelist:
            least += zone.pages_low
            if ev is not None:
                ev(("watermark", 1, zone.index, zone.free_pages, least, int(zone.free_pages > least)))
            if zone.free_pages > least:
                pfn = self.rmqueue(zone, order)
                if pfn is not None:
                    return pfn
        return self._alloc_pages_slow(gfp_mask, order, zonelist)

    def _alloc_pages_slow(self, gfp_mask: int, order: int, zonelist: Zonelist) -> int | None:
        """Everything after the first pass has failed."""
        ev = self.on_event
        kernel = self.kernel
        classzone = zonelist[0]
        classzone.need_balance = 1
        self.stat.wake_kswapd += 1
        if ev is not None:
            ev(("need_balance", classzone.index))
            ev(("wake_kswapd",))
        kernel.reclaim.wake_kswapd()

        pfn = self._pass(2, order, zonelist, 0 if gfp_mask & WAIT else 2)
        while pfn is None:
            if kernel.current.flags & (PF_MEMALLOC | PF_MEMDIE):
                # Reclaim itself needs memory: the watermarks do not hold for it.
                for zone in zonelist:
                    pfn = self.rmqueue(zone, order)
                    if pfn is not None:
                        return pfn
                break
            if not gfp_mask & WAIT:
                break
            pfn, _freed = self.balance_classzone(classzone, gfp_mask, order)
            if pfn is None:
                pfn = self._pass(3, order, zonelist, 0)
            if pfn is not None:
                return pfn
            if order > 3:
                break
            self.stat.yield_ += 1
            if ev is not None:
                ev(("yield",))
            kernel.reclaim.yielded()
        if pfn is None:
            self.stat.fail += 1
            if ev is not None:
                ev(("alloc_fail", gfp_mask, order))
        return pfn

    def _pass(self, number: int, order: int, zonelist: Zonelist, shift: int) -> int | None:
        """One walk over the zones against the running sum of pages_min >> *shift*."""
        ev = self.on_event
        least = 1 << order
        for zone in zonelist:
            least += zone.pages_min >> shift
            if ev is not None:
                ev(("watermark", number, zone.index, zone.free_pages, least, int(zone.free_pages > least)))
            if zone.free_pages > least:
                pfn = self.rmqueue(zone, order)
                if pfn is not None:
                    return pfn
        return None

    def balance_classzone(self, classzone: Zone, gfp_mask: int, order: int) -> tuple[int | None, int]:
        """Let the task reclaim pages itself, and keep one that it freed if it fits the request.

        While it reclaims, the first block it frees is parked on ``current.local_pages``; if
        reclaim succeeded and that block has the right order and zone it is handed straight to
        the caller, otherwise it is freed. Returns (frame or None, pages reclaimed).
        kernel: mm/page_alloc.c:balance_classzone
        """
        if not gfp_mask & WAIT:
            return None, 0
        kernel = self.kernel
        current = kernel.current
        current.allocation_order = order
        current.flags |= PF_MEMALLOC | PF_FREE_PAGES
        self.stat.reclaim += 1
        if self.on_event is not None:
            self.on_event(("reclaim", classzone.index, gfp_mask))
        freed = kernel.reclaim.try_to_free_pages_zone(classzone, gfp_mask)
        current.flags &= ~(PF_MEMALLOC | PF_FREE_PAGES)
        if not current.nr_local_pages:
            return None, freed
        found: int | None = None
        index = kernel.mem.index
        if freed:
            for at, pfn in enumerate(current.local_pages):
                zone = self.zone_table[self.flags[pfn] >> ZONE_SHIFT]
                if index[pfn] == order and zone.pgdat is classzone.pgdat and zone.zone_num <= classzone.zone_num:
                    del current.local_pages[at]
                    self.count[pfn] = 1
                    found = pfn
                    if self.on_event is not None:
                        self.on_event(("alloc", pfn, order, zone.index))
                    break
        while current.local_pages:  # from the tail, so that the lists end up newest first
            pfn = current.local_pages.pop()
            self.free_pages_ok(pfn, index[pfn])
        current.nr_local_pages = 0
        return found, freed

    # -- counting -----------------------------------------------------------------------------

    def nr_free_pages(self) -> int:
        """Free pages in all zones. kernel: mm/page_alloc.c:nr_free_pages"""
        return sum(zone.free_pages for zone in self.zone_table.values())

    def nr_free_buffer_pages(self) -> int:
        """Pages above pages_high that GFP_USER could ever use; free or not. kernel: mm/page_alloc.c:nr_free_buffer_pages"""
        return sum(
            zone.size - zone.pages_high
            for pgdat in self.kernel.pgdat_list
            for zone in pgdat.node_zonelists[0]
            if zone.size > zone.pages_high
        )

    def nr_free_highpages(self) -> int:
        """Free pages in high memory. kernel: mm/page_alloc.c:nr_free_highpages"""
        return sum(pgdat.node_zones[2].free_pages for pgdat in self.kernel.pgdat_list)
