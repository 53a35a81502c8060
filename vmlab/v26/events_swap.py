"""Events of swap in 2.6."""

from __future__ import annotations

from ..mm.events_base import spec

SPECS = [
    spec("add_to_swap", "mm/swap_state.c:add_to_swap", "pfn entry", "frame {pfn} gets a slot before it is unmapped: {entry:#x}"),
    spec(
        "swap_extent",
        "mm/swapfile.c:add_swap_extent",
        "page block extents",
        "pages of the area from {page} on lie at block {block} of the disk; that makes {extents} extents",
    ),
]
