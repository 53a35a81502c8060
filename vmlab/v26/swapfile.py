"""Swap areas and their slots in 2.6: entries of their own form, slots counted by area.

kernel: mm/swapfile.c, include/linux/swap.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..mm.page_flags import RESERVED, PG_dirty, PG_locked
from ..mm.swap_info import MAX_SWAPFILES, SWP_USED, SwapInfo
from ..mm.swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX
from ..mm.swapfile import SwapFile
from .page_flags import PRIVATE, SWAPCACHE, WRITEBACK
from .swap_info import SwapInfo26
from .swapfile_on import SwapOnOff26
from .swapops import swp_entry, swp_offset, swp_type

if TYPE_CHECKING:
    from array import array

    from ..mm.kernel import Kernel
    from .swap_state import SwapState26

_LOCKED, _DIRTY = 1 << PG_locked, 1 << PG_dirty


class SwapFile26(SwapOnOff26, SwapFile):
    """In 2.6 all that uses an entry takes it apart by swapops, because its form is the kernel's own; before that it was a page table
    entry."""

    def __init__(self) -> None:
        super().__init__()
        self.swap_info: list[SwapInfo] = [SwapInfo26() for _ in range(MAX_SWAPFILES)]

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.private: array[int] = kernel.mem.column("private")

    # -- allocating ---------------------------------------------------------------------------

    def scan_swap_map(self, si: SwapInfo) -> int:
        """In 2.6 the area counts its slots in use, because swapoff and /proc/swaps ask; before that the map was counted through.

        Take a free slot of an area: its number, 0 when there is none. kernel: mm/swapfile.c:scan_swap_map
        """
        offset = super().scan_swap_map(si)
        if offset:
            cast(SwapInfo26, si).inuse_pages += 1
        return offset

    def get_swap_page(self) -> int:
        """In 2.6 type << 27 | offset, because entries have a form of their own; before that a page table entry.

        A free slot as a swap entry, 0 when swap is full. kernel: mm/swapfile.c:get_swap_page
        """
        entry = super().get_swap_page()
        return swp_entry(entry >> 1 & 0x1F, entry >> 8)

    # -- counting -----------------------------------------------------------------------------

    def swap_info_get(self, entry: int) -> SwapInfo | None:
        """In 2.6 with the new form of an entry, because of :func:`swp_entry`; before that with 2.4's.

        The area of an entry whose slot is in use; None, with a complaint, for anything else. kernel: mm/swapfile.c:swap_info_get
        """
        if not entry:
            return None
        area, offset = entry >> 27, entry & 0x7FFFFFF
        if area >= self.nr_swapfiles:
            return self._complain("Bad swap file entry", entry)
        p = self.swap_info[area]
        if not p.flags & SWP_USED:
            return self._complain("Unused swap file entry", entry)
        if offset >= p.max:
            return self._complain("Bad swap offset entry", entry)
        assert p.swap_map is not None
        if not p.swap_map[offset]:
            return self._complain("Unused swap offset entry", entry)
        chosen = self.swap_list.next
        # With no area in the list the kernel compares with the word before its array, which is 0.
        if p.prio > (self.swap_info[chosen].prio if chosen >= 0 else 0):
            self.swap_list.next = area
        return p

    def swap_entry_free(self, p: SwapInfo, offset: int) -> int:
        """In 2.6 the area counts its slots in use, because of :meth:`scan_swap_map`; before that not.

        One user of a slot less; returns how many are left. kernel: mm/swapfile.c:swap_entry_free
        """
        count = super().swap_entry_free(p, offset)
        if not count:
            cast(SwapInfo26, p).inuse_pages -= 1
        return count

    def swap_free(self, entry: int) -> None:
        """In 2.6 with the new form of an entry, because of :func:`swp_entry`; before that with 2.4's. kernel: mm/swapfile.c:swap_free"""
        p = self.swap_info_get(entry)
        if p is not None:
            self.swap_entry_free(p, entry & 0x7FFFFFF)

    def swap_duplicate(self, entry: int) -> int:
        """In 2.6 with the new form of an entry, because of :func:`swp_entry`; before that with 2.4's.

        Take a reference to a slot that is in use: 1, or 0 when it is not. kernel: mm/swapfile.c:swap_duplicate
        """
        area, offset = entry >> 27, entry & 0x7FFFFFF
        if area >= self.nr_swapfiles:
            self.kernel.printk(3, f"swap_dup: Bad swap file entry {entry:08x}")
            return 0
        p = self.swap_info[area]
        if offset >= p.max:
            return 0
        assert p.swap_map is not None
        count = p.swap_map[offset]
        if not count or count > SWAP_MAP_MAX:
            return 0
        if count < SWAP_MAP_MAX - 1:
            count += 1
        else:
            if self.swap_overflow < 5:
                self.kernel.printk(4, "swap_dup: swap entry overflow")
            self.swap_overflow += 1
            count = SWAP_MAP_MAX
        p.swap_map[offset] = count
        if self.on_event is not None:
            self.on_event(("swap_dup", area, offset, count))
        return 1

    # -- pages of the swap cache --------------------------------------------------------------

    def exclusive_swap_page(self, pfn: int) -> bool:
        """In 2.6 the entry is in page->private, because of the swap cache's new form; before that in page->index.

        Whether only the cache uses the slot, and only the cache and the caller the page. kernel: mm/swapfile.c:exclusive_swap_page
        """
        entry = self.private[pfn]
        p = self.swap_info_get(entry)
        return p is not None and p.swap_map is not None and p.swap_map[entry & 0x7FFFFFF] == 1 and self.count[pfn] == 2

    def can_share_swap_page(self, pfn: int) -> bool:
        """In 2.6 buffers count as a reference, because they hold one; before that a page of swap could have none.

        Whether a process that writes to this locked page may keep it without a copy: nobody else has it.
        kernel: mm/swapfile.c:can_share_swap_page
        """
        flags = self.flags[pfn]
        if not flags & _LOCKED:
            raise KernelBug("can_share_swap_page", f"frame {pfn} is not locked", "locked")
        count = self.count[pfn]
        if count == 2 or count == 3 and flags & PRIVATE:
            return flags & SWAPCACHE != 0 and self.exclusive_swap_page(pfn)
        return count == 1 and not flags & RESERVED

    def remove_exclusive_swap_page(self, pfn: int) -> bool:
        """In 2.6 not while the page is being written, because the slot would be reused under the write; before that the lock kept us out.

        Take a locked page out of the swap cache and free its slot if nobody else uses either; whether it was. It is dirty then.
        kernel: mm/swapfile.c:remove_exclusive_swap_page
        """
        flags = self.flags[pfn]
        if flags & (_LOCKED | PRIVATE) != _LOCKED:
            raise KernelBug("remove_exclusive_swap_page", f"frame {pfn} is not locked, or has buffers", "locked")
        if flags & (SWAPCACHE | WRITEBACK) != SWAPCACHE or self.count[pfn] != 2:
            return False
        entry = self.private[pfn]
        p = self.swap_info_get(entry)
        if p is None or p.swap_map is None or p.swap_map[entry & 0x7FFFFFF] != 1:
            return False
        self.kernel.swap_state.delete_from_swap_cache_nolock(pfn)
        self.flags[pfn] |= _DIRTY
        self.swap_free(entry)
        self.kernel.put_page(pfn)
        return True

    def free_swap_and_cache(self, entry: int) -> None:
        """In 2.6 a page being written stays, because its slot is still needed; before that the lock kept us out.

        A process gives up a page that is swapped out; the cached copy goes too when nobody else needs it, or swap is full.
        kernel: mm/swapfile.c:free_swap_and_cache
        """
        kernel = self.kernel
        p = self.swap_info_get(entry)
        if p is None or self.swap_entry_free(p, entry & 0x7FFFFFF) != 1:
            return
        pfn = cast("SwapState26", kernel.swap_state).space.page_tree.get(entry)
        if pfn is None or self.flags[pfn] & _LOCKED:
            return
        self.flags[pfn] |= _LOCKED
        if self.flags[pfn] & PRIVATE:
            raise KernelBug("free_swap_and_cache", f"frame {pfn} has buffers", "private")
        kernel.get_page(pfn)
        if not self.flags[pfn] & WRITEBACK and (self.count[pfn] == 2 or self.vm_swap_full()):
            kernel.swap_state.delete_from_swap_cache(pfn)
            self.flags[pfn] |= _DIRTY
        kernel.filemap.unlock_page(pfn)
        kernel.put_page(pfn)

    # -- reading ------------------------------------------------------------------------------

    def valid_swaphandles(self, entry: int) -> tuple[int, int]:
        """In 2.6 with the new form of an entry, because of :func:`swp_entry`; before that with 2.4's.

        (how many, the first slot): what to read together with *entry*. kernel: mm/swapfile.c:valid_swaphandles
        """
        page_cluster = self.kernel.swap.page_cluster
        if not page_cluster:
            return 0, 0
        swapdev = self.swap_info[swp_type(entry)]
        left = 1 << page_cluster
        first = swp_offset(entry) >> page_cluster << page_cluster
        if not first:
            first, left = 1, left - 1
        at = first
        while left and at < swapdev.max:
            assert swapdev.swap_map is not None
            count = swapdev.swap_map[at]
            if not count or count == SWAP_MAP_BAD:
                break
            at += 1
            left -= 1
        return at - first, first
