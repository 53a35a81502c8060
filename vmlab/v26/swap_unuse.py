"""Emptying a swap area in 2.6: every page that is in it is read, and everyone who uses it gets the page back.

kernel: mm/swapfile.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import KernelHang
from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EFAULT, EINTR, ENOMEM
from ..mm.page_flags import PG_dirty
from ..mm.pgtable import mk_pte, pte_mkold
from ..mm.swap_map import SWAP_MAP_MAX, SwapMap
from ..mm.swap_unuse import SwapUnuse
from .page_flags import SWAPCACHE
from .swapops import swp_entry, swp_entry_to_pte

if TYPE_CHECKING:
    from array import array

    from ..mm.vm import MmStruct, VmArea

_DIRTY = 1 << PG_dirty
_ROUNDS = 3  # through the whole map without any success: the kernel would go on for ever


class SwapUnuse26(SwapUnuse):
    """In 2.6 only the address spaces that ever had a page in swap are searched, and only areas with anonymous pages, because mmlist and
    anon_vma tell them; before that every page table of every process."""

    def unuse_anon(self, vma: VmArea, address: int, table: array[int], slot: int, entry: int, pfn: int) -> None:
        """In 2.6 the mapping is noted with the page, because reclaim will ask for it; before that only in the page table.

        Map the page where its swap entry stood: clean, old, not writable beyond the region's protection. kernel: mm/swapfile.c:unuse_pte
        """
        kernel = self.kernel
        mm = vma.vm_mm
        assert mm is not None
        mm.rss += 1
        kernel.get_page(pfn)
        table[slot] = pte_mkold(mk_pte(pfn, vma.vm_page_prot))
        rmap: Any = kernel.more_parts["rmap"]
        rmap.page_add_anon_rmap(pfn, vma, address)
        self.swap_free(entry)
        if self.on_event is not None:
            self.on_event(("unuse_pte", mm.pid, entry, pfn))

    def unuse_area(self, vma: VmArea, entry: int, pfn: int) -> bool:
        """In 2.6 the search ends with the first entry found, because an address space has a page once, and a page that was mapped before
        can only be at one address; before that it went on.

        Find the entry in the page tables under one region; whether it was there.
        kernel: mm/swapfile.c:unuse_vma, unuse_pgd, unuse_pud, unuse_pmd
        """
        kernel = self.kernel
        pgtable = kernel.pgtable
        address, end = vma.vm_start, vma.vm_end
        mm = vma.vm_mm
        assert mm is not None
        if self.mapping[pfn]:
            rmap: Any = kernel.more_parts["rmap"]
            address = rmap.page_address_in_vma(pfn, vma)
            if address == -EFAULT:
                return False
            end = address + PAGE_SIZE
        width = 8 if pgtable.pae else 4
        needle = swp_entry_to_pte(entry).to_bytes(width, "little")
        while address < end:
            stop = min((address & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE, end)
            found = pgtable.pte_lookup(mm, address)
            if found is not None:
                table, slot = found
                last = (slot + (stop - address >> PAGE_SHIFT)) * width
                data = table.tobytes()
                at = data.find(needle, slot * width, last)
                while at >= 0 and at % width:
                    at = data.find(needle, at + 1, last)
                if at >= 0:
                    there = at // width
                    self.unuse_anon(vma, address + (there - slot << PAGE_SHIFT) & M32, table, there, entry, pfn)
                    lru: Any = kernel.swap
                    lru.activate_page(pfn)
                    return True
            address = stop
        return False

    def unuse_process(self, mm: MmStruct, entry: int, pfn: int) -> None:
        """In 2.6 areas without an anon_vma are skipped, because they have no anonymous pages; before that all were searched.

        Give the page to one address space where it has the entry. kernel: mm/swapfile.c:unuse_process
        """
        vma: Any = mm.mmap
        while vma is not None:
            if vma.anon_vma is not None and self.unuse_area(vma, entry, pfn):
                return
            vma = vma.vm_next

    def try_to_unuse(self, area: int) -> int:
        """In 2.6 it also waits for writes, and stops when the caller is killed, because swapoff may take minutes; before that it went on.

        Read every page of an area and put it where its entry is used; 0, -ENOMEM or -EINTR. The search for users of a slot begins with the
        address space where the one before was found; init_mm, at the head of the list, stands for shared memory. Raises
        KernelHang when a slot's count is wrong: the kernel would search for ever. kernel: mm/swapfile.c:try_to_unuse
        """
        kernel = self.kernel
        filemap: Any = kernel.filemap
        fork = kernel.fork
        p = self.swap_info[area]
        swap_map = p.swap_map
        assert swap_map is not None
        init_mm = start_mm = kernel.pgtable.init_mm
        init_mm.mm_users += 1
        retval = 0
        reset_overflow = False
        i = previous = rounds = 0
        while (i := self.find_next_to_unuse(swap_map, p.max, i)) != 0:
            if i <= previous:
                rounds += 1
                if rounds > _ROUNDS:
                    raise KernelHang("try_to_unuse", f"slot {i} of area {area} has count {swap_map[i]}, but nobody is found who uses it")
            previous = i
            before = swap_map[i]
            if kernel.sched.dying(kernel.current):
                retval = -EINTR
                break
            entry = swp_entry(area, i)
            pfn = kernel.swap_state.read_swap_cache_async(entry)
            if pfn is None:
                if not swap_map[i]:
                    continue
                retval = -ENOMEM
                break
            if start_mm.mm_users == 1:  # it is exiting
                fork.mmput(start_mm)
                start_mm = init_mm
                init_mm.mm_users += 1
            filemap.wait_on_page(pfn)
            filemap.wait_on_page_writeback(pfn)
            filemap.lock_page(pfn)
            filemap.wait_on_page_writeback(pfn)
            shmem = 0
            swcount = swap_map[i]
            if swcount > 1:
                if start_mm is init_mm:
                    shmem = kernel.shmem.shmem_unuse(entry, pfn)
                else:
                    self.unuse_process(start_mm, entry, pfn)
            if swap_map[i] > 1:
                start_mm, found = self._unuse_others26(swap_map, i, swcount, start_mm, entry, pfn)
                shmem = shmem if found is None else found
            if swap_map[i] == SWAP_MAP_MAX:
                swap_map[i] = 1
                reset_overflow = True
            if swap_map[i] > 1 and self.flags[pfn] & (_DIRTY | SWAPCACHE) == _DIRTY | SWAPCACHE:
                io: Any = kernel.page_io
                io.swap_writepage(pfn)
                filemap.lock_page(pfn)
                filemap.wait_on_page_writeback(pfn)
            if self.flags[pfn] & SWAPCACHE:
                if shmem:
                    self.swap_duplicate(entry)
                else:
                    kernel.swap_state.delete_from_swap_cache(pfn)
            self.flags[pfn] |= _DIRTY
            filemap.unlock_page(pfn)
            kernel.put_page(pfn)
            if swap_map[i] < before:
                rounds = 0
        fork.mmput(start_mm)
        if reset_overflow:
            kernel.printk(4, "swapoff: cleared swap entry overflow")
            self.swap_overflow = 0
        return retval

    def _unuse_others26(
        self, swap_map: SwapMap, slot: int, swcount: int, start_mm: MmStruct, entry: int, pfn: int
    ) -> tuple[MmStruct, int | None]:
        """Go round the list of address spaces once, from *start_mm* on, while the slot has users; each is held while it is looked at.

        Returns where to start for the next slot, and what shmem_unuse said if it was asked.
        """
        kernel = self.kernel
        fork = kernel.fork
        init_mm = kernel.pgtable.init_mm
        set_start_mm = swap_map[slot] >= swcount
        new_start_mm = prev_mm = mm = start_mm
        start_mm.mm_users += 2
        shmem: int | None = None
        while swap_map[slot] > 1:
            mm = self._next_mm(mm)
            if mm is start_mm:
                break
            mm.mm_users += 1
            if mm.mm_users == 1:
                mm.mm_users = 0
                continue
            fork.mmput(prev_mm)
            prev_mm = mm
            swcount = swap_map[slot]
            if swcount > 1:
                if mm is init_mm:
                    set_start_mm = True
                    shmem = kernel.shmem.shmem_unuse(entry, pfn)
                else:
                    self.unuse_process(mm, entry, pfn)
            if set_start_mm and swap_map[slot] < swcount:
                fork.mmput(new_start_mm)
                mm.mm_users += 1
                new_start_mm = mm
                set_start_mm = False
        fork.mmput(prev_mm)
        fork.mmput(start_mm)
        return new_start_mm, shmem

    def drain_mmlist(self) -> None:
        """In 2.6 new, because mmlist holds only address spaces with pages in swap: with no slot in use it is empty.

        kernel: mm/swapfile.c:drain_mmlist
        """
        areas: Any = self.swap_info[: self.nr_swapfiles]
        if not any(p.inuse_pages for p in areas):
            self.kernel.fork.mmlist.clear()
