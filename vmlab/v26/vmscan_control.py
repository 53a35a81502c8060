"""What one reclaim wants and has reached. kernel: mm/vmscan.c:scan_control"""

from __future__ import annotations

SWAP_CLUSTER_MAX = 32  # pages


class ScanControl:
    """In 2.6 one record goes through all of reclaim, because its functions have much to tell each other; before that arguments did.

    All in pages. kernel: mm/vmscan.c:scan_control
    """

    __slots__ = ("gfp_mask", "may_writepage", "nr_mapped", "nr_reclaimed", "nr_scanned", "nr_to_reclaim", "nr_to_scan", "priority")

    def __init__(self, gfp_mask: int = 0, nr_mapped: int = 0) -> None:
        self.nr_to_scan = 0  # for one call of shrink_cache or refill_inactive_zone
        self.nr_scanned = 0  # inactive pages looked at; mapped and swap cache pages count twice
        self.nr_reclaimed = 0
        self.nr_mapped = nr_mapped  # in the whole machine, when the round began
        self.nr_to_reclaim = 0  # still wanted by shrink_zone
        self.priority = 0
        self.gfp_mask = gfp_mask
        self.may_writepage = 0  # in laptop mode: the disk may be started now

    def __repr__(self) -> str:
        return "<ScanControl " + ", ".join(f"{name} {getattr(self, name)}" for name in self.__slots__) + ">"
