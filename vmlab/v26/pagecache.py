"""The page cache of 2.6: a tree of pages for each file, dirty pages and pages being written marked in it.

A page being written is no longer locked: PG_writeback says so, and reading it goes on.

kernel: mm/filemap.c, mm/page-writeback.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug, KernelHang
from ..mm.errno import EEXIST
from ..mm.filemap import Filemap
from ..mm.filemap_cache import DIRTY, LOCKED
from ..mm.fs import SWAPPER_SPACE_ID
from ..mm.gfp import GFP_KERNEL
from .fs import ANON, AddressSpace26
from .gfp import COLD, FS
from .page_flags import RECLAIM, SWAPCACHE, WRITEBACK

if TYPE_CHECKING:
    from array import array

    from ..mm.fs import AddressSpace
    from ..mm.kernel import Kernel
    from .page_alloc import PageAllocator26
    from .swap import LruCache26

SIZEOF_RADIX_TREE_NODE = 276  # bytes: height, 64 slots, two marks for each


class PageCache26(Filemap):
    """Finding and keeping pages, and their dirty and writeback marks."""

    state_names: tuple[str, ...] = ("vm_max_readahead", "vm_min_readahead")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        kernel.address_space = AddressSpace26
        self.private: array[int] = kernel.mem.column("private")
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state

    @property
    def page_cache_size(self) -> int:
        """In 2.6 a counter beside the others, because every file has its own tree; before that the size of the hash table's content.

        Pages cached, those of the swap cache included. kernel: include/linux/pagemap.h:get_page_cache_size
        """
        return self.page_state.nr_pagecache

    @page_cache_size.setter
    def page_cache_size(self, pages: int) -> None:
        """Counted in page_state; what a new part is told is 0."""

    @property
    def lru_cache(self) -> LruCache26:
        """The zones' lists."""
        return self.kernel.swap  # type: ignore[return-value]

    def radix_tree_init(self) -> None:
        """In 2.6 trees take memory as they grow, because a hash table must be sized at boot; before that page_cache_init took it then.

        kernel: lib/radix-tree.c:radix_tree_init
        """
        self.kernel.slab.keep_cache("radix_tree_node", SIZEOF_RADIX_TREE_NODE, 0)

    # -- whose page it is ---------------------------------------------------------------------

    def page_mapping(self, pfn: int) -> AddressSpace26 | None:
        """In 2.6 asked by everybody, because page->mapping may be an anon_vma; before that it was the file or nothing.

        The address_space the page is cached for: its file's, the swap cache's, or None. kernel: include/linux/mm.h:page_mapping
        """
        if self.flags[pfn] & SWAPCACHE:
            return self.kernel.mappings[SWAPPER_SPACE_ID]  # type: ignore[return-value]
        ident = self.mapping[pfn]
        return None if not ident or ident & ANON else self.kernel.mappings.get(ident)  # type: ignore[return-value]

    def page_index(self, pfn: int) -> int:
        """In 2.6 new, because a page in the swap cache keeps its place in its area: under what it is cached.

        kernel: include/linux/mm.h:page_index
        """
        return self.private[pfn] if self.flags[pfn] & SWAPCACHE else self.index[pfn]

    # -- in and out ---------------------------------------------------------------------------

    def add_to_page_cache(self, pfn: int, mapping: AddressSpace, index: int, gfp_mask: int = 0) -> int:  # type: ignore[override]
        """In 2.6 it fails when there is a page already, because two may have the same idea; before that callers had to know.

        Cache a page: it is locked now. Returns 0, or -EEXIST. kernel: mm/filemap.c:add_to_page_cache
        """
        space = cast(AddressSpace26, mapping)
        if index in space.page_tree:
            return -EEXIST
        space.page_tree[index] = pfn
        self.count[pfn] += 1
        self.flags[pfn] |= LOCKED
        self.mapping[pfn] = space.id
        self.index[pfn] = index
        space.nrpages += 1
        self.page_state.nr_pagecache += 1
        if self.on_event is not None:
            self.on_event(("page_cache_add", pfn, space.id, index))
        return 0

    def add_to_page_cache_lru(self, pfn: int, mapping: AddressSpace, index: int, gfp_mask: int = 0) -> int:
        """In 2.6 apart, because read-ahead lists its pages by the handful; before that caching listed a page.

        The same, and on its way to the inactive list. kernel: mm/filemap.c:add_to_page_cache_lru
        """
        error = self.add_to_page_cache(pfn, mapping, index, gfp_mask)
        if not error:
            self.kernel.swap.lru_cache_add(pfn)
        return error

    def add_to_page_cache_unique(self, pfn: int, mapping: AddressSpace, index: int) -> int:
        """In 2.6 the ordinary function does that, because of its error; before that one of several.

        kernel: mm/filemap.c:add_to_page_cache_lru
        """
        return 1 if self.add_to_page_cache_lru(pfn, mapping, index, GFP_KERNEL) else 0

    def remove_from_page_cache_nolock(self, pfn: int) -> None:
        """In 2.6 the page keeps its index, because nothing else needs it; its mapping is gone; before that it left a hash chain and a list.

        kernel: mm/filemap.c:__remove_from_page_cache
        """
        mapping = cast(AddressSpace26, self.kernel.mappings[self.mapping[pfn]])
        if self.on_event is not None:
            self.on_event(("page_cache_remove", pfn, mapping.id, self.index[pfn]))
        mapping.delete(self.index[pfn])
        self.mapping[pfn] = 0
        mapping.nrpages -= 1
        self.page_state.nr_pagecache -= 1

    def remove_from_page_cache(self, pfn: int) -> None:
        """In 2.6 renamed from remove_inode_page(), because swap has no inode. Raises KernelBug when the page is not locked.

        kernel: mm/filemap.c:remove_from_page_cache
        """
        if not self.flags[pfn] & LOCKED:
            raise KernelBug("remove_from_page_cache", f"frame {pfn} is not locked", "unlocked")
        self.remove_from_page_cache_nolock(pfn)

    def find_page_nolock(self, mapping: AddressSpace, index: int) -> int | None:
        """In 2.6 from the file's tree, because each has one; before that from the hash table. kernel: lib/radix-tree.c:radix_tree_lookup"""
        return cast(AddressSpace26, mapping).page_tree.get(index)

    def find_or_create_page(self, mapping: AddressSpace, index: int, gfp_mask: int) -> int | None:
        """In 2.6 caching itself tells that somebody was faster; before that one looked again.

        The page at *index*, locked and with a reference, made when absent; None when memory is short.
        kernel: mm/filemap.c:find_or_create_page
        """
        spare: int | None = None
        while True:
            pfn = self.find_lock_page(mapping, index)
            if pfn is not None:
                break
            if spare is None:
                spare = self.kernel.alloc_page(gfp_mask)
                if spare is None:
                    return None
            if not self.add_to_page_cache_lru(spare, mapping, index, gfp_mask):
                return spare
        if spare is not None:
            self.kernel.put_page(spare)
        return pfn

    def grab_cache_page_nowait(self, mapping: AddressSpace, index: int) -> int | None:
        """In 2.6 without __GFP_FS, because the caller may hold a page lock that the file system waits for; before that with all.

        kernel: mm/filemap.c:grab_cache_page_nowait
        """
        pfn = self.find_get_page(mapping, index)
        if pfn is not None:
            if not self.try_lock_page(pfn):
                return pfn
            self.kernel.put_page(pfn)
            return None
        gfp_mask = mapping.gfp_mask & ~FS
        pfn = self.kernel.alloc_page(gfp_mask)
        if pfn is not None and self.add_to_page_cache_lru(pfn, mapping, index, gfp_mask):
            self.kernel.put_page(pfn)
            return None
        return pfn

    def page_cache_alloc_cold(self, mapping: AddressSpace) -> int | None:
        """In 2.6 pages to be read come from the cold list, because the disk writes them, not the processor; before that there was none.

        kernel: include/linux/pagemap.h:page_cache_alloc_cold
        """
        return self.kernel.alloc_page(mapping.gfp_mask | COLD)

    def find_get_pages(self, mapping: AddressSpace26, start: int, nr_pages: int) -> list[int]:
        """In 2.6 new, because a tree is sorted: up to *nr_pages* pages from index *start* on, with references.

        kernel: mm/filemap.c:find_get_pages, mm/swap.c:pagevec_lookup
        """
        found = mapping.gang_lookup(start, nr_pages)
        for pfn in found:
            self.count[pfn] += 1
        return found

    def find_get_pages_tag(self, mapping: AddressSpace26, index: int, tags: dict[int, None], nr_pages: int) -> tuple[list[int], int]:
        """In 2.6 new, because of the marks: the same of marked pages, and the index to go on from.

        kernel: mm/filemap.c:find_get_pages_tag, mm/swap.c:pagevec_lookup_tag
        """
        found = mapping.gang_lookup(index, nr_pages, tags)
        for pfn in found:
            self.count[pfn] += 1
        return found, self.index[found[-1]] + 1 if found else index

    def cached_pages(self, mapping: AddressSpace) -> list[int]:
        """In 2.6 from the tree; before that from three lists. Frames cached for *mapping*, by index."""
        tree = cast(AddressSpace26, mapping).page_tree
        return [tree[index] for index in sorted(tree)]

    def page_lists(self, mapping: AddressSpace) -> dict[str, list[int]]:
        """In 2.6 the marked pages, by index, because there are no lists; before that the frames of three lists."""
        space = cast(AddressSpace26, mapping)
        return {
            "dirty": [space.page_tree[index] for index in sorted(space.dirty_tags)],
            "writing": [space.page_tree[index] for index in sorted(space.writeback_tags)],
        }

    # -- waiting ------------------------------------------------------------------------------

    def sync_page(self, pfn: int) -> int:
        """In 2.6 the page's address_space is asked for, because it may be the swap cache; before that page->mapping was it.

        kernel: mm/filemap.c:sync_page
        """
        mapping = self.page_mapping(pfn)
        if mapping is not None and mapping.a_ops.sync_page is not None:
            mapping.a_ops.sync_page(pfn)
        return 0

    def wait_on_page_writeback(self, pfn: int) -> None:
        """In 2.6 new, because a page being written is not locked. kernel: include/linux/pagemap.h:wait_on_page_writeback"""
        while self.flags[pfn] & WRITEBACK:
            if self.on_event is not None:
                self.on_event(("wait_on_page", pfn))
            self.sync_page(pfn)
            self.kernel.sched.schedule()
            if self.flags[pfn] & WRITEBACK and not self.kernel.block.queue:
                raise KernelHang("wait_on_page_bit", f"frame {pfn} is being written and no transfer is under way")

    def end_page_writeback(self, pfn: int) -> None:
        """In 2.6 new, because of PG_writeback: the write is done; a page that reclaim wants goes to the tail of its list.

        kernel: mm/filemap.c:end_page_writeback
        """
        flags = self.flags[pfn]
        rotate = flags & RECLAIM
        self.flags[pfn] = flags & ~RECLAIM
        if (not rotate or self.lru_cache.rotate_reclaimable_page(pfn)) and not self.test_clear_page_writeback(pfn):
            raise KernelBug("end_page_writeback", f"frame {pfn} was not being written", "writeback")

    # -- marks --------------------------------------------------------------------------------

    def set_page_dirty(self, pfn: int) -> None:
        """In 2.6 the page is marked in its file's tree, because fsync finds it so in order; before that it moved to the dirty list.

        kernel: mm/page-writeback.c:set_page_dirty, __set_page_dirty_nobuffers
        """
        flags = self.flags[pfn]
        if flags & DIRTY:
            return
        self.flags[pfn] = flags | DIRTY
        mapping = self.page_mapping(pfn)
        if mapping is not None:
            if not mapping.memory_backed:
                self.page_state.nr_dirty += 1
            mapping.dirty_tags[self.page_index(pfn)] = None
        if self.on_event is not None:
            self.on_event(("set_page_dirty", pfn, mapping.id if mapping is not None else 0))

    def test_clear_page_dirty(self, pfn: int) -> bool:
        """In 2.6 with its mark and the count of dirty pages; before that only the bit. Returns whether it was dirty.

        kernel: mm/page-writeback.c:test_clear_page_dirty, include/linux/page-flags.h:clear_page_dirty
        """
        if not self.flags[pfn] & DIRTY:
            return False
        self.flags[pfn] &= ~DIRTY
        mapping = self.page_mapping(pfn)
        if mapping is not None:
            mapping.dirty_tags.pop(self.page_index(pfn), None)
            if not mapping.memory_backed:
                self.page_state.nr_dirty -= 1
        return True

    def clear_page_dirty_for_io(self, pfn: int) -> bool:
        """In 2.6 the mark stays until PG_writeback is set, because a second fsync must find the page meanwhile; before that there was none.

        Returns whether it was dirty. kernel: mm/page-writeback.c:clear_page_dirty_for_io
        """
        if not self.flags[pfn] & DIRTY:
            return False
        self.flags[pfn] &= ~DIRTY
        mapping = self.page_mapping(pfn)
        if mapping is not None and not mapping.memory_backed:
            self.page_state.nr_dirty -= 1
        return True

    def test_clear_page_writeback(self, pfn: int) -> bool:
        """In 2.6 new, because of PG_writeback. Returns whether the page was being written.

        kernel: mm/page-writeback.c:test_clear_page_writeback
        """
        if not self.flags[pfn] & WRITEBACK:
            return False
        self.flags[pfn] &= ~WRITEBACK
        self.page_state.nr_writeback -= 1
        mapping = self.page_mapping(pfn)
        if mapping is not None:
            mapping.writeback_tags.pop(self.page_index(pfn), None)
        return True

    def test_set_page_writeback(self, pfn: int) -> bool:
        """In 2.6 new, because of PG_writeback: a write begins. Returns whether one was under way.

        kernel: mm/page-writeback.c:test_set_page_writeback, include/linux/page-flags.h:set_page_writeback
        """
        flags = self.flags[pfn]
        mapping = self.page_mapping(pfn)
        if not flags & WRITEBACK:
            self.flags[pfn] = flags | WRITEBACK
            self.page_state.nr_writeback += 1
            if mapping is not None:
                mapping.writeback_tags[self.page_index(pfn)] = None
        if mapping is not None and not flags & DIRTY:
            mapping.dirty_tags.pop(self.page_index(pfn), None)
        return flags & WRITEBACK != 0

    def set_page_writeback(self, pfn: int) -> None:
        """In 2.6 new, because of PG_writeback: a write begins. kernel: include/linux/page-flags.h:set_page_writeback"""
        self.test_set_page_writeback(pfn)
