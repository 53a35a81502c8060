"""The zoned buddy allocator of 2.6, and the per-CPU lists of single pages before it.

No bitmaps any more: the first page of a free block says so itself (PG_private, and its order in
``page->private``). Single pages come from and go to two short lists per processor and zone.

Pages are frame numbers. kernel: mm/page_alloc.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..hw.layout import M32
from ..mm.fs import AddressSpace
from ..mm.page import BLOCK_FREE, BLOCK_PARKED, BLOCK_USED
from ..mm.page_alloc import PageAllocator
from ..mm.page_flags import ZONE_SHIFT, PG_dirty
from .gfp import COLD, COMP, GFP_ZONEMASK, HIGHMEM, WAIT, ZERO, to_native
from .mmzone import MAX_ORDER26 as MAX_ORDER
from .page_check import PageChecks
from .page_flags import BAD_WHEN_FREED, BAD_WHEN_NEW, COMPOUND, LRU, OLD_MEMORIES, PRIVATE, RESERVED, flag_names26
from .page_slow import SlowPath
from .page_state import PageState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..mm.kernel import Kernel
    from ..mm.mmzone import FreeArea, Zone, Zonelist
    from .mmzone import PerCpuPages, Zone26

_LAST = MAX_ORDER - 1
_DIRTY = 1 << PG_dirty


class PageAllocator26(SlowPath, PageChecks, PageAllocator):
    """Physical page allocation as 2.6 does it."""

    state_names = ("page_state_values",)
    knows_nodes = True

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.private = kernel.mem.column("private")
        self.page_state = PageState()
        kernel.page_flag_names = flag_names26
        whole = kernel.config.kernel_objects is not None
        self.mapcount = kernel.mem.column("mapcount", "i", -1) if whole else None
        if whole:
            for pgdat in kernel.pgdats:
                for zone in pgdat.node_zones:
                    own = cast("Zone26", zone)
                    own.active_list = kernel.mem.lru.new_head()
                    own.inactive_list = kernel.mem.lru.new_head()

    @property
    def page_state_values(self) -> dict[str, int | list[int]]:
        """Every counter, to save."""
        return self.page_state.values()

    @page_state_values.setter
    def page_state_values(self, values: dict[str, int | list[int]]) -> None:
        self.page_state.set_values(values)

    # -- freeing ------------------------------------------------------------------------------

    def free_pages(self, pfn: int, order: int) -> None:
        """In 2.6 a page of a compound block passes the reference on to the head, because who holds a page in the middle must not free it
        alone; before that only the head's count was used.

        Drop a reference; the last one frees the block, a single page through the hot list. A reserved page is left alone.

        A page on an LRU list leaves it here, as put_page() does.
        kernel: mm/page_alloc.c:__free_pages, mm/swap.c:put_page, __page_cache_release
        """
        word = self.flags[pfn]
        if word & (RESERVED | COMPOUND):
            if word & COMPOUND and not order:
                pfn = self.private[pfn]
                order = self.kernel.mem.index[pfn + 1]
            elif word & RESERVED:
                return
        left = self.count[pfn] - 1
        if left < 0:
            raise KernelBug("put_page_testzero", f"frame {pfn} has no reference left to drop", "count")
        self.count[pfn] = left
        if not left:
            if order:
                if word & COMPOUND and self.mapping is not None and self.mapping[pfn + 1]:
                    self.kernel.more_parts["hugetlb"].free_huge_page(pfn)
                else:
                    self.free_pages_ok(pfn, order)
                return
            if word & LRU and self.mapping is not None:
                self.flags[pfn] = word & ~LRU
                self.kernel.swap.del_page_from_lru(self.zone_table[word >> ZONE_SHIFT], pfn)  # type: ignore[attr-defined]
            self.free_hot_cold_page(pfn, 0)

    def free_hot_cold_page(self, pfn: int, cold: int) -> None:
        """In 2.6 a freed page stays with the processor for a while, because its lines are still in the cache and the zone's lock need not
        be taken; before that it merged with its buddy at once.

        Put a single page at the head of the processor's hot or cold list; a full list first returns a batch to the zone.
        kernel: mm/page_alloc.c:free_hot_cold_page
        """
        word = self.flags[pfn]
        self.page_state.pgfree += 1
        mapping = self.mapping
        if mapping is not None:
            space = mapping[pfn]
            if space and not isinstance(self.kernel.mappings.get(space), AddressSpace):
                mapping[pfn] = space = 0  # the anon_vma of an anonymous page
            if space or self.mapcount[pfn] >= 0 or word & BAD_WHEN_FREED or self.count[pfn]:  # type: ignore[index]
                self.bad_page("free_hot_cold_page", pfn)
                word = self.flags[pfn]
        elif word & BAD_WHEN_FREED or self.count[pfn]:
            self.bad_page("free_hot_cold_page", pfn)
            word = self.flags[pfn]
        if word & _DIRTY:
            self.flags[pfn] = word & ~_DIRTY
        zone = cast("Zone26", self.zone_table[word >> ZONE_SHIFT])
        pages = zone.pcp[cold]
        ev = self.on_event
        if ev is not None:
            ev(("free", pfn, 0, zone.index))
        self.stat.free += 1
        if len(pages.list) >= pages.high:
            if ev is not None:
                ev(("pcp_drain", zone.index, cold, pages.batch))
            self.free_pages_bulk(zone, pages.batch, pages, 0)
        pages.list.appendleft(pfn)
        self.block[pfn] = BLOCK_PARKED
        if ev is not None:
            ev(("pcp_free", zone.index, cold, pfn, len(pages.list)))

    def pagevec_free(self, pfns: Sequence[int], cold: int) -> None:
        """In 2.6 pages move in handfuls, because a lock is then taken once for many; before that each was freed alone.

        Free a handful of pages whose counts are 0, the last one first.
        kernel: mm/page_alloc.c:__pagevec_free
        """
        for pfn in reversed(pfns):
            self.free_hot_cold_page(pfn, cold)

    def free_pages_ok(self, pfn: int, order: int) -> None:
        """In 2.6 a task that reclaims keeps none of what it frees, because watermarks protect its share; before that it kept the first
        block.

        Give a block straight back to its zone.
        kernel: mm/page_alloc.c:__free_pages_ok
        """
        self.page_state.pgfree += 1 << order
        self.free_pages_check("__free_pages_ok", pfn, 1 << order)
        zone = cast("Zone26", self.zone_table[self.flags[pfn] >> ZONE_SHIFT])
        zone.all_unreclaimable = 0
        zone.pages_scanned = 0
        self.stat.free += 1
        if self.on_event is not None:
            self.on_event(("free", pfn, order, zone.index))
        self.free_pages_merge(zone, pfn, order)

    def free_pages_bulk(self, zone: Zone26, count: int, pages: PerCpuPages, order: int) -> int:
        """In 2.6 freeing into a zone clears its pages_scanned, because reclaim takes a zone for hopeless when it has scanned much and
        freed nothing; before that nobody counted.

        Return up to *count* pages from the tail of a per-CPU list to the zone; returns how many there were.
        kernel: mm/page_alloc.c:free_pages_bulk
        """
        zone.all_unreclaimable = 0
        zone.pages_scanned = 0
        listed = pages.list
        count = min(count, len(listed))
        for _ in range(count):
            self.free_pages_merge(zone, listed.pop(), order)
        return count

    def free_pages_merge(self, zone: Zone26, pfn: int, order: int) -> None:
        """In 2.6 the buddy itself says whether it is free and of which order (PG_private and page->private), because the pair bitmaps
        cost memory and a cache line per level; before that a toggled bit told it.

        Merge a block with its buddies as far as they are free, and list it.
        kernel: mm/page_alloc.c:__free_pages_bulk, page_is_buddy
        """
        flags, private, count, block = self.flags, self.private, self.count, self.block
        ev = self.on_event
        if order and flags[pfn] & COMPOUND:
            self.destroy_compound_page(pfn, order)
        base, end = zone.start_pfn, zone.end_pfn
        index = pfn - base
        if index & ((1 << order) - 1):
            raise KernelBug("__free_pages_bulk", f"frame {pfn} is not the start of an order-{order} block of zone {zone.name}", "aligned")
        if not base <= pfn < end:
            raise KernelBug("__free_pages_bulk", f"frame {pfn} is not in zone {zone.name}", "range")
        zone.free_pages += 1 << order
        block[pfn] = 0
        areas = zone.free_area
        first = order
        number = zone.index
        while order < _LAST:
            buddy = base + (index ^ (1 << order))
            if buddy >= end:
                break
            word = flags[buddy]
            if not word & PRIVATE or private[buddy] != order or word & RESERVED or count[buddy] or word >> ZONE_SHIFT != number:
                break
            try:
                del areas[order].free_list[buddy]
            except KeyError:
                raise KernelBug("__free_pages_bulk", f"frame {buddy} looks like a free block of order {order} but is on no list") from None
            flags[buddy] = word & ~PRIVATE
            private[buddy] = 0
            block[buddy] = 0
            if ev is not None:
                ev(("list_del", zone.index, order, buddy))
                ev(("merge", zone.index, order, base + index, buddy))
            index &= ~(1 << order)
            order += 1
        if order != first:
            self.stat.merge += order - first
        pfn = base + index
        private[pfn] = order
        flags[pfn] |= PRIVATE
        areas[order].free_list[pfn] = None
        block[pfn] = BLOCK_FREE | order
        if ev is not None:
            ev(("list_add", zone.index, order, pfn))

    # -- taking from one zone -----------------------------------------------------------------

    def expand(self, zone: Zone, pfn: int, index: int, low: int, high: int, area: FreeArea) -> int:
        """In 2.6 the lower half is kept, because requests in a row then get ascending frames, which disks join into one transfer; before
        that the upper half was.

        Split a block of order *high* until it has order *low*; upper halves go to the lists. Returns *pfn*, the lower end.
        kernel: mm/page_alloc.c:expand
        """
        areas, block, flags, private = zone.free_area, self.block, self.flags, self.private
        ev = self.on_event
        size = 1 << high
        while high > low:
            high -= 1
            size >>= 1
            upper = pfn + size
            areas[high].free_list[upper] = None
            flags[upper] |= PRIVATE
            private[upper] = high
            block[upper] = BLOCK_FREE | high
            if ev is not None:
                ev(("expand_upper", zone.index, high, pfn, upper))
                ev(("list_add", zone.index, high, upper))
        return pfn

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        """In 2.6 the page is not ready for use yet, because it may wait on a per-CPU list; before that its count was set here.

        Take a block of 2^order pages from *zone*'s lists: the head of the first list, from *order* up, that has one.
        kernel: mm/page_alloc.c:__rmqueue
        """
        areas = zone.free_area
        for current_order in range(order, MAX_ORDER):
            area = areas[current_order]
            if not area.free_list:
                continue
            pfn, _ = area.free_list.popitem()
            self.flags[pfn] &= ~PRIVATE & M32
            self.private[pfn] = 0
            self.block[pfn] = 0
            zone.free_pages -= 1 << order
            ev = self.on_event
            if ev is not None:
                ev(("rmqueue", zone.index, order, current_order, pfn))
                ev(("list_del", zone.index, current_order, pfn))
            if current_order != order:
                self.stat.split += current_order - order
                self.expand(zone, pfn, 0, order, current_order, area)
            return pfn
        return None

    def rmqueue_bulk(self, zone: Zone, order: int, count: int, pages: PerCpuPages) -> int:
        """In 2.6 single pages are fetched in batches, because the zone's lock is then taken once for many; before that no lists were.

        Append up to *count* blocks to the tail of a per-CPU list; returns how many there were.
        kernel: mm/page_alloc.c:rmqueue_bulk
        """
        block = self.block
        for taken in range(count):
            pfn = self.rmqueue(zone, order)
            if pfn is None:
                return taken
            pages.list.append(pfn)
            block[pfn] = BLOCK_PARKED
        return count

    def buffered_rmqueue(self, zone: Zone, order: int, gfp_mask: int) -> int | None:
        """In 2.6 single pages come from a per-CPU list, because that needs no lock and gives pages still in the cache; before that from
        the buddy lists.

        Take a block ready for use: a single page from the processor's list, refilled when it runs low.
        kernel: mm/page_alloc.c:buffered_rmqueue, prep_new_page
        """
        own = cast("Zone26", zone)
        pfn: int | None = None
        ev = self.on_event
        if not order:
            cold = 1 if gfp_mask & COLD else 0
            pages = own.pcp[cold]
            if len(pages.list) <= pages.low:
                taken = self.rmqueue_bulk(zone, 0, pages.batch, pages)
                if ev is not None:
                    ev(("pcp_refill", zone.index, cold, taken))
            if pages.list:
                pfn = pages.list.popleft()
                if ev is not None:
                    ev(("pcp_alloc", zone.index, cold, pfn, len(pages.list)))
        if pfn is None:
            pfn = self.rmqueue(zone, order)
            if pfn is None:
                return None
        word = self.flags[pfn]
        if word & ~OLD_MEMORIES != zone.page_bits and word >> ZONE_SHIFT != zone.index:
            raise KernelBug("buffered_rmqueue", f"frame {pfn} on a list of zone {zone.name} belongs elsewhere", "range")
        self.page_state.pgalloc[own.zone_num] += 1 << order
        mapping = self.mapping
        if word & BAD_WHEN_NEW or mapping is not None and (mapping[pfn] or self.mapcount[pfn] >= 0):  # type: ignore[index]
            self.bad_page("prep_new_page", pfn)
            word = self.flags[pfn]
        self.flags[pfn] = word & ~OLD_MEMORIES
        self.private[pfn] = 0
        self.count[pfn] = 1
        self.block[pfn] = BLOCK_USED | order
        self.stat.alloc += 1
        if gfp_mask & (ZERO | COMP):
            if gfp_mask & ZERO:
                if gfp_mask & (WAIT | HIGHMEM) == HIGHMEM:
                    raise KernelBug("prep_zero_page", "a page of high memory is to be cleared by somebody who cannot wait", "zero")
                for p in range(pfn, pfn + (1 << order)):
                    self.kernel.ram.clear_page(p)
            if order and gfp_mask & COMP:
                self.prep_compound_page(pfn, order)
        if ev is not None:
            ev(("alloc", pfn, order, zone.index))
        return pfn

    # -- choosing a zone ----------------------------------------------------------------------

    def alloc_pages(self, gfp_mask: int, order: int) -> int | None:
        """In 2.6 the largest order is 10, because huge pages of 4 MiB are allocated here; before that it was 9.

        Allocate 2^order contiguous frames. Returns the first frame, or None.
        kernel: include/linux/gfp.h:alloc_pages
        """
        if order >= MAX_ORDER:
            if self.on_event is not None:
                self.on_event(("alloc_fail", gfp_mask, order))
            return None
        return self._alloc_pages(gfp_mask, order)

    def _alloc_pages(self, gfp_mask: int, order: int) -> int | None:
        """In 2.6 the local node is asked for, because its zonelist goes on to all others; before that the nodes were tried in turn.

        Allocate for the processor's own node.
        kernel: include/linux/gfp.h:alloc_pages_node
        """
        kernel = self.kernel
        which = gfp_mask & GFP_ZONEMASK
        lists = kernel.pgdats[kernel.numa_node_id].node_zonelists
        if which == GFP_ZONEMASK:
            self._zonelist(kernel.numa_node_id, gfp_mask)
        return self.alloc_pages_zonelist(gfp_mask, order, lists[which])

    def alloc_pages_node(self, nid: int, gfp_mask: int, order: int) -> int | None:
        """In 2.6 inline, because alloc_pages() is too; before that a function.

        Allocate from node *nid* or those that follow it.
        kernel: include/linux/gfp.h:alloc_pages_node
        """
        return None if order >= MAX_ORDER else self.alloc_pages_zonelist(gfp_mask, order, self._zonelist(nid, gfp_mask))

    def _zonelist(self, nid: int, gfp_mask: int) -> Zonelist:
        lists = self.kernel.pgdats[nid].node_zonelists
        which = gfp_mask & GFP_ZONEMASK
        if which >= len(lists):
            raise KernelBug(
                "alloc_pages_node",
                f"gfp {to_native(gfp_mask):#x} asks for DMA and high memory at once: there is no such zonelist",
                "zonelist",
            )
        return lists[which]

    # -- counting -----------------------------------------------------------------------------

    def nr_free_zone_pages(self, which: int) -> int:
        """In 2.6 one function serves two, because the page cache's limit is asked for as well; before that there was one for buffers.

        Pages above pages_high in the zones of zonelist *which*, free or not.
        kernel: mm/page_alloc.c:nr_free_zone_pages
        """
        return sum(max(zone.realsize - zone.pages_high, 0) for pgdat in self.kernel.pgdat_list for zone in pgdat.node_zonelists[which])

    def nr_free_buffer_pages(self) -> int:
        """In 2.6 it counts pages present, because zones may have holes; before that pages spanned.

        The same for GFP_USER.
        kernel: mm/page_alloc.c:nr_free_buffer_pages
        """
        return self.nr_free_zone_pages(0)

    def nr_free_pagecache_pages(self) -> int:
        """In 2.6 reclaim and read-ahead ask for it, because they work by zones; before that it did not exist.

        The same for GFP_HIGHUSER.
        kernel: mm/page_alloc.c:nr_free_pagecache_pages
        """
        return self.nr_free_zone_pages(HIGHMEM)
