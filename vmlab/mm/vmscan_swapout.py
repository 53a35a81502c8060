"""The clock: goes through the page tables of all processes and unmaps pages that were not used lately.

Its hand is an address space (``swap_mm``) and an address in it (``mm.swap_address``). A page whose
ACCESSED bit is set loses the bit and stays; one that is not on the active list loses its entry: a
dirty anonymous page gets a swap slot and moves into the swap cache, anything else can be had again
from where it came. Nothing is written and hardly anything freed here: that is shrink_cache()'s work.

kernel: mm/vmscan.c
"""

from __future__ import annotations

import sys
from itertools import compress
from typing import TYPE_CHECKING

from ..errors import KernelBug
from .fs import SWAPPER_SPACE_ID
from .page_flags import RESERVED, PG_active, PG_dirty, PG_launder, PG_locked, PG_referenced, PG_uptodate
from .pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE
from .reclaim import Reclaim
from .swap import SWAP_CLUSTER_MAX, LruCache
from .vm import TASK_SIZE, VM_LOCKED, VM_RESERVED
from .vmscan_hints import STRETCH

if TYPE_CHECKING:
    from array import array
    from collections.abc import MutableSequence

    from .kernel import Kernel
    from .mmzone import Zone
    from .vm import MmStruct, VmArea

_LOCKED = 1 << PG_locked
_REFERENCED = 1 << PG_referenced
_DIRTY = 1 << PG_dirty
_ACTIVE = 1 << PG_active
_UPTODATE = 1 << PG_uptodate
_UNLOCK = 0xFFFFFFFF ^ (1 << PG_locked | 1 << PG_launder)
_LEAVE = _ACTIVE | _LOCKED
_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_LITTLE = sys.byteorder == "little"
_IS_MAPPED = bytes(int(low & _MAPPED != 0) for low in range(256))  # by an entry's lowest byte


