"""What must always be true of 2.6's LRU lists, pagevecs, page cache and their counters, checked from the outside."""

from __future__ import annotations

from typing import cast

from ..mm.check_areas import bad
from ..mm.fs import SWAPPER_SPACE_ID
from ..mm.kernel import Kernel
from ..mm.page_flags import LRU, RESERVED, ZONE_SHIFT, PG_active, PG_dirty
from .fs import ANON, AddressSpace26
from .mmzone import Zone26
from .page_alloc import PageAllocator26
from .page_flags import SWAPCACHE, WRITEBACK
from .swap import LruCache26

_ACTIVE, _DIRTY = 1 << PG_active, 1 << PG_dirty


def check_lru_and_cache(kernel: Kernel) -> None:
    """Lists of every zone, the pages on their way to them, every file's tree with its marks, and the counters. Raises KernelBug."""
    _lists(kernel)
    _trees(kernel)
    _counters(kernel)


def _lists(kernel: Kernel) -> None:
    flags, swap = kernel.mem.flags, cast(LruCache26, kernel.swap)
    listed: set[int] = set()
    for each in kernel.zones:
        zone = cast(Zone26, each)
        for head, count, active in ((zone.active_list, zone.nr_active, _ACTIVE), (zone.inactive_list, zone.nr_inactive, 0)):
            pages = list(swap.lru.walk(head))
            if len(pages) != count:
                bad("lru", f"a list of {zone.name} has {len(pages)} pages, the zone says {count}")
            for pfn in pages:
                if pfn in listed or flags[pfn] & (LRU | _ACTIVE) != LRU | active or flags[pfn] >> ZONE_SHIFT != zone.index:
                    bad("lru", f"frame {pfn} on the {'in' * (not active)}active list of {zone.name} does not belong there")
                if kernel.mem.count[pfn] < 1:
                    bad("lru", f"frame {pfn} on a list has no user")
            listed.update(pages)
    for pfn in (*swap.lru_add_pvecs, *swap.lru_add_active_pvecs):
        if pfn in listed or flags[pfn] & LRU or kernel.mem.count[pfn] < 1:
            bad("pagevec", f"frame {pfn} waits for a list, but is on one already or has no user")
    for pfn, word in enumerate(flags):
        if word & LRU and pfn not in listed:
            bad("lru", f"frame {pfn} has PG_lru and is on no list")


def _trees(kernel: Kernel) -> None:
    mem, private = kernel.mem, kernel.mem.column("private")
    cached: dict[int, tuple[int, int]] = {}
    for ident, mapping in kernel.mappings.items():
        if not isinstance(mapping, AddressSpace26):
            continue
        if len(mapping.page_tree) != mapping.nrpages:
            bad("nrpages", f"{mapping!r} has {len(mapping.page_tree)} pages in its tree")
        for index, pfn in mapping.page_tree.items():
            if pfn in cached:
                bad("page_tree", f"frame {pfn} is cached twice")
            cached[pfn] = (ident, index)
            word = mem.flags[pfn]
            right = word & SWAPCACHE and private[pfn] == index if ident == SWAPPER_SPACE_ID else mem.mapping[pfn] == ident
            if not right or ident != SWAPPER_SPACE_ID and mem.index[pfn] != index:
                bad("page_tree", f"frame {pfn} is page {index} of {mapping!r}, but does not say so")
            if word & _DIRTY and index not in mapping.dirty_tags or (word & WRITEBACK != 0) != (index in mapping.writeback_tags):
                bad("tags", f"the marks of page {index} of {mapping!r} are not those of frame {pfn}")
        for index in (*mapping.dirty_tags, *mapping.writeback_tags):
            if index not in mapping.page_tree:
                bad("tags", f"page {index} of {mapping!r} is marked, but not cached")
    for pfn, word in enumerate(mem.flags):
        ident = mem.mapping[pfn]
        if word & RESERVED or not mem.count[pfn]:
            continue
        if word & SWAPCACHE and cached.get(pfn, (0, 0))[0] != SWAPPER_SPACE_ID:
            bad("swapcache", f"frame {pfn} has PG_swapcache and is not in the swap cache")
        if ident and not ident & ANON and ident in kernel.mappings and cached.get(pfn, (0, 0))[0] != ident:
            bad("mapping", f"frame {pfn} says it is cached for {kernel.mappings[ident]!r}, which does not have it")


def _counters(kernel: Kernel) -> None:
    state = cast(PageAllocator26, kernel.page_allocator).page_state
    spaces = [mapping for mapping in kernel.mappings.values() if isinstance(mapping, AddressSpace26)]
    flags, mapcount = kernel.mem.flags, kernel.mem.column("mapcount", "i", -1)
    counted = {
        "nr_pagecache": sum(mapping.nrpages for mapping in spaces),
        "nr_mapped": sum(maps >= 0 for maps in mapcount),
        "nr_writeback": sum(word & WRITEBACK != 0 for word in flags),
        "nr_dirty": sum(flags[pfn] & _DIRTY != 0 for m in spaces if not m.memory_backed for pfn in m.page_tree.values()),
    }
    for name, value in counted.items():
        if getattr(state, name) != value:
            bad(name, f"{name} is {getattr(state, name)}, but {value} were found")
