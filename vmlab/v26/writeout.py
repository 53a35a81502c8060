"""Writing dirty pages of a file out, in the order of the file, and waiting for them. kernel: mm/filemap.c, fs/mpage.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..mm.errno import EIO, ENOSPC
from ..mm.filemap_cache import ERROR, LOCKED
from .fs import AS_EIO, AS_ENOSPC, AddressSpace26
from .page_flags import WRITEBACK
from .pagecache import PageCache26
from .swap import PAGEVEC_SIZE

if TYPE_CHECKING:
    from ..mm.fs import AddressSpace

_U32 = 0xFFFFFFFF


class WritebackControl:
    """In 2.6 whoever has pages written says how, because kswapd must not wait and fsync must; before that all was written alike.

    ``nr_to_write`` pages at most, of the bytes *start* to *end* (both 0: all); ``sync``: wait for a write that
    is under way and write again. kernel: include/linux/writeback.h:writeback_control
    """

    __slots__ = ("end", "nr_to_write", "start", "sync")

    def __init__(self, nr_to_write: int, sync: bool, start: int = 0, end: int = 0) -> None:
        self.nr_to_write = nr_to_write
        self.sync = sync
        self.start, self.end = start, end


class Writeout(PageCache26):
    """fdatawrite and fdatawait of 2.6."""

    def do_writepages(self, mapping: AddressSpace26, wbc: WritebackControl) -> int:
        """In 2.6 marked pages are written in order of their index, because neighbours then join into one transfer; before that in order of
        dirtying.

        Returns 0 or an errno. kernel: mm/page-writeback.c:do_writepages, fs/mpage.c:mpage_writepages
        """
        if wbc.nr_to_write <= 0:
            return 0
        index, end = wbc.start >> 12, wbc.end >> 12 if wbc.start or wbc.end else _U32
        is_range = bool(wbc.start or wbc.end)
        ret, done = 0, False
        while not done and index <= end:
            pages, index = self.find_get_pages_tag(mapping, index, mapping.dirty_tags, min(end - index, PAGEVEC_SIZE - 1) + 1)
            if not pages:
                break
            for pfn in pages:
                self.lock_page(pfn)
                if self.mapping[pfn] != mapping.id:
                    self.unlock_page(pfn)
                    continue
                if is_range and self.index[pfn] > end:
                    done = True
                    self.unlock_page(pfn)
                    continue
                if wbc.sync:
                    self.wait_on_page_writeback(pfn)
                if self.flags[pfn] & WRITEBACK or not self.clear_page_dirty_for_io(pfn):
                    self.unlock_page(pfn)
                    continue
                if self.on_event is not None:
                    self.on_event(("writepage", pfn, mapping.id, self.index[pfn]))
                ret = mapping.a_ops.writepage(pfn)
                if ret:
                    mapping.as_flags |= AS_ENOSPC if ret == -ENOSPC else AS_EIO
                wbc.nr_to_write -= 1
                if ret or wbc.nr_to_write <= 0:
                    done = True
            self.lru_cache.pagevec_release(pages)
        return ret

    def filemap_fdatawrite_range(self, mapping: AddressSpace26, start: int, end: int, sync: bool = True) -> int:
        """In 2.6 new, because a database syncs only what it wrote: start writing the dirty pages of bytes *start* to *end* (0, 0: all).

        Returns 0 or an errno. kernel: mm/filemap.c:__filemap_fdatawrite_range, filemap_fdatawrite_range
        """
        if mapping.memory_backed:
            return 0
        return self.do_writepages(mapping, WritebackControl(mapping.nrpages * 2, sync, start, end))

    def filemap_fdatasync(self, mapping: AddressSpace) -> int:
        """In 2.6 called filemap_fdatawrite, because it only starts the writes; before that filemap_fdatasync. Returns 0 or an errno.

        kernel: mm/filemap.c:filemap_fdatawrite, __filemap_fdatawrite
        """
        return self.filemap_fdatawrite_range(cast(AddressSpace26, mapping), 0, 0)

    def filemap_flush(self, mapping: AddressSpace26) -> int:
        """In 2.6 new, because read-ahead hints must not wait: start writes, skipping pages under way. kernel: mm/filemap.c:filemap_flush"""
        return self.filemap_fdatawrite_range(mapping, 0, 0, sync=False)

    def wait_on_page_writeback_range(self, mapping: AddressSpace26, start: int, end: int) -> int:
        """In 2.6 pages being written are marked, because they are not locked; before that they were on the locked list.

        Wait for those of page *start* to *end*. Returns 0, -EIO or -ENOSPC. kernel: mm/filemap.c:wait_on_page_writeback_range
        """
        ret = 0
        index = start
        while index <= end:
            pages, index = self.find_get_pages_tag(mapping, index, mapping.writeback_tags, min(end - index, PAGEVEC_SIZE - 1) + 1)
            if not pages:
                break
            for pfn in pages:
                if self.index[pfn] > end:
                    continue
                self.wait_on_page_writeback(pfn)
                if self.flags[pfn] & ERROR:
                    ret = -EIO
            self.lru_cache.pagevec_release(pages)
        if mapping.as_flags & AS_ENOSPC:
            mapping.as_flags &= ~AS_ENOSPC
            ret = -ENOSPC
        if mapping.as_flags & AS_EIO:
            mapping.as_flags &= ~AS_EIO
            ret = -EIO
        return ret

    def filemap_fdatawait(self, mapping: AddressSpace) -> int:
        """In 2.6 by the marks in the tree; before that by the locked list. Returns 0 or an errno. kernel: mm/filemap.c:filemap_fdatawait"""
        size = mapping.host.i_size if mapping.host is not None else 0
        return self.wait_on_page_writeback_range(cast(AddressSpace26, mapping), 0, size - 1 >> 12) if size else 0

    def sync_page_range(self, mapping: AddressSpace26, pos: int, count: int) -> int:
        """In 2.6 O_SYNC writes only what was written, because the rest is others' business; before that the whole file.

        Write *count* bytes from *pos* on and wait. Returns 0 or an errno. kernel: mm/filemap.c:sync_page_range, sync_page_range_nolock
        """
        if mapping.memory_backed or not count:
            return 0
        ret = self.filemap_fdatawrite_range(mapping, pos, pos + count - 1)
        return ret or self.wait_on_page_writeback_range(mapping, pos >> 12, pos + count - 1 >> 12)

    def write_one_page(self, pfn: int, wait: bool) -> int:
        """In 2.6 new, because file systems write single pages of theirs: write a locked page, and *wait* for it. Returns 0 or an errno.

        kernel: mm/page-writeback.c:write_one_page
        """
        mapping = self.page_mapping(pfn)
        if mapping is None or not self.flags[pfn] & LOCKED:
            raise KernelBug("write_one_page", f"frame {pfn} is not a locked page of a file", "unlocked")
        if wait:
            self.wait_on_page_writeback(pfn)
        if not self.clear_page_dirty_for_io(pfn):
            self.unlock_page(pfn)
            return 0
        self.kernel.get_page(pfn)
        ret: int = mapping.a_ops.writepage(pfn)
        if not ret and wait:
            self.wait_on_page_writeback(pfn)
            if self.flags[pfn] & ERROR:
                ret = -EIO
        self.kernel.put_page(pfn)
        return ret