class SwapOut(Reclaim):
    """The part of reclaim that looks at page tables."""

    swap_mm: MmStruct  # the address space the hand is in; init_mm: at the start of the list

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.index = kernel.mem.index
        self.mapping = kernel.mem.mapping
        self.lru = kernel.mem.lru
        # Somebody's own clock or page lists may not keep what the shortcut relies on.
        mine, lists = type(self), type(kernel.swap)
        self.shortcut = (
            mine.try_to_swap_out is SwapOut.try_to_swap_out
            and mine.candidates is SwapOut.candidates
            and lists.del_page_from_active_list is LruCache.del_page_from_active_list
            and lists.lru_cache_del is LruCache.lru_cache_del
        )

    def try_to_swap_out(
        self, mm: MmStruct, vma: VmArea, address: int, table: MutableSequence[int], slot: int, pfn: int, classzone: Zone
    ) -> int:
        """Try to unmap one page: frame *pfn*, mapped at *address* (bytes) by ``table[slot]``.

        Returns 1 when the frame can now be freed, 0 when not. A page that was accessed, is locked in
        memory, active, being used for I/O, or of a zone that *classzone* cannot use, stays.
        kernel: mm/vmscan.c:try_to_swap_out
        """
        flags = self.flags
        pte = table[slot]
        ev = self.on_event
        if vma.vm_flags & VM_LOCKED or pte & _PAGE_ACCESSED:
            if not vma.vm_flags & VM_LOCKED:
                table[slot] = pte & ~_PAGE_ACCESSED
            if ev is not None:
                ev(("pte_young", mm.pid, address, pfn))
            self.kernel.swap.mark_page_accessed(pfn)
            return 0
        word = flags[pfn]
        if word & _LEAVE or not classzone.index - classzone.zone_num <= word >> 24 <= classzone.index:
            return 0
        kernel = self.kernel
        flags[pfn] = word | _LOCKED
        table[slot] = 0
        kernel.mmu.flush_tlb_page(vma, address)
        if pte & _PAGE_DIRTY:
            kernel.filemap.set_page_dirty(pfn)
        mapping = self.mapping[pfn]
        if mapping == SWAPPER_SPACE_ID:
            entry = self.index[pfn]
            kernel.swapfile.swap_duplicate(entry)
            table[slot] = entry
        elif mapping or not flags[pfn] & _DIRTY:
            entry = 0  # a file has it, or it was never written: the entry is just dropped
        else:
            entry = self._to_swap_cache(pfn)
            if not entry:
                table[slot] = pte
                flags[pfn] &= _UNLOCK
                if ev is not None:
                    ev(("swap_full", mm.pid, address, pfn))
                return 0
            table[slot] = entry
        mm.rss -= 1
        flags[pfn] &= _UNLOCK
        if ev is not None:
            ev(("unmap", mm.pid, address, pfn, entry))
        left = self.count[pfn] - 1
        kernel.put_page(pfn)
        return left <= 1

    def _to_swap_cache(self, pfn: int) -> int:
        """Give a dirty anonymous page a swap slot. Returns the swap entry, 0 when there is no slot left."""
        kernel = self.kernel
        while True:
            entry = kernel.swapfile.get_swap_page()
            if not entry:
                return 0
            if kernel.swap_state.add_to_swap_cache(pfn, entry) == 0:
                self.flags[pfn] |= _UPTODATE
                kernel.filemap.set_page_dirty(pfn)
                return entry
            kernel.swapfile.swap_free(entry)  # somebody reads that slot ahead; take another

    def candidates(self, vma: VmArea, table: array[int], slot: int, raw: bytes) -> list[int]:
        """Slots whose pages try_to_swap_out() would not refuse at first sight, leaving no trace.

        *raw* is the entries from *slot* on, as bytes. Most of what the clock passes is active and was not used
        since its last round. Nothing that is done about one page makes another of these pages worth a look.
        """
        size = table.itemsize
        mapped = compress(range(slot, slot + len(raw) // size), raw[0 if _LITTLE else size - 1 :: size].translate(_IS_MAPPED))
        if vma.vm_flags & VM_LOCKED:
            return list(mapped)
        flags = self.flags
        frames = len(flags)
        return [at for at in mapped if (pte := table[at]) & _PAGE_ACCESSED or (pte >> 12 < frames and not flags[pte >> 12] & _LEAVE)]

    def swap_out_pmd(self, mm: MmStruct, vma: VmArea, pmd: int, address: int, end: int, count: int, classzone: Zone) -> int:
        """The clock's way through one page table, from *address* to *end* (bytes).

        *pmd* is the entry that points to it, *count* the pages still to be found. Returns what is left of
        *count*. kernel: mm/vmscan.c:swap_out_pmd
        """
        if not pmd:
            return count
        pgtable = self.kernel.pgtable
        table = pgtable.pte_table(pmd)
        slot = address >> 12 & pgtable.pte_mask
        pmd_end = (address & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE
        last = slot + ((min(end, pmd_end) - address) >> 12)
        base = address - (slot << 12)
        settled = self.kernel.swap.settled
        table_key = pmd >> 12 << 3
        whole = b"" if slot or last < pgtable.PTRS_PER_PTE or vma.vm_flags & VM_LOCKED else table.tobytes()
        if whole and settled.tables.get(table_key) == whole:
            mm.swap_address = base + (last << 12)
            return count
        flags = self.flags
        max_mapnr = len(flags)
        try_to_swap_out = self.try_to_swap_out
        calm = True
        while slot < last:
            stop = min((slot | STRETCH - 1) + 1, last)
            raw = table[slot:stop].tobytes()
            key = table_key + slot // STRETCH if stop - slot == STRETCH else 0
            if settled.entries.get(key) != raw or vma.vm_flags & VM_LOCKED:  # locked pages count as used each time
                calm = False
                found = self.candidates(vma, table, slot, raw)
                for at in found:
                    pfn = table[at] >> 12
                    if pfn < max_mapnr and not flags[pfn] & RESERVED:
                        count -= try_to_swap_out(mm, vma, base + (at << 12), table, at, pfn, classzone)
                        if not count:
                            mm.swap_address = base + (at + 1 << 12)
                            return 0
                if key and not found and self.shortcut:
                    self._settle(key, table, slot, raw)
            slot = stop
        if whole and calm:
            settled.tables[table_key] = whole
        mm.swap_address = base + (last << 12)
        return count

    def _settle(self, key: int, table: array[int], slot: int, raw: bytes) -> None:
        """Remember a stretch without candidates, if that is because all its pages are active."""
        size = table.itemsize
        flags = self.flags
        frames = len(flags)
        mapped = compress(table[slot : slot + STRETCH], raw[0 if _LITTLE else size - 1 :: size].translate(_IS_MAPPED))
        pages = [pte >> 12 for pte in mapped if pte >> 12 < frames]
        if all([flags[pfn] & _ACTIVE for pfn in pages]):
            self.kernel.swap.settled.settle(key, raw, pages)

    def swap_out_vma(self, mm: MmStruct, vma: VmArea, address: int, count: int, classzone: Zone) -> int:
        """The clock's way through one area, from *address* on. Returns what is left of *count*.

        kernel: mm/vmscan.c:swap_out_vma, swap_out_pgd
        """
        if vma.vm_flags & VM_RESERVED:
            return count
        end = vma.vm_end
        if address >= end:
            raise KernelBug("swap_out_vma", f"the hand is at {address:#x}, beyond the area's end {end:#x}", "range")
        pgtable = self.kernel.pgtable
        size = pgtable.PMD_SIZE
        while True:
            found = pgtable.pmd_lookup(mm, address)
            if found is not None:
                pmds, at = found
                count = self.swap_out_pmd(mm, vma, pmds[at], address, end, count, classzone)
                if not count:
                    break
            address = (address & -size) + size
            if address >= end:
                break
        return count

    def swap_out_mm(self, mm: MmStruct, count: int, mmcounter: int, classzone: Zone) -> tuple[int, int]:
        """The clock's way through one address space, from where the hand was.

        Returns (pages still to be found, address spaces still to be visited). kernel: mm/vmscan.c:swap_out_mm
        """
        address = mm.swap_address
        if address == TASK_SIZE or self.swap_mm is not mm:
            return count, mmcounter + 1  # somebody else moved the hand: this one does not count
        vma = self.kernel.mmap.find_vma(mm, address)
        if vma is not None:
            address = max(address, vma.vm_start)
            while True:
                count = self.swap_out_vma(mm, vma, address, count, classzone)
                vma = vma.vm_next
                if vma is None:
                    break
                if not count:
                    return count, mmcounter
                address = vma.vm_start
        mm.swap_address = TASK_SIZE
        return count, mmcounter

    def _next_mm(self, mm: MmStruct) -> MmStruct:
        """The address space after *mm* in the ring that begins with init_mm."""
        ring = self.kernel.fork.mmlist
        init_mm = self.kernel.pgtable.init_mm
        at = 0 if mm is init_mm else ring.index(mm) + 1
        return ring[at] if at < len(ring) else init_mm

    def swap_out(self, priority: int, gfp_mask: int, classzone: Zone) -> int:
        """Move the hand on until 32 frames became freeable, or every address space was visited.

        Returns 1 when the 32 were found. kernel: mm/vmscan.c:swap_out
        """
        kernel = self.kernel
        fork = kernel.fork
        init_mm = kernel.pgtable.init_mm
        nr_pages = SWAP_CLUSTER_MAX
        counter: int = fork.mmlist_nr
        ev = self.on_event
        if ev is not None:
            ev(("swap_out", priority, classzone.index))
        while True:
            mm = self.swap_mm
            while mm.swap_address == TASK_SIZE or mm is init_mm:
                mm.swap_address = 0
                mm = self._next_mm(mm)
                if mm is self.swap_mm:
                    return 0
                self.swap_mm = mm
                if ev is not None:
                    ev(("swap_mm", mm.pid))
            mm.mm_users += 1
            nr_pages, counter = self.swap_out_mm(mm, nr_pages, counter, classzone)
            fork.mmput(mm)
            if not nr_pages:
                return 1
            counter -= 1
            if counter < 0:
                return 0
