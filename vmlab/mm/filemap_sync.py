"""Dirty pages, writing them out, and throwing cached pages away.

The lists of a file are walked from their ends. Where the kernel lets the lock go in the middle of a walk, it first
moves the list's *head* next to the page it works on, so that the walk can go on from there: the lists are rotated.

kernel: mm/filemap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT
from .errno import EIO
from .filemap_cache import DIRTY, ERROR, LAUNDER, LOCKED, PAGE_MASK, REFERENCED, UPTODATE, PageCache

if TYPE_CHECKING:
    from .fs import AddressSpace, Inode


class PageCacheSync(PageCache):
    """Cleaning and emptying the page cache of one file."""

    def set_page_dirty(self, pfn: int) -> None:
        """The page must be written before it is dropped: mark it and move it to its file's dirty list.

        kernel: mm/filemap.c:set_page_dirty
        """
        if self.flags[pfn] & DIRTY:
            return
        self.flags[pfn] |= DIRTY
        mapping = self.kernel.mappings.get(self.mapping[pfn])
        if mapping is not None:
            self.list.del_(pfn)
            self.list.add(pfn, mapping.dirty_pages)
        ev = self.on_event
        if ev is not None:
            ev(("set_page_dirty", pfn, mapping.id if mapping is not None else 0))

    def invalidate_inode_pages(self, inode: Inode) -> None:
        """Drop the clean pages nobody uses. kernel: mm/filemap.c:invalidate_inode_pages"""
        head = inode.i_mapping.clean_pages
        at = self.list.next[head]
        while at != head:
            pfn, at = at, self.list.next[at]
            if self.flags[pfn] & DIRTY or self.try_lock_page(pfn):
                continue
            if self.count[pfn] != 1:
                self.unlock_page(pfn)
                continue
            self.kernel.swap.lru_cache_del(pfn)
            self.remove_inode_page_nolock(pfn)
            self.unlock_page(pfn)
            self.kernel.put_page(pfn)

    # -- truncating ---------------------------------------------------------------------------

    def truncate_partial_page(self, pfn: int, partial: int) -> None:
        """Zero what lies past byte *partial* of the last page.

        kernel: mm/filemap.c:truncate_partial_page, include/linux/highmem.h:memclear_highpage_flush
        """
        ev = self.on_event
        if ev is not None:
            ev(("truncate_partial_page", pfn, partial))
        self.kernel.highmem.kmap(pfn)
        words = self.kernel.ram.contents.get(pfn)
        if words is not None:
            memoryview(words).cast("B")[partial:] = bytes(PAGE_MASK + 1 - partial)
        self.kernel.highmem.kunmap(pfn)

    def truncate_complete_page(self, pfn: int) -> None:
        """The locked page leaves the cache for good. kernel: mm/filemap.c:truncate_complete_page"""
        self.kernel.swap.lru_cache_del(pfn)
        self.flags[pfn] &= ~(DIRTY | UPTODATE)
        self.remove_inode_page(pfn)
        self.kernel.put_page(pfn)

    def truncate_list_pages(self, head: int, start: int, partial: int) -> tuple[bool, int]:
        """Truncate the pages of one list from index *start* on, and cut the page before it at byte *partial* (0: not).

        Returns whether the lock was dropped (so the lists may have changed), and *partial*, 0 once it was done.
        kernel: mm/filemap.c:truncate_list_pages
        """
        lists = self.list
        unlocked = False
        at = lists.prev[head]
        while at != head:
            pfn = at
            offset = self.index[pfn]
            if offset < start and not (partial and offset + 1 == start):
                at = lists.prev[at]
                continue
            self.kernel.get_page(pfn)
            failed = self.try_lock_page(pfn)
            lists.del_(head)
            if failed:
                lists.add(head, pfn)  # go on with this page
            else:
                lists.add_tail(head, pfn)  # go on with the one before it
            unlocked = True
            if failed:
                self.wait_on_page(pfn)
            else:
                if partial and offset + 1 == start:
                    self.truncate_partial_page(pfn, partial)
                    partial = 0
                else:
                    self.truncate_complete_page(pfn)
                self.unlock_page(pfn)
            self.kernel.put_page(pfn)
            at = lists.prev[head]
        return unlocked, partial

    def truncate_inode_pages(self, mapping: AddressSpace, lstart: int) -> None:
        """Drop every cached page from byte *lstart* on, and zero the rest of the page it is in.

        kernel: mm/filemap.c:truncate_inode_pages
        """
        start = (lstart + PAGE_MASK) >> PAGE_SHIFT
        partial = lstart & PAGE_MASK
        ev = self.on_event
        if ev is not None:
            ev(("truncate_inode_pages", mapping.id, lstart, mapping.nrpages))
        while True:
            unlocked = False
            for head in (mapping.clean_pages, mapping.dirty_pages, mapping.locked_pages):
                dropped, partial = self.truncate_list_pages(head, start, partial)
                unlocked |= dropped
            if not unlocked:
                return

    def invalidate_this_page2(self, pfn: int, head: int) -> bool:
        """Drop a locked page, or make it look empty if somebody maps it. Returns whether the lock was dropped.

        kernel: mm/filemap.c:invalidate_this_page2
        """
        if self.count[pfn] == 1:
            self.list.del_(head)
            self.list.add_tail(head, pfn)
            self.kernel.get_page(pfn)
            self.truncate_complete_page(pfn)
            return True
        self.flags[pfn] &= ~(DIRTY | UPTODATE)
        return False

    def invalidate_list_pages2(self, head: int) -> bool:
        """One list of invalidate_inode_pages2. kernel: mm/filemap.c:invalidate_list_pages2"""
        lists = self.list
        unlocked = False
        at = lists.prev[head]
        while at != head:
            pfn = at
            if not self.try_lock_page(pfn):
                dropped = self.invalidate_this_page2(pfn, head)
                self.unlock_page(pfn)
                unlocked |= dropped
                if not dropped:
                    at = lists.prev[at]
                    continue
            else:
                lists.del_(head)
                lists.add(head, pfn)
                self.kernel.get_page(pfn)
                unlocked = True
                self.wait_on_page(pfn)
            self.kernel.put_page(pfn)
            at = lists.prev[head]
        return unlocked

    def invalidate_inode_pages2(self, mapping: AddressSpace) -> None:
        """Drop every page nobody uses, dirty or not; the others are marked as not up to date.

        kernel: mm/filemap.c:invalidate_inode_pages2
        """
        while True:
            unlocked = False
            for head in (mapping.clean_pages, mapping.dirty_pages, mapping.locked_pages):
                unlocked |= self.invalidate_list_pages2(head)
            if not unlocked:
                return

    # -- writing out --------------------------------------------------------------------------

    def fail_writepage(self, pfn: int) -> int:
        """What a file system without a disk answers to writepage: the page stays dirty, and active if memory is short. Returns 0.

        kernel: mm/filemap.c:fail_writepage
        """
        if self.flags[pfn] & LAUNDER:
            self.kernel.swap.activate_page(pfn)
            self.flags[pfn] |= REFERENCED
        self.flags[pfn] |= DIRTY
        self.unlock_page(pfn)
        return 0

    def filemap_fdatasync(self, mapping: AddressSpace) -> int:
        """Start writing every page of the dirty list, oldest first. Returns 0 or the first error. kernel: mm/filemap.c:filemap_fdatasync"""
        ret = 0
        lists = self.list
        while not lists.empty(mapping.dirty_pages):
            pfn = lists.prev[mapping.dirty_pages]
            lists.del_(pfn)
            lists.add(pfn, mapping.locked_pages)
            if not self.flags[pfn] & DIRTY:
                continue
            self.kernel.get_page(pfn)
            self.lock_page(pfn)
            if self.flags[pfn] & DIRTY:
                self.flags[pfn] &= ~DIRTY
                ev = self.on_event
                if ev is not None:
                    ev(("writepage", pfn, mapping.id, self.index[pfn]))
                err = mapping.a_ops.writepage(pfn)
                ret = ret or err
            else:
                self.unlock_page(pfn)
            self.kernel.put_page(pfn)
        return ret

    def filemap_fdatawait(self, mapping: AddressSpace) -> int:
        """Wait for every page being written. Returns 0, or EIO (5) when a write failed. kernel: mm/filemap.c:filemap_fdatawait"""
        ret = 0
        lists = self.list
        while not lists.empty(mapping.locked_pages):
            pfn = lists.next[mapping.locked_pages]
            lists.del_(pfn)
            lists.add(pfn, mapping.clean_pages)
            if not self.flags[pfn] & LOCKED:
                continue
            self.kernel.get_page(pfn)
            self.wait_on_page(pfn)
            if self.flags[pfn] & ERROR:
                ret = -EIO
            self.kernel.put_page(pfn)
        return ret
