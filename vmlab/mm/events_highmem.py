"""Events of high memory: kernel mappings for a while, and bounce buffers."""

from __future__ import annotations

from .events_base import spec

_HM, _H = "mm/highmem.c:", "include/asm-i386/highmem.h:"

SPECS = [
    spec("kmap", _HM + "kmap_high", "pfn slot count", "frame {pfn} is mapped in pkmap slot {slot}, count {count}"),
    spec("kunmap", _HM + "kunmap_high", "pfn slot count", "one user of frame {pfn} less: pkmap slot {slot} has count {count}"),
    spec("kmap_wait", _HM + "map_new_virtual", "pfn", "no pkmap slot is empty: the task that wants frame {pfn} sleeps"),
    spec(
        "kmap_flush", _HM + "flush_all_zero_pkmaps", "freed", "the search passes slot 0: {freed} idle slots are emptied, the TLB is flushed"
    ),
    spec("kmap_atomic", _H + "kmap_atomic", "pfn km_type vaddr", "frame {pfn} is mapped at {vaddr:#x} for {km_type}"),
    spec("bounce", _HM + "create_bounce", "rw high low", "to {rw} high frame {high} the disk gets low frame {low}"),
    spec(
        "bounce_end",
        _HM + "bounce_end_io",
        "high low pool",
        "the bounce of frame {high} through {low} is over; {pool} pages are in the pool",
    ),
]
