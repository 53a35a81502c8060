"""Who reclaims, from which zones, and until when: try_to_free_pages, balance_pgdat and kswapd. kernel: mm/vmscan.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..mm.kernel import Kernel
from ..mm.reclaim import Reclaim
from .gfp import GFP_KERNEL
from .mmzone import DEF_PRIORITY
from .reclaim import ReclaimHooks
from .shrinker import Shrinkers
from .task import HZ
from .thrash import SwapToken
from .vmscan_control import SWAP_CLUSTER_MAX, ScanControl

if TYPE_CHECKING:
    from ..mm.mmzone import Zone, Zonelist
    from .mmzone import PgData26, Zone26
    from .page_alloc import PageAllocator26
    from .swap import LruCache26

WRITE = 1


class BalanceZones(SwapToken, Shrinkers, ReclaimHooks, Reclaim):
    """The outer rounds of reclaim; Vmscan26 has the inner ones."""

    state_names: tuple[str, ...] = (
        "laptop_mode",
        "reclaimed_slab",
        "shrinker_list",
        "swap_token_check",
        "swap_token_default_timeout",
        "swap_token_mm",
        "swap_token_timeout",
        "total_memory",
        "vm_swappiness",
    )

    def __init__(self) -> None:
        super().__init__()
        self.vm_swappiness = 60  # 0 to 100: how gladly mapped pages are reclaimed
        self.laptop_mode = 0  # seconds; 0: the disk need not rest
        self.total_memory = 1  # pages reclaim can ever look at, counted at boot
        self.reclaimed_slab = 0  # pages freed by slabs in this reclaim: current->reclaim_state

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        mem = kernel.mem
        self.flags, self.count, self.mapping, self.lru = mem.flags, mem.count, mem.mapping, mem.lru
        self.allocator = cast("PageAllocator26", kernel.page_allocator)
        self.private = self.allocator.private
        self.mapcount: Any = self.allocator.mapcount
        self.page_state = self.allocator.page_state
        self.swap = cast("LruCache26", kernel.swap)
        self.filemap: Any = kernel.filemap
        self.rmap: Any = kernel.more_parts.get("rmap")
        self.attach_token(kernel)

    def kswapd_init(self) -> None:
        """In 2.6 the size of memory is noted here, because refill weighs mapped pages against it; before that only kswapd was started.

        kernel: mm/vmscan.c:kswapd_init
        """
        self.total_memory = self.allocator.nr_free_pagecache_pages()

    # -- what the page allocator calls --------------------------------------------------------

    def wakeup_kswapd(self, zone: Zone, order: int) -> None:
        """In 2.6 every zone of the request is looked at and the order is passed on, because kswapd can free for large blocks too; before
        that one kswapd was woken without being told.

        Wake the node's kswapd if *zone* is below pages_low, for blocks of at least *order*.
        kernel: mm/vmscan.c:wakeup_kswapd
        """
        if not zone.realsize:
            return
        if self.allocator.zone_watermark_ok(zone, order, zone.pages_low, 0, 0, 0):
            return
        pgdat = cast("PgData26", zone.pgdat)
        pgdat.kswapd_max_order = max(pgdat.kswapd_max_order, order)
        self.kernel.stat.wake_kswapd += 1
        self.kernel.emit("wake_kswapd")
        self.kernel.sched.wake_kswapd(pgdat.nid)  # type: ignore[call-arg]

    def out_of_memory(self, gfp_mask: int) -> None:
        """In 2.6 the allocator calls the killer, because it alone knows that a last look at the lists failed; before that reclaim did.

        Reclaim found nothing: somebody has to go. kernel: mm/oom_kill.c:out_of_memory
        """
        self.kernel.oom_kill.out_of_memory(gfp_mask)  # type: ignore[call-arg]

    def blk_congestion_wait(self, write: int, timeout: int) -> None:
        """In 2.6 a task that finds nothing waits for the disk, because yielding only burned time; before that it called yield().

        Wait up to *timeout* jiffies for writes to finish. kernel: drivers/block/ll_rw_blk.c:blk_congestion_wait
        """
        self.kernel.sched.blk_congestion_wait(write, timeout)  # type: ignore[attr-defined]

    # -- one zone, and all zones of a request -------------------------------------------------

    def shrink_cache(self, zone: Zone26, sc: ScanControl) -> None:
        """Look at some inactive pages."""
        raise NotImplementedError

    def refill_inactive_zone(self, zone: Zone26, sc: ScanControl) -> None:
        """Look at some active pages."""
        raise NotImplementedError

    def shrink_zone(self, zone: Zone26, sc: ScanControl) -> None:
        """In 2.6 both lists are scanned in the same proportion, and what is too little to be worth it piles up for the next time, because a
        small zone must be scanned as often as it deserves; before that at least 32 pages were wanted each time.

        One round at sc.priority over *zone*: 2^-priority of its lists, in turns of 32 pages, until 32 are freed.
        kernel: mm/vmscan.c:shrink_zone
        """
        zone.nr_scan_active += (zone.nr_active >> (sc.priority & 31)) + 1
        nr_active = zone.nr_scan_active
        if nr_active >= SWAP_CLUSTER_MAX:
            zone.nr_scan_active = 0
        else:
            nr_active = 0
        zone.nr_scan_inactive += (zone.nr_inactive >> (sc.priority & 31)) + 1
        nr_inactive = zone.nr_scan_inactive
        if nr_inactive >= SWAP_CLUSTER_MAX:
            zone.nr_scan_inactive = 0
        else:
            nr_inactive = 0
        sc.nr_to_reclaim = SWAP_CLUSTER_MAX
        if self.on_event is not None:
            self.on_event(("shrink_zone", zone.index, sc.priority, nr_active, nr_inactive))
        while nr_active or nr_inactive:
            if nr_active:
                sc.nr_to_scan = min(nr_active, SWAP_CLUSTER_MAX)
                nr_active -= sc.nr_to_scan
                self.refill_inactive_zone(zone, sc)
            if nr_inactive:
                sc.nr_to_scan = min(nr_inactive, SWAP_CLUSTER_MAX)
                nr_inactive -= sc.nr_to_scan
                self.shrink_cache(zone, sc)
                if sc.nr_to_reclaim <= 0:
                    break

    def shrink_caches(self, zonelist: Zonelist, sc: ScanControl) -> None:
        """In 2.6 a zone that was scanned four times over without a page freed is passed over, because only kswapd looks whether that has
        changed; before that nobody noticed.

        One round over the zones a request can use. kernel: mm/vmscan.c:shrink_caches
        """
        for each in zonelist:
            zone = cast("Zone26", each)
            if not zone.realsize:
                continue
            zone.temp_priority = sc.priority
            zone.prev_priority = min(zone.prev_priority, sc.priority)
            if zone.all_unreclaimable and sc.priority != DEF_PRIORITY:
                continue
            self.shrink_zone(zone, sc)

    def _age_slabs(self, sc: ScanControl, gfp_mask: int, lru_pages: int) -> None:
        """Shrink caches in proportion to the pages scanned; the pages that frees count as reclaimed."""
        self.shrink_slab(sc.nr_scanned, gfp_mask, lru_pages)
        sc.nr_reclaimed += self.reclaimed_slab

    def try_to_free_pages(self, zonelist: Zonelist, gfp_mask: int, order: int) -> int:
        """In 2.6 there are 13 rounds and a wait after the hard ones, because pages on their way to disk become free by themselves; before
        that there were 6 rounds, and the caller waited.

        Free 32 pages of these zones for the task that needs one. Returns 1 when a round reached that, else 0.
        kernel: mm/vmscan.c:try_to_free_pages
        """
        page_state = self.page_state
        sc = ScanControl(gfp_mask)
        page_state.allocstall += 1
        lru_pages = total_scanned = ret = 0
        self.reclaimed_slab = 0
        zones = cast("list[Zone26]", zonelist)
        for zone in zones:
            zone.temp_priority = DEF_PRIORITY
            lru_pages += zone.nr_active + zone.nr_inactive
        for priority in range(DEF_PRIORITY, -1, -1):
            sc.nr_mapped = page_state.nr_mapped
            sc.nr_scanned = sc.nr_reclaimed = 0
            sc.priority = priority
            self.shrink_caches(zonelist, sc)
            self._age_slabs(sc, gfp_mask, lru_pages)
            self.reclaimed_slab = 0
            if sc.nr_reclaimed >= SWAP_CLUSTER_MAX:
                ret = 1
                break
            total_scanned += sc.nr_scanned
            if total_scanned > SWAP_CLUSTER_MAX + SWAP_CLUSTER_MAX // 2:
                self.kernel.page_writeback.wakeup_bdflush(0 if self.laptop_mode else total_scanned)  # type: ignore[attr-defined]
                sc.may_writepage = 1
            if sc.nr_scanned and priority < DEF_PRIORITY - 2:
                self.blk_congestion_wait(WRITE, HZ // 10)
        for zone in zones:
            zone.prev_priority = zone.temp_priority
        return ret

    # -- kswapd -------------------------------------------------------------------------------

    def _highest_short(self, zones: list[Zone26], order: int, priority: int) -> int:
        """Number of the highest zone below pages_high that is worth scanning, -1 when all have enough."""
        for zone in reversed(zones):
            if not zone.realsize or zone.all_unreclaimable and priority != DEF_PRIORITY:
                continue
            if not self.allocator.zone_watermark_ok(zone, order, zone.pages_high, 0, 0, 0):
                return zone.zone_num
        return -1

    def balance_pgdat(self, pgdat: PgData26, nr_pages: int, order: int) -> int:
        """In 2.6 kswapd works on until each zone of its node is at pages_high, because a mark per zone says when it is enough; before that
        a flag per zone asked for 32 pages.

        From the lowest zone to the highest that is short, in rounds of rising priority. *nr_pages*: free that many whatever
        the marks say (0: balance). Returns how many were freed in the last pass.
        kernel: mm/vmscan.c:balance_pgdat
        """
        zones = cast("list[Zone26]", pgdat.node_zones[: pgdat.nr_zones])
        while True:
            all_zones_ok, total_reclaimed = self._balance_pass(zones, nr_pages, order)
            for zone in zones:
                zone.prev_priority = zone.temp_priority
            if all_zones_ok:
                return total_reclaimed

    def _balance_pass(self, zones: list[Zone26], nr_pages: int, order: int) -> tuple[bool, int]:
        """One go of balance_pgdat() from priority 12 on: whether all zones were above their marks, and pages freed."""
        page_state = self.page_state
        total_scanned = total_reclaimed = 0
        sc = ScanControl(GFP_KERNEL, page_state.nr_mapped)
        page_state.pageoutrun += 1
        for zone in zones:
            zone.temp_priority = DEF_PRIORITY
        all_zones_ok = True
        for priority in range(DEF_PRIORITY, -1, -1):
            all_zones_ok = True
            end_zone = len(zones) - 1 if nr_pages else self._highest_short(zones, order, priority)
            if end_zone < 0:
                break
            scanned = zones[: end_zone + 1]
            lru_pages = sum(zone.nr_active + zone.nr_inactive for zone in scanned)
            for zone in scanned:
                if not zone.realsize or zone.all_unreclaimable and priority != DEF_PRIORITY:
                    continue
                if not nr_pages and not self.allocator.zone_watermark_ok(zone, order, zone.pages_high, end_zone, 0, 0):
                    all_zones_ok = False
                zone.temp_priority = priority
                zone.prev_priority = min(zone.prev_priority, priority)
                sc.nr_scanned = sc.nr_reclaimed = 0
                sc.priority = priority
                self.shrink_zone(zone, sc)
                self.reclaimed_slab = 0
                self._age_slabs(sc, GFP_KERNEL, lru_pages)
                total_reclaimed += sc.nr_reclaimed
                total_scanned += sc.nr_scanned
                if zone.all_unreclaimable:
                    continue
                if zone.pages_scanned >= (zone.nr_active + zone.nr_inactive) * 4:
                    zone.all_unreclaimable = 1
                    if self.on_event is not None:
                        self.on_event(("all_unreclaimable", zone.index, zone.pages_scanned))
                if total_scanned > SWAP_CLUSTER_MAX * 2 and total_scanned > total_reclaimed + total_reclaimed // 2:
                    sc.may_writepage = 1
            if nr_pages and nr_pages > total_reclaimed:
                continue
            if all_zones_ok:
                break
            if total_scanned and priority < DEF_PRIORITY - 2:
                self.blk_congestion_wait(WRITE, HZ // 10)
            if total_reclaimed >= SWAP_CLUSTER_MAX:
                break
        return all_zones_ok, total_reclaimed

    def kswapd(self, nid: int = 0) -> None:
        """In 2.6 each node has one, and it runs again if somebody meanwhile wants larger blocks, because large blocks need more than a
        count of free pages; before that one served all nodes.

        What kswapd of node *nid* does from being woken to going to sleep again. kernel: mm/vmscan.c:kswapd
        """
        ev = self.on_event
        if ev is not None:
            ev(("kswapd",))
        kept, self.reclaimed_slab = self.reclaimed_slab, 0
        pgdat = cast("PgData26", self.kernel.pgdats[nid])
        order = pgdat.kswapd_max_order
        while True:
            self.balance_pgdat(pgdat, 0, order)
            new_order, pgdat.kswapd_max_order = pgdat.kswapd_max_order, 0
            if order >= new_order:
                break
            order = new_order
        self.reclaimed_slab = kept
        if ev is not None:
            ev(("kswapd_sleeps",))

    def shrink_all_memory(self, nr_pages: int) -> int:
        """In 2.6 new, because suspending to disk needs half of memory free: free *nr_pages* pages. Returns how many that were.

        kernel: mm/vmscan.c:shrink_all_memory
        """
        ret = 0
        for pgdat in self.kernel.pgdat_list:
            ret += self.balance_pgdat(cast("PgData26", pgdat), nr_pages - ret, 0)
            if ret >= nr_pages:
                break
        return ret
