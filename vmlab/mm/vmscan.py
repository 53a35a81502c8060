"""Page reclaim: finding frames to free when memory runs short.

``try_to_free_pages_zone`` tries to free 32 pages, harder with each of up to six rounds. A round
moves some active pages to the inactive list, then goes over a part of the inactive list from its
tail: clean unused pages are freed, dirty ones written, and when too many turn out to be mapped the
clock (vmscan_swapout.py) unmaps some. kswapd does the same in the background.

kernel: mm/vmscan.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .fs import SWAPPER_SPACE_ID
from .gfp import __GFP_FS as GFP_FS
from .gfp import __GFP_HIGHIO as GFP_HIGHIO
from .gfp import __GFP_IO as GFP_IO
from .gfp import GFP_KSWAPD, GFP_ZONEMASK, PF_FREE_PAGES
from .page_flags import LRU, PG_active, PG_dirty, PG_launder, PG_locked, PG_referenced
from .swap import SWAP_CLUSTER_MAX
from .task import HZ
from .vmscan_swapout import SwapOut

if TYPE_CHECKING:
    from .kernel import Kernel
    from .mmzone import PgData, Zone

DEF_PRIORITY = 6  # rounds; each looks at 1/6, 1/5, … of the inactive list
PF_NOIO = 0x4000

_LOCKED = 1 << PG_locked
_REFERENCED = 1 << PG_referenced
_DIRTY = 1 << PG_dirty
_ACTIVE = 1 << PG_active
_LAUNDER = 1 << PG_launder
_UNLOCK = 0xFFFFFFFF ^ (_LOCKED | _LAUNDER)


class Vmscan(SwapOut):
    """Page reclaim and kswapd."""

    state_names = ("swap_mm",)

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.swap_mm = kernel.pgtable.init_mm
        self.scanned = self.reclaimed = 0  # pages of the inactive list looked at and freed since power-on: for people, not for the kernel

    # -- what the page allocator calls --------------------------------------------------------

    def wake_kswapd(self) -> None:
        """Memory runs short: kswapd is to look after it. kernel: mm/page_alloc.c:__alloc_pages"""
        self.kernel.sched.wake_kswapd()

    def yielded(self) -> None:
        """Let the others run, then try again. kernel: kernel/sched.c:yield"""
        self.kernel.sched.yield_()

    # -- the inactive list --------------------------------------------------------------------

    def shrink_cache(self, nr_pages: int, classzone: Zone, gfp_mask: int, priority: int) -> int:
        """Free up to *nr_pages* pages that *classzone* can use from the tail of the inactive list.

        Looks at 1/*priority* of the list; each page looked at goes to its head. A dirty page is
        written if *gfp_mask* allows to enter the file system, and freed on a later visit. When
        more than a tenth of the pages looked at are mapped, the clock unmaps some instead.
        Returns how many pages are still wanted. kernel: mm/vmscan.c:shrink_cache
        """
        kernel = self.kernel
        swap, mappings = kernel.swap, kernel.mappings
        flags, count, mapping = self.flags, self.count, self.mapping
        following, preceding = self.lru.next, self.lru.prev
        head = swap.inactive_list
        lowest, highest = classzone.index - classzone.zone_num, classzone.index
        may_enter_fs = gfp_mask & GFP_FS
        ev = self.on_event
        scan = max_scan = swap.nr_inactive_pages // priority
        wanted = nr_pages
        max_mapped = min(nr_pages << (10 - priority), max_scan // 10)
        # Moving page after page from the tail to the head is moving the head backwards; that is put off until somebody could see it.
        tail = head
        while max_scan > 0:
            max_scan -= 1
            pfn = preceding[tail]
            if pfn == head:
                self._tail_to_head(head, tail)
                tail = head
                pfn = preceding[head]
                if pfn == head:
                    break
            word = flags[pfn]
            if word & (LRU | _ACTIVE) != LRU:
                raise KernelBug("shrink_cache", f"frame {pfn} on the inactive list is not marked so", "lru")
            before, tail = tail, pfn
            if not lowest <= word >> 24 <= highest:
                continue
            users = count[pfn]
            space = mapping[pfn]
            if users != 1 or not space:
                if not users:
                    continue
                max_mapped -= 1
                if max_mapped >= 0:
                    continue
                self._tail_to_head(head, tail)
                self.scanned += scan - max_scan
                self.reclaimed += wanted - nr_pages
                if ev is not None:
                    ev(("too_many_mapped", pfn))
                self.swap_out(priority, gfp_mask, classzone)
                return nr_pages
            if word & _LOCKED:
                if word & _LAUNDER and may_enter_fs:
                    self._tail_to_head(head, tail)
                    tail = head
                    count[pfn] += 1
                    kernel.filemap.wait_on_page(pfn)
                    kernel.put_page(pfn)
                continue
            if word & _DIRTY:
                writepage = mappings[space].a_ops.writepage
                if may_enter_fs and writepage is not None:
                    self._tail_to_head(head, tail)
                    tail = head
                    flags[pfn] = (word | _LOCKED | _LAUNDER) & ~_DIRTY
                    count[pfn] += 1
                    if ev is not None:
                        ev(("launder", pfn))
                    writepage(pfn)
                    kernel.put_page(pfn)
                else:
                    flags[pfn] = word & _UNLOCK
                continue
            if ev is None:
                tail = before  # nobody sees where on the list it was
            else:
                self._tail_to_head(head, tail)
                tail = head
            flags[pfn] = word | _LOCKED
            if space == SWAPPER_SPACE_ID:
                entry = self.index[pfn]
                kernel.swap_state.delete_from_swap_cache_nolock(pfn)
                kernel.swapfile.swap_free(entry)
            else:
                kernel.filemap.remove_inode_page_nolock(pfn)
            swap.lru_cache_del(pfn)
            preceding[pfn] = head  # the links it leaves with are those of the first on the list, moved there or not
            following[pfn] = following[head] if tail == head else tail
            flags[pfn] &= _UNLOCK
            if ev is not None:
                ev(("reclaim_page", pfn))
            kernel.put_page(pfn)
            nr_pages -= 1
            if not nr_pages:
                break
        self._tail_to_head(head, tail)
        self.scanned += scan - max_scan
        self.reclaimed += wanted - nr_pages
        return nr_pages

    def _tail_to_head(self, head: int, entry: int) -> None:
        """Rotate the list so that *entry* is its first, and those that came after it follow. *entry* may be the head: nothing to do."""
        if entry != head:
            self.lru.del_(head)
            self.lru.add_tail(head, entry)

    def refill_inactive(self, nr_pages: int) -> None:
        """Move *nr_pages* pages from the tail of the active list to the inactive one; a referenced page gets another round.

        kernel: mm/vmscan.c:refill_inactive
        """
        swap = self.kernel.swap
        flags, lru = self.flags, self.lru
        head = swap.active_list
        preceding = lru.prev
        ev = self.on_event
        pfn = preceding[head]
        while nr_pages and pfn != head:
            before = preceding[pfn]
            if flags[pfn] & _REFERENCED:
                flags[pfn] &= ~_REFERENCED
                lru.del_(pfn)
                lru.add(pfn, head)
                if ev is not None:
                    ev(("second_chance", pfn))
            else:
                nr_pages -= 1
                swap.del_page_from_active_list(pfn)
                swap.add_page_to_inactive_list(pfn)
                flags[pfn] |= _REFERENCED
                if ev is not None:
                    ev(("deactivate", pfn))
            pfn = before

    # -- one round, and all rounds ------------------------------------------------------------

    def shrink_dcache_memory(self, priority: int, gfp_mask: int) -> int:
        """Free unused directory entries; returns the pages that gives. kernel: fs/dcache.c:shrink_dcache_memory"""
        return self.kernel.dcache.shrink_dcache_memory(priority, gfp_mask)

    def shrink_icache_memory(self, priority: int, gfp_mask: int) -> int:
        """Free unused inodes; returns the pages that gives. kernel: fs/inode.c:shrink_icache_memory"""
        return self.kernel.icache.shrink_icache_memory(priority, gfp_mask)

    def shrink_caches(self, classzone: Zone, priority: int, gfp_mask: int, nr_pages: int) -> int:
        """One round of reclaim. Returns how many of *nr_pages* are still wanted, at least 0.

        kernel: mm/vmscan.c:shrink_caches
        """
        kernel = self.kernel
        if self.on_event is not None:
            self.on_event(("shrink_caches", classzone.index, priority, nr_pages))
        if nr_pages - kernel.slab.kmem_cache_reap(gfp_mask) <= 0:
            return 0
        swap = kernel.swap
        # The active list shrinks towards two thirds of all pages.
        self.refill_inactive(nr_pages * swap.nr_active_pages // ((swap.nr_inactive_pages + 1) * 2))
        nr_pages = self.shrink_cache(nr_pages, classzone, gfp_mask, priority)
        if nr_pages <= 0:
            return 0
        self.shrink_dcache_memory(priority, gfp_mask)
        self.shrink_icache_memory(priority, gfp_mask)
        return nr_pages

    def try_to_free_pages_zone(self, classzone: Zone, gfp_mask: int) -> int:
        """Free 32 pages that *classzone* can use, trying harder each round.

        Returns 1 on success; else asks whether memory has run out for good, and returns 0.
        kernel: mm/vmscan.c:try_to_free_pages_zone, include/linux/mm.h:pf_gfp_mask
        """
        if self.kernel.current.flags & PF_NOIO:
            gfp_mask &= ~(GFP_IO | GFP_HIGHIO | GFP_FS)
        nr_pages = SWAP_CLUSTER_MAX
        for priority in range(DEF_PRIORITY, 0, -1):
            nr_pages = self.shrink_caches(classzone, priority, gfp_mask, nr_pages)
            if nr_pages <= 0:
                return 1
        self.kernel.oom_kill.out_of_memory()
        return 0

    def try_to_free_pages(self, gfp_mask: int) -> int:
        """Free pages on every node. Returns 1 when one of them succeeded. kernel: mm/vmscan.c:try_to_free_pages"""
        kernel = self.kernel
        current = kernel.current
        keeps = current.flags & PF_FREE_PAGES
        current.flags &= ~PF_FREE_PAGES
        done = 0
        for pgdat in kernel.pgdat_list:
            zonelist = pgdat.node_zonelists[gfp_mask & GFP_ZONEMASK]
            done |= self.try_to_free_pages_zone(zonelist[0], gfp_mask)
        current.flags |= keeps
        return done

    # -- kswapd -------------------------------------------------------------------------------

    def check_classzone_need_balance(self, classzone: Zone) -> int:
        """1 unless *classzone* or a zone below it has more than pages_high free. kernel: mm/vmscan.c:check_classzone_need_balance"""
        for zone in classzone.pgdat.node_zones[classzone.zone_num :: -1]:
            if zone.free_pages > zone.pages_high:
                return 0
        return 1

    def kswapd_balance_pgdat(self, pgdat: PgData) -> int:
        """Reclaim once for each zone of the node that asks for it. Returns 1 when that was not enough.

        kernel: mm/vmscan.c:kswapd_balance_pgdat
        """
        need_more_balance = 0
        for zone in pgdat.node_zones[: pgdat.nr_zones][::-1]:
            if not zone.need_balance:
                continue
            if not self.try_to_free_pages_zone(zone, GFP_KSWAPD):
                zone.need_balance = 0
                self.kernel.sched.schedule_timeout(HZ)
            elif self.check_classzone_need_balance(zone):
                need_more_balance = 1
            else:
                zone.need_balance = 0
                if self.on_event is not None:
                    self.on_event(("zone_balanced", zone.index, zone.free_pages))
        return need_more_balance

    def kswapd_balance(self) -> None:
        """Reclaim until every zone is balanced, or cannot be. kernel: mm/vmscan.c:kswapd_balance"""
        while True:
            need_more_balance = 0
            for pgdat in self.kernel.pgdat_list:
                need_more_balance |= self.kswapd_balance_pgdat(pgdat)
            if not need_more_balance:
                return

    def kswapd_can_sleep_pgdat(self, pgdat: PgData) -> int:
        """1 when no zone of the node asks for reclaim. kernel: mm/vmscan.c:kswapd_can_sleep_pgdat"""
        return int(not any(zone.need_balance for zone in pgdat.node_zones[: pgdat.nr_zones]))

    def kswapd_can_sleep(self) -> int:
        """1 when no zone asks for reclaim. kernel: mm/vmscan.c:kswapd_can_sleep"""
        return int(all(self.kswapd_can_sleep_pgdat(pgdat) for pgdat in self.kernel.pgdat_list))

    def kswapd(self) -> None:
        """What kswapd does from being woken to going to sleep again. kernel: mm/vmscan.c:kswapd"""
        if self.on_event is not None:
            self.on_event(("kswapd",))
        while True:
            self.kswapd_balance()
            self.kernel.sched.run_task_queue()
            if self.kswapd_can_sleep():
                break
        if self.on_event is not None:
            self.on_event(("kswapd_sleeps",))
