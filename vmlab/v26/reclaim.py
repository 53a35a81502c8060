"""What the allocator of 2.6 asks of page reclaim, and stand-ins that have nothing to reclaim."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelHang
from ..mm.kernel import Kernel
from ..mm.reclaim import Reclaim, ScriptedReclaim
from ..mm.vmscan import Vmscan

if TYPE_CHECKING:
    from ..mm.mmzone import Zone, Zonelist
    from .mmzone import PgData26
    from .page_alloc import PageAllocator26


class ReclaimHooks:
    """Mixed into the part in the machine's ``reclaim`` slot. What can wait for ever raises KernelHang."""

    kernel: Kernel

    def wakeup_kswapd(self, zone: Zone, order: int) -> None:
        """In 2.6 every zone of the request is looked at and the order is passed on, because kswapd can free for large blocks too; before
        that one kswapd was woken without being told.

        Wake the node's kswapd if *zone* is below pages_low, for blocks of at least *order*.
        kernel: mm/vmscan.c:wakeup_kswapd
        """
        if not zone.realsize:
            return
        pgdat = cast("PgData26", zone.pgdat)
        if cast("PageAllocator26", self.kernel.page_allocator).zone_watermark_ok(zone, order, zone.pages_low, 0, 0, 0):
            return
        pgdat.kswapd_max_order = max(pgdat.kswapd_max_order, order)
        self.kernel.stat.wake_kswapd += 1
        self.kernel.emit("wake_kswapd")
        self.wake_kswapd()

    def wake_kswapd(self) -> None:
        """Somebody asked for kswapd: it gets its turn."""

    def try_to_free_pages(self, zonelist: Zonelist, gfp_mask: int, order: int) -> int:
        """In 2.6 the request's zones are all given, because each has LRU lists of its own; before that only the first was.

        Free pages of these zones; returns whether that worked.
        kernel: mm/vmscan.c:try_to_free_pages
        """
        return 0

    def out_of_memory(self, gfp_mask: int) -> None:
        """In 2.6 the allocator calls the killer, because it alone knows that a last look at the lists failed; before that reclaim did.

        Reclaim found nothing: somebody has to go.
        kernel: mm/oom_kill.c:out_of_memory
        """
        raise KernelHang("__alloc_pages", "nothing can be reclaimed and there is nobody to kill: the kernel would try for ever")

    def blk_congestion_wait(self, write: int, timeout: int) -> None:
        """In 2.6 a task that finds nothing waits for the disk, because yielding only burned time; before that it called yield().

        Wait up to *timeout* jiffies for writes to finish.
        kernel: drivers/block/ll_rw_blk.c:blk_congestion_wait
        """
        raise KernelHang("__alloc_pages", "nothing can be reclaimed and nothing is being written: the kernel would try for ever")

    def printk_ratelimit(self) -> bool:
        """In 2.6 a flood of messages is cut off, because they would keep the machine busy; before that each place had its own limit or
        none.

        Whether one more message may be printed.
        kernel: kernel/printk.c:printk_ratelimit
        """
        return True


class Reclaim26(ReclaimHooks, Reclaim):
    """Nothing can be reclaimed: every call frees no page. For a machine without processes."""


class ScriptedReclaim26(ReclaimHooks, ScriptedReclaim):
    """Reclaim that follows plans: each call takes the next plan, frees its blocks and returns its number."""

    state_names: tuple[str, ...] = (*ScriptedReclaim.state_names, "ooms", "waits")

    def __init__(self) -> None:
        super().__init__()
        self.ooms = self.waits = 0  # calls of out_of_memory and blk_congestion_wait

    def try_to_free_pages(self, zonelist: Zonelist, gfp_mask: int, order: int) -> int:
        """Follow the next plan; without one, free nothing and return 0."""
        self.calls.append(zonelist[0].index)
        if not self.plans:
            return 0
        ret, frees = self.plans.pop(0)
        for pfn, block_order in frees:
            self.kernel.page_allocator.free_pages(pfn, block_order)
        return ret

    def out_of_memory(self, gfp_mask: int) -> None:
        """Go on while a plan is left."""
        if not self.plans:
            super().out_of_memory(gfp_mask)
        self.ooms += 1

    def blk_congestion_wait(self, write: int, timeout: int) -> None:
        """Go on while a plan is left."""
        if not self.plans:
            super().blk_congestion_wait(write, timeout)
        self.waits += 1


class IdleVmscan26(ReclaimHooks, Vmscan):  # type: ignore[misc]
    """Stands in until page reclaim of 2.6 is there."""
