"""Files mapped into memory in 2.6: faults, populating nonlinear areas, msync(2) and mincore(2).

kernel: mm/filemap.c, mm/msync.c, mm/mincore.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EINVAL, ENOEXEC, ENOMEM
from ..mm.filemap_cache import ERROR, PAGE_MASK, UPTODATE
from ..mm.fs import NOPAGE_OOM, NOPAGE_SIGBUS
from ..mm.memory_fault import FAULT_MAJOR, FAULT_MINOR
from ..mm.vm import MS_ASYNC, MS_INVALIDATE, MS_SYNC, TASK_SIZE, VM_RAND_READ, VM_SEQ_READ
from .filemap_read import FileRead26
from .fs import AddressSpace26, FileRaState

if TYPE_CHECKING:
    from ..mm.fs import File
    from ..mm.vm import VmArea

MMAP_LOTSAMISS = 100  # misses beyond hits at which faults stop reading around them
VM_HUGETLB = 0x400000
_U32 = 0xFFFFFFFF


class FileMapping26(FileRead26):
    """Page faults in file mappings, and what a process may ask about them."""

    # -- faults -------------------------------------------------------------------------------

    def filemap_nopage(self, area: VmArea, address: int, kind: list[int] | None) -> int:  # type: ignore[override]
        """In 2.6 a hit in the cache is a minor fault, and a miss reads the pages *around* it (half the read-ahead window before, half
        after), because programs jump about in their text; before that every such fault was major, and an aligned cluster was read.

        *kind*, if given, gets FAULT_MINOR or FAULT_MAJOR as its element. Returns the frame with a reference, NOPAGE_SIGBUS or
        NOPAGE_OOM. kernel: mm/filemap.c:filemap_nopage
        """
        file = area.vm_file
        assert file is not None
        mapping = cast(AddressSpace26, file.inode.i_mapping)
        ra = self.ra_state(file)
        inode = mapping.host
        assert inode is not None
        pgoff = (address - area.vm_start >> PAGE_SHIFT) + area.vm_pgoff & _U32
        majmin = FAULT_MINOR
        around = False  # whether the pages around it were asked for
        look = True
        while True:
            if look:  # from the start
                look = False
                outside = pgoff >= inode.i_size + PAGE_MASK >> PAGE_SHIFT & _U32
                if outside and area.vm_mm is self.kernel.current.mm:
                    return NOPAGE_SIGBUS
                if outside or area.vm_flags & VM_RAND_READ:
                    error = self._read_for_fault(file, pgoff)
                    if error < 0:
                        return NOPAGE_OOM if error == -ENOMEM else NOPAGE_SIGBUS
                elif area.vm_flags & VM_SEQ_READ:
                    self.page_cache_readahead(mapping, ra, file, pgoff, 1)
            pfn = self.find_get_page(mapping, pgoff)
            if pfn is None:
                if self._reads_around(area, ra):
                    if not around:
                        majmin = FAULT_MAJOR
                        self.page_state.pgmajfault += 1
                    around = True
                    self._read_around(mapping, ra, file, pgoff)
                    pfn = self.find_get_page(mapping, pgoff)
                if pfn is None:
                    error = self._read_for_fault(file, pgoff)
                    if error < 0:
                        return NOPAGE_OOM if error == -ENOMEM else NOPAGE_SIGBUS
                    continue
            if not around:
                ra.mmap_hit += 1
            if not self.flags[pfn] & UPTODATE:
                if not around:
                    majmin = FAULT_MAJOR
                    self.page_state.pgmajfault += 1
                found = self._fault_uptodate(file, pfn)
                if found is None:
                    look = True
                    continue
                if not found:
                    self.kernel.put_page(pfn)
                    return NOPAGE_SIGBUS
            self.mark_page_accessed(pfn)
            if kind is not None:
                kind[0] = majmin
            return pfn

    def _reads_around(self, area: VmArea, ra: FileRaState) -> bool:
        """Whether a fault that found nothing reads the pages around it too."""
        if area.vm_flags & VM_SEQ_READ:
            self.handle_ra_miss(ra)
            return False
        ra.mmap_miss += 1
        return ra.mmap_miss <= ra.mmap_hit + MMAP_LOTSAMISS

    def _read_around(self, mapping: AddressSpace26, ra: FileRaState, file: File, pgoff: int) -> None:
        """Start reading a window of pages with *pgoff* in its middle."""
        ra_pages = self.max_sane_readahead(ra.ra_pages)
        if ra_pages:
            self.do_page_cache_readahead(mapping, file, pgoff - ra_pages // 2 if pgoff > ra_pages // 2 else 0, ra_pages)

    def _read_for_fault(self, file: File, pgoff: int) -> int:
        """Start reading one page. Returns 0 or an errno."""
        error = self.page_cache_read(file, pgoff)
        self.kernel.reclaim.grab_swap_token()  # type: ignore[attr-defined]
        return error

    # -- nonlinear areas ----------------------------------------------------------------------

    def filemap_getpage(self, file: File, pgoff: int, nonblock: int) -> int | None:
        """In 2.6 new, because of populate: page *pgoff* up to date with a reference; None when it cannot be had (*nonblock*: at once).

        kernel: mm/filemap.c:filemap_getpage
        """
        mapping = file.inode.i_mapping
        while True:
            pfn = self.find_get_page(mapping, pgoff)
            if pfn is not None:
                break
            if nonblock or self.page_cache_read(file, pgoff) < 0:
                return None
        if not self.flags[pfn] & UPTODATE:
            for attempt in (1, 2):
                self.lock_page(pfn)
                if not self.mapping[pfn]:
                    self.unlock_page(pfn)
                    self.kernel.put_page(pfn)
                    return None
                if self.flags[pfn] & UPTODATE:
                    self.unlock_page(pfn)
                    break
                if attempt == 2:
                    self.flags[pfn] &= ~ERROR
                if not mapping.a_ops.readpage(file, pfn):
                    self.wait_on_page(pfn)
                    if self.flags[pfn] & UPTODATE:
                        break
            else:
                self.kernel.put_page(pfn)
                return None
        self.mark_page_accessed(pfn)
        return pfn

    def filemap_populate(self, vma: VmArea, addr: int, length: int, prot: int, pgoff: int, nonblock: int) -> int:
        """In 2.6 new, because remap_file_pages() fills page tables at once: map pages of the file from *pgoff* on at *addr*.

        With *nonblock* pages that are not cached leave their number in the entry, to be read at a fault.
        Returns 0, EINVAL (22) past the end of the file, or ENOMEM (12). kernel: mm/filemap.c:filemap_populate
        """
        kernel, file, mm = self.kernel, vma.vm_file, vma.vm_mm
        assert file is not None and mm is not None
        mapping = cast(AddressSpace26, file.inode.i_mapping)
        inode = mapping.host
        assert inode is not None
        fremap = kernel.fremap  # type: ignore[attr-defined]
        if not nonblock:
            self.force_page_cache_readahead(mapping, file, pgoff, length >> PAGE_SHIFT)
        while True:
            size = inode.i_size + PAGE_MASK >> PAGE_SHIFT & _U32
            if pgoff + (length >> PAGE_SHIFT) & _U32 > size:
                return -EINVAL
            pfn = self.filemap_getpage(file, pgoff, nonblock)
            if pfn is None and not nonblock:
                return -ENOMEM
            if pfn is not None:
                err: int = fremap.install_page(mm, vma, addr, pfn, prot)
                if err:
                    kernel.put_page(pfn)
                    return err
            else:
                err = fremap.install_file_pte(mm, vma, addr, pgoff, prot)
                if err:
                    return err
            length -= PAGE_SIZE
            addr += PAGE_SIZE
            pgoff += 1
            if not length:
                return 0

    def generic_file_mmap(self, file: File, vma: VmArea) -> int:
        """In 2.6 a file that cannot be written back is refused by its own mmap method, because few have that; before that here.

        Returns 0, or ENOEXEC (8). kernel: mm/filemap.c:generic_file_mmap
        """
        if file.inode.i_mapping.a_ops.readpage is None:
            return -ENOEXEC
        vma.vm_ops = self.kernel.ops["generic_file_vm_ops"]  # type: ignore[assignment]
        return 0

    # -- msync --------------------------------------------------------------------------------

    def filemap_sync(self, vma: VmArea, address: int, size: int, flags: int) -> int:
        """In 2.6 huge pages are left out, because they are memory only; before that there were none. Returns 0.

        kernel: mm/msync.c:filemap_sync, __filemap_sync
        """
        return 0 if vma.vm_flags & VM_HUGETLB else super().filemap_sync(vma, address, size, flags)

    def msync_interval(self, vma: VmArea, start: int, end: int, flags: int) -> int:
        """In 2.6 MS_ASYNC starts no transfer, because fsync and pdflush will; before that it did.

        One area of msync. Returns 0 or an errno. kernel: mm/msync.c:msync_interval
        """
        if not flags & MS_SYNC:
            flags &= ~MS_ASYNC
        return super().msync_interval(vma, start, end, flags)

    def sys_msync(self, start: int, length: int, flags: int) -> int:
        """In 2.6 a range that wraps around is ENOMEM, because the standard says so; before that EINVAL.

        msync(2). Returns 0 or a negative errno. kernel: mm/msync.c:sys_msync
        """
        bad = flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or start & PAGE_MASK or (flags & MS_ASYNC and flags & MS_SYNC)
        length = length + PAGE_MASK & ~PAGE_MASK & _U32
        if not bad and (start + length & _U32) < start:
            return -ENOMEM
        return -EINVAL if bad else super().sys_msync(start, length, flags)

    def sys_mincore(self, start: int, length: int, vec: int | bytearray) -> int:
        """In 2.6 addresses of the kernel are ENOMEM, and so is an empty range in a hole, because the standard says so; before that such a
        range was fine.

        mincore(2). Returns 0 or a negative errno. kernel: mm/mincore.c:sys_mincore
        """
        if start & PAGE_MASK:
            return -EINVAL
        if start >= TASK_SIZE:
            return -ENOMEM
        length = length + PAGE_MASK & ~PAGE_MASK & _U32
        if length > TASK_SIZE - start:
            return -EINVAL
        if length:
            return super().sys_mincore(start, length, vec)
        mm = self.kernel.current.mm
        vma = self.kernel.mmap.find_vma(mm, start) if mm is not None else None
        return -ENOMEM if vma is None or start < vma.vm_start else 0

