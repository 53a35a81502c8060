"""Steps of reverse mapping and of the pagevecs, which only 2.6 has."""

from __future__ import annotations

from ..mm.events_base import spec

SPECS = [
    spec(
        "anon_vma",
        "mm/rmap.c:anon_vma_prepare",
        "address serial shared",
        "the area at {address} gets anon_vma {serial} (a neighbour's: {shared})",
    ),
    spec("rmap_add", "mm/rmap.c:page_add_anon_rmap", "pfn address maps", "{pfn} is mapped at {address}, {maps} entries now"),
    spec("rmap_remove", "mm/rmap.c:page_remove_rmap", "pfn address maps", "{pfn} is not mapped at {address} any more, {maps} entries left"),
    spec("page_referenced", "mm/rmap.c:page_referenced", "pfn references", "{pfn} was used through {references} entries since last asked"),
    spec("unmap_one", "mm/rmap.c:try_to_unmap_one", "pfn address entry", "{pfn} is taken away from {address}, the entry is {entry} now"),
    spec("try_to_unmap", "mm/rmap.c:try_to_unmap", "pfn result", "{pfn} everywhere: {result} (0 unmapped, 1 try again, 2 has to stay)"),
    spec("pagevec_drain", "mm/swap.c:__pagevec_lru_add", "pages active", "{pages} waiting pages go on the LRU lists (active: {active})"),
    spec("rotate", "mm/swap.c:rotate_reclaimable_page", "pfn", "{pfn} is written: it goes to the tail of the inactive list"),
]
