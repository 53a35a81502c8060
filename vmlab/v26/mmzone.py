"""Nodes and zones of 2.6: what they have beyond 2.4's. kernel: include/linux/mmzone.h"""

from __future__ import annotations

from collections import deque

from ..hw.layout import PAGE_SIZE
from ..mm.mmzone import MAX_NR_ZONES, PgData, Zone
from .gfp import GFP_ZONETYPES

MAX_ORDER26 = 11  # orders 0..10; the largest block is 1024 pages = 4 MiB
DEF_PRIORITY = 12  # reclaim's first round looks at 1/4096 of the lists
SIZEOF_ZONE = 292  # bytes, with one processor


class PerCpuPages:
    """In 2.6 single pages go through these lists, because the buddy lists need a lock and a page freed a moment ago is still in the
    cache; before that every page went to the buddy lists at once.

    Single pages a processor keeps at hand (per_cpu_pages): head of the list at the left.
    kernel: include/linux/mmzone.h:per_cpu_pages
    """

    __slots__ = ("batch", "high", "list", "low")

    def __init__(self) -> None:
        self.list: deque[int] = deque()
        self.low = 0  # refilled when this many or fewer are left
        self.high = 0  # emptied by a batch when this many are there
        self.batch = 1

    @property
    def count(self) -> int:
        """Pages on the list."""
        return len(self.list)

    def __repr__(self) -> str:
        return f"<PerCpuPages {len(self.list)} pages, low {self.low}, high {self.high}, batch {self.batch}>"


class Zone26(Zone):
    """In 2.6 each zone has its own active and inactive list, because reclaim then looks only at pages of the zone that is short; before
    that two lists held the pages of all zones.

    A zone of 2.6: per-CPU page sets, a reserve for lower zones, and LRU lists of its own.
    kernel: include/linux/mmzone.h:zone
    """

    __slots__ = (
        "active_list",
        "all_unreclaimable",
        "inactive_list",
        "lowmem_reserve",
        "nr_active",
        "nr_inactive",
        "nr_scan_active",
        "nr_scan_inactive",
        "pages_scanned",
        "pcp",
        "prev_priority",
        "temp_priority",
    )

    orders = MAX_ORDER26
    has_maps = False
    more_state = (
        "active_list",
        "all_unreclaimable",
        "inactive_list",
        "lowmem_reserve",
        "nr_active",
        "nr_inactive",
        "nr_scan_active",
        "nr_scan_inactive",
        "pages_scanned",
        "prev_priority",
        "temp_priority",
        "pageset_state",
    )

    def __init__(self, pgdat: PgData, zone_num: int) -> None:
        super().__init__(pgdat, zone_num)
        self.lowmem_reserve = [0] * MAX_NR_ZONES  # pages kept from requests that could use a higher zone, by that zone
        self.pcp = (PerCpuPages(), PerCpuPages())  # hot, cold; of the only processor
        self.active_list = self.inactive_list = 0  # heads in mem.lru (a whole machine)
        self.nr_active = self.nr_inactive = 0  # pages
        self.nr_scan_active = self.nr_scan_inactive = 0  # pages to scan that have piled up
        self.pages_scanned = 0  # since a page was freed into the zone
        self.all_unreclaimable = 0
        self.temp_priority = self.prev_priority = DEF_PRIORITY

    @property
    def spanned_pages(self) -> int:
        """Pages from the zone's start to its end, holes included."""
        return self.size

    @property
    def present_pages(self) -> int:
        """Pages of RAM in the zone."""
        return self.realsize

    @property
    def wait_table_bits(self) -> int:
        """log2 of the number of wait queues; 0 in an empty zone."""
        return 32 - self.wait_table_shift if self.size else 0

    @property
    def pageset_state(self) -> list[list[int]]:
        """Both page sets as numbers: low, high, batch, then the pages."""
        return [[p.low, p.high, p.batch, *p.list] for p in self.pcp]

    @pageset_state.setter
    def pageset_state(self, value: list[list[int]]) -> None:
        for pages, (low, high, batch, *listed) in zip(self.pcp, value, strict=True):
            pages.low, pages.high, pages.batch = low, high, batch
            pages.list.clear()
            pages.list.extend(listed)

    def parked(self) -> list[int]:
        """Frames on the per-CPU lists, hot ones first."""
        return [*self.pcp[0].list, *self.pcp[1].list]

    def init_pageset(self) -> int:
        """In 2.6 the lists are sized by zone, because they should fit into the cache and hurt no small zone; before that there were none.

        Empty page sets of the size that suits the zone: about a thousandth of it, 256 KiB at most. Returns the batch.
        kernel: mm/page_alloc.c:free_area_init_core
        """
        batch = self.realsize // 1024
        if batch * PAGE_SIZE > 256 * 1024:
            batch = 256 * 1024 // PAGE_SIZE
        batch = max(batch // 4, 1)
        hot, cold = self.pcp
        hot.low, hot.high, hot.batch = 2 * batch, 6 * batch, batch
        cold.low, cold.high, cold.batch = 0, 2 * batch, batch
        hot.list.clear()
        cold.list.clear()
        return batch


class PgData26(PgData):
    """In 2.6 each node has a kswapd of its own, because one could not keep up with many; before that there was one for all.

    A node.
    kernel: include/linux/mmzone.h:pglist_data
    """

    zone_class = Zone26
    more_state = ("kswapd_max_order", "node_present_pages")

    def __init__(self, nid: int = 0) -> None:
        super().__init__(nid)
        self.node_zonelists = [[] for _ in range(GFP_ZONETYPES)]
        self.kswapd_max_order = 0  # the largest order somebody woke kswapd for
        self.node_present_pages = 0

    @property
    def node_spanned_pages(self) -> int:
        """Pages of the node, holes included."""
        return self.node_size
