"""Steps of page reclaim that only 2.6 has."""

from __future__ import annotations

from ..mm.events_base import spec

_VS = "mm/vmscan.c:"
SPECS = [
    spec(
        "shrink_zone",
        _VS + "shrink_zone",
        "zone priority nr_active nr_inactive",
        "reclaim from {zone_name}, priority {priority}: {nr_active} active and {nr_inactive} inactive pages are to be looked at",
    ),
    spec(
        "refill",
        _VS + "refill_inactive_zone",
        "zone pages mapped_ratio distress swappiness swap_tendency reclaim_mapped",
        "{pages} active pages of {zone_name}: {mapped_ratio}% mapped, half of that + distress {distress} + swappiness {swappiness} = "
        "{swap_tendency}; from 100 on mapped pages are not spared",
    ),
    spec("pageout", _VS + "pageout", "pfn", "{pfn} is dirty and used by nobody: it is written"),
    spec(
        "all_unreclaimable", _VS + "balance_pgdat", "zone scanned", "{scanned} pages of {zone_name} scanned and none freed: it is given up"
    ),
    spec("swap_token", "mm/thrash.c:grab_swap_token", "pid", "process {pid} gets the swap token"),
    spec(
        "blk_congestion_wait",
        "drivers/block/ll_rw_blk.c:blk_congestion_wait",
        "timeout jiffies",
        "wait for the disk; it is jiffy {jiffies}",
    ),
    spec("oom_busy", "mm/oom_kill.c:select_bad_process", "pid", "process {pid} is dying already: nobody else is chosen"),
]
