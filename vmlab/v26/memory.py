"""Page faults and user pages of 2.6.

    entry empty      no nopage method   → do_anonymous_page   the zero page, or a frame of zeroes
                     a nopage method    → do_no_page          the file's page, or (private, written) a copy of it
    a page of a file (nonlinear area)   → do_file_page        that page
    entry in swap                       → do_swap_page        read back from the slot
    read-only        written            → do_wp_page          keep it if nobody else has it, else copy

A process's own pages begin on the active list, and lead back to their area (anon_vma). kernel: mm/memory.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EFAULT, ENOMEM
from ..mm.fs import NOPAGE_OOM, NOPAGE_SIGBUS
from ..mm.memory_fault import FAULT_MAJOR, FAULT_MINOR, FAULT_OOM, FAULT_SIGBUS
from ..mm.page_flags import RESERVED, PG_dirty, PG_locked, PG_referenced
from ..mm.pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE, _PAGE_PSE, _PAGE_RW
from ..mm.vm import VM_IO, VM_MAYREAD, VM_MAYWRITE, VM_READ, VM_SHARED, VM_WRITE
from .fs import ANON, AddressSpace26
from .gfp import GFP_HIGHUSER, ZERO
from .memory_range import MemoryRange26
from .swapops import pte_file, pte_to_pgoff, pte_to_swp_entry, swp_entry, swp_type
from .vm import VM_HUGETLB, MmStruct26

if TYPE_CHECKING:
    from array import array

    from ..mm.task import Task
    from ..mm.vm import MmStruct, VmArea

_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_LOCKED, _REFERENCED, _PG_DIRTY = 1 << PG_locked, 1 << PG_referenced, 1 << PG_dirty
_ZEROED = GFP_HIGHUSER | ZERO
_PAGE_MASK = 0xFFFFF000
_HUGE = _PAGE_PSE | _PAGE_PRESENT


class Memory26(MemoryRange26):
    """``mm/memory.c``."""

    # -- small steps --------------------------------------------------------------------------

    @staticmethod
    def maybe_mkwrite(pte: int, vma: VmArea) -> int:
        """In 2.6 an entry is writable only if the area is, because a debugger may write where the program may not; before that the fault
        made it writable anyhow.

        kernel: mm/memory.c:maybe_mkwrite
        """
        return pte | _PAGE_RW if vma.vm_flags & VM_WRITE else pte

    def update_mem_hiwater(self) -> None:
        """In 2.6 new, because accounting wants the peak: note the most pages the current process had.

        kernel: mm/memory.c:update_mem_hiwater
        """
        mm = cast("MmStruct26 | None", self.kernel.current.mm)
        if mm is not None:
            if mm.hiwater_rss < mm.rss:
                mm.hiwater_rss = mm.rss
            if mm.hiwater_vm < mm.total_vm:
                mm.hiwater_vm = mm.total_vm

    def break_cow(self, vma: VmArea, new_page: int, address: int, table: array[int], slot: int) -> None:
        """In 2.6 writable only if the area is, see :meth:`maybe_mkwrite`; before that always. kernel: mm/memory.c:break_cow"""
        self.establish_pte(vma, address, table, slot, self.maybe_mkwrite(new_page << PAGE_SHIFT | vma.vm_page_prot | _PAGE_DIRTY, vma))

    # -- copy on write ------------------------------------------------------------------------

    def do_wp_page(self, mm: MmStruct, vma: VmArea, address: int, table: array[int], slot: int, pte: int) -> int:
        """In 2.6 the copy starts on the active list and leads back to its area, because reclaim goes from page to entry; before that it was
        just mapped.

        A write to a page mapped read-only: make it writable if nobody else has it, else map a copy.
        Returns FAULT_MINOR, or FAULT_OOM. kernel: mm/memory.c:do_wp_page
        """
        kernel, flags = self.kernel, self.flags
        old_page = pte >> PAGE_SHIFT
        if old_page >= kernel.max_mapnr:
            kernel.printk(3, f"do_wp_page: bogus page at address {address:08x}")
            return FAULT_OOM
        if not flags[old_page] & _LOCKED:
            flags[old_page] |= _LOCKED
            reuse = kernel.swapfile.can_share_swap_page(old_page)
            kernel.filemap.unlock_page(old_page)
            if reuse:
                if self.on_event is not None:
                    self.on_event(("cow_reuse", address, old_page))
                self.establish_pte(vma, address, table, slot, self.maybe_mkwrite(pte | _PAGE_DIRTY | _PAGE_ACCESSED, vma))
                return FAULT_MINOR
        reserved = flags[old_page] & RESERVED
        if not reserved:
            kernel.get_page(old_page)
        new_page = None
        if not self.rmap.anon_vma_prepare(vma):
            if old_page == kernel.empty_zero_page:
                new_page = kernel.page_allocator.alloc_pages(_ZEROED, 0)
            else:
                new_page = kernel.page_allocator.alloc_pages(GFP_HIGHUSER, 0)
                if new_page is not None:
                    kernel.highmem.copy_user_highpage(new_page, old_page, address)
        if new_page is None:
            kernel.put_page(old_page)
            return FAULT_OOM
        # The allocation may have slept, and the page may have been swapped out meanwhile.
        if table[slot] == pte:
            own = cast(MmStruct26, mm)
            if self.mapping[old_page] & ANON:
                own.anon_rss -= 1
            if reserved:
                own.rss += 1
                self.update_mem_hiwater()
            else:
                self.rmap.page_remove_rmap(old_page, mm, address)
            if self.on_event is not None:
                self.on_event(("cow_copy", address, old_page, new_page))
            self.break_cow(vma, new_page, address, table, slot)
            self.lru_cache.lru_cache_add_active(new_page)
            self.rmap.page_add_anon_rmap(new_page, vma, address)
            new_page = old_page
        kernel.put_page(new_page)
        kernel.put_page(old_page)
        return FAULT_MINOR

    # -- swap ---------------------------------------------------------------------------------

    def swapin_readahead(self, entry: int, vma: VmArea | None = None, address: int = 0) -> None:
        """In 2.6 it lists what it read before it returns, because reclaim should see those pages; before that they were listed at once.

        Start reading the aligned block of slots around *entry*. kernel: mm/memory.c:swapin_readahead
        """
        kernel = self.kernel
        num, offset = kernel.swapfile.valid_swaphandles(entry)
        if self.on_event is not None:
            self.on_event(("swapin_readahead", entry, offset, num))
        kind = swp_type(entry)
        for slot in range(offset, offset + num):
            page = kernel.swap_state.read_swap_cache_async(swp_entry(kind, slot), vma, address)  # type: ignore[call-arg]
            if page is None:
                break
            kernel.put_page(page)
        self.lru_cache.lru_add_drain()

    def do_swap_page(self, mm: MmStruct, vma: VmArea, address: int, table: array[int], slot: int, orig_pte: int, write_access: int) -> int:
        """In 2.6 a write that finds the page shared goes on into do_wp_page, because it would fault again at once; before that it did.

        The page is in swap: find it in the swap cache or read it, and map it. Returns FAULT_MINOR on a swap cache hit,
        FAULT_MAJOR when it was read, FAULT_OOM. kernel: mm/memory.c:do_swap_page
        """
        kernel = self.kernel
        swapfile = kernel.swapfile
        entry = pte_to_swp_entry(orig_pte)
        ret = FAULT_MINOR
        page = kernel.swap_state.lookup_swap_cache(entry)
        if page is None:
            self.swapin_readahead(entry, vma, address)
            page = kernel.swap_state.read_swap_cache_async(entry, vma, address)  # type: ignore[call-arg]
            if page is None:
                return FAULT_OOM if table[slot] == orig_pte else FAULT_MINOR
            ret = FAULT_MAJOR
            self.page_state.pgmajfault += 1
            kernel.reclaim.grab_swap_token()  # type: ignore[attr-defined]
        kernel.swap.mark_page_accessed(page)
        kernel.filemap.lock_page(page)
        if table[slot] != orig_pte:
            kernel.filemap.unlock_page(page)
            kernel.put_page(page)
            return FAULT_MINOR
        swapfile.swap_free(entry)
        if swapfile.vm_swap_full():
            swapfile.remove_exclusive_swap_page(page)
        mm.rss += 1
        self.update_mem_hiwater()
        pte = page << PAGE_SHIFT | vma.vm_page_prot
        if write_access and swapfile.can_share_swap_page(page):
            pte = self.maybe_mkwrite(pte | _PAGE_DIRTY, vma)
            write_access = 0
        kernel.filemap.unlock_page(page)
        table[slot] = pte
        if self.on_event is not None:
            self.on_event(("swap_in", address, entry, page, ret))
            self.on_event(("set_pte", address & _PAGE_MASK, pte))
        self.rmap.page_add_anon_rmap(page, vma, address)
        if write_access:
            if self.do_wp_page(mm, vma, address, table, slot, pte) == FAULT_OOM:
                ret = FAULT_OOM
        else:
            kernel.mmu.update_mmu_cache(vma, address, pte)
        return ret

    # -- pages that never were ----------------------------------------------------------------

    def do_anonymous_page(self, mm: MmStruct, vma: VmArea, table: array[int], slot: int, write_access: int, address: int) -> int:
        """In 2.6 the page starts on the active list, referenced, because it is in use this moment; before that on the inactive one.

        The first touch of anonymous memory: a read gets the shared zero page, a write a frame of its own.
        Returns FAULT_MINOR, or FAULT_OOM. kernel: mm/memory.c:do_anonymous_page
        """
        kernel = self.kernel
        if write_access:
            if self.rmap.anon_vma_prepare(vma):
                return FAULT_OOM
            page = kernel.page_allocator.alloc_pages(_ZEROED, 0)
            if page is None:
                return FAULT_OOM
            if table[slot]:  # somebody else was faster while we slept
                kernel.put_page(page)
                return FAULT_MINOR
            mm.rss += 1
            self.update_mem_hiwater()
            entry = self.maybe_mkwrite(page << PAGE_SHIFT | vma.vm_page_prot | _PAGE_DIRTY, vma)
            self.lru_cache.lru_cache_add_active(page)
            self.flags[page] |= _REFERENCED
            self.rmap.page_add_anon_rmap(page, vma, address)
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
        """In 2.6 nopage says whether a disk was read, because a hit in the cache is cheap, and a truncation meanwhile is noticed; before
        that every such fault was major.

        The first touch of a page that has something behind it. Returns FAULT_MINOR, FAULT_MAJOR, FAULT_SIGBUS or FAULT_OOM.
        kernel: mm/memory.c:do_no_page
        """
        kernel = self.kernel
        ops = vma.vm_ops
        if ops is None or ops.nopage is None:
            return self.do_anonymous_page(mm, vma, table, slot, write_access, address)
        mapping = cast(AddressSpace26, vma.vm_file.inode.i_mapping) if vma.vm_file is not None else None
        sequence = mapping.truncate_count if mapping is not None else 0
        kind = [FAULT_MINOR]
        while True:
            new_page: int = ops.nopage(vma, address & _PAGE_MASK, kind)
            if new_page == NOPAGE_SIGBUS:
                return FAULT_SIGBUS
            if new_page == NOPAGE_OOM:
                return FAULT_OOM
            anon = write_access and not vma.vm_flags & VM_SHARED
            if anon:
                page = None if self.rmap.anon_vma_prepare(vma) else kernel.page_allocator.alloc_pages(GFP_HIGHUSER, 0)
                if page is None:
                    kernel.put_page(new_page)
                    return FAULT_OOM
                kernel.highmem.copy_user_highpage(page, new_page, address)
                if self.on_event is not None:
                    self.on_event(("early_cow", address, new_page, page))
                kernel.put_page(new_page)
                new_page = page
            if mapping is None or sequence == mapping.truncate_count:
                break
            sequence = mapping.truncate_count
            kernel.put_page(new_page)
        if table[slot]:  # a thread was faster
            kernel.put_page(new_page)
            return kind[0]
        if not self.flags[new_page] & RESERVED:
            mm.rss += 1
        self.update_mem_hiwater()
        entry = new_page << PAGE_SHIFT | vma.vm_page_prot
        if write_access:
            entry = self.maybe_mkwrite(entry | _PAGE_DIRTY, vma)
        table[slot] = entry
        if anon:
            self.lru_cache.lru_cache_add_active(new_page)
            self.rmap.page_add_anon_rmap(new_page, vma, address)
        else:
            self.rmap.page_add_file_rmap(new_page, mm, address)
        if self.on_event is not None:
            self.on_event(("no_page", address, new_page))
            self.on_event(("set_pte", address & _PAGE_MASK, entry))
        kernel.mmu.update_mmu_cache(vma, address, entry)
        return kind[0]

    def do_file_page(self, mm: MmStruct, vma: VmArea, address: int, write_access: int, table: array[int], slot: int) -> int:
        """In 2.6 new, because of nonlinear areas: the entry says which page of the file belongs here.

        Returns FAULT_MAJOR, FAULT_SIGBUS, FAULT_OOM; what do_no_page returns where the file has no populate, or for a private write.
        kernel: mm/memory.c:do_file_page
        """
        ops = vma.vm_ops
        if ops is None or ops.nopage is None:
            raise KernelBug("do_file_page", f"{vma} has an entry of a file but no nopage method", "ops")
        if ops.populate is None or write_access and not vma.vm_flags & VM_SHARED:
            table[slot] = 0
            return self.do_no_page(mm, vma, address, write_access, table, slot)
        err: int = ops.populate(vma, address & _PAGE_MASK, PAGE_SIZE, vma.vm_page_prot, pte_to_pgoff(table[slot]), 0)
        if err:
            return FAULT_OOM if err == -ENOMEM else FAULT_SIGBUS
        return FAULT_MAJOR

    # -- the way in ---------------------------------------------------------------------------

    def handle_pte_fault(self, mm: MmStruct, vma: VmArea, address: int, write_access: int, table: array[int], slot: int) -> int:
        """In 2.6 an entry may also name a page of the file, because of nonlinear areas; before that it was empty or in swap.

        Decide by the entry what the fault needs. kernel: mm/memory.c:handle_pte_fault
        """
        entry = table[slot]
        if not entry & _MAPPED:
            if not entry:
                return self.do_no_page(mm, vma, address, write_access, table, slot)
            if pte_file(entry):
                return self.do_file_page(mm, vma, address, write_access, table, slot)
            return self.do_swap_page(mm, vma, address, table, slot, entry, write_access)
        if write_access:
            if not entry & _PAGE_RW:
                return self.do_wp_page(mm, vma, address, table, slot, entry)
            self.establish_pte(vma, address, table, slot, entry | _PAGE_DIRTY | _PAGE_ACCESSED)
        return FAULT_MINOR  # i386 has set ACCESSED itself

    def handle_mm_fault(self, mm: MmStruct, vma: VmArea, address: int, write_access: int) -> int:
        """In 2.6 counted (pgfault), and huge pages never fault, because they were all there at mmap; before that neither.

        Bring in the page of *vma* at *address*, for writing if *write_access*.
        Returns FAULT_MINOR, FAULT_MAJOR, FAULT_SIGBUS, or FAULT_OOM. kernel: mm/memory.c:handle_mm_fault
        """
        if self.on_event is not None:
            self.on_event(("mm_fault", address, write_access))
        self.page_state.pgfault += 1
        if vma.vm_flags & VM_HUGETLB:
            return FAULT_SIGBUS
        found = self.kernel.pgtable.pte_alloc(mm, address)
        if found is None:
            return FAULT_OOM
        return self.handle_pte_fault(mm, vma, address, write_access, *found)

    # -- finding pages ------------------------------------------------------------------------

    def follow_page(self, mm: MmStruct, address: int, write: int) -> int | None:
        """In 2.6 the page need not be dirty in its entry yet, because it is marked dirty here, and it counts as used; before that a clean
        entry faulted again.

        The frame mapped at *address*, writable for *write*, or None. kernel: mm/memory.c:follow_page, __follow_page
        """
        kernel = self.kernel
        found = kernel.pgtable.pmd_lookup(mm, address)
        if found is None:
            return None
        pmds, at = found
        pmd = pmds[at]
        if pmd & _HUGE == _HUGE:
            return int(kernel.hugetlb.follow_huge_pmd(address, pmd, write))  # type: ignore[attr-defined]
        if not pmd or self.pmd_bad(pmd):
            return None
        pte = kernel.pgtable.pte_table(pmd)[address >> PAGE_SHIFT & kernel.pgtable.PTRS_PER_PTE - 1]
        if not pte & _MAPPED or write and not pte & _PAGE_RW:
            return None
        page = pte >> PAGE_SHIFT
        if page >= kernel.max_mapnr:
            return None
        if write and not pte & _PAGE_DIRTY and not self.flags[page] & _PG_DIRTY:
            kernel.filemap.set_page_dirty(page)
        kernel.swap.mark_page_accessed(page)
        return page

    def untouched_anonymous_page(self, mm: MmStruct, vma: VmArea, address: int) -> bool:
        """In 2.6 new, because a core dump of a huge untouched area filled memory with page tables: whether not even a table is there.

        kernel: mm/memory.c:untouched_anonymous_page
        """
        if vma.vm_ops is not None and vma.vm_ops.nopage is not None:
            return False
        found = self.kernel.pgtable.pmd_lookup(mm, address)
        return found is None or not found[0][found[1]] or self.pmd_bad(found[0][found[1]])

    def get_user_pages(
        self,
        task: Task,
        mm: MmStruct,
        start: int,
        length: int,
        write: int,
        force: int,
        pages: list[int] | None = None,
        vmas: list[VmArea] | None = None,
    ) -> int:
        """In 2.6 areas of devices are always refused, reserved pages get no reference, and reading untouched memory gives the zero page
        without a page table; before that none of these.

        Fault in *length* pages from address *start* on; faults count for *task*. *pages* and *vmas*, when given, are appended to.
        Returns how many pages, or -EFAULT, -ENOMEM when not even one. kernel: mm/memory.c:get_user_pages, get_page_map
        """
        kernel = self.kernel
        flags = VM_WRITE | VM_MAYWRITE if write else VM_READ | VM_MAYREAD
        flags &= VM_MAYREAD | VM_MAYWRITE if force else VM_READ | VM_WRITE
        done = 0
        while True:
            vma = kernel.mmap.find_extend_vma(mm, start)
            if vma is None or vma.vm_flags & VM_IO or not flags & vma.vm_flags:
                return done or -EFAULT
            if vma.vm_flags & VM_HUGETLB:
                got: int = kernel.hugetlb.follow_hugetlb_page(mm, vma, pages, vmas, start, length)  # type: ignore[attr-defined]
                done, start, length = done + got, start + got * PAGE_SIZE, length - got
                if not length:
                    return done
                continue
            while True:
                lookup_write = write
                while (page := self.follow_page(mm, start, lookup_write)) is None:
                    if not lookup_write and self.untouched_anonymous_page(mm, vma, start):
                        page = kernel.empty_zero_page
                        break
                    fault = self.handle_mm_fault(mm, vma, start, write)
                    if fault == FAULT_MINOR:
                        task.min_flt += 1
                    elif fault == FAULT_MAJOR:
                        task.maj_flt += 1
                    else:
                        return done or (-EFAULT if fault == FAULT_SIGBUS else -ENOMEM)
                    lookup_write = int(write and not force)
                if pages is not None:
                    if not self.flags[page] & RESERVED:
                        kernel.get_page(page)
                    pages.append(page)
                if vmas is not None:
                    vmas.append(vma)
                if self.on_event is not None:
                    self.on_event(("user_page", start, page))
                done += 1
                start += PAGE_SIZE
                length -= 1
                if not length or start >= vma.vm_end:
                    break
            if not length:
                return done

    def make_pages_present(self, address: int, end: int) -> int:
        """In 2.6 an errno is passed on, and no area is an error, because threads may unmap meanwhile; before that -1, and an oops.

        Fault in all pages of [address, end), which lies in one area of the current process. Returns 0, -1 if not all came, or an errno.
        kernel: mm/memory.c:make_pages_present
        """
        current = self.kernel.current
        mm = current.mm
        vma = None if mm is None else self.kernel.mmap.find_vma(mm, address)
        if mm is None or vma is None:
            return -1
        if address >= end or end > vma.vm_end:
            raise KernelBug("make_pages_present", f"the range {address:#x}-{end:#x} is empty or leaves {vma}", "range")
        pages = (end + PAGE_SIZE - 1 >> PAGE_SHIFT) - (address >> PAGE_SHIFT)
        got = self.get_user_pages(current, mm, address, pages, int(bool(vma.vm_flags & VM_WRITE)), 0)
        return got if got < 0 else 0 if got == pages else -1
