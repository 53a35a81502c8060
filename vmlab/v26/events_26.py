"""Steps of the page allocator that only 2.6 has."""

from __future__ import annotations

from ..mm.events_base import spec

_PA = "mm/page_alloc.c:"
SPECS = [
    spec(
        "pcp_refill",
        _PA + "rmqueue_bulk",
        "zone cold pages",
        "{zone_name}: the per-CPU list {cold} runs low and gets {pages} pages from the zone",
    ),
    spec("pcp_alloc", _PA + "buffered_rmqueue", "zone cold pfn left", "{pfn} comes from the head of per-CPU list {cold}, {left} are left"),
    spec("pcp_free", _PA + "free_hot_cold_page", "zone cold pfn count", "{pfn} goes to the head of per-CPU list {cold}, now {count} pages"),
    spec(
        "pcp_drain",
        _PA + "free_hot_cold_page",
        "zone cold pages",
        "per-CPU list {cold} of {zone_name} is full: {pages} pages return to the zone",
    ),
    spec(
        "expand_upper",
        _PA + "expand",
        "zone order low_pfn high_pfn",
        "split: the upper half {high_pfn} goes to the order-{order} list, the lower half {low_pfn} is kept",
    ),
    spec(
        "too_fragmented",
        _PA + "zone_watermark_ok",
        "zone order",
        "{zone_name} has the pages, but too few of them in blocks of order {order} or more",
    ),
    spec("direct_reclaim", _PA + "__alloc_pages", "gfp order", "the task itself reclaims pages"),
    spec("congestion_wait", _PA + "__alloc_pages", "jiffies", "wait up to {jiffies} jiffies for writes to finish, then try again"),
    spec("watermarks", _PA + "setup_per_zone_pages_min", "zone min low high", "{zone_name}: watermarks {min}/{low}/{high}"),
    spec(
        "lowmem_reserve",
        _PA + "setup_per_zone_lowmem_reserve",
        "zone dma normal highmem",
        "{zone_name} keeps {dma}/{normal}/{highmem} pages from requests for DMA/Normal/HighMem",
    ),
]
