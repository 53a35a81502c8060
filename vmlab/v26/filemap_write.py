"""write(2) through 2.6's page cache. kernel: mm/filemap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EFAULT, ENOMEM
from ..mm.filemap_cache import PAGE_MASK
from ..mm.filemap_write import O_SYNC
from ..mm.vfs import current_time, remove_suid
from .fs import AddressSpace26
from .swap import PAGEVEC_SIZE
from .writeout import Writeout

if TYPE_CHECKING:
    from ..mm.fs import File


class FileWrite26(Writeout):
    """Writing into the page cache."""

    def grab_cache_page_pvec(self, mapping: AddressSpace26, index: int, spare: list[int], lru_pvec: list[int]) -> int | None:
        """In 2.6 a writer's new pages are listed by the handful, because a lock then serves 14; before that each at once.

        The page at *index*, locked, made when absent. None: no memory. kernel: mm/filemap.c:__grab_cache_page
        """
        while True:
            pfn = self.find_lock_page(mapping, index)
            if pfn is not None:
                return pfn
            if not spare:
                new = self.page_cache_alloc(mapping)
                if new is None:
                    return None
                spare.append(new)
            if not self.add_to_page_cache(spare[0], mapping, index):
                pfn = spare.pop()
                self.count[pfn] += 1
                lru_pvec.append(pfn)
                if len(lru_pvec) == PAGEVEC_SIZE:
                    self.lru_cache.pagevec_lru_add(lru_pvec)
                return pfn

    def do_generic_file_write(self, file: File, buf: int | bytes | None, count: int, pos: int) -> tuple[int, int]:
        """In 2.6 a writer who dirties too much has to write himself, because nobody else will in time; before that only when buffers ran
        short. What was copied before a bad address counts.

        Write *count* bytes from *buf* at byte *pos*. Returns (bytes written or a negative errno, position afterwards).
        kernel: mm/filemap.c:generic_file_buffered_write, __generic_file_aio_write_nolock, generic_file_aio_write
        """
        kernel = self.kernel
        mapping = cast(AddressSpace26, file.inode.i_mapping)
        inode = mapping.host or file.inode
        err, count, pos = self.precheck_file_write(file, inode, count, pos)
        if err or not count:
            return err, pos
        remove_suid(kernel.current, inode)
        inode.i_ctime = inode.i_mtime = current_time(kernel)
        spare: list[int] = []
        lru_pvec: list[int] = []
        first, written, status = pos, 0, 0
        while True:
            offset, index = pos & PAGE_MASK, pos >> PAGE_SHIFT
            nbytes = min(PAGE_SIZE - offset, count)
            self._fault_in(buf if not isinstance(buf, int) else buf + written, nbytes)
            pfn = self.grab_cache_page_pvec(mapping, index, spare, lru_pvec)
            if pfn is None:
                status = -ENOMEM
                break
            status = mapping.a_ops.prepare_write(file, pfn, offset, offset + nbytes)
            if status:
                self.unlock_page(pfn)
                kernel.put_page(pfn)
                if pos + nbytes > inode.i_size:
                    kernel.memory.vmtruncate(inode, inode.i_size)
                break
            copied = nbytes - self._copy_in(pfn, offset, buf, written, nbytes)
            status = mapping.a_ops.commit_write(file, pfn, offset, offset + nbytes)
            if copied > 0:
                status = status or copied
                if status >= 0:
                    written += status
                    count -= status
                    pos += status
            if copied != nbytes and status >= 0:
                status = -EFAULT
            self.unlock_page(pfn)
            self.mark_page_accessed(pfn)
            kernel.put_page(pfn)
            if status < 0:
                break
            kernel.page_writeback.balance_dirty_pages_ratelimited(mapping)  # type: ignore[attr-defined]
            if not count:
                break
        for page in spare:
            kernel.put_page(page)
        if lru_pvec:
            self.lru_cache.pagevec_lru_add(lru_pvec)
        ret = written or status
        if ret > 0 and file.f_flags & O_SYNC:
            ret = self.sync_page_range(mapping, first, ret) or ret
        return ret, pos
