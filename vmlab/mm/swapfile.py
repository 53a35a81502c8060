"""Swap areas and their slots: allocating, counting and freeing them.

Up to 32 areas, chained by falling priority; areas of the same priority take turns. Slots are
handed out in clusters of 256, so that pages swapped out together lie together on the disk.

kernel: mm/swapfile.c, include/linux/swap.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .fs import SWAPPER_SPACE_ID, Inode
from .kernel import Part
from .page_flags import RESERVED, PG_dirty, PG_locked
from .swap_info import MAX_SWAPFILES, SWP_USED, SWP_WRITEOK, SwapInfo, SwapList, swp_entry, swp_offset, swp_type
from .swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX, SWAPFILE_CLUSTER, empty_cluster, first_free
from .swapfile_on import SwapOnOff

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["SwapFile", "SwapInfo", "SwapList", "swp_entry", "swp_offset", "swp_type"]

_LOCKED, _DIRTY = 1 << PG_locked, 1 << PG_dirty


class SwapFile(SwapOnOff, Part):
    """All swap areas of the machine, and every slot's use count."""

    state_names = (
        "least_priority",
        "nr_swap_pages",
        "nr_swapfiles",
        "swap_info",
        "swap_list",
        "swap_overflow",
        "total_swap_pages",
    )

    def __init__(self) -> None:
        super().__init__()
        self.swap_info = [SwapInfo() for _ in range(MAX_SWAPFILES)]
        self.swap_list = SwapList()
        self.nr_swapfiles = 0
        self.nr_swap_pages = 0  # free slots of areas in use
        self.total_swap_pages = 0
        self.swap_overflow = 0  # times a count did not fit
        self.least_priority = 0

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.index = kernel.mem.index
        self.mapping = kernel.mem.mapping

    def vm_swap_full(self) -> bool:
        """Whether more than half of swap is used, so that slots are given back early. kernel: include/linux/swap.h:vm_swap_full"""
        return self.nr_swap_pages * 2 < self.total_swap_pages

    # -- allocating ---------------------------------------------------------------------------

    def scan_swap_map(self, si: SwapInfo) -> int:
        """Take a free slot of an area: its number, 0 when there is none.

        First the rest of the cluster, then a new empty cluster, then the lowest free slot.
        kernel: mm/swapfile.c:scan_swap_map
        """
        swap_map = si.swap_map
        assert swap_map is not None
        offset: int | None = None
        if si.cluster_nr:
            while si.cluster_next <= si.highest_bit:
                at = si.cluster_next
                si.cluster_next = at + 1
                if not swap_map[at]:
                    si.cluster_nr -= 1
                    offset = at
                    break
        if offset is None:
            si.cluster_nr = SWAPFILE_CLUSTER
            offset = empty_cluster(swap_map, si.lowest_bit, si.highest_bit)
            if offset is None:
                offset = first_free(swap_map, si.lowest_bit, si.highest_bit)
                if offset is None:
                    si.lowest_bit = si.max
                    si.highest_bit = 0
                    return 0
                si.lowest_bit = offset + 1
            elif self.on_event is not None:
                self.on_event(("swap_cluster", self.swap_info.index(si), offset))
        if offset == si.lowest_bit:
            si.lowest_bit += 1
        if offset == si.highest_bit:
            si.highest_bit -= 1
        if si.lowest_bit > si.highest_bit:
            si.lowest_bit = si.max
            si.highest_bit = 0
        swap_map[offset] = 1
        self.nr_swap_pages -= 1
        si.cluster_next = offset + 1
        return offset

    def get_swap_page(self) -> int:
        """A free slot as a swap entry, 0 when swap is full. Areas of the highest priority take turns.

        kernel: mm/swapfile.c:get_swap_page
        """
        swap_list, swap_info = self.swap_list, self.swap_info
        area = swap_list.next
        if area < 0 or self.nr_swap_pages <= 0:
            return 0
        wrapped = False
        while True:
            p = swap_info[area]
            if p.flags & SWP_WRITEOK == SWP_WRITEOK:
                offset = self.scan_swap_map(p)
                if offset:
                    following = p.next
                    if following < 0 or p.prio != swap_info[following].prio:
                        swap_list.next = swap_list.head
                    else:
                        swap_list.next = following
                    if self.on_event is not None:
                        self.on_event(("swap_alloc", area, offset, self.nr_swap_pages))
                    return area << 1 | offset << 8
            area = p.next
            if not wrapped:
                if area < 0 or p.prio != swap_info[area].prio:
                    area = swap_list.head
                    wrapped = True
            elif area < 0:
                return 0

    # -- counting -----------------------------------------------------------------------------

    def swap_info_get(self, entry: int) -> SwapInfo | None:
        """The area of an entry whose slot is in use; None, with a complaint, for anything else.

        An area of higher priority becomes the next to allocate from: something is about to be freed there.
        kernel: mm/swapfile.c:swap_info_get
        """
        if not entry:
            return None
        area, offset = entry >> 1 & 0x3F, entry >> 8
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

    def _complain(self, what: str, entry: int) -> SwapInfo | None:
        self.kernel.printk(3, f"swap_free: {what} {entry:08x}")
        return None

    def swap_entry_free(self, p: SwapInfo, offset: int) -> int:
        """One user of a slot less; returns how many are left. A count of SWAP_MAP_MAX stays.

        kernel: mm/swapfile.c:swap_entry_free
        """
        swap_map = p.swap_map
        assert swap_map is not None
        count = swap_map[offset]
        if count < SWAP_MAP_MAX:
            count -= 1
            swap_map[offset] = count
            if not count:
                if offset < p.lowest_bit:
                    p.lowest_bit = offset
                if offset > p.highest_bit:
                    p.highest_bit = offset
                self.nr_swap_pages += 1
            if self.on_event is not None:
                self.on_event(("swap_free", self.swap_info.index(p), offset, count))
        return count

    def swap_free(self, entry: int) -> None:
        """Give up a reference to a slot. kernel: mm/swapfile.c:swap_free"""
        p = self.swap_info_get(entry)
        if p is not None:
            self.swap_entry_free(p, entry >> 8)

    def swap_duplicate(self, entry: int) -> int:
        """Take a reference to a slot that is in use: 1, or 0 when it is not.

        A count that reaches SWAP_MAP_MAX is never lowered again. kernel: mm/swapfile.c:swap_duplicate
        """
        area, offset = entry >> 1 & 0x3F, entry >> 8
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
        """Whether only the cache uses the slot, and only the cache and the caller the page. kernel: mm/swapfile.c:exclusive_swap_page"""
        entry = self.index[pfn]
        p = self.swap_info_get(entry)
        return p is not None and p.swap_map is not None and p.swap_map[entry >> 8] == 1 and self.count[pfn] == 2

    def can_share_swap_page(self, pfn: int) -> bool:
        """Whether a process that writes to this locked page may keep it without a copy: nobody else has it.

        kernel: mm/swapfile.c:can_share_swap_page
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("can_share_swap_page", f"frame {pfn} is not locked", "locked")
        count = self.count[pfn]
        if count == 2:
            return self.mapping[pfn] == SWAPPER_SPACE_ID and self.exclusive_swap_page(pfn)
        return count == 1 and not self.flags[pfn] & RESERVED

    def remove_exclusive_swap_page(self, pfn: int) -> bool:
        """Take a locked page out of the swap cache and free its slot if nobody else uses either; whether it was.

        The page becomes dirty: no copy of it is left. kernel: mm/swapfile.c:remove_exclusive_swap_page
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("remove_exclusive_swap_page", f"frame {pfn} is not locked", "locked")
        if self.mapping[pfn] != SWAPPER_SPACE_ID or self.count[pfn] != 2:
            return False
        entry = self.index[pfn]
        p = self.swap_info_get(entry)
        if p is None or p.swap_map is None or p.swap_map[entry >> 8] != 1:
            return False
        self.kernel.swap_state.delete_from_swap_cache_nolock(pfn)
        self.flags[pfn] |= _DIRTY
        self.swap_free(entry)
        self.kernel.put_page(pfn)
        return True

    def free_swap_and_cache(self, entry: int) -> None:
        """A process gives up a page that is swapped out; the cached copy goes too when nobody else needs it, or swap is full.

        kernel: mm/swapfile.c:free_swap_and_cache
        """
        kernel = self.kernel
        p = self.swap_info_get(entry)
        if p is None or self.swap_entry_free(p, entry >> 8) != 1:
            return
        pfn = kernel.filemap.find_trylock_page(kernel.swap_state.swapper_space, entry)
        if pfn is None:
            return
        kernel.get_page(pfn)
        if self.count[pfn] == 2 or self.vm_swap_full():
            kernel.swap_state.delete_from_swap_cache(pfn)
            self.flags[pfn] |= _DIRTY
        kernel.filemap.unlock_page(pfn)
        kernel.put_page(pfn)

    # -- reading ------------------------------------------------------------------------------

    def get_swaphandle_info(self, entry: int) -> tuple[int, int | None, Inode | None]:
        """(slot, disk number or None, swap file or None) of an entry; neither, with a complaint, when it is none.

        kernel: mm/swapfile.c:get_swaphandle_info
        """
        area, offset = entry >> 1 & 0x3F, entry >> 8
        p = self.swap_info[area] if area < self.nr_swapfiles else None
        if p is None:
            why = f"Bad swap file entry {entry:08x}"
        elif offset >= p.max and offset:
            why = f"Bad swap offset entry {entry:08x}"
        elif p.swap_map is not None and not p.swap_map[offset]:
            why = f"Unused swap offset entry {entry:08x}"
        elif not p.flags & SWP_USED:
            why = f"Unused swap file entry {entry:08x}"
        elif p.swap_device is not None:
            return offset, p.swap_device, None
        elif isinstance(p.swap_file, Inode):
            return offset, None, p.swap_file
        else:
            why = "no swap file or device"
        self.kernel.printk(3, f"rw_swap_page: {why}")
        return offset, None, None

    def valid_swaphandles(self, entry: int) -> tuple[int, int]:
        """(how many, the first slot): what to read together with *entry*.

        The aligned block of 2^page_cluster slots around it, cut at the first that is free or bad.
        kernel: mm/swapfile.c:valid_swaphandles
        """
        page_cluster = self.kernel.swap.page_cluster
        if not page_cluster:
            return 0, 0
        area = swp_type(entry)
        swapdev = self.swap_info[area] if area < MAX_SWAPFILES else SwapInfo()
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
