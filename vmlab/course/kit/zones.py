"""Chapter 2's kit: the decisions a kernel makes about zones while it boots. The shape is here; the decisions are yours.

Sizes and watermarks are in pages of 4 KiB, frame numbers ("pfn") count such pages from physical address 0.
"""

from __future__ import annotations

from typing import Any

from vmlab.course.kit import ZONE_DMA, ZONE_HIGHMEM, ZONE_NORMAL

__all__ = ["MAX_DMA_PFN", "WANTS_DMA", "WANTS_HIGHMEM", "ZONE_DMA", "ZONE_HIGHMEM", "ZONE_NORMAL", "Zones", "drive"]

MAX_DMA_PFN = 4096  # first frame that an ISA device cannot reach: 16 MiB
WANTS_DMA = 0x01  # __GFP_DMA (Python would rename a name with two underscores inside a class)
WANTS_HIGHMEM = 0x02  # __GFP_HIGHMEM


class Zones:
    """How a one-node PC is divided into zones. Subclass it as `MyZones` and write the four methods.

    Before any method is called, `highmem` says whether the kernel was built with high memory (CONFIG_HIGHMEM), and `ratio` holds the
    divisors of the watermarks for [DMA, Normal, HighMem]: 128 each, unless the boot parameter memfrac= changed them.
    """

    highmem: bool = True
    ratio: tuple[int, ...] | list[int] = (128, 128, 128)

    def zones_size(self, max_low_pfn: int, highend_pfn: int) -> list[int]:
        """Pages of [DMA, Normal, HighMem]. Frames below *max_low_pfn* are low memory, those from there to *highend_pfn* are high."""
        raise NotImplementedError("zones_size is yours to write")

    def watermarks(self, zone_num: int, realsize: int) -> tuple[int, int, int]:
        """(pages_min, pages_low, pages_high) of zone number *zone_num* with *realsize* pages."""
        raise NotImplementedError("watermarks is yours to write")

    def wait_table_size(self, pages: int) -> int:
        """How many wait queues a zone of *pages* pages gets."""
        raise NotImplementedError("wait_table_size is yours to write")

    def build_zonelists(self, sizes: list[int]) -> list[list[int]]:
        """The 16 fallback lists of a node whose zones have *sizes* pages: for each gfp & 15, zone numbers, the first choice first."""
        raise NotImplementedError("build_zonelists is yours to write")


def drive(namespace: dict[str, Any], data: dict[str, Any]) -> Any:
    """Make the student's `MyZones`, tell it about the kernel, call one method for each list of arguments. Runs in the child."""
    mine = namespace["MyZones"]()
    mine.highmem = data["highmem"]
    mine.ratio = list(data["ratio"])
    if data["method"] != "boot":
        return [getattr(mine, data["method"])(*arguments) for arguments in data["calls"]]
    out: list[Any] = []
    for max_low_pfn, highend_pfn in data["calls"]:
        sizes = list(mine.zones_size(max_low_pfn, highend_pfn))
        zones = [[mine.watermarks(j, size), mine.wait_table_size(size)] if size else [] for j, size in enumerate(sizes)]
        out.append({"sizes": sizes, "zones": zones, "zonelists": mine.build_zonelists(list(sizes))})
    return out
