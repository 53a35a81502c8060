"""What one pass of reclaim is told, and what it found. kernel: mm/vmscan.c:scan_control"""

from __future__ import annotations

SWAP_CLUSTER_MAX = 32  # pages to free before one stops to think


class ScanControl:
    """In 2.6 the numbers of a pass travel together, because every function of it counts into them; before that each was an argument.

    ``nr_to_scan`` is what to look at next, ``nr_scanned`` and ``nr_reclaimed`` what was looked at and freed so far,
    ``nr_to_reclaim`` how many are still to be freed, ``nr_mapped`` how many pages were mapped when the pass began.
    kernel: mm/vmscan.c:scan_control
    """

    __slots__ = ("gfp_mask", "may_writepage", "nr_mapped", "nr_reclaimed", "nr_scanned", "nr_to_reclaim", "nr_to_scan", "priority")

    def __init__(self, gfp_mask: int = 0, priority: int = 12, nr_mapped: int = 0) -> None:
        self.gfp_mask = gfp_mask
        self.priority = priority
        self.nr_mapped = nr_mapped
        self.nr_to_scan = self.nr_scanned = self.nr_reclaimed = self.nr_to_reclaim = 0
        self.may_writepage = 0

    def __repr__(self) -> str:
        return f"<ScanControl priority {self.priority}: {self.nr_scanned} scanned, {self.nr_reclaimed} reclaimed>"
