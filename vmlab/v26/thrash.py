"""The swap token: at most one process is spared by reclaim, so that it at least gets on. kernel: mm/thrash.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .task import HZ

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct

SWAP_TOKEN_CHECK_INTERVAL = HZ * 2  # jiffies
SWAP_TOKEN_TIMEOUT = 0  # jiffies somebody may keep it; 2.6.11 has switched the token off by this
_ENOUGH_RSS, _TIMED_OUT = 1, 2


def time_after(a: int, b: int) -> bool:
    """Whether jiffy *a* is later than *b*; both wrap at 32 bits. kernel: include/linux/jiffies.h:time_after"""
    return (b - a & 0xFFFFFFFF) >> 31 == 1


class SwapToken:
    """In 2.6 new, because when all processes thrash none of them gets on: who faults its pages in from swap can hold the token, and
    page_referenced() takes its pages for used.

    In 2.6.11 the time it may be kept is 0, which makes page_referenced() ignore it: only the owner changes. Mixed into reclaim.
    """

    kernel: Kernel

    def attach_token(self, kernel: Kernel) -> None:
        """The kernel's own address space has it first."""
        self.swap_token_mm: MmStruct = kernel.pgtable.init_mm
        self.swap_token_timeout = 0  # jiffies: until when
        self.swap_token_check = 0  # jiffies: nobody asks again before
        self.swap_token_default_timeout = SWAP_TOKEN_TIMEOUT

    def has_swap_token(self, mm: MmStruct) -> bool:
        """In 2.6 new, because of the token. kernel: include/linux/swap.h:has_swap_token"""
        return mm is self.swap_token_mm

    def should_release_swap_token(self, mm: MmStruct) -> int:
        """In 2.6 new, because who no longer faults does not need it: 1, or 2 when its time is over, else 0.

        kernel: mm/thrash.c:should_release_swap_token
        """
        ret = 0
        if not getattr(mm, "recent_pagein", 0):
            ret = _ENOUGH_RSS
        elif time_after(self.kernel.sched.jiffies, self.swap_token_timeout):
            ret = _TIMED_OUT
        mm.recent_pagein = 0  # type: ignore[attr-defined]
        return ret

    def grab_swap_token(self) -> None:
        """In 2.6 new, because who waits for swap wants the token: take it if its owner may lose it. Asked every two seconds at most.

        kernel: mm/thrash.c:grab_swap_token
        """
        mm = self.kernel.current.mm
        jiffies = self.kernel.sched.jiffies
        assert mm is not None
        if mm is self.swap_token_mm:
            mm.recent_pagein = 1  # type: ignore[attr-defined]
            return
        if not time_after(jiffies, self.swap_token_check) or time_after(getattr(mm, "swap_token_time", 0), jiffies):
            return
        self.swap_token_check = jiffies + SWAP_TOKEN_CHECK_INTERVAL
        owner = self.swap_token_mm
        reason = self.should_release_swap_token(owner)
        if reason:
            eligible = jiffies
            if reason == _TIMED_OUT:
                eligible += self.swap_token_default_timeout
            owner.swap_token_time = eligible  # type: ignore[attr-defined]
            self.swap_token_timeout = jiffies + self.swap_token_default_timeout
            self.swap_token_mm = mm
            self.kernel.emit("swap_token", self.kernel.current.pid)

    def put_swap_token(self, mm: MmStruct) -> None:
        """In 2.6 new, because a process that exits leaves the token to the kernel. kernel: mm/thrash.c:__put_swap_token"""
        if mm is self.swap_token_mm:
            self.swap_token_mm = self.kernel.pgtable.init_mm
            self.swap_token_check = self.kernel.sched.jiffies
