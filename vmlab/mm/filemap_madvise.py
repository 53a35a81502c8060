"""madvise(2) and mincore(2): what a program says, and asks, about its mapped pages. kernel: mm/filemap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EAGAIN, EBADF, EFAULT, EINVAL, EIO, ENOMEM
from .filemap_cache import PAGE_MASK, UPTODATE
from .filemap_map import FileMapping
from .gfp import GFP_KERNEL
from .task import RLIMIT_RSS
from .vm import (
    MADV_DONTNEED,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    VM_LOCKED,
    VM_RAND_READ,
    VM_READHINTMASK,
    VM_SEQ_READ,
)

if TYPE_CHECKING:
    from .vm import VmArea


_U32 = 0xFFFFFFFF


class FileAdvice(FileMapping):
    """Advice about areas, and what is in core."""

    def setup_read_behavior(self, vma: VmArea, behavior: int) -> None:
        """Write the advice into the area's flags. kernel: mm/filemap.c:setup_read_behavior"""
        vma.vm_flags &= ~VM_READHINTMASK
        if behavior == MADV_SEQUENTIAL:
            vma.vm_flags |= VM_SEQ_READ
        elif behavior == MADV_RANDOM:
            vma.vm_flags |= VM_RAND_READ

    def madvise_fixup_start(self, vma: VmArea, end: int, behavior: int) -> int:
        """The advice is for the area up to *end*: split that off. Returns 0, or EAGAIN (11). kernel: mm/filemap.c:madvise_fixup_start"""
        mmap = self.kernel.mmap
        new = mmap.copy_vma(vma)
        if new is None:
            return -EAGAIN
        assert vma.vm_mm is not None
        new.vm_end = end
        self.setup_read_behavior(new, behavior)
        mmap.get_area_file(new)
        vma.vm_pgoff = vma.vm_pgoff + ((end - vma.vm_start) >> PAGE_SHIFT) & _U32
        vma.vm_start = end
        mmap.insert_vm_struct(vma.vm_mm, new)
        return 0

    def madvise_fixup_end(self, vma: VmArea, start: int, behavior: int) -> int:
        """The advice is for the area from *start* on. Returns 0, or EAGAIN (11). kernel: mm/filemap.c:madvise_fixup_end"""
        mmap = self.kernel.mmap
        new = mmap.copy_vma(vma)
        if new is None:
            return -EAGAIN
        assert vma.vm_mm is not None
        new.vm_start = start
        new.vm_pgoff = new.vm_pgoff + ((start - vma.vm_start) >> PAGE_SHIFT) & _U32
        self.setup_read_behavior(new, behavior)
        mmap.get_area_file(new)
        vma.vm_end = start
        mmap.insert_vm_struct(vma.vm_mm, new)
        return 0

    def madvise_fixup_middle(self, vma: VmArea, start: int, end: int, behavior: int) -> int:
        """The advice is for the middle of the area, which keeps its record; the ends get new ones. Returns 0, or EAGAIN (11).

        kernel: mm/filemap.c:madvise_fixup_middle
        """
        mmap = self.kernel.mmap
        left = mmap.copy_vma(vma)
        if left is None:
            return -EAGAIN
        right = mmap.copy_vma(vma)
        if right is None:
            mmap.free_vma(left)
            return -EAGAIN
        assert vma.vm_mm is not None
        left.vm_end = start
        right.vm_start = end
        right.vm_pgoff = right.vm_pgoff + ((end - left.vm_start) >> PAGE_SHIFT) & _U32
        mmap.get_area_file(left)
        mmap.get_area_file(right)
        vma.vm_pgoff = vma.vm_pgoff + ((start - vma.vm_start) >> PAGE_SHIFT) & _U32
        vma.vm_raend = 0
        vma.vm_start, vma.vm_end = start, end
        self.setup_read_behavior(vma, behavior)
        mmap.insert_vm_struct(vma.vm_mm, left)
        mmap.insert_vm_struct(vma.vm_mm, right)
        return 0

    def madvise_behavior(self, vma: VmArea, start: int, end: int, behavior: int) -> int:
        """MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM. Returns 0, ENOMEM (12) with too many areas, EAGAIN (11).

        kernel: mm/filemap.c:madvise_behavior
        """
        assert vma.vm_mm is not None
        if vma.vm_mm.map_count > self.kernel.mmap.max_map_count:
            return -ENOMEM
        if start == vma.vm_start:
            if end == vma.vm_end:
                self.setup_read_behavior(vma, behavior)
                vma.vm_raend = 0
                return 0
            return self.madvise_fixup_start(vma, end, behavior)
        if end == vma.vm_end:
            return self.madvise_fixup_end(vma, start, behavior)
        return self.madvise_fixup_middle(vma, start, end, behavior)

    def madvise_willneed(self, vma: VmArea, start: int, end: int) -> int:
        """Start reading the range. Returns 0, EBADF (9) without a file, EIO (5) when nothing of it is in the file or the process
        may not have so many pages. kernel: mm/filemap.c:madvise_willneed
        """
        file = vma.vm_file
        if file is None or file.inode.i_mapping.a_ops.readpage is None:
            return -EBADF
        assert vma.vm_mm is not None
        size = (file.inode.i_size + PAGE_MASK) >> PAGE_SHIFT
        start = ((start - vma.vm_start) >> PAGE_SHIFT) + vma.vm_pgoff & _U32
        end = ((min(end, vma.vm_end) - vma.vm_start) >> PAGE_SHIFT) + vma.vm_pgoff & _U32
        error = -EIO
        if vma.vm_mm.rss + end - start & _U32 > self.kernel.current.rlim[RLIMIT_RSS]:
            return error
        if not vma.vm_flags & VM_RAND_READ:
            start = self.cluster_offset(start)
            end = self.cluster_offset(end + self.cluster_pages - 1)
            while start < end and start < size:
                error = self.read_cluster_nonblocking(file, start, size)
                start += self.cluster_pages
                if error < 0:
                    break
        else:
            while start < end and start < size:
                error = self.page_cache_read(file, start)
                start += 1
                if error < 0:
                    break
        self.kernel.sched.run_task_queue()
        return error

    def madvise_dontneed(self, vma: VmArea, start: int, end: int) -> int:
        """Drop the pages of the range, dirty or not. Returns 0, or EINVAL (22) for a locked area. kernel: mm/filemap.c:madvise_dontneed"""
        if vma.vm_flags & VM_LOCKED:
            return -EINVAL
        assert vma.vm_mm is not None
        self.kernel.memory.zap_page_range(vma.vm_mm, start, end - start)
        return 0

    def madvise_vma(self, vma: VmArea, start: int, end: int, behavior: int) -> int:
        """One area of madvise. Returns 0 or a negative errno. kernel: mm/filemap.c:madvise_vma"""
        if behavior in (MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM):
            return self.madvise_behavior(vma, start, end, behavior)
        if behavior == MADV_WILLNEED:
            return self.madvise_willneed(vma, start, end)
        if behavior == MADV_DONTNEED:
            return self.madvise_dontneed(vma, start, end)
        return -EINVAL

    def sys_madvise(self, start: int, length: int, behavior: int) -> int:
        """madvise(2). Returns 0 or a negative errno: EINVAL for an unaligned start or unknown advice, ENOMEM when something in the range is
        not mapped (the rest is advised all the same), EBADF, EIO, EAGAIN. kernel: mm/filemap.c:sys_madvise
        """
        if start & PAGE_MASK:
            return -EINVAL
        length = (length + PAGE_MASK) & ~PAGE_MASK & _U32
        end = start + length & _U32
        if end < start:
            return -EINVAL
        if end == start:
            return 0
        ev = self.on_event
        if ev is not None:
            ev(("madvise", start, end, behavior))
        unmapped_error = 0
        vma = self.kernel.mmap.find_vma(self.kernel.current.mm, start)
        while vma is not None:
            if start < vma.vm_start:
                unmapped_error = -ENOMEM
                start = vma.vm_start
            if end <= vma.vm_end:
                error = self.madvise_vma(vma, start, end, behavior) if start < end else 0
                return error or unmapped_error
            error = self.madvise_vma(vma, start, vma.vm_end, behavior)
            if error:
                return error
            start = vma.vm_end
            vma = vma.vm_next
        return -ENOMEM

    def mincore_page(self, vma: VmArea, pgoff: int) -> int:
        """1 when page *pgoff* of the area's file is cached and up to date, else 0. kernel: mm/filemap.c:mincore_page"""
        assert vma.vm_file is not None
        pfn = self.find_page_nolock(vma.vm_file.inode.i_mapping, pgoff)
        return int(pfn is not None and self.flags[pfn] & UPTODATE != 0)

    def mincore_vma(self, vma: VmArea, start: int, end: int, vec: int | bytearray, at: int) -> int:
        """One area of mincore: a byte for each page goes to *vec* (a user address, or the caller's bytearray) from byte *at* on.

        Returns 0, ENOMEM (12) for an area without a file, EAGAIN (11), EFAULT (14). kernel: mm/filemap.c:mincore_vma
        """
        if vma.vm_file is None:
            return -ENOMEM
        first = ((start - vma.vm_start) >> PAGE_SHIFT) + vma.vm_pgoff & _U32
        remaining = (min(end, vma.vm_end) - start) >> PAGE_SHIFT
        page = self.kernel.page_allocator.alloc_pages(GFP_KERNEL, 0)
        if page is None:
            return -EAGAIN
        error = 0
        while remaining > 0:
            piece = min(remaining, PAGE_SIZE)
            found = bytes(self.mincore_page(vma, first + n & _U32) for n in range(piece))
            self.kernel.ram.write(page << PAGE_SHIFT, found)
            if isinstance(vec, bytearray):
                vec[at : at + piece] = found
            elif self.kernel.fault.copy_to_user(vec + at, found):
                error = -EFAULT
                break
            first, at, remaining = first + piece, at + piece, remaining - PAGE_SIZE
        self.kernel.page_allocator.free_pages(page, 0)
        return error

    def sys_mincore(self, start: int, length: int, vec: int | bytearray) -> int:
        """mincore(2): which pages of the range could be had without reading a disk. Returns 0 or a negative errno.

        EINVAL for an unaligned start, ENOMEM when something in the range is not mapped or maps no file, EFAULT for a bad *vec*.
        kernel: mm/filemap.c:sys_mincore
        """
        if start & PAGE_MASK:
            return -EINVAL
        length = (length + PAGE_MASK) & ~PAGE_MASK & _U32
        end = start + length & _U32
        if end < start:
            return -EINVAL
        if end == start:
            return 0
        at = unmapped_error = 0
        vma = self.kernel.mmap.find_vma(self.kernel.current.mm, start)
        while vma is not None:
            if start < vma.vm_start:
                unmapped_error = -ENOMEM
                start = vma.vm_start
            if end <= vma.vm_end:
                error = self.mincore_vma(vma, start, end, vec, at) if start < end else 0
                return error or unmapped_error
            error = self.mincore_vma(vma, start, vma.vm_end, vec, at)
            if error:
                return error
            at += (vma.vm_end - start) >> PAGE_SHIFT
            start = vma.vm_end
            vma = vma.vm_next
        return -ENOMEM
