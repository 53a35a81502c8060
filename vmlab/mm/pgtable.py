"""Page tables: the entries' bits, the tables' allocation, and the kernel's own tables.

    without PAE   31        22 21        12 11         0     with PAE   31 30 29     21 20     12 11     0
                 +------------+------------+------------+              +-----+---------+---------+--------+
                 | directory  |   table    |   offset   |              | pgd |   pmd   |  table  | offset |
                 +------------+------------+------------+              +-----+---------+---------+--------+

An entry: frame << 12 | bits. Without PAE the middle level is folded into the directory: its
one-entry "pmd" is the directory's entry. Tables live in frames of the machine.

kernel: include/asm-i386/pgtable.h, pgalloc.h, mm/memory.c
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT
from .gfp import GFP_KERNEL
from .kernel import Part
from .vm import MmStruct, Pgd

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from .kernel import Kernel

_PAGE_PRESENT = 0x001
_PAGE_RW = 0x002
_PAGE_USER = 0x004
_PAGE_PWT = 0x008
_PAGE_PCD = 0x010
_PAGE_ACCESSED = 0x020
_PAGE_DIRTY = 0x040
_PAGE_PSE = 0x080  # a 4 MiB (2 MiB with PAE) page, in a directory entry
_PAGE_PROTNONE = 0x080  # mapped, but with no rights: only where PRESENT is clear
_PAGE_GLOBAL = 0x100
_PAGE_TABLE = _PAGE_PRESENT | _PAGE_RW | _PAGE_USER | _PAGE_ACCESSED | _PAGE_DIRTY
_KERNPG_TABLE = _PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY
PAGE_KERNEL = _PAGE_PRESENT | _PAGE_RW | _PAGE_DIRTY | _PAGE_ACCESSED | _PAGE_GLOBAL
PAGE_FLAGS = 0xFFF  # the bits of an entry below the frame number

PAGE_BIT_NAMES = {
    _PAGE_PRESENT: "PRESENT",
    _PAGE_RW: "RW",
    _PAGE_USER: "USER",
    _PAGE_PWT: "PWT",
    _PAGE_PCD: "PCD",
    _PAGE_ACCESSED: "ACCESSED",
    _PAGE_DIRTY: "DIRTY",
    _PAGE_PSE: "PSE",
    _PAGE_GLOBAL: "GLOBAL",
}

SWAPPER_PG_DIR = 0x101  # a frame inside the kernel image

pgt_cache_water = (25, 50)  # pages kept on the quicklist: trimmed to the first when above the second


def pa(address: int) -> int:
    """The physical address (bytes) behind an address of the direct map. 2.6: the same. kernel: include/asm-i386/page.h:__pa"""
    return address - PAGE_OFFSET


def va(physical: int) -> int:
    """Where the direct map has physical address *physical* (bytes of low memory). 2.6: the same. kernel: include/asm-i386/page.h:__va"""
    return physical + PAGE_OFFSET


def pte_present(pte: int) -> bool:
    """Whether a page is mapped, with rights or without. kernel: include/asm-i386/pgtable.h:pte_present"""
    return pte & (_PAGE_PRESENT | _PAGE_PROTNONE) != 0


def pte_none(pte: int) -> bool:
    """Whether the entry is empty. kernel: include/asm-i386/pgtable-2level.h:pte_none"""
    return pte == 0


def pte_page(pte: int) -> int:
    """The frame of a mapped page. kernel: include/asm-i386/pgtable-2level.h:pte_page"""
    return pte >> PAGE_SHIFT


def pte_read(pte: int) -> bool:
    """Whether user code may read the page. kernel: include/asm-i386/pgtable.h:pte_read, pte_exec"""
    return pte & _PAGE_USER != 0


def pte_write(pte: int) -> bool:
    """Whether the page may be written. kernel: include/asm-i386/pgtable.h:pte_write"""
    return pte & _PAGE_RW != 0


def pte_dirty(pte: int) -> bool:
    """Whether the hardware saw a write. kernel: include/asm-i386/pgtable.h:pte_dirty"""
    return pte & _PAGE_DIRTY != 0


def pte_young(pte: int) -> bool:
    """Whether the hardware saw an access. kernel: include/asm-i386/pgtable.h:pte_young"""
    return pte & _PAGE_ACCESSED != 0


def mk_pte(pfn: int, pgprot: int) -> int:
    """The entry that maps frame *pfn* with protection bits *pgprot*. kernel: include/asm-i386/pgtable.h:mk_pte, mk_pte_phys"""
    return pfn << PAGE_SHIFT | pgprot


def pte_wrprotect(pte: int) -> int:
    """Without the right to write. kernel: include/asm-i386/pgtable.h:pte_wrprotect"""
    return pte & ~_PAGE_RW


def pte_mkwrite(pte: int) -> int:
    """With the right to write. kernel: include/asm-i386/pgtable.h:pte_mkwrite"""
    return pte | _PAGE_RW


def pte_mkclean(pte: int) -> int:
    """With DIRTY clear. kernel: include/asm-i386/pgtable.h:pte_mkclean"""
    return pte & ~_PAGE_DIRTY


def pte_mkdirty(pte: int) -> int:
    """With DIRTY set. kernel: include/asm-i386/pgtable.h:pte_mkdirty"""
    return pte | _PAGE_DIRTY


def pte_mkold(pte: int) -> int:
    """With ACCESSED clear. kernel: include/asm-i386/pgtable.h:pte_mkold"""
    return pte & ~_PAGE_ACCESSED


def pte_mkyoung(pte: int) -> int:
    """With ACCESSED set. kernel: include/asm-i386/pgtable.h:pte_mkyoung"""
    return pte | _PAGE_ACCESSED


def pte_modify(pte: int, pgprot: int) -> int:
    """The same page and its ACCESSED and DIRTY, with other rights. kernel: include/asm-i386/pgtable.h:pte_modify"""
    return pte & (~PAGE_FLAGS | _PAGE_ACCESSED | _PAGE_DIRTY) | pgprot


def entry_names(entry: int) -> list[str]:
    """Names of the bits set in an entry, lowest first; bit 7 without PRESENT is PROTNONE."""
    names = [name for bit, name in PAGE_BIT_NAMES.items() if entry & bit]
    return ["PROTNONE" if name == "PSE" and not entry & _PAGE_PRESENT else name for name in names]


class PageTables(Part):
    """Allocates page directories and tables, walks them, and keeps freed tables on a quicklist."""

    state_names = ("pte_quicklist", "swapper_pg_dir")

    def __init__(self) -> None:
        super().__init__()
        self.pte_quicklist: list[int] = []  # frames of empty page tables, the last freed at the end
        self.swapper_pg_dir = MmStruct()  # init_mm: only its pgd matters

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.contents = kernel.ram.contents
        self.pae = kernel.config.pae
        self.PMD_SHIFT = 21 if self.pae else 22
        self.PMD_SIZE = 1 << self.PMD_SHIFT  # bytes mapped by one page table
        self.PGDIR_SHIFT = 30 if self.pae else 22
        self.PTRS_PER_PTE = 512 if self.pae else 1024
        self.PTRS_PER_PMD = 512 if self.pae else 1
        self.PTRS_PER_PGD = 4 if self.pae else 1024
        self.USER_PTRS_PER_PGD = PAGE_OFFSET >> self.PGDIR_SHIFT
        self.pte_mask = self.PTRS_PER_PTE - 1

    @property
    def init_mm(self) -> MmStruct:
        """The kernel's own address space. kernel: arch/i386/kernel/init_task.c:init_mm"""
        return self.swapper_pg_dir

    @property
    def pgtable_cache_size(self) -> int:
        """Tables on the quicklist. kernel: include/asm-i386/pgalloc.h:pgtable_cache_size"""
        return len(self.pte_quicklist)

    # -- walking ------------------------------------------------------------------------------

    def table_at(self, pfn: int) -> array[int]:
        """The entries of the table in frame *pfn*."""
        return self.kernel.ram.quads(pfn) if self.pae else self.kernel.ram.words(pfn)

    def pte_table(self, pmd: int) -> array[int]:
        """The page table that a pmd entry points to. 2.6: pte_offset_map(), which may have to kmap it.

        kernel: include/asm-i386/pgtable.h:pte_offset
        """
        return self.contents[pmd >> PAGE_SHIFT]

    def pmd_lookup(self, mm: MmStruct, address: int) -> tuple[MutableSequence[int], int] | None:
        """The table and slot of the pmd entry for *address* (bytes). kernel: include/asm-i386/pgtable.h:pgd_offset, pmd_offset

        Without PAE that is the directory and its slot. None never happens on i386: pgd_none() is always false.
        """
        if self.pae:
            return self.table_at(mm.pgd.table[address >> 30] >> PAGE_SHIFT), address >> 21 & 511
        return mm.pgd.table, address >> 22

    def pmd_alloc(self, mm: MmStruct, address: int) -> tuple[MutableSequence[int], int] | None:
        """As :meth:`pmd_lookup`: i386 never has a pmd to allocate. 2.6.11: below a pud_alloc(). kernel: include/linux/mm.h:pmd_alloc"""
        return self.pmd_lookup(mm, address)

    def pte_lookup(self, mm: MmStruct, address: int) -> tuple[array[int], int] | None:
        """The page table and slot for *address* (bytes); None when there is no page table. kernel: include/asm-i386/pgtable.h:pte_offset"""
        if self.pae:
            pmd_table = self.contents.get(mm.pgd.table[address >> 30] >> PAGE_SHIFT)
            pmd = 0 if pmd_table is None else pmd_table[address >> 21 & 511]
            return (self.contents[pmd >> PAGE_SHIFT], address >> PAGE_SHIFT & 511) if pmd else None
        pmd = mm.pgd.table[address >> 22]
        return (self.contents[pmd >> PAGE_SHIFT], address >> PAGE_SHIFT & 1023) if pmd else None

    # -- allocating ---------------------------------------------------------------------------

    def pte_alloc(self, mm: MmStruct, address: int) -> tuple[array[int], int] | None:
        """As :meth:`pte_lookup`, making the page table where there is none; None when memory is short.

        A table comes from the quicklist or is a new zeroed page; if another one was put there while the
        allocation slept, the new one goes to the quicklist. 2.6: pte_alloc_map() and pte_alloc_kernel(). kernel: mm/memory.c:pte_alloc
        """
        found = self.pmd_lookup(mm, address)
        assert found is not None
        table, slot = found
        if not table[slot]:
            pfn = self.pte_alloc_one_fast()
            quick = pfn is not None
            if pfn is None:
                pfn = self.pte_alloc_one()
                if pfn is None:
                    return None
                if table[slot]:
                    self.pte_free_fast(pfn)
                    return self.contents[table[slot] >> PAGE_SHIFT], address >> PAGE_SHIFT & self.pte_mask
            table[slot] = pfn << PAGE_SHIFT | _PAGE_TABLE
            if self.on_event is not None:
                self.on_event(("pte_table", address & -self.PMD_SIZE, pfn, quick))
        return self.contents[table[slot] >> PAGE_SHIFT], address >> PAGE_SHIFT & self.pte_mask

    def pte_alloc_kernel(self, address: int) -> tuple[array[int], int] | None:
        """:meth:`pte_alloc` in the kernel's own tables."""
        return self.pte_alloc(self.init_mm, address)

    def pte_alloc_one(self) -> int | None:
        """A new empty page table: its frame, or None. 2.6: also from high memory. kernel: include/asm-i386/pgalloc.h:pte_alloc_one"""
        kernel = self.kernel
        pfn = kernel.alloc_page(GFP_KERNEL)
        if pfn is not None:
            kernel.ram.clear_page(pfn)
            self.table_at(pfn)
            kernel.mem.owner[pfn] = kernel.owner_id("page table")
        return pfn

    def pte_alloc_one_fast(self) -> int | None:
        """An empty page table from the quicklist: its frame, or None. kernel: include/asm-i386/pgalloc.h:pte_alloc_one_fast"""
        if not self.pte_quicklist:
            return None
        pfn = self.pte_quicklist.pop()
        self.table_at(pfn)[0] = 0  # it held the link of the quicklist
        return pfn

    def pte_free_fast(self, pfn: int) -> None:
        """Put an empty page table on the quicklist; its first word links to the next.

        kernel: include/asm-i386/pgalloc.h:pte_free_fast, pte_free
        """
        quick = self.pte_quicklist
        self.table_at(pfn)[0] = PAGE_OFFSET + (quick[-1] << PAGE_SHIFT) if quick else 0
        quick.append(pfn)

    def pte_free_slow(self, pfn: int) -> None:
        """Give a page table back to the buddy allocator. kernel: include/asm-i386/pgalloc.h:pte_free_slow"""
        self._plain(pfn)
        self.kernel.mem.owner[pfn] = 0
        self.kernel.put_page(pfn)

    def _plain(self, pfn: int) -> None:
        """A frame that stops being a page table is plain words again."""
        if self.pae and pfn in self.contents:
            self.kernel.ram.words(pfn)

    def pgd_alloc(self, mm: MmStruct) -> bool:
        """Give *mm* a page directory: user part empty, kernel part copied from swapper_pg_dir.

        With PAE it is a 32-byte object of the pae_pgd cache with three middle directories of its own.
        2.6: an object of a slab cache in both cases, set up by its constructor.
        Returns False when memory is short. kernel: include/asm-i386/pgalloc.h:pgd_alloc, get_pgd_fast, get_pgd_slow
        """
        kernel = self.kernel
        if self.pae:
            return self._pgd_alloc_pae(mm)
        pfn = kernel.alloc_page(GFP_KERNEL)
        if pfn is None:
            return False
        table = kernel.ram.words(pfn)
        user = self.USER_PTRS_PER_PGD
        table[:user] = array("I", bytes(4 * user))
        table[user:] = self.init_mm.pgd.table[user:]
        mm.pgd = Pgd(pfn << PAGE_SHIFT, table)
        kernel.mem.owner[pfn] = kernel.owner_id("page directory")
        if self.on_event is not None:
            self.on_event(("pgd_alloc", pfn))
        return True

    def _pgd_alloc_pae(self, mm: MmStruct) -> bool:
        kernel = self.kernel
        cachep = kernel.slab.pae_pgd_cachep
        address = kernel.slab.kmem_cache_alloc(cachep, GFP_KERNEL)
        if not address:
            return False
        pgd = Pgd(address - PAGE_OFFSET, None)
        self.relink(pgd)
        for i in range(self.USER_PTRS_PER_PGD):
            pfn = kernel.alloc_page(GFP_KERNEL)
            if pfn is None:
                for j in range(i - 1, -1, -1):
                    self.pte_free_slow(pgd.table[j] - 1 >> PAGE_SHIFT)
                kernel.slab.kmem_cache_free(cachep, address)
                return False
            kernel.ram.clear_page(pfn)
            self.table_at(pfn)
            kernel.mem.owner[pfn] = kernel.owner_id("page directory")
            pgd.table[i] = 1 + (pfn << PAGE_SHIFT)
            if self.on_event is not None:
                self.on_event(("pgd_alloc", pfn))
        for i in range(self.USER_PTRS_PER_PGD, self.PTRS_PER_PGD):
            pgd.table[i] = self.init_mm.pgd.table[i]
        mm.pgd = pgd
        return True

    def pgd_free(self, mm: MmStruct) -> None:
        """Free *mm*'s page directory. kernel: include/asm-i386/pgalloc.h:pgd_free, free_pgd_slow"""
        pgd = mm.pgd
        self.kernel.mmu.leave_mm(mm)
        if self.pae:
            for i in range(self.USER_PTRS_PER_PGD):
                pfn = pgd.table[i] - 1 >> PAGE_SHIFT
                if self.on_event is not None:
                    self.on_event(("pgd_free", pfn))
                self.pte_free_slow(pfn)
            self.kernel.slab.kmem_cache_free(self.kernel.slab.pae_pgd_cachep, PAGE_OFFSET + pgd.pa)
            return
        if self.on_event is not None:
            self.on_event(("pgd_free", pgd.pa >> PAGE_SHIFT))
        self.kernel.mem.owner[pgd.pa >> PAGE_SHIFT] = 0
        self.kernel.put_page(pgd.pa >> PAGE_SHIFT)

    def relink(self, pgd: Pgd) -> None:
        """Find the entries of a directory again in the frame that holds them."""
        if self.pae:
            words = memoryview(self.kernel.ram.words(pgd.pa >> PAGE_SHIFT)).cast("B")
            offset = pgd.pa & 0xFFF
            pgd.table = words[offset : offset + 32].cast("Q")
        else:
            pgd.table = self.kernel.ram.words(pgd.pa >> PAGE_SHIFT)

    # -- freeing ------------------------------------------------------------------------------

    def clear_page_tables(self, mm: MmStruct, first: int, nr: int) -> None:
        """Free the page tables under *nr* directory entries from *first* on; pages were unmapped before.

        kernel: mm/memory.c:clear_page_tables, free_one_pgd, free_one_pmd
        """
        if self.pae:
            for i in range(first, first + nr):
                pmds = self.table_at(mm.pgd.table[i] >> PAGE_SHIFT)
                if any(pmds):
                    for j in range(512):
                        if pmds[j]:
                            self._free_one_pmd(pmds, j, i << 30 | j << 21)
        else:
            table = mm.pgd.table
            for i in range(first, first + nr):
                if table[i]:
                    self._free_one_pmd(table, i, i << 22)
        self.check_pgt_cache()

    def _free_one_pmd(self, table: MutableSequence[int], slot: int, address: int) -> None:
        pfn = table[slot] >> PAGE_SHIFT
        table[slot] = 0
        if self.on_event is not None:
            self.on_event(("pte_table_free", address, pfn))
        self.pte_free_fast(pfn)

    def check_pgt_cache(self) -> int:
        """Keep the quicklist within its watermarks; returns the tables freed. 2.6 has no quicklists.

        kernel: mm/memory.c:check_pgt_cache, do_check_pgt_cache
        """
        low, high = pgt_cache_water
        freed = 0
        if len(self.pte_quicklist) > high:
            while True:
                pfn = self.pte_alloc_one_fast()
                if pfn is not None:
                    self.pte_free_slow(pfn)
                    freed += 1
                if len(self.pte_quicklist) <= low:
                    break
            if self.on_event is not None:
                self.on_event(("pgt_cache", freed, len(self.pte_quicklist)))
        return freed

    def pgtable_cache_init(self) -> None:
        """With PAE, make the cache of page directories. kernel: arch/i386/mm/init.c:pgtable_cache_init"""
        if self.pae:
            _ = self.kernel.slab.pae_pgd_cachep  # made when first asked for
