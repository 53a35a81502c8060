"""The swap cache of 2.6: pages that have a slot in a swap area, found by it in a tree of their own.

A page of the swap cache keeps its page->mapping (the anon_vma through which its mappings are found); PG_swapcache
says that it is in the cache, and page->private under which entry.

kernel: mm/swap_state.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..errors import KernelBug
from ..mm.errno import EEXIST, ENOENT
from ..mm.fs import SWAPPER_SPACE_ID
from ..mm.gfp import PF_MEMALLOC
from ..mm.page_flags import PG_dirty, PG_locked, PG_uptodate
from ..mm.swap_state import SwapAops, SwapState
from .gfp import GFP_ATOMIC, GFP_HIGHUSER
from .page_flags import PRIVATE, SWAPCACHE, WRITEBACK

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from ..mm.fs import AddressSpace
    from ..mm.kernel import Kernel
    from ..mm.vm import VmArea
    from .fs import AddressSpace26
    from .page_alloc import PageAllocator26

_LOCKED, _DIRTY, _UPTODATE = 1 << PG_locked, 1 << PG_dirty, 1 << PG_uptodate
_CHUNK = 16  # pages whose references are dropped in one go


class SwapAops26(SwapAops):
    """In 2.6 the page may be written while nobody holds its lock, because PG_writeback says so; before that it stayed locked.

    kernel: mm/swap_state.c:swap_aops
    """

    def writepage(self, pfn: int, wbc: object = None) -> int:
        """In 2.6 in page_io.c, because swap I/O is bios; before that in swap_state.c. kernel: mm/page_io.c:swap_writepage"""
        io: Any = self.kernel.page_io
        return int(io.swap_writepage(pfn))


class SwapState26(SwapState):
    """In 2.6 pages enter the cache when reclaim chooses them, before they are unmapped, because try_to_unmap() needs the slot; before that
    when the first mapping was taken away."""

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.private: array[int] = kernel.mem.column("private")
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state
        self.aops = SwapAops26(kernel)

    def init(self) -> None:
        """In 2.6 the pages count as no disk's, because they are memory's own; before that there was no such count.

        Make the empty swap cache. kernel: mm/swap_state.c:swapper_space, swap_backing_dev_info
        """
        space = self.kernel.address_space(self.kernel, None, self.aops, SWAPPER_SPACE_ID)
        cast("AddressSpace26", space).memory_backed = True

    @property
    def space(self) -> AddressSpace26:
        """The swap cache's own address_space, whose ``nrpages`` is the kernel's total_swapcache_pages."""
        return cast("AddressSpace26", self.kernel.mappings[SWAPPER_SPACE_ID])

    def show_swap_cache_info(self) -> str:
        """In 2.6 with the sizes, because the line comes when memory ran out; before that the counts only.

        kernel: mm/swap_state.c:show_swap_cache_info
        """
        swapfile = self.kernel.swapfile
        free, total = swapfile.nr_swap_pages << 2 & 0xFFFFFFFF, swapfile.total_swap_pages << 2 & 0xFFFFFFFF  # %lu
        sizes = f"Free swap  = {free}kB\nTotal swap = {total}kB\n"
        return super().show_swap_cache_info() + sizes

    # -- in and out ---------------------------------------------------------------------------

    def add_to_swap_cache_nolock(self, pfn: int, entry: int, gfp_mask: int = GFP_ATOMIC) -> int:
        """In 2.6 new, because the entry goes to page->private and the page keeps its mapping; before that it was a page of a file.

        Cache the page, locked, under *entry*: 0, or -EEXIST. kernel: mm/swap_state.c:__add_to_swap_cache
        """
        flags = self.flags[pfn]
        if flags & (SWAPCACHE | PRIVATE):
            raise KernelBug("__add_to_swap_cache", f"frame {pfn} is in the swap cache already, or has buffers", "swapcache")
        space = self.space
        if entry in space.page_tree:
            return -EEXIST
        space.page_tree[entry] = pfn
        self.count[pfn] += 1
        self.flags[pfn] = flags | _LOCKED | SWAPCACHE
        self.private[pfn] = entry
        space.nrpages += 1
        self.page_state.nr_pagecache += 1
        if self.on_event is not None:
            self.on_event(("swap_cache_add", pfn, entry))
        return 0

    def add_to_swap_cache(self, pfn: int, entry: int) -> int:
        """In 2.6 for pages that are read only, because a page that is written already has its slot; before that for all.

        Returns 0, -ENOENT (the slot is free), or -EEXIST (it has a page). kernel: mm/swap_state.c:add_to_swap_cache
        """
        swapfile = self.kernel.swapfile
        if not swapfile.swap_duplicate(entry):
            self.noent_race += 1
            return -ENOENT
        error = self.add_to_swap_cache_nolock(pfn, entry)
        if error:
            swapfile.swap_free(entry)
            self.exist_race += 1
            return error
        self.add_total += 1
        return 0

    def add_to_swap(self, pfn: int) -> int:
        """In 2.6 new, because a page gets its slot before it is unmapped: give a locked page a slot, and cache it, dirty.

        Returns 1, or 0 when swap is full. PF_MEMALLOC is off meanwhile, so that the tree's nodes do not take the last reserves.
        kernel: mm/swap_state.c:add_to_swap
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("add_to_swap", f"frame {pfn} is not locked", "locked")
        swapfile, task = self.kernel.swapfile, self.kernel.current
        while True:
            entry = swapfile.get_swap_page()
            if not entry:
                return 0
            memalloc = task.flags & PF_MEMALLOC
            task.flags &= ~PF_MEMALLOC
            error = self.add_to_swap_cache_nolock(pfn, entry)
            task.flags |= memalloc
            if not error:
                self.flags[pfn] |= _UPTODATE | _DIRTY
                self.add_total += 1
                if self.on_event is not None:
                    self.on_event(("add_to_swap", pfn, entry))
                return 1
            self.exist_race += 1  # read ahead a moment ago: another slot
            swapfile.swap_free(entry)

    def delete_from_swap_cache_nolock(self, pfn: int) -> None:
        """In 2.6 the page may stay dirty, because that is now the page's own matter; before that it was clean when it left the cache.

        Take a locked page out of the swap cache; its references stay with the caller. kernel: mm/swap_state.c:__delete_from_swap_cache
        """
        flags = self.flags[pfn]
        if flags & (_LOCKED | SWAPCACHE | WRITEBACK) != _LOCKED | SWAPCACHE:
            raise KernelBug("__delete_from_swap_cache", f"frame {pfn} is not locked, not in the swap cache, or being written", "swapcache")
        space, entry = self.space, self.private[pfn]
        space.delete(entry)
        self.private[pfn] = 0
        self.flags[pfn] = flags & ~SWAPCACHE
        space.nrpages -= 1
        self.page_state.nr_pagecache -= 1
        self.del_total += 1
        if self.on_event is not None:
            self.on_event(("swap_cache_del", pfn, entry))

    def delete_from_swap_cache(self, pfn: int) -> None:
        """In 2.6 the entry is in page->private, because page->index stays the anonymous page's place in its area; before that there.

        Take a locked page out of the swap cache and drop the cache's references to its slot and to it.
        kernel: mm/swap_state.c:delete_from_swap_cache
        """
        if self.flags[pfn] & PRIVATE:
            raise KernelBug("delete_from_swap_cache", f"frame {pfn} has buffers", "private")
        entry = self.private[pfn]
        self.delete_from_swap_cache_nolock(pfn)
        self.kernel.swapfile.swap_free(entry)
        self.kernel.put_page(pfn)

    def move_to_swap_cache(self, pfn: int, entry: int) -> int:
        """In 2.6 new, because the page is entered before it leaves its file, so that it is never in neither; before that it was moved by
        hand.

        Move a page of shared memory to the swap cache: 0, or -EEXIST. kernel: mm/swap_state.c:move_to_swap_cache
        """
        error = self.add_to_swap_cache_nolock(pfn, entry)
        if error:
            self.exist_race += 1
            return error
        kernel = self.kernel
        filemap: Any = kernel.filemap
        filemap.remove_from_page_cache(pfn)
        kernel.put_page(pfn)
        if not kernel.swapfile.swap_duplicate(entry):
            raise KernelBug("move_to_swap_cache", f"slot {entry:#x} is free", "slot")
        self.flags[pfn] |= _DIRTY
        self.add_total += 1
        return 0

    def move_from_swap_cache(self, pfn: int, index: int, mapping: AddressSpace) -> int:
        """In 2.6 new, because of :meth:`move_to_swap_cache`: the way back, to page *index* of a file; the page is dirty then.

        Returns 0 or -EEXIST. kernel: mm/swap_state.c:move_from_swap_cache
        """
        filemap: Any = self.kernel.filemap
        error: int = filemap.add_to_page_cache(pfn, mapping, index, GFP_ATOMIC)
        if not error:
            self.delete_from_swap_cache(pfn)
            self.flags[pfn] &= ~_DIRTY
            filemap.set_page_dirty(pfn)
        return error

    # -- freeing ------------------------------------------------------------------------------

    def free_swap_cache(self, pfn: int) -> None:
        """In 2.6 new, because many pages are freed in one go: a page's slot goes if nobody else needs it.

        kernel: mm/swap_state.c:free_swap_cache
        """
        if self.flags[pfn] & (SWAPCACHE | _LOCKED) == SWAPCACHE:
            self.flags[pfn] |= _LOCKED
            self.kernel.swapfile.remove_exclusive_swap_page(pfn)
            self.kernel.filemap.unlock_page(pfn)

    def free_page_and_swap_cache(self, pfn: int) -> None:
        """In 2.6 PG_swapcache tells, because page->mapping is the anon_vma; before that the mapping.

        Drop a process's reference to a page; its slot goes too when no one else needs it. kernel: mm/swap_state.c:free_page_and_swap_cache
        """
        self.free_swap_cache(pfn)
        self.kernel.put_page(pfn)

    def free_pages_and_swap_cache(self, pfns: Sequence[int]) -> None:
        """In 2.6 new, because an exiting process's pages are gathered and freed by the hundred: the same for all, 16 at a time.

        kernel: mm/swap_state.c:free_pages_and_swap_cache
        """
        lru: Any = self.kernel.swap
        lru.lru_add_drain()
        for at in range(0, len(pfns), _CHUNK):
            chunk = pfns[at : at + _CHUNK]
            for pfn in chunk:
                self.free_swap_cache(pfn)
            lru.release_pages(chunk, 0)

    # -- finding ------------------------------------------------------------------------------

    def lookup_swap_cache(self, entry: int) -> int | None:
        """In 2.6 in the swap cache's tree, because each address_space has one; before that in the hash of all pages.

        The frame that holds *entry*'s page, with one more reference; None when it is only on disk.
        kernel: mm/swap_state.c:lookup_swap_cache
        """
        found = self.space.page_tree.get(entry)
        if found is not None:
            self.count[found] += 1
            self.find_success += 1
        self.find_total += 1
        if self.on_event is not None:
            self.on_event(("swap_cache_find", entry, found))
        return found

    def read_swap_cache_async(self, entry: int, vma: VmArea | None = None, address: int = 0) -> int | None:
        """In 2.6 a page read from swap is on its way to the active list, because somebody wants it; before that it began as inactive.

        The frame for *entry*, with one more reference: from the cache, or a new one whose reading has begun (locked). None when memory is
        short or the slot was freed meanwhile. *vma* and *address* choose the node. kernel: mm/swap_state.c:read_swap_cache_async
        """
        kernel = self.kernel
        tree = self.space.page_tree
        new_page: int | None = None
        while True:
            found = tree.get(entry)
            if found is not None:
                self.count[found] += 1
                break
            if new_page is None:
                new_page = kernel.alloc_page(GFP_HIGHUSER)
                if new_page is None:
                    break
            error = self.add_to_swap_cache(new_page, entry)
            if not error:
                lru: Any = kernel.swap
                lru.lru_cache_add_active(new_page)
                io: Any = kernel.page_io
                io.swap_readpage(new_page)
                return new_page
            if error == -ENOENT:
                break
        if new_page is not None:
            kernel.put_page(new_page)
        return found
