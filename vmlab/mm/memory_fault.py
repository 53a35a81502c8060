"""A page that is not there, or may not be written: what the kernel puts in its place.

A fault on an address inside an area ends in one of these:

    entry empty      no nopage method   → do_anonymous_page   the zero page, or a frame of zeroes
                     a nopage method    → do_no_page          the file's page, or (private, written) a copy of it
    entry in swap                       → do_swap_page        read back from the slot
    read-only        written            → do_wp_page          keep it if nobody else has it, else copy

Pages are frame numbers, addresses user addresses in bytes. Each function returns MINOR (1, nothing
was read), MAJOR (2), SIGBUS (0) or OUT_OF_MEMORY (-1). kernel: mm/memory.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT
from .fs import NOPAGE_OOM, NOPAGE_SIGBUS
from .gfp import GFP_HIGHUSER
from .kernel import Part
from .page_flags import RESERVED, PG_locked
from .pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE, _PAGE_RW
from .vm import VM_SHARED

if TYPE_CHECKING:
    from array import array

    from .kernel import Kernel
    from .vm import MmStruct, VmArea

FAULT_SIGBUS, FAULT_MINOR, FAULT_MAJOR, FAULT_OOM = 0, 1, 2, -1
_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_LOCKED = 1 << PG_locked
_WRITTEN = _PAGE_RW | _PAGE_DIRTY
_PAGE_MASK = 0xFFFFF000
_M32 = 0xFFFFFFFF


class MemoryFault(Part):
    """Page faults below ``handle_mm_fault``."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count

    # -- small steps --------------------------------------------------------------------------

    def copy_cow_page(self, source: int, to: int, address: int) -> None:
        """Fill frame *to* with what *source* holds; the zero page is known without reading it. kernel: mm/memory.c:copy_cow_page"""
        if source == self.kernel.empty_zero_page:
            self.kernel.highmem.clear_user_highpage(to, address)
        else:
            self.kernel.highmem.copy_user_highpage(to, source, address)

    def establish_pte(self, vma: VmArea, address: int, table: array[int], slot: int, entry: int) -> None:
        """Replace an entry in use: store, flush its translation, tell the MMU. kernel: mm/memory.c:establish_pte"""
        table[slot] = entry
        if self.on_event is not None:
            self.on_event(("set_pte", address & _PAGE_MASK, entry))
        mmu = self.kernel.mmu
        mmu.flush_tlb_page(vma, address)
        mmu.update_mmu_cache(vma, address, entry)

    def break_cow(self, vma: VmArea, new_page: int, address: int, table: array[int], slot: int) -> None:
        """Map the copy, writable and dirty. kernel: mm/memory.c:break_cow"""
        mmu = self.kernel.mmu
        mmu.flush_page_to_ram(new_page)
        mmu.flush_cache_page(vma, address)
        self.establish_pte(vma, address, table, slot, new_page << PAGE_SHIFT | vma.vm_page_prot | _WRITTEN)

    # -- copy on write ------------------------------------------------------------------------

    def do_wp_page(self, mm: MmStruct, vma: VmArea, address: int, table: array[int], slot: int, pte: int) -> int:
        """A write to a page mapped read-only: make it writable if nobody else has it, else map a copy.

        Returns FAULT_MINOR, or FAULT_OOM. kernel: mm/memory.c:do_wp_page
        """
        kernel, flags = self.kernel, self.flags
        old_page = pte >> PAGE_SHIFT
        if old_page >= kernel.max_mapnr:
            kernel.printk(None, f"do_wp_page: bogus page at address {address:08x} (page 0x{old_page:x})")
            return FAULT_OOM
        if not flags[old_page] & _LOCKED:
            flags[old_page] |= _LOCKED
            reuse = kernel.swapfile.can_share_swap_page(old_page)
            kernel.filemap.unlock_page(old_page)
            if reuse:
                kernel.mmu.flush_cache_page(vma, address)
                if self.on_event is not None:
                    self.on_event(("cow_reuse", address, old_page))
                self.establish_pte(vma, address, table, slot, pte | _WRITTEN | _PAGE_ACCESSED)
                return FAULT_MINOR
        kernel.get_page(old_page)
        new_page = kernel.alloc_page(GFP_HIGHUSER)
        if new_page is None:
            kernel.put_page(old_page)
            return FAULT_OOM
        self.copy_cow_page(old_page, new_page, address)
        # The allocation may have slept, and the page may have been swapped out meanwhile.
        if table[slot] == pte:
            if flags[old_page] & RESERVED:
                mm.rss += 1
            if self.on_event is not None:
                self.on_event(("cow_copy", address, old_page, new_page))
            self.break_cow(vma, new_page, address, table, slot)
            kernel.swap.lru_cache_add(new_page)
            new_page = old_page
        kernel.put_page(new_page)
        kernel.put_page(old_page)
        return FAULT_MINOR

    # -- swap ---------------------------------------------------------------------------------

    def swapin_readahead(self, entry: int) -> None:
        """Start reading the aligned block of slots around *entry* into the swap cache. kernel: mm/memory.c:swapin_readahead"""
        kernel = self.kernel
        num, offset = kernel.swapfile.valid_swaphandles(entry)
        kind = entry & 0x7E
        if self.on_event is not None:
            self.on_event(("swapin_readahead", entry, offset, num))
        for slot in range(offset, offset + num):
            page = kernel.swap_state.read_swap_cache_async(kind | slot << 8)
            if page is None:
                break
            kernel.put_page(page)

    def do_swap_page(self, mm: MmStruct, vma: VmArea, address: int, table: array[int], slot: int, orig_pte: int, write_access: int) -> int:
        """The page is in swap: find it in the swap cache or read it, and map it.

        A read maps it with the area's protection; a write maps it writable at once only if nobody else
        has it (else the write faults again, into do_wp_page). Returns FAULT_MINOR on a swap cache hit,
        FAULT_MAJOR when it was read, FAULT_OOM. kernel: mm/memory.c:do_swap_page
        """
        kernel = self.kernel
        swapfile = kernel.swapfile
        entry = orig_pte & _M32  # pte_to_swp_entry
        ret = FAULT_MINOR
        page = kernel.swap_state.lookup_swap_cache(entry)
        if page is None:
            self.swapin_readahead(entry)
            page = kernel.swap_state.read_swap_cache_async(entry)
            if page is None:
                return FAULT_OOM if table[slot] == orig_pte else FAULT_MINOR
            ret = FAULT_MAJOR
        kernel.filemap.mark_page_accessed(page)
        kernel.filemap.lock_page(page)
        if table[slot] != orig_pte:
            kernel.filemap.unlock_page(page)
            kernel.put_page(page)
            return FAULT_MINOR
        swapfile.swap_free(entry)
        if swapfile.vm_swap_full():
            swapfile.remove_exclusive_swap_page(page)
        mm.rss += 1
        pte = page << PAGE_SHIFT | vma.vm_page_prot
        if write_access and swapfile.can_share_swap_page(page):
            pte |= _WRITTEN
        kernel.filemap.unlock_page(page)
        kernel.mmu.flush_page_to_ram(page)
        kernel.mmu.flush_icache_page(vma, page)
        table[slot] = pte
        if self.on_event is not None:
            self.on_event(("swap_in", address, entry, page, ret))
            self.on_event(("set_pte", address & _PAGE_MASK, pte))
        kernel.mmu.update_mmu_cache(vma, address, pte)
        return ret

    # -- pages that never were ----------------------------------------------------------------

    def do_anonymous_page(self, mm: MmStruct, vma: VmArea, table: array[int], slot: int, write_access: int, address: int) -> int:
        """The first touch of anonymous memory: a read gets the shared zero page, a write a frame of its own.

        Returns FAULT_MINOR, or FAULT_OOM. kernel: mm/memory.c:do_anonymous_page
        """
        kernel = self.kernel
        if write_access:
            page = kernel.alloc_page(GFP_HIGHUSER)
            if page is None:
                return FAULT_OOM
            kernel.highmem.clear_user_highpage(page, address)
            if table[slot]:  # somebody else was faster while we slept
                kernel.put_page(page)
                return FAULT_MINOR
            mm.rss += 1
            kernel.mmu.flush_page_to_ram(page)
            entry = page << PAGE_SHIFT | vma.vm_page_prot | _WRITTEN
            kernel.swap.lru_cache_add(page)
            kernel.filemap.mark_page_accessed(page)
        else:
            page = kernel.empty_zero_page
            entry = (page << PAGE_SHIFT | vma.vm_page_prot) & ~_PAGE_RW
        table[slot] = entry
        if self.on_event is not None:
            self.on_event(("anonymous_page" if write_access else "zero_page", address, page))
            self.on_event(("set_pte", address & _PAGE_MASK, entry))
        kernel.mmu.update_mmu_cache(vma, address, entry)
        return FAULT_MINOR

    def do_no_page(self, mm: MmStruct, vma: VmArea, address: int, write_access: int, table: array[int], slot: int) -> int:
        """The entry is empty: ask the area's ``nopage`` for the page, or make an anonymous one.

        A write to a private area gets its copy at once. A page from ``nopage`` always counts as a major
        fault, also when it was in the page cache. Returns FAULT_MAJOR (or what do_anonymous_page returns),
        FAULT_SIGBUS when the file has no such page, FAULT_OOM. kernel: mm/memory.c:do_no_page
        """
        ops = vma.vm_ops
        if ops is None or ops.nopage is None:
            return self.do_anonymous_page(mm, vma, table, slot, write_access, address)
        kernel = self.kernel
        new_page: int = ops.nopage(vma, address & _PAGE_MASK, 0)
        if new_page == NOPAGE_SIGBUS:
            return FAULT_SIGBUS
        if new_page == NOPAGE_OOM:
            return FAULT_OOM
        if write_access and not vma.vm_flags & VM_SHARED:
            page = kernel.alloc_page(GFP_HIGHUSER)
            if page is None:
                kernel.put_page(new_page)
                return FAULT_OOM
            kernel.highmem.copy_user_highpage(page, new_page, address)
            if self.on_event is not None:
                self.on_event(("early_cow", address, new_page, page))
            kernel.put_page(new_page)
            kernel.swap.lru_cache_add(page)
            new_page = page
        if table[slot]:  # a thread was faster
            kernel.put_page(new_page)
            return FAULT_MINOR
        mm.rss += 1
        kernel.mmu.flush_page_to_ram(new_page)
        kernel.mmu.flush_icache_page(vma, new_page)
        entry = new_page << PAGE_SHIFT | vma.vm_page_prot
        if write_access:
            entry |= _WRITTEN
        table[slot] = entry
        if self.on_event is not None:
            self.on_event(("no_page", address, new_page))
            self.on_event(("set_pte", address & _PAGE_MASK, entry))
        kernel.mmu.update_mmu_cache(vma, address, entry)
        return FAULT_MAJOR

    # -- the way in ---------------------------------------------------------------------------

    def handle_pte_fault(self, mm: MmStruct, vma: VmArea, address: int, write_access: int, table: array[int], slot: int) -> int:
        """Decide by the entry what the fault needs. kernel: mm/memory.c:handle_pte_fault"""
        entry = table[slot]
        if not entry & _MAPPED:
            if not entry:
                return self.do_no_page(mm, vma, address, write_access, table, slot)
            return self.do_swap_page(mm, vma, address, table, slot, entry, write_access)
        if write_access:
            if not entry & _PAGE_RW:
                return self.do_wp_page(mm, vma, address, table, slot, entry)
            entry |= _PAGE_DIRTY
        self.establish_pte(vma, address, table, slot, entry | _PAGE_ACCESSED)
        return FAULT_MINOR

    def handle_mm_fault(self, mm: MmStruct, vma: VmArea, address: int, write_access: int) -> int:
        """Bring in the page of *vma* at *address*, for writing if *write_access*.

        Returns FAULT_MINOR, FAULT_MAJOR, FAULT_SIGBUS, or FAULT_OOM. kernel: mm/memory.c:handle_mm_fault
        """
        if self.on_event is not None:
            self.on_event(("mm_fault", address, write_access))
        found = self.kernel.pgtable.pte_alloc(mm, address)
        if found is None:
            return FAULT_OOM
        return self.handle_pte_fault(mm, vma, address, write_access, *found)
