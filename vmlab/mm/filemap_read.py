"""Reading files: read(2) through the page cache, and read-ahead.

An open file carries its read-ahead window, in pages: ``f_raend`` (one past the last page read ahead),
``f_ramax`` (how far the next one may go; doubles), ``f_ralen`` (length of the last one) and ``f_rawin`` (length of the
window that still counts as sequential).

kernel: mm/filemap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EBADF, EFAULT, EINVAL, EIO, ENOMEM
from .filemap_cache import LOCKED, PAGE_MASK, UPTODATE
from .filemap_sync import PageCacheSync
from .fs import FMODE_READ
from .uaccess import VERIFY_WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fs import AddressSpace, File, Inode

    # (descriptor, frame, offset in it, bytes) -> bytes taken
    ReadActor = Callable[["ReadDescriptor", int, int, int], int]

_U32 = 0xFFFFFFFF


class ReadDescriptor:
    """What a read is about: *count* bytes still wanted, *written* delivered, where to. kernel: include/linux/fs.h:read_descriptor_t

    ``buf`` is a user address, a bytearray to append to, or None to throw the data away.
    """

    def __init__(self, count: int, buf: int | bytearray | None) -> None:
        self.written = 0  # bytes
        self.count = count  # bytes
        self.buf = buf
        self.error = 0  # negative errno


class FileRead(PageCacheSync):
    """Filling the page cache from files, and reading out of it."""

    state_names: tuple[str, ...] = (*PageCacheSync.state_names, "vm_max_readahead", "vm_min_readahead")

    def __init__(self) -> None:
        super().__init__()
        self.vm_max_readahead = 31  # pages
        self.vm_min_readahead = 3  # pages

    def page_cache_read(self, file: File, offset: int) -> int:
        """Start reading page *offset* if it is not cached. Returns 0 or an errno. kernel: mm/filemap.c:page_cache_read"""
        mapping = file.inode.i_mapping
        if self.find_page_nolock(mapping, offset) is not None:
            return 0
        pfn = self.page_cache_alloc(mapping)
        if pfn is None:
            return -ENOMEM
        error = 0
        if not self.add_to_page_cache_unique(pfn, mapping, offset):
            error = mapping.a_ops.readpage(file, pfn)
        self.kernel.put_page(pfn)
        return error

    @property
    def cluster_pages(self) -> int:
        """How many pages a page fault reads at once. kernel: mm/filemap.c:CLUSTER_PAGES"""
        return 1 << self.kernel.swap.page_cluster

    def cluster_offset(self, index: int) -> int:
        """First page of the cluster that *index* is in. kernel: mm/filemap.c:CLUSTER_OFFSET"""
        return index & -self.cluster_pages & _U32

    def read_cluster_nonblocking(self, file: File, offset: int, filesize: int) -> int:
        """Start reading the cluster around page *offset*, as far as the file (*filesize* pages) goes. Returns 0 or an errno.

        kernel: mm/filemap.c:read_cluster_nonblocking
        """
        ev = self.on_event
        if ev is not None:
            ev(("read_cluster", file.inode.i_mapping.id, self.cluster_offset(offset), self.cluster_pages))
        pages = self.cluster_pages
        offset = self.cluster_offset(offset)
        while pages > 0 and offset < filesize:
            pages -= 1
            error = self.page_cache_read(file, offset)
            if error < 0:
                return error
            offset += 1
        return 0

    def get_max_readahead(self, inode: Inode) -> int:
        """The longest read-ahead, in pages: no disk here sets its own. kernel: mm/filemap.c:get_max_readahead"""
        return self.vm_max_readahead

    def generic_file_readahead(self, reada_ok: int, filp: File, inode: Inode, pfn: int) -> None:
        """Decide, at page *pfn* of a read, whether to read ahead and how far.

        A locked page was not there in time: read on from it (synchronously). An unlocked page inside the last
        read-ahead: start the next one before this one is used up (asynchronously). kernel: mm/filemap.c:generic_file_readahead
        """
        index = self.index[pfn]
        end_index = inode.i_size >> PAGE_SHIFT
        raend = filp.f_raend
        max_ahead = 0
        if self.flags[pfn] & LOCKED:
            if not filp.f_ralen or index >= raend or index + filp.f_rawin < raend:
                raend = index
                if raend < end_index:
                    max_ahead = filp.f_ramax
                filp.f_rawin = 0
                filp.f_ralen = 1
                if not max_ahead:
                    filp.f_raend = index + filp.f_ralen
                    filp.f_rawin += filp.f_ralen
        elif reada_ok and filp.f_ramax and raend >= 1 and index <= raend and index + filp.f_ralen >= raend:
            raend -= 1
            if raend < end_index:
                max_ahead = filp.f_ramax + 1
            if max_ahead:
                filp.f_rawin = filp.f_ralen
                filp.f_ralen = 0
                reada_ok = 2
        ahead = 0
        while ahead < max_ahead:
            ahead += 1
            if raend + ahead >= end_index or self.page_cache_read(filp, raend + ahead) < 0:
                break
        if ahead:
            filp.f_ralen += ahead
            filp.f_rawin += filp.f_ralen
            filp.f_raend = raend + ahead + 1
            filp.f_ramax = min(2 * filp.f_ramax, self.get_max_readahead(inode))
            ev = self.on_event
            if ev is not None:
                ev(("readahead", inode.i_mapping.id, raend + 1, ahead, "asynchronous" if reada_ok == 2 else "synchronous"))

    def _adjust_readahead(self, filp: File, inode: Inode, index: int, wanted: int) -> int:
        """Set the window up for a read of page *index* that ends *wanted* bytes after its start. Returns reada_ok."""
        reada_ok = 1
        if index > filp.f_raend or index + filp.f_rawin < filp.f_raend:
            reada_ok = 0
            filp.f_raend = filp.f_ralen = filp.f_ramax = filp.f_rawin = 0
        if not index and wanted <= PAGE_SIZE >> 1:
            filp.f_ramax = 0
            return reada_ok
        filp.f_ramax = max(filp.f_ramax, (wanted >> PAGE_SHIFT) + 1)
        if reada_ok and filp.f_ramax < self.vm_min_readahead:
            filp.f_ramax = self.vm_min_readahead
        filp.f_ramax = min(filp.f_ramax, self.get_max_readahead(inode))
        return reada_ok

    def do_generic_file_read(self, filp: File, pos: int, desc: ReadDescriptor, actor: ReadActor) -> int:
        """Give *actor* the cached pages from byte *pos* on until it has enough; pages not there are read in first.

        Returns the position after the read; what happened is in *desc*. kernel: mm/filemap.c:do_generic_file_read
        """
        mapping = filp.inode.i_mapping
        inode = mapping.host or filp.inode
        index, offset = pos >> PAGE_SHIFT, pos & PAGE_MASK
        reada_ok = self._adjust_readahead(filp, inode, index, (offset + desc.count) & _U32)
        cached_page: int | None = None
        while True:
            end_index = inode.i_size >> PAGE_SHIFT
            if index > end_index:
                break
            nr = PAGE_SIZE
            if index == end_index:
                nr = inode.i_size & PAGE_MASK
                if nr <= offset:
                    break
            nr -= offset
            pfn = self.find_page_nolock(mapping, index)
            if pfn is None and cached_page is None:
                cached_page = self.page_cache_alloc(mapping)
                if cached_page is None:
                    desc.error = -ENOMEM
                    break
                pfn = self.find_page_nolock(mapping, index)  # allocating may have slept
            if pfn is None:
                assert cached_page is not None
                pfn, cached_page = cached_page, None
                self.add_to_page_cache_nolock(pfn, mapping, index)
                self.kernel.swap.lru_cache_add(pfn)
                error = self._read_now(filp, inode, mapping, pfn, reada_ok)
            else:
                self.kernel.get_page(pfn)
                error = self._make_uptodate(filp, inode, mapping, pfn, reada_ok)
            if error > 0:
                continue
            if error < 0:
                desc.error = error
                self.kernel.put_page(pfn)
                break
            if not offset or not filp.f_reada:
                self.mark_page_accessed(pfn)
            ret = actor(desc, pfn, offset, nr)
            offset += ret
            index += offset >> PAGE_SHIFT
            offset &= PAGE_MASK
            self.kernel.put_page(pfn)
            if ret != nr or not desc.count:
                break
        filp.f_reada = 1
        if cached_page is not None:
            self.kernel.put_page(cached_page)
        return (index << PAGE_SHIFT) + offset

    def _make_uptodate(self, filp: File, inode: Inode, mapping: AddressSpace, pfn: int, reada_ok: int) -> int:
        """Bring a page that was found in the cache up to date. Returns 0, a negative errno, or 1: it was truncated, look again."""
        self_flags = self.flags
        was_uptodate = self_flags[pfn] & UPTODATE
        self.generic_file_readahead(reada_ok, filp, inode, pfn)
        if was_uptodate or self_flags[pfn] & UPTODATE:
            return 0
        self.lock_page(pfn)
        if not self.mapping[pfn]:
            self.unlock_page(pfn)
            self.kernel.put_page(pfn)
            return 1
        if self_flags[pfn] & UPTODATE:
            self.unlock_page(pfn)
            return 0
        return self._read_now(filp, inode, mapping, pfn, reada_ok)

    def _read_now(self, filp: File, inode: Inode, mapping: AddressSpace, pfn: int, reada_ok: int) -> int:
        """Read a locked page in and wait for it, reading ahead meanwhile. Returns 0 or a negative errno."""
        error: int = mapping.a_ops.readpage(filp, pfn)
        if error:
            return error
        if self.flags[pfn] & UPTODATE:
            return 0
        self.generic_file_readahead(reada_ok, filp, inode, pfn)
        self.wait_on_page(pfn)
        return 0 if self.flags[pfn] & UPTODATE else -EIO

    def file_read_actor(self, desc: ReadDescriptor, pfn: int, offset: int, size: int) -> int:
        """Copy *size* bytes at *offset* of the page to where the reader wants them; returns how many went.

        kernel: mm/filemap.c:file_read_actor
        """
        size = min(size, desc.count)
        buf = desc.buf
        if buf is not None:
            self.kernel.highmem.kmap(pfn)
            data = self.kernel.ram.read((pfn << PAGE_SHIFT) + offset, size)
            left = 0
            if isinstance(buf, bytearray):
                buf += data
            else:
                left = self.kernel.fault.copy_to_user_nocheck(buf, data)
            self.kernel.highmem.kunmap(pfn)
            if left:
                size -= left
                desc.error = -EFAULT
            if isinstance(buf, int):
                desc.buf = buf + size
        desc.count -= size
        desc.written += size
        return size

    def generic_file_read(self, filp: File, buf: int | bytearray | None, count: int) -> int:
        """Read *count* bytes at ``filp.f_pos`` into *buf* (a user address, or a bytearray of the caller's); moves f_pos.

        Returns the bytes read, or a negative errno: EINVAL for a negative count, EFAULT for a bad address.
        kernel: mm/filemap.c:generic_file_read
        """
        if count < 0:
            return -EINVAL
        if isinstance(buf, int) and not self.kernel.fault.access_ok(VERIFY_WRITE, buf, count):
            return -EFAULT
        if not count:
            return 0
        desc = ReadDescriptor(count, buf)
        filp.f_pos = self.do_generic_file_read(filp, filp.f_pos, desc, self.file_read_actor)
        return desc.written or desc.error

    def do_readahead(self, file: File, index: int, nr: int) -> int:
        """Read *nr* pages from *index* on into the cache, at most half the inactive list. Returns 0 or EINVAL (22).

        kernel: mm/filemap.c:do_readahead
        """
        mapping = file.inode.i_mapping
        if mapping.a_ops.readpage is None:
            return -EINVAL
        size = (file.inode.i_size + PAGE_MASK) >> PAGE_SHIFT
        if index > size:
            return 0
        nr = min(nr, size - index, self.kernel.swap.nr_inactive_pages // 2)
        for at in range(index, index + nr):
            self.page_cache_read(file, at)
        return 0

    def sys_readahead(self, file: File, offset: int, count: int) -> int:
        """readahead(2) on an open file; offset and count in bytes. Returns 0 or a negative errno. kernel: mm/filemap.c:sys_readahead"""
        if not file.f_mode & FMODE_READ:
            return -EBADF
        return self.do_readahead(file, offset >> PAGE_SHIFT, (count + (offset & PAGE_MASK)) >> PAGE_SHIFT)

    # -- reading pages one by one, for file systems -------------------------------------------

    def read_cache_page_nowait(self, mapping: AddressSpace, index: int, filler: Any, data: Any) -> int:
        """The page at *index* with a reference; ``filler(data, frame)`` starts reading a new one. Returns the frame or an errno.

        kernel: mm/filemap.c:__read_cache_page
        """
        cached_page: int | None = None
        while True:
            pfn = self.find_get_page(mapping, index)
            if pfn is not None:
                break
            if cached_page is None:
                cached_page = self.page_cache_alloc(mapping)
                if cached_page is None:
                    return -ENOMEM
            pfn = cached_page
            if self.add_to_page_cache_unique(pfn, mapping, index):
                continue
            err: int = filler(data, pfn)
            if err < 0:
                self.kernel.put_page(pfn)
                return err
            return pfn
        if cached_page is not None:
            self.kernel.put_page(cached_page)
        return pfn

    def read_cache_page(self, mapping: AddressSpace, index: int, filler: Any, data: Any) -> int:
        """The same, tried once more when it is not up to date; the read may still be under way. Returns the frame or a negative errno.

        kernel: mm/filemap.c:read_cache_page
        """
        while True:
            pfn = self.read_cache_page_nowait(mapping, index, filler, data)
            if pfn < 0:
                return pfn
            self.mark_page_accessed(pfn)
            if self.flags[pfn] & UPTODATE:
                return pfn
            self.lock_page(pfn)
            if not self.mapping[pfn]:
                self.unlock_page(pfn)
                self.kernel.put_page(pfn)
                continue
            if self.flags[pfn] & UPTODATE:
                self.unlock_page(pfn)
                return pfn
            err: int = filler(data, pfn)
            if err < 0:
                self.kernel.put_page(pfn)
                return err
            return pfn
