"""Files mapped into memory: page faults on them, and msync(2). kernel: mm/filemap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EBUSY, EINVAL, ENOEXEC, ENOMEM
from .filemap_cache import ERROR, PAGE_MASK, UPTODATE
from .filemap_write import FileWrite
from .fs import NOPAGE_OOM, NOPAGE_SIGBUS
from .page_flags import PG_reserved
from .pgtable import _PAGE_DIRTY, pte_present
from .vm import MS_ASYNC, MS_INVALIDATE, MS_SYNC, VM_LOCKED, VM_MAYWRITE, VM_RAND_READ, VM_SEQ_READ, VM_SHARED

if TYPE_CHECKING:
    from array import array

    from .fs import File
    from .vm import VmArea

_U32 = 0xFFFFFFFF


class FileMapping(FileWrite):
    """Page faults in file mappings, and pushing what was written through a mapping to the file."""

    def nopage_sequential_readahead(self, vma: VmArea, pgoff: int, filesize: int) -> None:
        """In an area of MADV_SEQUENTIAL: half-way through a window of pages, read the next and let the one before last go.

        *pgoff* and *filesize* in pages. kernel: mm/filemap.c:nopage_sequential_readahead
        """
        assert vma.vm_file is not None
        ra_window = self.cluster_offset(self.get_max_readahead(vma.vm_file.inode) + self.cluster_pages - 1)
        if vma.vm_raend == 0:
            vma.vm_raend = vma.vm_pgoff + ra_window & _U32
        if pgoff + (ra_window >> 1) & _U32 != vma.vm_raend:
            return
        start = vma.vm_pgoff + vma.vm_raend & _U32
        end = min(start + ra_window & _U32, (vma.vm_end >> PAGE_SHIFT) + vma.vm_pgoff & _U32)
        if start > end:
            return
        while start < end and start < filesize:
            if self.read_cluster_nonblocking(vma.vm_file, start, filesize) < 0:
                break
            start += self.cluster_pages
        self.kernel.sched.run_task_queue()
        if vma.vm_raend > vma.vm_pgoff + 2 * ra_window:
            window = ra_window << PAGE_SHIFT
            end = vma.vm_start + (vma.vm_raend << PAGE_SHIFT) - 2 * window & _U32
            self.filemap_sync(vma, end - window & _U32, window, MS_INVALIDATE)
        vma.vm_raend = vma.vm_raend + ra_window & _U32

    def filemap_nopage(self, area: VmArea, address: int, unused: int) -> int:
        """A fault at *address* of a file mapping: find its page in the cache, or read it with its cluster.

        Returns the frame with a reference taken, NOPAGE_SIGBUS past the end of the file or after a failed read, or NOPAGE_OOM.
        kernel: mm/filemap.c:filemap_nopage
        """
        kernel = self.kernel
        file = area.vm_file
        assert file is not None
        mapping = file.inode.i_mapping
        inode = mapping.host or file.inode
        pgoff = ((address - area.vm_start) >> PAGE_SHIFT) + area.vm_pgoff & _U32
        endoff = ((area.vm_end - area.vm_start) >> PAGE_SHIFT) + area.vm_pgoff & _U32
        while True:
            size = (inode.i_size + PAGE_MASK) >> PAGE_SHIFT & _U32
            if pgoff >= size and area.vm_mm is kernel.current.mm:
                return NOPAGE_SIGBUS
            size = min(size, endoff)
            pfn = self.find_get_page(mapping, pgoff)
            while pfn is None:
                if pgoff < size and not area.vm_flags & VM_RAND_READ:
                    error = self.read_cluster_nonblocking(file, pgoff, size)
                else:
                    error = self.page_cache_read(file, pgoff)
                if error < 0:
                    return NOPAGE_OOM if error == -ENOMEM else NOPAGE_SIGBUS
                pfn = self.find_get_page(mapping, pgoff)
            found = self._fault_uptodate(file, pfn)
            if found is None:
                continue  # truncated while we waited
            if not found:
                kernel.put_page(pfn)
                return NOPAGE_SIGBUS
            if area.vm_flags & VM_SEQ_READ:
                self.nopage_sequential_readahead(area, pgoff, size)
            self.mark_page_accessed(pfn)
            return pfn

    def _fault_uptodate(self, file: File, pfn: int) -> bool | None:
        """Wait until the page is up to date, reading it up to twice.

        Returns False when it cannot be read; None when it left the file meanwhile (its reference is dropped then).
        """
        readpage = file.inode.i_mapping.a_ops.readpage
        if self.flags[pfn] & UPTODATE:
            return True
        for attempt in (1, 2):
            self.lock_page(pfn)
            if not self.mapping[pfn]:
                self.unlock_page(pfn)
                self.kernel.put_page(pfn)
                return None
            if self.flags[pfn] & UPTODATE:
                self.unlock_page(pfn)
                return True
            if attempt == 2:
                self.flags[pfn] &= ~ERROR
            if not readpage(file, pfn):
                self.wait_on_page(pfn)
                if self.flags[pfn] & UPTODATE:
                    return True
        return False

    # -- dirty bits of page tables to dirty pages ---------------------------------------------

    def filemap_sync_pte(self, table: array[int], slot: int, vma: VmArea, address: int) -> None:
        """If the entry is dirty, clean it and mark the page dirty instead. kernel: mm/filemap.c:filemap_sync_pte"""
        pte = table[slot]
        pfn = pte >> PAGE_SHIFT
        if pte_present(pte) and pfn < self.kernel.max_mapnr and not self.flags[pfn] >> PG_reserved & 1 and pte & _PAGE_DIRTY:
            table[slot] = pte & ~_PAGE_DIRTY
            self.kernel.mmu.flush_tlb_page(vma, address)
            self.set_page_dirty(pfn)

    def filemap_sync(self, vma: VmArea, address: int, size: int, flags: int) -> int:
        """Move the dirty bits of *size* bytes of the mapping from the page tables to the pages. Returns 0.

        Raises KernelBug for an empty range. kernel: mm/filemap.c:filemap_sync, filemap_sync_pmd_range, filemap_sync_pte_range
        """
        kernel, pgtable = self.kernel, self.kernel.pgtable
        assert vma.vm_mm is not None
        end = address + size & _U32
        if address >= end:
            raise KernelBug("filemap_sync", f"the range {address:#x}+{size:#x} is empty or wraps", "range")
        at = address
        while at < end:
            following = min((at & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE, end)
            found = pgtable.pte_lookup(vma.vm_mm, at)
            if found is not None:
                table, slot = found
                for n in range((following - at + PAGE_MASK) >> PAGE_SHIFT):
                    if table[slot + n] & _PAGE_DIRTY:
                        self.filemap_sync_pte(table, slot + n, vma, at + n * PAGE_SIZE)
            at = following
        kernel.mmu.flush_tlb_range(vma.vm_mm, end - size & _U32, end)
        return 0

    def generic_file_mmap(self, file: File, vma: VmArea) -> int:
        """mmap of an ordinary file: faults will go to filemap_nopage.

        Returns 0, EINVAL (22) for a shared writable mapping of a file that cannot be written back, ENOEXEC (8) of one that cannot
        be read. kernel: mm/filemap.c:generic_file_mmap
        """
        a_ops = file.inode.i_mapping.a_ops
        if vma.vm_flags & VM_SHARED and vma.vm_flags & VM_MAYWRITE and a_ops.writepage is None:
            return -EINVAL
        if a_ops.readpage is None:
            return -ENOEXEC
        vma.vm_ops = self.kernel.ops["generic_file_vm_ops"]  # type: ignore[assignment]
        return 0

    def msync_interval(self, vma: VmArea, start: int, end: int, flags: int) -> int:
        """One area of msync. Returns 0, EBUSY (16) for MS_INVALIDATE of a locked area, or the file system's error.

        kernel: mm/filemap.c:msync_interval
        """
        file = vma.vm_file
        if flags & MS_INVALIDATE and vma.vm_flags & VM_LOCKED:
            return -EBUSY
        if file is None or not vma.vm_flags & VM_SHARED:
            return 0
        ret = self.filemap_sync(vma, start, end - start, flags)
        if not ret and flags & (MS_SYNC | MS_ASYNC):
            inode = file.inode
            ret = self.filemap_fdatasync(inode.i_mapping)
            if flags & MS_SYNC:
                if file.f_op is not None and file.f_op.fsync is not None:
                    err: int = file.f_op.fsync(file)
                    ret = ret or err
                err = self.filemap_fdatawait(inode.i_mapping)
                ret = ret or err
        return ret

    def sys_msync(self, start: int, length: int, flags: int) -> int:
        """msync(2): push what was written through shared mappings to the files. Returns 0 or a negative errno.

        EINVAL for an unaligned start, unknown flags, or MS_ASYNC with MS_SYNC; ENOMEM when something in the range is not mapped.
        kernel: mm/filemap.c:sys_msync
        """
        if start & PAGE_MASK:
            return -EINVAL
        length = (length + PAGE_MASK) & ~PAGE_MASK & _U32
        end = start + length & _U32
        if end < start or flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or (flags & MS_ASYNC and flags & MS_SYNC):
            return -EINVAL
        if end == start:
            return 0
        ev = self.on_event
        if ev is not None:
            ev(("msync", start, end, flags))
        unmapped_error = 0
        mm = self.kernel.current.mm
        assert mm is not None
        vma = self.kernel.mmap.find_vma(mm, start)
        while vma is not None:
            if start < vma.vm_start:
                unmapped_error = -ENOMEM
                start = vma.vm_start
            if end <= vma.vm_end:
                error = self.msync_interval(vma, start, end, flags) if start < end else 0
                return error or unmapped_error
            error = self.msync_interval(vma, start, vma.vm_end, flags)
            if error:
                return error
            start = vma.vm_end
            vma = vma.vm_next
        return -ENOMEM
