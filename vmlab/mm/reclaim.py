"""Where page reclaim plugs in. Chapter 10 brings the real one; these two serve until then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelHang
from .kernel import Kernel, Part

if TYPE_CHECKING:
    from .mmzone import Zone


class Reclaim(Part):
    """Nothing can be reclaimed: every call frees no page.

    Override :meth:`try_to_free_pages_zone` to free some, and :meth:`yielded` to say what
    happens when a task that found nothing gives up the processor.
    """

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def try_to_free_pages_zone(self, classzone: Zone, gfp_mask: int) -> int:
        """Try to free pages that *classzone* can use; return how many succeeded. kernel: mm/vmscan.c:try_to_free_pages_zone"""
        return 0

    def wake_kswapd(self) -> None:
        """Memory runs short: kswapd is to look after it. There is none here. kernel: mm/page_alloc.c:__alloc_pages"""

    def yielded(self) -> None:
        """The task has given up the processor because memory is short. kernel: kernel/sched.c:yield

        Raises KernelHang here: nobody else in this machine will ever free a page.
        """
        raise KernelHang("__alloc_pages", "order ≤ 3 with __GFP_WAIT is retried until it succeeds, and nothing can be reclaimed")


class ScriptedReclaim(Reclaim):
    """Reclaim that follows plans: each call takes the next plan, frees its blocks and returns its number."""

    state_names: tuple[str, ...] = ("calls", "plans")

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[tuple[int, list[tuple[int, int]]]] = []  # (what to return, [(frame, order), …]), oldest first
        self.calls: list[int] = []  # zone index of the class zone of each call

    def queue(self, ret: int, frees: list[tuple[int, int]]) -> None:
        """Add a plan: free these (frame, order) blocks, then return *ret*."""
        self.plans.append((ret, frees))

    def try_to_free_pages_zone(self, classzone: Zone, gfp_mask: int) -> int:
        """Follow the next plan; without one, free nothing and return 0."""
        self.calls.append(classzone.index)
        if not self.plans:
            return 0
        ret, frees = self.plans.pop(0)
        for pfn, order in frees:
            self.kernel.page_allocator.free_pages(pfn, order)
        return ret

    def yielded(self) -> None:
        """Go on while a plan is left."""
        if not self.plans:
            super().yielded()
