"""Taking pages out of the page cache: truncating and invalidating, 14 pages at a time. kernel: mm/truncate.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..hw.layout import PAGE_SHIFT
from ..mm.errno import EIO
from ..mm.filemap_cache import DIRTY, PAGE_MASK, UPTODATE
from .filemap_map import FileMapping26
from .fs import AddressSpace26
from .page_flags import MAPPEDTODISK, WRITEBACK
from .swap import PAGEVEC_SIZE

if TYPE_CHECKING:
    from ..mm.fs import AddressSpace, Inode

_U32 = 0xFFFFFFFF


class Truncate(FileMapping26):
    """In 2.6 a file of its own, because it works on trees; before that part of mm/filemap.c."""

    def truncate_complete_page(self, mapping: AddressSpace26, pfn: int) -> None:  # type: ignore[override]
        """In 2.6 the page stays on the LRU list until its last reference goes, because that takes it off; before that it was removed here.

        The locked page leaves the cache for good. kernel: mm/truncate.c:truncate_complete_page
        """
        if self.mapping[pfn] != mapping.id:
            return
        self.test_clear_page_dirty(pfn)
        self.flags[pfn] &= ~(UPTODATE | MAPPEDTODISK)
        self.remove_from_page_cache(pfn)
        self.kernel.put_page(pfn)

    def invalidate_complete_page(self, mapping: AddressSpace26, pfn: int) -> int:
        """In 2.6 a page may have become dirty again, because marks need no page lock; before that callers made sure.

        Returns 1 when the locked page is out of the cache, 0 when it is dirty or not of *mapping*.
        kernel: mm/truncate.c:invalidate_complete_page
        """
        if self.mapping[pfn] != mapping.id or self.flags[pfn] & DIRTY:
            return 0
        self.remove_from_page_cache_nolock(pfn)
        self.flags[pfn] &= ~UPTODATE
        self.kernel.put_page(pfn)
        return 1

    def truncate_inode_pages(self, mapping: AddressSpace, lstart: int) -> None:
        """In 2.6 in order of the index and twice, first what needs no waiting, because most pages do not; before that list by list.

        Drop every cached page from byte *lstart* on, and zero the rest of the page it is in. kernel: mm/truncate.c:truncate_inode_pages
        """
        space = cast(AddressSpace26, mapping)
        start = lstart + PAGE_MASK >> PAGE_SHIFT
        partial = lstart & PAGE_MASK
        if not space.nrpages:
            return
        if self.on_event is not None:
            self.on_event(("truncate_inode_pages", space.id, lstart, space.nrpages))
        following = start
        while pages := self.find_get_pages(space, following, PAGEVEC_SIZE):
            for pfn in pages:
                following = max(following, self.index[pfn]) + 1
                if self.try_lock_page(pfn):
                    continue
                if not self.flags[pfn] & WRITEBACK:
                    self.truncate_complete_page(space, pfn)
                self.unlock_page(pfn)
            self.lru_cache.pagevec_release(pages)
        if partial:
            found = self.find_lock_page(space, start - 1)
            if found is not None:
                self.wait_on_page_writeback(found)
                self.truncate_partial_page(found, partial)
                self.unlock_page(found)
                self.kernel.put_page(found)
        following = start
        while True:
            pages = self.find_get_pages(space, following, PAGEVEC_SIZE)
            if not pages:
                if following == start:
                    return
                following = start
                continue
            for pfn in pages:
                self.lock_page(pfn)
                self.wait_on_page_writeback(pfn)
                following = max(following, self.index[pfn]) + 1
                self.truncate_complete_page(space, pfn)
                self.unlock_page(pfn)
            self.lru_cache.pagevec_release(pages)

    def invalidate_mapping_pages(self, mapping: AddressSpace26, start: int, end: int) -> int:
        """In 2.6 for a range, because fadvise() asks for one; before that only for a whole file.

        Drop pages *start* to *end* that are clean, unlocked and not mapped; returns how many.
        kernel: mm/truncate.c:invalidate_mapping_pages
        """
        following, ret = start, 0
        while following <= end and (pages := self.find_get_pages(mapping, following, PAGEVEC_SIZE)):
            for pfn in pages:
                if self.try_lock_page(pfn):
                    following += 1
                    continue
                following = max(following, self.index[pfn]) + 1
                if not self.flags[pfn] & (DIRTY | WRITEBACK) and not self.kernel.rmap.page_mapped(pfn):  # type: ignore[attr-defined]
                    ret += self.invalidate_complete_page(mapping, pfn)
                self.unlock_page(pfn)
                if following > end:
                    break
            self.lru_cache.pagevec_release(pages)
        return ret

    def invalidate_inode_pages(self, inode: Inode) -> int:  # type: ignore[override]
        """In 2.6 it returns how many pages went, because callers want to know; before that nothing.

        kernel: mm/truncate.c:invalidate_inode_pages
        """
        return self.invalidate_mapping_pages(cast(AddressSpace26, inode.i_mapping), 0, _U32)

    def invalidate_inode_pages2(self, mapping: AddressSpace) -> int:  # type: ignore[override]
        """In 2.6 mapped pages are unmapped first, because direct I/O must not leave stale ones behind; before that they stayed.

        Drop every page. Returns 0, or EIO (5) when one stayed. kernel: mm/truncate.c:invalidate_inode_pages2
        """
        space = cast(AddressSpace26, mapping)
        memory, rmap = self.kernel.memory, self.kernel.rmap  # type: ignore[attr-defined]
        following, ret, unmapped = 0, 0, False
        while not ret and (pages := self.find_get_pages(space, following, PAGEVEC_SIZE)):
            for pfn in pages:
                if ret:
                    break
                self.lock_page(pfn)
                if self.mapping[pfn] != space.id:
                    self.unlock_page(pfn)
                    continue
                self.wait_on_page_writeback(pfn)
                at = self.index[pfn]
                following = at + 1
                while rmap.page_mapped(pfn):
                    begin = at << PAGE_SHIFT
                    memory.unmap_mapping_range(space, begin, begin + 1 if unmapped else -1, 0)  # type: ignore[attr-defined]
                    unmapped = True
                was_dirty = self.test_clear_page_dirty(pfn)
                if not self.invalidate_complete_page(space, pfn):
                    if was_dirty:
                        self.set_page_dirty(pfn)
                    ret = -EIO
                self.unlock_page(pfn)
            self.lru_cache.pagevec_release(pages)
        return ret
