"""What every replay of 2.6 traces with processes needs of the page allocator: the boot line, free lists, counters."""

from __future__ import annotations

import zlib
from typing import Any, cast

from ...errors import TraceError
from ...hw.layout import PAGE_SHIFT
from ...machine import Machine
from ...mm.page_flags import RESERVED
from ...v26.mmzone import Zone26
from ...v26.page_alloc import PageAllocator26
from ...v26.page_init import ZoneSetup26
from ...v26.page_state import PageState

Line = dict[str, Any]
RAM = 1
_PAGE_STATE = {
    "dirty": "nr_dirty",
    "wb": "nr_writeback",
    "pt": "nr_page_table_pages",
    "mapped": "nr_mapped",
    "swpin": "pswpin",
    "swpout": "pswpout",
    "alloc": "pgalloc",
    "free": "pgfree",
    "act": "pgactivate",
    "deact": "pgdeactivate",
    "flt": "pgfault",
    "majflt": "pgmajfault",
    "refill": "pgrefill",
    "steal": "pgsteal",
    "scank": "pgscan_kswapd",
    "scand": "pgscan_direct",
    "ksteal": "kswapd_steal",
    "outrun": "pageoutrun",
    "stall": "allocstall",
    "rot": "pgrotated",
}


def boot26(args: list[Any], **options: Any) -> Machine:
    """The machine that ``["boot", MiB, kernel_end_KiB, io_mode]`` switches on, no high memory, kernel objects outside RAM."""
    if len(args) != 4 or any(type(arg) is not int for arg in args[1:]):
        raise TraceError(f"boot takes MiB, KiB and io_mode, not {args[1:]!r}")
    mib, kernel_end, io_mode = args[1:]
    if not 2 <= mib <= 896 or io_mode not in (0, 1):
        raise TraceError(f"these machines have 2 to 896 MiB and io_mode 0 or 1, not {mib} and {io_mode}")
    options.setdefault("kernel_objects", "outside")
    machine = Machine(
        e820=((0, 0x9F000, RAM), (1 << 20, (mib - 1) << 20, RAM)),
        sanitize_e820=False,
        kernel_end=kernel_end << 10,
        highmem=False,
        io_mode=io_mode,
        kernel="2.6",
        **options,
    )
    return machine.power_on()


def low_zones(machine: Machine) -> list[Zone26]:
    """DMA and Normal: all that these machines have."""
    return [cast(Zone26, zone) for zone in machine.pgdats[0].node_zones[:2]]


def boot_line(machine: Machine) -> Line:
    """What a boot line records before ``c``."""
    setup = cast(ZoneSetup26, machine.zone_setup)
    return {
        "reserved": _reserved(machine),
        "mem_map_pfn": (machine.pgdats[0].node_mem_map_pa or 0) >> PAGE_SHIFT,
        "sizeof_struct_page": machine.config.sizeof_page,
        "zero_page_pfn": machine.empty_zero_page,
        "page_cluster": machine.swap.page_cluster,
        "totalram_pages": machine.totalram_pages,
        "total_memory": cast(PageAllocator26, machine.page_allocator).nr_free_pagecache_pages(),
        "min_free_kbytes": setup.min_free_kbytes,
        "zones": [
            {
                "start_pfn": zone.start_pfn,
                "size": zone.spanned_pages,
                "free": zone.free_pages,
                "min": zone.pages_min,
                "low": zone.pages_low,
                "high": zone.pages_high,
                "reserve": list(zone.lowmem_reserve),
                "batch": zone.pcp[0].batch,
            }
            for zone in low_zones(machine)
        ],
        "buddy": buddy(machine),
    }


def _reserved(machine: Machine) -> list[list[int]]:
    """Runs of reserved frames, first and last."""
    runs: list[list[int]] = []
    for pfn, word in enumerate(machine.mem.flags[: machine.max_low_pfn]):
        if not word & RESERVED:
            continue
        if runs and runs[-1][1] == pfn - 1:
            runs[-1][1] = pfn
        else:
            runs.append([pfn, pfn])
    return runs


def buddy(machine: Machine) -> list[list[list[int]]]:
    """Of each zone with pages the free lists of orders 0 to 10, head first, then the hot and the cold list; of others nothing."""
    return [
        [*(area.blocks() for area in zone.free_area), *(list(pages.list) for pages in zone.pcp)] if zone.size else []
        for zone in low_zones(machine)
    ]


def buddy_crc(machine: Machine) -> int:
    """Checksum of all of :func:`buddy`: the text ``zone/order:pfn,`` of every block, 11 for hot and 12 for cold pages."""
    text = "".join(
        f"{zone}/{order}:{pfn}," for zone, lists in enumerate(buddy(machine)) for order, listed in enumerate(lists) for pfn in listed
    )
    return zlib.crc32(text.encode())


def page_state(machine: Machine) -> Line:
    """The page_state counters under the traces' names; those by zone as [DMA, Normal]."""
    state: PageState = cast(PageAllocator26, machine.page_allocator).page_state
    got: Line = {}
    for name, attribute in _PAGE_STATE.items():
        value = getattr(state, attribute)
        got[name] = value[:2] if isinstance(value, list) else value
    return got


def zone_counters(machine: Machine) -> Line:
    """The fields of ``c`` that are about zones: free, act, ina, zs, pcp."""
    zones = low_zones(machine)
    return {
        "free": [zone.free_pages for zone in zones],
        "act": [zone.nr_active for zone in zones],
        "ina": [zone.nr_inactive for zone in zones],
        "zs": [
            [z.prev_priority, z.temp_priority, z.nr_scan_active, z.nr_scan_inactive, z.pages_scanned, z.all_unreclaimable] for z in zones
        ],
        "pcp": [pages.count for zone in zones for pages in zone.pcp],
    }
