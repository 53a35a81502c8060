"""read(2) through 2.6's page cache. kernel: mm/filemap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EBADF, EEXIST, EINVAL, EIO, ENOMEM
from ..mm.filemap_cache import PAGE_MASK, UPTODATE
from ..mm.fs import FMODE_READ
from ..mm.highmem import KM_USER0
from ..mm.page_flags import PG_highmem
from .fs import AddressSpace26, FileRaState
from .readahead import Readahead

if TYPE_CHECKING:
    from ..mm.filemap_read import ReadActor, ReadDescriptor
    from ..mm.fs import AddressSpace, File

_U32 = 0xFFFFFFFF
_FOUND, _READ, _GONE = 0, 1, 2


class FileRead26(Readahead):
    """Reading out of the cache."""

    def page_cache_read(self, file: File, offset: int) -> int:
        """In 2.6 it does not look first, because who calls it just did; before that it did. Returns 0 or an errno.

        Start reading page *offset*. kernel: mm/filemap.c:page_cache_read
        """
        mapping = file.inode.i_mapping
        pfn = self.page_cache_alloc_cold(mapping)
        if pfn is None:
            return -ENOMEM
        error = self.add_to_page_cache_lru(pfn, mapping, offset)
        if not error:
            error = mapping.a_ops.readpage(file, pfn)
        elif error == -EEXIST:
            error = 0
        self.kernel.put_page(pfn)
        return error

    def do_generic_file_read(self, filp: File, pos: int, desc: ReadDescriptor, actor: ReadActor) -> int:
        """In 2.6 renamed inside, because a mapping is read, with or without an open file; before that a file was.

        kernel: include/linux/fs.h:do_generic_file_read
        """
        return self.do_generic_mapping_read(cast(AddressSpace26, filp.inode.i_mapping), self.ra_state(filp), filp, pos, desc, actor)

    def do_generic_mapping_read(
        self, mapping: AddressSpace26, shared_ra: FileRaState, filp: File | None, pos: int, desc: ReadDescriptor, actor: ReadActor
    ) -> int:
        """In 2.6 read-ahead is told of the whole read before its first page, because the size says how far to go; before that page by page.

        Give *actor* the cached pages from byte *pos* on until it has enough; pages not there are read in first.
        Returns the position after the read; what happened is in *desc*. kernel: mm/filemap.c:do_generic_mapping_read
        """
        inode = mapping.host
        assert inode is not None
        ra = shared_ra.copy()
        index, offset = pos >> PAGE_SHIFT & _U32, pos & PAGE_MASK
        next_index, prev_index = index, ra.prev_page
        req_size = desc.count + PAGE_SIZE - 1 >> PAGE_SHIFT
        spare: list[int] = []  # a page that was allocated and turned out not to be needed
        size = inode.i_size
        while True:
            nr = _bytes_in(size, index) - offset
            if nr <= 0:
                break
            if index == next_index and req_size:
                told = self.page_cache_readahead(mapping, ra, filp, index, req_size)
                next_index += told
                req_size -= told
            pfn, status = self._obtain(mapping, ra, filp, index, spare)
            if status == _GONE:
                continue
            if status < 0:
                desc.error = status
                break
            if status == _READ:
                size = inode.i_size  # only now is it known how much of the page is the file's
                nr = _bytes_in(size, index) - offset
                if nr <= 0:
                    self.kernel.put_page(pfn)
                    break
            if prev_index != index:
                self.mark_page_accessed(pfn)
            prev_index = index
            ret = actor(desc, pfn, offset, nr)
            offset += ret
            index += offset >> PAGE_SHIFT
            offset &= PAGE_MASK
            self.kernel.put_page(pfn)
            if ret != nr or not desc.count:
                break
        shared_ra.assign(ra)
        for page in spare:
            self.kernel.put_page(page)
        return (index << PAGE_SHIFT) + offset

    def _obtain(self, mapping: AddressSpace26, ra: FileRaState, filp: File | None, index: int, spare: list[int]) -> tuple[int, int]:
        """Page *index*, up to date and with a reference, and how: _FOUND, _READ, _GONE (truncated meanwhile, begin again), or an errno."""
        flags = self.flags
        while True:
            pfn = self.find_get_page(mapping, index)
            if pfn is None:
                self.handle_ra_miss(ra)
                if not spare:
                    new = self.page_cache_alloc_cold(mapping)
                    if new is None:
                        return 0, -ENOMEM
                    spare.append(new)
                if self.add_to_page_cache_lru(spare[0], mapping, index):
                    continue  # somebody was faster
                pfn = spare.pop()
            elif flags[pfn] & UPTODATE:
                return pfn, _FOUND
            else:
                self.lock_page(pfn)
                if not self.mapping[pfn]:
                    self.unlock_page(pfn)
                    self.kernel.put_page(pfn)
                    return 0, _GONE
                if flags[pfn] & UPTODATE:
                    self.unlock_page(pfn)
                    return pfn, _FOUND
            error: int = mapping.a_ops.readpage(filp, pfn)
            if not error and not flags[pfn] & UPTODATE:
                self.lock_page(pfn)
                if not flags[pfn] & UPTODATE:
                    if not self.mapping[pfn]:
                        self.unlock_page(pfn)
                        self.kernel.put_page(pfn)
                        continue
                    error = -EIO
                self.unlock_page(pfn)
            if error:
                self.kernel.put_page(pfn)
                return 0, error
            return pfn, _READ

    def file_read_actor(self, desc: ReadDescriptor, pfn: int, offset: int, size: int) -> int:
        """In 2.6 the target is touched first and the copy made under an atomic kmap, because those need no global lock; before that under
        a kmap that could sleep.

        kernel: mm/filemap.c:file_read_actor
        """
        buf = desc.buf
        size = min(size, desc.count)
        if isinstance(buf, int) and self.flags[pfn] >> PG_highmem & 1:
            fault, highmem = self.kernel.fault, self.kernel.highmem
            if size and not fault.put_user(0, buf, 1) and not fault.put_user(0, buf + size - 1, 1):
                vaddr = highmem.kmap_atomic(pfn, KM_USER0)
                left = fault.copy_to_user_nocheck(buf, self.kernel.ram.read((pfn << PAGE_SHIFT) + offset, size))
                highmem.kunmap_atomic(vaddr, KM_USER0)
                if not left:
                    desc.buf = buf + size
                    desc.count -= size
                    desc.written += size
                    return size
        return super().file_read_actor(desc, pfn, offset, size)

    # -- readahead(2) -------------------------------------------------------------------------

    def do_readahead(self, file: File, index: int, nr: int) -> int:
        """In 2.6 by the read-ahead code; before that page by page. Returns 0 or EINVAL (22). kernel: mm/filemap.c:do_readahead"""
        mapping = cast(AddressSpace26, file.inode.i_mapping)
        if mapping.a_ops.readpage is None:
            return -EINVAL
        self.force_page_cache_readahead(mapping, file, index, self.max_sane_readahead(nr))
        return 0

    def sys_readahead(self, file: File, offset: int, count: int) -> int:
        """In 2.6 the last page counts even when the range ends inside it; before that it did too, by another sum.

        Returns 0 or a negative errno. kernel: mm/filemap.c:sys_readahead
        """
        if not file.f_mode & FMODE_READ:
            return -EBADF
        start = offset >> PAGE_SHIFT & _U32
        end = offset + count - 1 >> PAGE_SHIFT & _U32
        return self.do_readahead(file, start, end - start + 1 & _U32)

    # -- reading pages one by one, for file systems -------------------------------------------

    def read_cache_page_nowait(self, mapping: AddressSpace, index: int, filler: Any, data: Any) -> int:
        """In 2.6 from the cold list, because the disk fills the page; before that any page. Returns the frame or an errno.

        kernel: mm/filemap.c:__read_cache_page
        """
        spare: int | None = None
        while True:
            pfn = self.find_get_page(mapping, index)
            if pfn is not None:
                break
            if spare is None:
                spare = self.page_cache_alloc_cold(mapping)
                if spare is None:
                    return -ENOMEM
            if self.add_to_page_cache_lru(spare, mapping, index):
                continue
            err: int = filler(data, spare)
            if err < 0:
                self.kernel.put_page(spare)
                return err
            return spare
        if spare is not None:
            self.kernel.put_page(spare)
        return pfn


def _bytes_in(size: int, index: int) -> int:
    """How many bytes of a file of *size* bytes page *index* holds."""
    if not size:
        return 0
    end_index = size - 1 >> PAGE_SHIFT
    if index >= end_index:
        return (size - 1 & PAGE_MASK) + 1 if index == end_index else 0
    return PAGE_SIZE
