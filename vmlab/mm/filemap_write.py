"""Writing files: write(2) puts data into the page cache; the disk sees it later. kernel: mm/filemap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EFAULT, EFBIG, EINVAL, ENOMEM
from .filemap_cache import LOCKED, PAGE_MASK, REFERENCED
from .filemap_read import FileRead
from .fs import O_APPEND
from .task import RLIM_INFINITY, RLIMIT_FSIZE
from .uaccess import VERIFY_READ
from .vfs import current_time, remove_suid

if TYPE_CHECKING:
    from .fs import AddressSpace, File, Inode

MAX_NON_LFS = 0x7FFFFFFF  # bytes: how far a file opened without O_LARGEFILE goes
O_SYNC = 0o10000
O_LARGEFILE = 0o100000
SIGXFSZ = 25
_U32 = 0xFFFFFFFF


class FileWrite(FileRead):
    """Writing into the page cache."""

    def precheck_file_write(self, file: File, inode: Inode, count: int, pos: int) -> tuple[int, int, int]:
        """How much of a write of *count* bytes at byte *pos* is allowed, and where it really goes.

        Returns (error, count, pos): EFBIG (27) past the size limit of the process or of the file system, the error of an
        earlier write that nobody was told of, EINVAL (22) before byte 0. kernel: mm/filemap.c:precheck_file_write
        """
        current, sched = self.kernel.current, self.kernel.sched
        limit = current.rlim[RLIMIT_FSIZE]
        if pos < 0:
            return -EINVAL, count, pos
        if file.f_error:
            error, file.f_error = file.f_error, 0
            return error, count, pos
        if file.f_flags & O_APPEND:
            pos = inode.i_size
        if limit != RLIM_INFINITY:
            if pos >= limit:
                sched.send_sig(SIGXFSZ, current)
                return -EFBIG, count, pos
            count = min(count, limit - pos)
        if pos + count > MAX_NON_LFS and not file.f_flags & O_LARGEFILE:
            if pos >= MAX_NON_LFS:
                sched.send_sig(SIGXFSZ, current)
                return -EFBIG, count, pos
            count = min(count, MAX_NON_LFS - pos)
        if inode.i_sb is not None:
            most = inode.i_sb.s_maxbytes
            if pos >= most and (count or pos > most):
                sched.send_sig(SIGXFSZ, current)
                return -EFBIG, count, pos
            count = min(count, most - pos)
        return 0, count, pos

    def grab_cache_page_cached(self, mapping: AddressSpace, index: int, spare: list[int]) -> int | None:
        """The page at *index*, locked, made when absent from the page in *spare* or a new one. None: no memory.

        *spare* keeps a page that was allocated and turned out not to be needed. kernel: mm/filemap.c:__grab_cache_page
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
            if not self.add_to_page_cache_unique(spare[0], mapping, index):
                return spare.pop()

    def _fault_in(self, buf: int | bytes | None, nbytes: int) -> None:
        """Touch the first and the last byte of a user buffer, before any page is locked. kernel: mm/filemap.c:do_generic_file_write"""
        if isinstance(buf, int):
            self.kernel.fault.get_user(buf, 1)
            self.kernel.fault.get_user(buf + nbytes - 1, 1)

    def _copy_in(self, pfn: int, offset: int, buf: int | bytes | None, at: int, nbytes: int) -> int:
        """Copy *nbytes* of the writer's data into the page. Returns how many bytes could not be copied."""
        left = 0
        if isinstance(buf, int):
            data, left = self.kernel.fault.copy_from_user_nocheck(buf + at, nbytes)
        elif buf is None:
            data = bytes(nbytes)
        else:
            data = bytes(buf[at : at + nbytes])
        self.kernel.ram.write((pfn << PAGE_SHIFT) + offset, data)
        return left

    def do_generic_file_write(self, file: File, buf: int | bytes | None, count: int, pos: int) -> tuple[int, int]:
        """Write *count* bytes from *buf* at byte *pos*, page by page.

        Returns (bytes written or a negative errno, position afterwards). kernel: mm/filemap.c:do_generic_file_write
        """
        kernel = self.kernel
        mapping = file.inode.i_mapping
        inode = mapping.host or file.inode
        err, count, pos = self.precheck_file_write(file, inode, count, pos)
        if err or not count:
            return err, pos
        remove_suid(kernel.current, inode)
        inode.i_ctime = inode.i_mtime = current_time(kernel)
        spare: list[int] = []
        written = status = 0
        while True:
            offset, index = pos & PAGE_MASK, pos >> PAGE_SHIFT
            nbytes = min(PAGE_SIZE - offset, count)
            self._fault_in(buf if not isinstance(buf, int) else buf + written, nbytes)
            pfn = self.grab_cache_page_cached(mapping, index, spare)
            if pfn is None:
                status = -ENOMEM
                break
            if not self.flags[pfn] & LOCKED:
                raise KernelBug("do_generic_file_write", f"frame {pfn} is not locked", "unlocked")
            kernel.highmem.kmap(pfn)
            status = mapping.a_ops.prepare_write(file, pfn, offset, offset + nbytes)
            if status:
                kernel.highmem.kunmap(pfn)
                self.unlock_page(pfn)
                kernel.put_page(pfn)
                if pos + nbytes > inode.i_size:
                    kernel.memory.vmtruncate(inode, inode.i_size)
                break
            left = self._copy_in(pfn, offset, buf, written, nbytes)
            status = mapping.a_ops.commit_write(file, pfn, offset, offset + nbytes)
            if left:
                status = -EFAULT
            else:
                status = status or nbytes
                if status >= 0:
                    written += status
                    count -= status
                    pos += status
            kernel.highmem.kunmap(pfn)
            self.flags[pfn] |= REFERENCED
            self.unlock_page(pfn)
            kernel.put_page(pfn)
            if status < 0 or not count:
                break
        for page in spare:
            kernel.put_page(page)
        if status >= 0 and file.f_flags & O_SYNC:
            status = self.generic_osync_inode(inode)
        return written or status, pos

    def generic_osync_inode(self, inode: Inode) -> int:
        """Write the file's dirty pages and wait for them. Returns 0 or an errno. kernel: fs/inode.c:generic_osync_inode"""
        err = self.filemap_fdatasync(inode.i_mapping)
        waited = self.filemap_fdatawait(inode.i_mapping)
        return err or waited

    def generic_file_write(self, file: File, buf: int | bytes | None, count: int) -> int:
        """Write *count* bytes at ``file.f_pos`` (with O_APPEND: at the end) and move it.

        *buf* is a user address, the bytes themselves, or None for zeroes. Returns the bytes written or a negative errno: EINVAL,
        EFAULT, EFBIG, ENOMEM, or what the file system says. kernel: mm/filemap.c:generic_file_write
        """
        if count < 0:
            return -EINVAL
        if isinstance(buf, int) and not self.kernel.fault.access_ok(VERIFY_READ, buf, count):
            return -EFAULT
        err, file.f_pos = self.do_generic_file_write(file, buf, count, file.f_pos)
        return err
