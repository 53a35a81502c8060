"""Nonlinear mappings: pages of a file in any order in one area.

``remap_file_pages`` rearranges page table entries instead of making areas. An entry that is not present then
says itself which page of the file belongs there (PTE_FILE). kernel: mm/fremap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EINVAL, ENOMEM
from ..mm.kernel import Part
from ..mm.mmap_areas import PAGE_MASK, U32
from ..mm.page_flags import RESERVED
from ..mm.pgtable import _PAGE_DIRTY
from ..mm.vm import VM_RESERVED, VM_SHARED
from .prio_tree import vma_prio_tree_remove
from .swapops import pgoff_to_pte, pte_file, pte_to_swp_entry
from .vm import MAP_NONBLOCK, VM_NONLINEAR, VmArea26

if TYPE_CHECKING:
    from array import array

    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct
    from .mmap import Mmap26

_MAPPED = 0x81  # _PAGE_PRESENT | _PAGE_PROTNONE
PTE_FILE_MAX_BITS = 29  # of a page number in an entry; with PAE 32


class Fremap(Part):
    """In 2.6 new, because databases map windows of huge files: one area whose pages are arranged by entries."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def zap_pte(self, mm: MmStruct, vma: VmArea26, addr: int, table: array[int], slot: int) -> None:
        """In 2.6 new: let go of whatever an entry of the area holds. kernel: mm/fremap.c:zap_pte"""
        kernel = self.kernel
        pte = table[slot]
        if not pte:
            return
        table[slot] = 0
        if not pte & _MAPPED:
            if not pte_file(pte):
                kernel.swapfile.free_swap_and_cache(pte_to_swp_entry(pte))
            return
        kernel.mmu.flush_tlb_page(vma, addr)
        pfn = pte >> 12
        if pfn < kernel.max_mapnr and not kernel.mem.flags[pfn] & RESERVED:
            if pte & _PAGE_DIRTY:
                kernel.filemap.set_page_dirty(pfn)
            kernel.rmap.page_remove_rmap(pfn, mm, addr)  # type: ignore[attr-defined]
            kernel.put_page(pfn)
            mm.rss -= 1

    def install_page(self, mm: MmStruct, vma: VmArea26, addr: int, pfn: int, prot: int) -> int:
        """In 2.6 new: map page *pfn* of the area's file at *addr*, in place of what was there.

        Returns 0, -ENOMEM, or -EINVAL for a page that was truncated. kernel: mm/fremap.c:install_page
        """
        kernel = self.kernel
        found = kernel.pgtable.pte_alloc(mm, addr)
        if found is None:
            return -ENOMEM
        assert vma.vm_file is not None
        mapping = vma.vm_file.inode.i_mapping
        assert mapping.host is not None
        size = mapping.host.i_size + 0xFFF >> 12 & U32
        if not kernel.mem.mapping[pfn] or kernel.mem.index[pfn] >= size:
            return -EINVAL
        table, slot = found
        self.zap_pte(mm, vma, addr, table, slot)
        mm.rss += 1
        table[slot] = pfn << 12 | prot
        kernel.rmap.page_add_file_rmap(pfn, mm, addr)  # type: ignore[attr-defined]
        if self.on_event is not None:
            self.on_event(("install_page", mm.pid, addr, pfn, kernel.mem.index[pfn]))
        return 0

    def install_file_pte(self, mm: MmStruct, vma: VmArea26, addr: int, pgoff: int, prot: int) -> int:
        """In 2.6 new: note at *addr* that page *pgoff* of the file belongs there. Returns 0 or -ENOMEM.

        kernel: mm/fremap.c:install_file_pte
        """
        found = self.kernel.pgtable.pte_alloc(mm, addr)
        if found is None:
            return -ENOMEM
        table, slot = found
        self.zap_pte(mm, vma, addr, table, slot)
        table[slot] = pgoff_to_pte(pgoff)
        if self.on_event is not None:
            self.on_event(("install_file_pte", mm.pid, addr, pgoff))
        return 0

    def sys_remap_file_pages(self, start: int, size: int, prot: int, pgoff: int, flags: int) -> int:
        """In 2.6 new: let [start, start + size) of a shared mapping of the current task show the file from page *pgoff* on.

        Returns 0, -EINVAL (no such mapping, or *prot* is not 0), or what paging in returned.
        kernel: mm/fremap.c:sys_remap_file_pages
        """
        kernel = self.kernel
        start, size, pgoff = start & U32, size & U32, pgoff & U32
        end = start + size & U32
        if prot:
            return -EINVAL
        start &= PAGE_MASK
        size &= PAGE_MASK
        if start + size & U32 <= start:
            return -EINVAL
        if not kernel.pgtable.pae and pgoff + (size >> 12) & U32 >= 1 << PTE_FILE_MAX_BITS:
            return -EINVAL
        mmap = cast("Mmap26", kernel.mmap)
        vma = cast("VmArea26 | None", mmap.find_vma(kernel.current.mm, start))
        if vma is None or not vma.vm_flags & VM_SHARED or not vma.vm_start <= start < end <= vma.vm_end:
            return -EINVAL
        if vma.vm_private_data and not vma.vm_flags & (VM_NONLINEAR | VM_RESERVED):
            return -EINVAL
        populate = getattr(vma.vm_ops, "populate", None)
        if populate is None:
            return -EINVAL
        if pgoff != (start - vma.vm_start >> 12) + vma.vm_pgoff & U32 and not vma.vm_flags & VM_NONLINEAR:
            mapping = mmap.mapping_of(vma)
            vma.vm_flags |= VM_NONLINEAR
            vma_prio_tree_remove(vma, mapping.i_mmap)
            mmap.vma_nonlinear_insert(vma, mapping)
            if self.on_event is not None and vma.vm_mm is not None:
                self.on_event(("nonlinear", vma.vm_mm.pid, vma.vm_start, vma.vm_end))
        return int(populate(vma, start, size, vma.vm_page_prot, pgoff, flags & MAP_NONBLOCK))
