"""Reading and writing the files of shared memory.

A buffer is a user address of the current task, or (as with set_fs(KERNEL_DS)) the caller's own bytes: what is read
is appended to a bytearray.

kernel: mm/shmem.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .errno import EFAULT, EINVAL
from .filemap_read import ReadDescriptor
from .page_flags import PG_dirty, PG_referenced
from .shmem_swap import SGP_CACHE, SGP_READ, SGP_WRITE, ShmemSwap
from .vfs import current_time, remove_suid

if TYPE_CHECKING:
    from .fs import File, Inode

_DIRTY, _REFERENCED = 1 << PG_dirty, 1 << PG_referenced
_IN_PAGE = PAGE_SIZE - 1
_SSIZE_MAX = 0x7FFFFFFF


class ShmemIo(ShmemSwap):
    """File operations, and what the page cache calls when a tmpfs file lies below the loop driver."""

    if TYPE_CHECKING:

        def shmem_getpage(self, inode: Inode, idx: int, sgp: int, locked: int | None = None) -> tuple[int, int | None]:
            """In shmem.py."""

    # -- for the page cache -------------------------------------------------------------------

    def shmem_readpage(self, file: File | None, pfn: int) -> int:
        """Fill a locked page of the cache, and unlock it. Returns 0 or an errno. kernel: mm/shmem.c:shmem_readpage"""
        error, _ = self.shmem_getpage(self._host(pfn), self.kernel.mem.index[pfn], SGP_CACHE, pfn)
        self.kernel.filemap.unlock_page(pfn)
        return error

    def shmem_prepare_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """Make a locked page of the cache ready to be written. Returns 0 or an errno. kernel: mm/shmem.c:shmem_prepare_write"""
        return self.shmem_getpage(self._host(pfn), self.kernel.mem.index[pfn], SGP_WRITE, pfn)[0]

    def shmem_commit_write(self, file: File | None, pfn: int, start: int, to: int) -> int:
        """Bytes up to *to* of the page were written: the file may have grown. kernel: mm/shmem.c:shmem_commit_write"""
        inode = self._host(pfn)
        inode.i_size = max(inode.i_size, (self.kernel.mem.index[pfn] << PAGE_SHIFT) + to)
        self.kernel.mem.flags[pfn] |= _DIRTY
        return 0

    def _host(self, pfn: int) -> Inode:
        host = self.kernel.mappings[self.kernel.mem.mapping[pfn]].host
        assert host is not None
        return host

    # -- write --------------------------------------------------------------------------------

    def shmem_file_write(self, file: File, buf: int | bytes, count: int | None = None) -> int:
        """Write at the file's position. Returns the bytes written, or an errno: EINVAL, EFAULT, EFBIG, ENOSPC, ENOMEM.

        kernel: mm/shmem.c:shmem_file_write
        """
        kernel = self.kernel
        if count is None:
            count = len(buf) if isinstance(buf, bytes) else 0
        if not 0 <= count <= _SSIZE_MAX:
            return -EINVAL
        if isinstance(buf, int) and buf + count > PAGE_OFFSET:
            return -EFAULT
        inode = file.inode
        error, count, pos = kernel.filemap.precheck_file_write(file, inode, count, file.f_pos)
        if error or not count:
            return int(error)
        remove_suid(kernel.current, inode)
        inode.i_ctime = inode.i_mtime = current_time(kernel)
        written = 0
        while count:
            offset = pos & _IN_PAGE
            size = min(PAGE_SIZE - offset, count)
            error, page = self.shmem_getpage(inode, pos >> PAGE_SHIFT, SGP_WRITE)
            if page is None:
                break
            left = self._copy_in(page, offset, buf, written, size)
            written += size
            count -= size
            pos += size
            inode.i_size = max(inode.i_size, pos)
            self.mark_written(page)
            kernel.put_page(page)
            if left:
                pos -= left
                written -= left
                error = -EFAULT
                break
        file.f_pos = pos
        return written or int(error)

    def mark_written(self, page: int) -> None:
        """A page was written to: it is dirty, and was used. kernel: mm/shmem.c:shmem_file_write"""
        self.kernel.mem.flags[page] |= _DIRTY | _REFERENCED

    def _copy_in(self, page: int, offset: int, buf: int | bytes, at: int, size: int) -> int:
        """Copy *size* bytes from *at* in the buffer into the page; returns how many could not be read."""
        kernel = self.kernel
        kernel.highmem.kmap(page)
        left = 0
        if isinstance(buf, int):
            data, left = kernel.fault.copy_from_user(buf + at, size)
        else:
            data = buf[at : at + size]
        kernel.ram.write((page << PAGE_SHIFT) + offset, data)
        kernel.highmem.kunmap(page)
        return int(left)

    # -- read ---------------------------------------------------------------------------------

    def shmem_file_read(self, file: File, buf: int | bytearray | None, count: int) -> int:
        """Read from the file's position. Returns the bytes read or an errno: EINVAL, EFAULT, ENOMEM. kernel: mm/shmem.c:shmem_file_read"""
        if not 0 <= count <= _SSIZE_MAX:
            return -EINVAL
        if isinstance(buf, int) and buf + count > PAGE_OFFSET:
            return -EFAULT
        if not count:
            return 0
        desc = ReadDescriptor(count, buf)
        self.do_shmem_file_read(file, desc)
        return desc.written or desc.error

    def do_shmem_file_read(self, file: File, desc: ReadDescriptor) -> None:
        """Copy pages from the file's position on to where *desc* says, and move the position. kernel: mm/shmem.c:do_shmem_file_read"""
        kernel, inode = self.kernel, file.inode
        index, offset = divmod(file.f_pos, PAGE_SIZE)
        while self._bytes_on(inode, index) > offset:
            error, page = self.shmem_getpage(inode, index, SGP_READ)
            if page is None:
                desc.error = 0 if error == -EINVAL else error
                break
            size = self._bytes_on(inode, index) - offset  # once more: the file may have been cut meanwhile
            if size <= 0:
                kernel.put_page(page)
                break
            if page != kernel.empty_zero_page and (not offset or not file.f_reada):
                kernel.filemap.mark_page_accessed(page)
            done = kernel.filemap.file_read_actor(desc, page, offset, size)
            index, offset = divmod((index << PAGE_SHIFT) + offset + done, PAGE_SIZE)
            kernel.put_page(page)
            if done != size or not desc.count:
                break
        file.f_pos = (index << PAGE_SHIFT) + offset
        file.f_reada = 1
        inode.i_atime = current_time(kernel)

    def _bytes_on(self, inode: Inode, index: int) -> int:
        """How many bytes of the file are on its page *index*."""
        return max(0, min(PAGE_SIZE, inode.i_size - (index << PAGE_SHIFT)))

    def shmem_sync_file(self, file: File) -> int:
        """There is no disk to write to. kernel: mm/shmem.c:shmem_sync_file"""
        return 0
