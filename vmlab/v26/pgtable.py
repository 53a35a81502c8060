"""Page tables of 2.6: tables come straight from the buddy allocator, directories from a slab cache.

Four levels of names (pgd, pud, pmd, pte), of which i386 has two (three with PAE): the others are folded
into the one above, and cost nothing. kernel: arch/i386/mm/pgtable.c, include/asm-i386/pgalloc.h, mm/memory.c
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, cast

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from ..mm.pgtable import _PAGE_TABLE, PageTables
from ..mm.vm import Pgd
from .gfp import GFP_KERNEL, HIGHMEM, REPEAT, ZERO
from .vm import MmStruct26

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct
    from .page_alloc import PageAllocator26

_FIRST_PGD = 264  # frame of the kernel image where the directories of a machine without slabs in RAM lie


class PageTables26(PageTables):
    """Allocating and freeing page tables as 2.6 does."""

    state_names = ("outside_pgds", "swapper_pg_dir")
    pte_gfp = GFP_KERNEL | REPEAT | ZERO

    def __init__(self) -> None:
        super().__init__()
        self.swapper_pg_dir = MmStruct26()
        self.outside_pgds: list[int] = []  # frames of the directories when slab objects are outside RAM

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state

    # -- page tables --------------------------------------------------------------------------

    def pte_alloc_one(self) -> int | None:
        """In 2.6 the allocator clears the page and retries by itself, because flags can say so; before that a list of cleared tables was
        kept.

        A new empty page table: its frame, or None. kernel: arch/i386/mm/pgtable.c:pte_alloc_one
        """
        kernel = self.kernel
        pfn = kernel.page_allocator.alloc_pages(self.pte_gfp, 0)
        if pfn is not None:
            self.table_at(pfn)
            kernel.mem.owner[pfn] = kernel.owner_id("page table")
        return pfn

    def pte_alloc(self, mm: MmStruct, address: int) -> tuple[array[int], int] | None:
        """In 2.6 called pte_alloc_map and counted, because page tables may take more memory than pages; before that from the quicklist.

        The page table and slot for *address*, made where there is none; None when memory is short. kernel: mm/memory.c:pte_alloc_map
        """
        found = self.pmd_lookup(mm, address)
        assert found is not None
        table, slot = found
        if not table[slot]:
            pfn = self.pte_alloc_one()
            if pfn is None:
                return None
            if table[slot]:  # somebody was faster while we slept
                self.pte_free_slow(pfn)
            else:
                mm.nr_ptes += 1  # type: ignore[attr-defined]
                self.page_state.nr_page_table_pages += 1
                table[slot] = pfn << PAGE_SHIFT | _PAGE_TABLE
                if self.on_event is not None:
                    self.on_event(("pte_table", address & -self.PMD_SIZE, pfn, False))
        return self.contents[table[slot] >> PAGE_SHIFT], address >> PAGE_SHIFT & self.pte_mask

    def pte_alloc_kernel(self, address: int) -> tuple[array[int], int] | None:
        """In 2.6 a function of its own, because the kernel's tables are not counted and never in high memory; before that the same.

        kernel: mm/memory.c:pte_alloc_kernel, arch/i386/mm/pgtable.c:pte_alloc_one_kernel
        """
        found = self.pmd_lookup(self.init_mm, address)
        assert found is not None
        table, slot = found
        if not table[slot]:
            pfn = self.kernel.page_allocator.alloc_pages(GFP_KERNEL | REPEAT | ZERO, 0)
            if pfn is None:
                return None
            if table[slot]:
                self.kernel.put_page(pfn)
            else:
                self.table_at(pfn)
                self.kernel.mem.owner[pfn] = self.kernel.owner_id("page table")
                table[slot] = pfn << PAGE_SHIFT | _PAGE_TABLE
        return self.contents[table[slot] >> PAGE_SHIFT], address >> PAGE_SHIFT & self.pte_mask

    def clear_page_range(self, mm: MmStruct, start: int, end: int) -> bool:
        """In 2.6 any range of addresses whose areas are gone loses its tables, because sparse programs left many; before that whole
        directory entries, at the end only for an exit.

        Free the page tables that lie wholly inside [start, end). Returns whether any was freed.
        kernel: mm/memory.c:clear_page_range, clear_pgd_range, clear_pud_range, clear_pmd_range
        """
        freed = False
        size = self.PMD_SIZE
        directory = mm.pgd.table
        for number in range((start + size - 1) // size, end // size):
            address = number * size
            table, slot = (self.table_at(directory[address >> 30] >> PAGE_SHIFT), number & 511) if self.pae else (directory, number)
            if table[slot]:
                pfn = table[slot] >> PAGE_SHIFT
                table[slot] = 0
                self.page_state.nr_page_table_pages -= 1
                mm.nr_ptes -= 1  # type: ignore[attr-defined]
                if self.on_event is not None:
                    self.on_event(("pte_table_free", address, pfn))
                self.pte_free_slow(pfn)
                freed = True
        return freed

    def check_pgt_cache(self) -> int:
        """In 2.6 there is no quicklist to keep small, because the per-CPU page lists do its work; before that it was trimmed here.

        Returns 0. kernel: include/asm-i386/pgtable.h:check_pgt_cache
        """
        return 0

    # -- page directories ---------------------------------------------------------------------

    def pgtable_cache_init(self) -> None:
        """In 2.6 directories come from slab caches with a constructor, because most of a directory is the same for all; before that from
        pages, or with PAE from a cache without one.

        kernel: arch/i386/mm/init.c:pgtable_cache_init
        """
        if self.pae:
            self.kernel.slab.keep_cache("pmd", PAGE_SIZE, 0)
        self.kernel.slab.keep_cache("pgd", 32 if self.pae else PAGE_SIZE, 0)

    @property
    def in_ram(self) -> bool:
        """Whether directories are real slab objects."""
        return self.kernel.config.kernel_objects == "ram"

    def _object(self, name: str) -> int:
        """An object of cache "pgd" or "pmd": its physical address, 0 without memory."""
        slab = self.kernel.slab
        if self.in_ram:
            address = slab.kmem_cache_alloc(slab.state.named[name], GFP_KERNEL)
            return address - PAGE_OFFSET if address else 0
        pfn = next(p for p in range(_FIRST_PGD, self.kernel.mem.frames) if p not in self.outside_pgds)
        self.outside_pgds.append(pfn)
        return pfn << PAGE_SHIFT

    def _free_object(self, name: str, pa: int) -> None:
        slab = self.kernel.slab
        if self.in_ram:
            slab.kmem_cache_free(slab.state.named[name], pa + PAGE_OFFSET)
        else:
            self.outside_pgds.remove(pa >> PAGE_SHIFT)

    def pgd_alloc(self, mm: MmStruct) -> bool:
        """In 2.6 from the slab, because that keeps directories whose kernel part is filled in; before that a fresh page was filled.

        Returns False when memory is short. kernel: arch/i386/mm/pgtable.c:pgd_alloc, pgd_ctor
        """
        if self.pae:
            return self._pgd_alloc_pae26(mm)
        pa = self._object("pgd")
        if not pa:
            return False
        pfn = pa >> PAGE_SHIFT
        table = self.kernel.ram.words(pfn)
        user = self.USER_PTRS_PER_PGD
        table[:user] = array("I", bytes(4 * user))
        table[user:] = self.init_mm.pgd.table[user:]
        mm.pgd = Pgd(pa, table)
        if self.on_event is not None:
            self.on_event(("pgd_alloc", pfn))
        return True

    def _pgd_alloc_pae26(self, mm: MmStruct) -> bool:
        pa = self._object("pgd")
        if not pa:
            return False
        pgd = Pgd(pa, None)
        self.relink(pgd)
        for i in range(self.USER_PTRS_PER_PGD):
            pmd = self._object("pmd")
            if not pmd:
                for j in range(i - 1, -1, -1):
                    self._free_object("pmd", pgd.table[j] - 1)
                self._free_object("pgd", pa)
                return False
            pfn = pmd >> PAGE_SHIFT
            self.kernel.ram.clear_page(pfn)
            self.table_at(pfn)
            pgd.table[i] = 1 + pmd
            if self.on_event is not None:
                self.on_event(("pgd_alloc", pfn))
        for i in range(self.USER_PTRS_PER_PGD, self.PTRS_PER_PGD):
            pgd.table[i] = self.init_mm.pgd.table[i]
        mm.pgd = pgd
        return True

    def pgd_free(self, mm: MmStruct) -> None:
        """In 2.6 back to the slab; before that to the page allocator. kernel: arch/i386/mm/pgtable.c:pgd_free"""
        pgd = mm.pgd
        self.kernel.mmu.leave_mm(mm)
        if self.pae:
            for i in range(self.USER_PTRS_PER_PGD):
                pmd = pgd.table[i] - 1
                self._plain(pmd >> PAGE_SHIFT)
                self._free_object("pmd", pmd)
        if self.on_event is not None:
            self.on_event(("pgd_free", pgd.pa >> PAGE_SHIFT))
        self._free_object("pgd", pgd.pa)


class HighPageTables(PageTables26):
    """In 2.6 page tables may lie in high memory (CONFIG_HIGHPTE), because a thousand processes' tables fill low memory; before that they
    could not.

    The kernel then maps a table with kmap_atomic for each look (pte_offset_map); this machine reads frames
    anywhere, so only where tables lie differs. Choose it with ``parts={"pgtable": HighPageTables}``.
    kernel: include/asm-i386/pgtable.h:pte_offset_map, arch/i386/mm/pgtable.c:pte_alloc_one
    """

    pte_gfp = GFP_KERNEL | HIGHMEM | REPEAT | ZERO
