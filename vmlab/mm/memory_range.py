"""Ranges of a page table: copying them at fork, emptying them, filling them with given frames.

kernel: mm/memory.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EFBIG, ENOMEM
from .kernel import Part
from .page_flags import RESERVED
from .pgtable import _KERNPG_TABLE, _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE, _PAGE_RW, _PAGE_USER
from .task import RLIM_INFINITY, RLIMIT_FSIZE
from .vm import VM_MAYWRITE, VM_SHARED

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator, MutableSequence

    from .fs import Inode
    from .kernel import Kernel
    from .vm import MmStruct, VmArea

_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_M32 = 0xFFFFFFFF
SIGXFSZ = 25


class MemoryRange(Part):
    """Page-table work on whole ranges. Addresses and sizes are in bytes."""

    kernel: Kernel
    flags: array[int]
    count: array[int]

    def pmd_bad(self, pmd: int) -> bool:
        """Whether a pmd entry that is not empty points to no page table. kernel: include/asm-i386/pgtable.h:pmd_bad"""
        return pmd & (PAGE_SIZE - 1 & ~_PAGE_USER) != _KERNPG_TABLE

    def pmd_error(self, table: MutableSequence[int], slot: int) -> None:
        """Report a bad pmd entry and empty it. kernel: include/asm-i386/pgtable-2level.h:pmd_ERROR, include/asm-i386/pgtable.h:pmd_clear"""
        digits = 16 if self.kernel.pgtable.pae else 8
        self.kernel.printk(None, f"memory.c: bad pmd {table[slot]:0{digits}x}.")
        table[slot] = 0

    def pmd_spans(self, mm: MmStruct, address: int, end: int) -> Iterator[tuple[int, int, array[int], int, int]]:
        """The page tables of *mm* under [address, end): (from, to, table, first slot, slots), bad entries cleared on the way."""
        pgtable = self.kernel.pgtable
        size, mask = pgtable.PMD_SIZE, pgtable.PTRS_PER_PTE - 1
        while address < end:
            stop = min((address & -size) + size, end)
            found = pgtable.pmd_lookup(mm, address)
            if found is not None:
                pmds, at = found
                pmd = pmds[at]
                if pmd:
                    if self.pmd_bad(pmd):
                        self.pmd_error(pmds, at)
                    else:
                        yield address, stop, pgtable.pte_table(pmd), address >> PAGE_SHIFT & mask, (stop - address) >> PAGE_SHIFT
            address = stop

    # -- fork ---------------------------------------------------------------------------------

    def copy_page_range(self, dst: MmStruct, src: MmStruct, vma: VmArea) -> int:
        """Give *dst* the same pages as *src* in the range of *vma*. Returns 0, or -ENOMEM.

        Pages are shared: in a private writable area both lose the right to write, so that the first write
        copies. In the child entries are old, and clean where the area is shared. kernel: mm/memory.c:copy_page_range
        """
        kernel, flags, count, ev = self.kernel, self.flags, self.count, self.on_event
        max_mapnr = kernel.max_mapnr
        shared = vma.vm_flags & VM_SHARED
        cow = vma.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
        clear = _PAGE_ACCESSED | _PAGE_DIRTY if shared else _PAGE_ACCESSED
        for address, _, src_table, first, nr in self.pmd_spans(src, vma.vm_start, vma.vm_end):
            found = kernel.pgtable.pte_alloc(dst, address)
            if found is None:
                return -ENOMEM
            dst_table = found[0]
            for slot in range(first, first + nr):
                pte = src_table[slot]
                if not pte:
                    continue
                if pte & _MAPPED:
                    page = pte >> PAGE_SHIFT
                    if page < max_mapnr and not flags[page] & RESERVED:
                        if cow and pte & _PAGE_RW:
                            pte &= ~_PAGE_RW
                            src_table[slot] = pte
                        pte &= ~clear
                        count[page] += 1
                        dst.rss += 1
                        if ev is not None:
                            ev(("copy_pte", address + (slot - first << PAGE_SHIFT), page, pte))
                else:
                    kernel.swapfile.swap_duplicate(pte & _M32)
                    if ev is not None:
                        ev(("copy_swap_pte", address + (slot - first << PAGE_SHIFT), pte))
                dst_table[slot] = pte
        return 0

    # -- unmapping ----------------------------------------------------------------------------

    def free_pte(self, pte: int) -> None:
        """A mapping is gone: carry DIRTY over to the page and drop the reference. kernel: mm/memory.c:__free_pte"""
        page = pte >> PAGE_SHIFT
        kernel = self.kernel
        if page >= kernel.max_mapnr or self.flags[page] & RESERVED:
            return
        if pte & _PAGE_DIRTY:
            kernel.filemap.set_page_dirty(page)
        kernel.swap_state.free_page_and_swap_cache(page)

    def zap_pte_range(self, table: array[int], first: int, nr: int, address: int) -> int:
        """Empty *nr* entries of a page table from slot *first* on; returns the pages that counted in rss.

        kernel: mm/memory.c:zap_pte_range, include/asm-generic/tlb.h:tlb_remove_page
        """
        kernel, flags, ev = self.kernel, self.flags, self.on_event
        max_mapnr = kernel.max_mapnr
        freed = 0
        for slot in range(first, first + nr):
            pte = table[slot]
            if not pte:
                continue
            if ev is not None:
                ev(("zap_pte", address + (slot - first << PAGE_SHIFT), pte))
            if pte & _MAPPED:
                page = pte >> PAGE_SHIFT
                if page < max_mapnr and not flags[page] & RESERVED:
                    freed += 1
                table[slot] = 0
                self.free_pte(pte)
            else:
                kernel.swapfile.free_swap_and_cache(pte & _M32)
                table[slot] = 0
        return freed

    def zap_page_range(self, mm: MmStruct, address: int, size: int) -> None:
        """Unmap the pages and forget the swap slots of [address, address + size).

        Raises KernelBug for an empty range. kernel: mm/memory.c:zap_page_range, zap_pmd_range
        """
        end = address + size & _M32
        if address >= end:
            raise KernelBug("zap_page_range", f"the range {address:#x}-{end:#x} is empty", "range")
        mmu = self.kernel.mmu
        mmu.flush_cache_range(mm, address, end)
        freed = 0
        for start, _, table, first, nr in self.pmd_spans(mm, address, end):
            freed += self.zap_pte_range(table, first, nr, start)
        mmu.flush_tlb_range(mm, address, end)
        mm.rss = mm.rss - freed if mm.rss > freed else 0
        if self.on_event is not None:
            self.on_event(("zap", address, end, freed))

    # -- filling with given frames ------------------------------------------------------------

    def forget_pte(self, pte: int) -> None:
        """An entry that was overwritten must have been empty. kernel: mm/memory.c:forget_pte"""
        if pte:
            self.kernel.printk(None, "forget_pte: old mapping existed!")
            raise KernelBug("forget_pte", f"the entry {pte:#x} was in use", "forget_pte")

    def _fill(self, address: int, size: int, who: str, store: Callable[[array[int], int, int], None]) -> int:
        """Call *store* (table, slot, address) for each page of a range of the current address space, making tables. 0 or -ENOMEM."""
        kernel = self.kernel
        mm = kernel.current.mm
        end = address + size & _M32
        if mm is None:
            raise KernelBug(who, f"{kernel.current} has no address space", "mm")
        if address >= end:
            raise KernelBug(who, f"the range {address:#x}-{end:#x} is empty", "range")
        kernel.mmu.flush_cache_range(mm, address, end)
        start, error = address, 0
        pmd_size = kernel.pgtable.PMD_SIZE
        while address < end:
            found = kernel.pgtable.pte_alloc(mm, address)
            if found is None:
                error = -ENOMEM
                break
            table, slot = found
            stop = min((address & -pmd_size) + pmd_size, end)
            while address < stop:
                store(table, slot, address)
                address += PAGE_SIZE
                slot += 1
        kernel.mmu.flush_tlb_range(mm, start, end)
        return error

    def zeromap_page_range(self, address: int, size: int, prot: int) -> int:
        """Map the zero page, read-only, all over [address, address + size). Returns 0 or -ENOMEM.

        Raises KernelBug where something was mapped. kernel: mm/memory.c:zeromap_page_range, zeromap_pmd_range, zeromap_pte_range
        """
        zero_pte = (self.kernel.empty_zero_page << PAGE_SHIFT | prot) & ~_PAGE_RW

        def store(table: array[int], slot: int, at: int) -> None:
            old, table[slot] = table[slot], zero_pte
            self.forget_pte(old)

        return self._fill(address, size, "zeromap_page_range", store)

    def remap_page_range(self, address: int, phys_addr: int, size: int, prot: int) -> int:
        """Map physical memory from *phys_addr* on at [address, address + size). Returns 0 or -ENOMEM.

        Only reserved frames, and addresses beyond RAM (devices): ordinary pages are left out, silently.
        kernel: mm/memory.c:remap_page_range, remap_pmd_range, remap_pte_range
        """
        kernel, flags = self.kernel, self.flags
        shift = phys_addr - address

        def store(table: array[int], slot: int, at: int) -> None:
            old, table[slot] = table[slot], 0
            physical = at + shift & _M32
            page = physical >> PAGE_SHIFT
            if page >= kernel.max_mapnr or flags[page] & RESERVED:
                table[slot] = physical & ~(PAGE_SIZE - 1) | prot
            self.forget_pte(old)

        return self._fill(address, size, "remap_page_range", store)

    # -- truncating a file --------------------------------------------------------------------

    def vmtruncate_list(self, areas: list[VmArea], pgoff: int) -> None:
        """Unmap what areas of a file map from page *pgoff* of it on. kernel: mm/memory.c:vmtruncate_list"""
        for vma in list(areas):
            assert vma.vm_mm is not None
            start, size = vma.vm_start, vma.vm_end - vma.vm_start
            if vma.vm_pgoff >= pgoff:
                self.zap_page_range(vma.vm_mm, start, size)
                continue
            pages, diff = size >> PAGE_SHIFT, pgoff - vma.vm_pgoff
            if diff < pages:
                self.zap_page_range(vma.vm_mm, start + (diff << PAGE_SHIFT), pages - diff << PAGE_SHIFT)

    def vmtruncate(self, inode: Inode, offset: int) -> int:
        """Set a file's size to *offset* bytes, unmapping and dropping the pages beyond. Returns 0 or -EFBIG.

        kernel: mm/memory.c:vmtruncate
        """
        kernel = self.kernel
        if self.on_event is not None:
            self.on_event(("vmtruncate", inode.i_ino, inode.i_size, offset))
        if inode.i_size < offset:
            limit = kernel.current.rlim[RLIMIT_FSIZE]
            if limit != RLIM_INFINITY and offset > limit:
                kernel.sched.send_sig(SIGXFSZ, kernel.current)
                return -EFBIG
            if inode.i_sb is not None and offset > inode.i_sb.s_maxbytes:
                return -EFBIG
            inode.i_size = offset
        else:
            inode.i_size = offset
            mapping = inode.i_mapping
            if mapping.i_mmap or mapping.i_mmap_shared:
                pgoff = offset + PAGE_SIZE - 1 >> PAGE_SHIFT & _M32
                self.vmtruncate_list(mapping.i_mmap, pgoff)
                self.vmtruncate_list(mapping.i_mmap_shared, pgoff)
            kernel.filemap.truncate_inode_pages(mapping, offset)
        if inode.i_op is not None and inode.i_op.truncate is not None:
            inode.i_op.truncate(inode)
        return 0
