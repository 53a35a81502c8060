"""The swap cache: pages that also have a slot in a swap area, found by that slot.

While a page moves between memory and swap, everyone who shares it must find the same frame.
So it sits in the page cache under ``swapper_space``, a file of its own whose page number is the
swap entry; a page fault looks there first, and a page found there needs no disk.

kernel: mm/swap_state.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .block import READ, WRITE
from .errno import EEXIST, ENOENT
from .fs import SWAPPER_SPACE_ID, AddressSpace, AddressSpaceOps
from .gfp import GFP_HIGHUSER
from .kernel import Part
from .page_flags import PG_dirty, PG_locked

if TYPE_CHECKING:
    from .kernel import Kernel

_LOCKED, _DIRTY = 1 << PG_locked, 1 << PG_dirty


class SwapAops(AddressSpaceOps):
    """What reclaim calls for a page of the swap cache. kernel: mm/swap_state.c:swap_aops"""

    name = "swap_aops"

    def writepage(self, pfn: int) -> int:
        """Write the page to its slot."""
        return self.kernel.swap_state.swap_writepage(pfn)

    def sync_page(self, pfn: int) -> int:
        """Start the disk: somebody waits for the page."""
        return self.kernel.block.sync_page(pfn)


class SwapState(Part):
    """The swap cache, and counters of how it is used (``show_swap_cache_info``)."""

    state_names = ("add_total", "del_total", "exist_race", "find_success", "find_total", "noent_race")

    def __init__(self) -> None:
        super().__init__()
        self.add_total = self.del_total = self.find_success = self.find_total = 0  # pages, look-ups
        self.noent_race = self.exist_race = 0

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.index = kernel.mem.index
        self.mapping = kernel.mem.mapping
        self.aops = SwapAops(kernel)

    def init(self) -> None:
        """Make the empty swap cache. kernel: mm/swap_state.c:swapper_space"""
        AddressSpace(self.kernel, None, self.aops, SWAPPER_SPACE_ID)

    @property
    def swapper_space(self) -> AddressSpace:
        """The page cache of swap; pages are numbered by swap entry."""
        return self.kernel.mappings[SWAPPER_SPACE_ID]

    def swap_writepage(self, pfn: int) -> int:
        """Write a page of the swap cache to its slot, unless nobody but the cache uses the slot any more.

        Returns 0. kernel: mm/swap_state.c:swap_writepage
        """
        kernel = self.kernel
        if kernel.swapfile.remove_exclusive_swap_page(pfn):
            kernel.filemap.unlock_page(pfn)
            return 0
        kernel.page_io.rw_swap_page(WRITE, pfn)
        return 0

    def show_swap_cache_info(self) -> str:
        """How often the swap cache was used, as one line. kernel: mm/swap_state.c:show_swap_cache_info"""
        return (
            f"Swap cache: add {self.add_total}, delete {self.del_total}, "
            f"find {self.find_success}/{self.find_total}, race {self.noent_race}+{self.exist_race}\n"
        )

    def add_to_swap_cache(self, pfn: int, entry: int) -> int:
        """Put a page into the swap cache under *entry*: 0, or -ENOENT (the slot is free), or -EEXIST (it has a page).

        The cache holds a reference to the slot and one to the page, which comes back locked.
        kernel: mm/swap_state.c:add_to_swap_cache
        """
        if self.mapping[pfn]:
            raise KernelBug("add_to_swap_cache", f"frame {pfn} is in a page cache already", "mapping")
        kernel = self.kernel
        if not kernel.swapfile.swap_duplicate(entry):
            self.noent_race += 1
            return -ENOENT
        if kernel.filemap.add_to_page_cache_unique(pfn, kernel.mappings[SWAPPER_SPACE_ID], entry):
            kernel.swapfile.swap_free(entry)
            self.exist_race += 1
            return -EEXIST
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("add_to_swap_cache", f"frame {pfn} is not locked", "locked")
        self.add_total += 1
        if self.on_event is not None:
            self.on_event(("swap_cache_add", pfn, entry))
        return 0

    def delete_from_swap_cache_nolock(self, pfn: int) -> None:
        """Take a locked page out of the swap cache; its references stay with the caller.

        kernel: mm/swap_state.c:__delete_from_swap_cache
        """
        flags = self.flags[pfn]
        if not flags & _LOCKED:
            raise KernelBug("__delete_from_swap_cache", f"frame {pfn} is not locked", "locked")
        if self.mapping[pfn] != SWAPPER_SPACE_ID:
            raise KernelBug("__delete_from_swap_cache", f"frame {pfn} is not in the swap cache", "mapping")
        self.flags[pfn] = flags & ~_DIRTY
        self.kernel.filemap.remove_inode_page_nolock(pfn)
        self.del_total += 1
        if self.on_event is not None:
            self.on_event(("swap_cache_del", pfn, self.index[pfn]))

    def delete_from_swap_cache(self, pfn: int) -> None:
        """Take a locked page out of the swap cache and drop the cache's references to its slot and to it.

        kernel: mm/swap_state.c:delete_from_swap_cache
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("delete_from_swap_cache", f"frame {pfn} is not locked", "locked")
        entry = self.index[pfn]
        self.delete_from_swap_cache_nolock(pfn)
        self.kernel.swapfile.swap_free(entry)
        self.kernel.put_page(pfn)

    def free_page_and_swap_cache(self, pfn: int) -> None:
        """Drop a process's reference to a page; its slot goes too when no one else needs it.

        kernel: mm/swap_state.c:free_page_and_swap_cache
        """
        kernel = self.kernel
        if self.mapping[pfn] == SWAPPER_SPACE_ID and not kernel.filemap.try_lock_page(pfn):
            kernel.swapfile.remove_exclusive_swap_page(pfn)
            kernel.filemap.unlock_page(pfn)
        kernel.put_page(pfn)

    def lookup_swap_cache(self, entry: int) -> int | None:
        """The frame that holds *entry*'s page, with one more reference; None when it is only on disk.

        kernel: mm/swap_state.c:lookup_swap_cache
        """
        kernel = self.kernel
        found: int | None = kernel.filemap.find_get_page(kernel.mappings[SWAPPER_SPACE_ID], entry)
        self.find_total += 1
        if found is not None:
            self.find_success += 1
        if self.on_event is not None:
            self.on_event(("swap_cache_find", entry, found))
        return found

    def read_swap_cache_async(self, entry: int) -> int | None:
        """The frame for *entry*, with one more reference: from the cache, or a new one whose reading has begun.

        None when memory is short or the slot was freed meanwhile. The allocation may sleep, so the
        cache is looked up again after it. kernel: mm/swap_state.c:read_swap_cache_async
        """
        kernel = self.kernel
        new_page: int | None = None
        found: int | None
        while True:
            found = kernel.filemap.find_get_page(kernel.mappings[SWAPPER_SPACE_ID], entry)
            if found is not None:
                break
            if new_page is None:
                new_page = kernel.alloc_page(GFP_HIGHUSER)
                if new_page is None:
                    break
            error = self.add_to_swap_cache(new_page, entry)
            if not error:
                kernel.page_io.rw_swap_page(READ, new_page)
                return new_page
            if error == -ENOENT:
                break
        if new_page is not None:
            kernel.put_page(new_page)
        return found
