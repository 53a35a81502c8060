"""How 2.6 decides which zone may serve a request, and how hard it tries. kernel: mm/page_alloc.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..hw.layout import M32
from ..mm.gfp import PF_MEMALLOC, PF_MEMDIE
from .gfp import FS, HIGH, HIGHIO, NOFAIL, NORETRY, NOWARN, REPEAT, WAIT, to_native
from .reclaim import ReclaimHooks

if TYPE_CHECKING:
    from ..mm.events import Listener
    from ..mm.kernel import Kernel, Stat
    from ..mm.mmzone import Zone, Zonelist
    from .mmzone import Zone26

TIF_MEMDIE = PF_MEMDIE  # in 2.6 a flag of its own word; here it keeps 2.4's place in task.flags
HZ = 1000
WRITE = 1


class SlowPath:
    """Watermarks, and the passes over the zones."""

    kernel: Kernel
    stat: Stat
    on_event: Listener | None

    if TYPE_CHECKING:

        def buffered_rmqueue(self, zone: Zone, order: int, gfp_mask: int) -> int | None:
            """See page_alloc.py."""

    def zone_watermark_ok(self, zone: Zone, order: int, mark: int, classzone_idx: int, can_try_harder: int, gfp_high: int) -> bool:
        """In 2.6 each zone is tested by itself and by order, because one sum of marks could be met by pages in useless places; before
        that the marks of the zones were added up.

        Whether *zone* would still have *mark* pages, and enough of them in large blocks, after giving 2^order away.

        Pages reserved for requests that cannot use zone *classzone_idx* do not count; of a mark, who may (*gfp_high*) goes down by a
        half, *can_try_harder* by a quarter of the rest.
        kernel: mm/page_alloc.c:zone_watermark_ok
        """
        least = mark if mark < 0x80000000 else mark - (1 << 32)
        free = zone.free_pages - (1 << order) + 1
        if gfp_high:
            least -= least >> 1 if least >= 0 else -(-least >> 1)
        if can_try_harder:
            least -= least >> 2 if least >= 0 else -(-least >> 2)
        # The reserve is unsigned, so the comparison is: a negative number of pages passes it, and fails below.
        if free & M32 <= least + cast("Zone26", zone).lowmem_reserve[classzone_idx] & M32:
            return False
        areas = zone.free_area
        for o in range(order):
            free -= len(areas[o].free_list) << o
            least >>= 1
            if free <= least:
                return False
        return True

    def _walk(
        self, number: int, order: int, zonelist: Zonelist, gfp_mask: int, mark: str, harder: bool = False, high: int = 0
    ) -> int | None:
        """In 2.6 the walk knows the class zone, because of the reserves; before that a running sum.

        One walk over the zones against watermark *mark*.
        kernel: mm/page_alloc.c:__alloc_pages
        """
        ev = self.on_event
        classzone_idx = zonelist[0].zone_num
        for zone in zonelist:
            limit: int = getattr(zone, mark)
            ok = self.zone_watermark_ok(zone, order, limit, classzone_idx, harder, high)
            if ev is not None:
                if high:
                    limit -= limit // 2
                if harder:
                    limit -= limit // 4
                limit += cast("Zone26", zone).lowmem_reserve[classzone_idx] + (1 << order) - 1
                ev(("watermark", number, zone.index, zone.free_pages, limit, int(ok)))
                if not ok and zone.free_pages > limit:
                    ev(("too_fragmented", zone.index, order))
            if ok:
                pfn = self.buffered_rmqueue(zone, order, gfp_mask)
                if pfn is not None:
                    return pfn
        return None

    def alloc_pages_zonelist(self, gfp_mask: int, order: int, zonelist: Zonelist) -> int | None:
        """In 2.6 a zone keeps lowmem_reserve pages from requests that could use a higher zone, because those would otherwise fill low
        memory with pages that could be anywhere; before that the marks were added up to the same end.

        The heart of the allocator: pass 1 asks for pages_low free, and when no zone has that, kswapd is woken.

        Returns a frame or None; see :meth:`_alloc_pages_slow` for what follows.
        kernel: mm/page_alloc.c:__alloc_pages
        """
        if not zonelist:
            return None
        ev = self.on_event
        if ev is not None:
            ev(("alloc_begin", gfp_mask, order, zonelist[0].pgdat.nid))
        elif not order:
            classzone_idx = zonelist[0].zone_num
            for zone in zonelist:
                if zone.free_pages > zone.pages_low + cast("Zone26", zone).lowmem_reserve[classzone_idx]:
                    pfn = self.buffered_rmqueue(zone, 0, gfp_mask)
                    if pfn is not None:
                        return pfn
            return self._alloc_pages_slow(gfp_mask, 0, zonelist)
        else:
            classzone_idx = zonelist[0].zone_num
            for zone in zonelist:
                if self.zone_watermark_ok(zone, order, zone.pages_low, classzone_idx, 0, 0):
                    pfn = self.buffered_rmqueue(zone, order, gfp_mask)
                    if pfn is not None:
                        return pfn
            return self._alloc_pages_slow(gfp_mask, order, zonelist)
        pfn = self._walk(1, order, zonelist, gfp_mask, "pages_low")
        return self._alloc_pages_slow(gfp_mask, order, zonelist) if pfn is None else pfn

    def _alloc_pages_slow(self, gfp_mask: int, order: int, zonelist: Zonelist) -> int | None:
        """In 2.6 the caller says how long to try (NORETRY, REPEAT, NOFAIL) and out_of_memory() is called from here, because only here it
        is known that reclaim found nothing; before that orders up to 3 were tried for ever and reclaim called the killer.

        Everything after the first pass has failed: kswapd, deeper into the reserves, reclaim, the OOM killer.

        Returns None where the kernel gives up; where it would try for ever, the one it waits for raises KernelHang.
        kernel: mm/page_alloc.c:__alloc_pages
        """
        kernel = self.kernel
        current = kernel.current
        reclaim = cast("ReclaimHooks", kernel.reclaim)
        ev = self.on_event
        wait = gfp_mask & WAIT
        harder = not wait or current.rt_priority > 0
        high = gfp_mask & (HIGH | HIGHIO) == HIGH  # 2.4's GFP_KERNEL had __GFP_HIGH: it means nothing here
        started = True
        while True:
            if not started:
                pfn = self._walk(1, order, zonelist, gfp_mask, "pages_low")
                if pfn is not None:
                    return pfn
            started = False
            for zone in zonelist:
                reclaim.wakeup_kswapd(zone, order)
            pfn = self._walk(2, order, zonelist, gfp_mask, "pages_min", harder, high)
            if pfn is not None:
                return pfn
            if current.flags & (PF_MEMALLOC | TIF_MEMDIE):
                for zone in zonelist:
                    pfn = self.buffered_rmqueue(zone, order, gfp_mask)
                    if pfn is not None:
                        return pfn
                self._nopage(gfp_mask, order)
                return None
            if not wait:
                self._nopage(gfp_mask, order)
                return None
            while True:
                current.flags |= PF_MEMALLOC
                self.stat.reclaim += 1
                if ev is not None:
                    ev(("direct_reclaim", gfp_mask, order))
                progress = reclaim.try_to_free_pages(zonelist, gfp_mask, order)
                current.flags &= ~PF_MEMALLOC
                if progress:
                    pfn = self._walk(3, order, zonelist, gfp_mask, "pages_min", harder, high)
                    if pfn is not None:
                        return pfn
                elif gfp_mask & FS and not gfp_mask & NORETRY:
                    # Only if somebody was killed meanwhile is there this much.
                    pfn = self._walk(4, order, zonelist, gfp_mask, "pages_high")
                    if pfn is not None:
                        return pfn
                    reclaim.out_of_memory(gfp_mask)
                    break  # from the beginning
                if gfp_mask & NORETRY or order > 3 and not gfp_mask & (REPEAT | NOFAIL):
                    self._nopage(gfp_mask, order)
                    return None
                self.stat.yield_ += 1
                if ev is not None:
                    ev(("congestion_wait", HZ // 50))
                reclaim.blk_congestion_wait(WRITE, HZ // 50)

    def _nopage(self, gfp_mask: int, order: int) -> None:
        """In 2.6 a failure is reported, because drivers forget to check; before that only some were.

        Give up, and say so unless __GFP_NOWARN is set.
        kernel: mm/page_alloc.c:__alloc_pages
        """
        self.stat.fail += 1
        if self.on_event is not None:
            self.on_event(("alloc_fail", gfp_mask, order))
        if not gfp_mask & NOWARN and cast("ReclaimHooks", self.kernel.reclaim).printk_ratelimit():
            current = self.kernel.current
            self.kernel.printk(4, f"{current.comm}: page allocation failure. order:{order}, mode:0x{to_native(gfp_mask):x}")
