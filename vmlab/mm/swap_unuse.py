"""Emptying a swap area: every page that is in it is read, and everyone who uses it gets the page back.

kernel: mm/swapfile.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelHang
from ..hw.layout import PAGE_SHIFT
from .block import WRITE
from .errno import ENOMEM
from .fs import SWAPPER_SPACE_ID
from .page_flags import PG_dirty
from .pgtable import mk_pte, pte_mkold
from .swap_info import SwapInfo, SwapList, swp_entry
from .swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX, SwapMap

if TYPE_CHECKING:
    from array import array

    from .events import Listener
    from .kernel import Kernel
    from .vm import MmStruct, VmArea

_DIRTY = 1 << PG_dirty
_ROUNDS = 3  # through the whole map without any success: the kernel would go on for ever


class SwapUnuse:
    """try_to_unuse and what it walks."""

    kernel: Kernel
    on_event: Listener | None
    flags: array[int]
    mapping: array[int]
    swap_info: list[SwapInfo]
    swap_list: SwapList
    nr_swapfiles: int
    nr_swap_pages: int
    total_swap_pages: int
    swap_overflow: int
    least_priority: int

    if TYPE_CHECKING:

        def swap_free(self, entry: int) -> None: ...
        def swap_duplicate(self, entry: int) -> int: ...

    def unuse_pte(self, vma: VmArea, table: array[int], slot: int, entry: int, pfn: int) -> None:
        """Map the page where its swap entry stood: clean, old, not writable beyond the region's protection.

        kernel: mm/swapfile.c:unuse_pte
        """
        kernel = self.kernel
        kernel.get_page(pfn)
        table[slot] = pte_mkold(mk_pte(pfn, vma.vm_page_prot))
        self.swap_free(entry)
        assert vma.vm_mm is not None
        vma.vm_mm.rss += 1
        if self.on_event is not None:
            self.on_event(("unuse_pte", vma.vm_mm.pid, entry, pfn))

    def unuse_vma(self, vma: VmArea, entry: int, pfn: int) -> None:
        """Find the entry in the page tables under one region. kernel: mm/swapfile.c:unuse_vma, unuse_pgd, unuse_pmd

        Each table is searched as a string of bytes: a match must begin at an entry.
        """
        pgtable = self.kernel.pgtable
        width = 8 if pgtable.pae else 4
        needle = entry.to_bytes(width, "little")
        mm, address, end = vma.vm_mm, vma.vm_start, vma.vm_end
        assert mm is not None
        while address < end:
            stop = min((address & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE, end)
            found = pgtable.pte_lookup(mm, address)
            if found is not None:
                table, slot = found
                last = (slot + (stop - address >> PAGE_SHIFT)) * width
                at = table.tobytes().find(needle, slot * width, last)
                while at >= 0:
                    if not at % width:
                        self.unuse_pte(vma, table, at // width, entry, pfn)
                    at = table.tobytes().find(needle, at + 1, last)
            address = stop

    def unuse_process(self, mm: MmStruct, entry: int, pfn: int) -> None:
        """Give the page to one address space wherever it has the entry. kernel: mm/swapfile.c:unuse_process"""
        vma = mm.mmap
        while vma is not None:
            self.unuse_vma(vma, entry, pfn)
            vma = vma.vm_next

    @staticmethod
    def find_next_to_unuse(swap_map: SwapMap, size: int, prev: int) -> int:
        """The next slot in use after *prev*, going round once; 0 when none of the *size* slots is.

        kernel: mm/swapfile.c:find_next_to_unuse
        """
        i = prev
        while True:
            i += 1
            if i >= size:
                if not prev:
                    return 0
                size, prev, i = prev + 1, 0, 1
            count = swap_map[i]
            if count and count != SWAP_MAP_BAD:
                return i

    def try_to_unuse(self, area: int) -> int:
        """Read every page of an area and put it where its entry is used; 0, or -ENOMEM.

        The search for users of a slot begins with the address space where the one before was found.
        init_mm, at the head of the list, has no pages: there shared memory is searched.
        Raises KernelHang when a slot's count is wrong: the kernel would search for ever.
        kernel: mm/swapfile.c:try_to_unuse
        """
        kernel = self.kernel
        filemap, fork = kernel.filemap, kernel.fork
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
            filemap.lock_page(pfn)
            shmem = 0
            swcount = swap_map[i]
            if swcount > 1:
                if start_mm is init_mm:
                    shmem = kernel.shmem.shmem_unuse(entry, pfn)
                else:
                    self.unuse_process(start_mm, entry, pfn)
            if swap_map[i] > 1:
                start_mm, found = self._unuse_others(swap_map, i, swcount, start_mm, entry, pfn)
                shmem = shmem if found is None else found
            if swap_map[i] == SWAP_MAP_MAX:
                self.nr_swap_pages += 1
                swap_map[i] = 1
                reset_overflow = True
            if swap_map[i] > 1 and self.flags[pfn] & _DIRTY and self.mapping[pfn] == SWAPPER_SPACE_ID:
                kernel.page_io.rw_swap_page(WRITE, pfn)
                filemap.lock_page(pfn)
            if self.mapping[pfn] == SWAPPER_SPACE_ID:
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

    def _unuse_others(
        self, swap_map: SwapMap, slot: int, swcount: int, start_mm: MmStruct, entry: int, pfn: int
    ) -> tuple[MmStruct, int | None]:
        """Go round the list of address spaces once, from *start_mm* on, while the slot has users.

        Returns where to start for the next slot, and what shmem_unuse said if it was asked.
        """
        kernel = self.kernel
        init_mm = kernel.pgtable.init_mm
        set_start_mm = swap_map[slot] >= swcount
        new_start_mm = start_mm
        shmem: int | None = None
        mm = start_mm
        while swap_map[slot] > 1:
            mm = self._next_mm(mm)
            if mm is start_mm:
                break
            swcount = swap_map[slot]
            if mm is init_mm:
                set_start_mm = True
                shmem = kernel.shmem.shmem_unuse(entry, pfn)
            else:
                self.unuse_process(mm, entry, pfn)
            if set_start_mm and swap_map[slot] < swcount:
                new_start_mm = mm
                set_start_mm = False
        new_start_mm.mm_users += 1
        kernel.fork.mmput(start_mm)
        return new_start_mm, shmem

    def _next_mm(self, mm: MmStruct) -> MmStruct:
        """The next address space in the ring of all of them, init_mm among them."""
        mmlist = self.kernel.fork.mmlist
        init_mm = self.kernel.pgtable.init_mm
        at = 0 if mm is init_mm else mmlist.index(mm) + 1
        return mmlist[at] if at < len(mmlist) else init_mm
