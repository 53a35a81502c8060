"""Taking a page away from everybody who maps it. kernel: mm/rmap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.page_flags import RESERVED, PG_locked
from ..mm.pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE
from ..mm.vm import VM_LOCKED, VM_RESERVED
from .fs import ANON
from .page_flags import SWAPCACHE
from .rmap import SWAP_AGAIN, SWAP_FAIL, SWAP_SUCCESS, Rmap
from .swapops import pgoff_to_pte, swp_entry_to_pte

if TYPE_CHECKING:
    from ..mm.vm import VmArea

CLUSTER_SIZE = 32 * PAGE_SIZE  # of a nonlinear area looked through at a time, bytes
_CLUSTER_MASK = -CLUSTER_SIZE & 0xFFFFFFFF
_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_PINNED = VM_LOCKED | VM_RESERVED
_LOCKED = 1 << PG_locked
_M32 = 0xFFFFFFFF


class Unmap(Rmap):
    """The reverse mapping with try_to_unmap: the whole of mm/rmap.c."""

    def try_to_unmap_one(self, pfn: int, vma: VmArea) -> int:
        """In 2.6 new, because reclaim unmaps a page everywhere before it frees it; before that each entry was met on a walk, and the page
        freed with the last.

        Take the page out of *vma*'s page table; an anonymous one leaves its swap entry there.
        Returns SWAP_AGAIN, or SWAP_FAIL when the page is locked in memory, was used, or somebody else holds it.
        kernel: mm/rmap.c:try_to_unmap_one
        """
        found = self.find_pte(pfn, vma)
        if found is None:
            return SWAP_AGAIN
        table, slot, address = found
        return self.unmap_pte(pfn, vma, table, slot, address)

    def unmap_pte(self, pfn: int, vma: VmArea, table: object, slot: int, address: int) -> int:
        """The same for the entry that was found at *address*. kernel: mm/rmap.c:try_to_unmap_one"""
        kernel, mm = self.kernel, vma.vm_mm
        entries: list[int] = table  # type: ignore[assignment]
        if vma.vm_flags & _PINNED:
            return SWAP_FAIL
        pte = entries[slot]
        if pte & _PAGE_ACCESSED:
            entries[slot] = pte & ~_PAGE_ACCESSED
            kernel.mmu.flush_tlb_page(vma, address)
            return SWAP_FAIL
        flags = self.flags[pfn]
        # Somebody else holds the page (get_user_pages, swapoff): the copy it would get back from swap would be another page.
        if flags & SWAPCACHE and self.count[pfn] != self.mapcount[pfn] + 3:
            return SWAP_FAIL
        entries[slot] = 0
        kernel.mmu.flush_tlb_page(vma, address)
        if pte & _PAGE_DIRTY:
            kernel.filemap.set_page_dirty(pfn)
        assert mm is not None
        if self.mapping[pfn] & ANON:
            if not flags & SWAPCACHE:
                raise KernelBug("try_to_unmap_one", f"anonymous frame {pfn} is not in the swap cache", "swapcache")
            entry = self.private[pfn]
            kernel.swapfile.swap_duplicate(entry)
            mmlist = kernel.fork.mmlist
            if not any(known is mm for known in mmlist):
                mmlist.insert(0, mm)
            entries[slot] = swp_entry_to_pte(entry)
            mm.anon_rss -= 1  # type: ignore[attr-defined]
        mm.rss -= 1
        if self.on_event is not None:
            self.on_event(("unmap_one", pfn, address, entries[slot]))
        self.page_remove_rmap(pfn, mm, address)
        kernel.put_page(pfn)
        return SWAP_AGAIN

    def try_to_unmap_anon(self, pfn: int) -> int:
        """In 2.6 new, because anonymous pages lead to their areas. kernel: mm/rmap.c:try_to_unmap_anon"""
        anon_vma = self.page_anon_vma(pfn)
        ret = SWAP_AGAIN
        if anon_vma is not None:
            for vma in anon_vma.head:
                ret = self.try_to_unmap_one(pfn, vma)
                if ret == SWAP_FAIL or self.mapcount[pfn] < 0:
                    break
        return ret

    def try_to_unmap_file(self, pfn: int) -> int:
        """In 2.6 new, because a file's pages lead to the areas that map it. Nonlinear ones cannot tell where they have the page: some
        of each is cleared out instead, in turn.

        kernel: mm/rmap.c:try_to_unmap_file
        """
        mapping = self.file_space(pfn)
        pgoff = self.index[pfn]
        ret = SWAP_AGAIN
        for vma in self.kernel.mmap.vma_prio_tree_foreach(mapping, pgoff, pgoff):  # type: ignore[attr-defined]
            ret = self.try_to_unmap_one(pfn, vma)
            if ret == SWAP_FAIL or self.mapcount[pfn] < 0:
                return ret
        if not mapping.i_mmap_nonlinear:
            return ret
        areas = [vma for vma in mapping.i_mmap_nonlinear if not vma.vm_flags & _PINNED]
        if not areas:
            return SWAP_FAIL
        max_nl_cursor = max(vma.vm_private_data or 0 for vma in areas)
        max_nl_size = max(vma.vm_end - vma.vm_start for vma in areas)
        mapcount = self.mapcount[pfn] + 1
        if not mapcount:
            return ret
        max_nl_size = max_nl_size + CLUSTER_SIZE - 1 & _CLUSTER_MASK
        if not max_nl_cursor:
            max_nl_cursor = CLUSTER_SIZE
        while True:
            for vma in mapping.i_mmap_nonlinear:
                if vma.vm_flags & _PINNED:
                    continue
                cursor = vma.vm_private_data or 0
                while vma.vm_mm.rss and cursor < max_nl_cursor and cursor < vma.vm_end - vma.vm_start:  # type: ignore[union-attr]
                    mapcount -= self.try_to_unmap_cluster(cursor, vma)
                    cursor += CLUSTER_SIZE
                    vma.vm_private_data = cursor
                    if mapcount <= 0:
                        return ret
                vma.vm_private_data = max_nl_cursor
            max_nl_cursor += CLUSTER_SIZE
            if max_nl_cursor > max_nl_size:
                break
        # All were looked through, and still it is mapped: begin again next time.
        for vma in mapping.i_mmap_nonlinear:
            if not vma.vm_flags & VM_RESERVED:
                vma.vm_private_data = 0
        return ret

    def try_to_unmap_cluster(self, cursor: int, vma: VmArea) -> int:
        """In 2.6 new, because of nonlinear areas: unmap the unused pages among 32 at byte *cursor* of the area; returns how many.

        The entries remember which page of the file was there. kernel: mm/rmap.c:try_to_unmap_cluster
        """
        kernel, mm = self.kernel, vma.vm_mm
        assert mm is not None
        address = vma.vm_start + cursor & _CLUSTER_MASK
        end = min(address + CLUSTER_SIZE, vma.vm_end)
        address = max(address, vma.vm_start)
        found = kernel.pgtable.pte_lookup(mm, address)
        if found is None:
            return 0
        table, slot = found
        done = 0
        while address < end:
            pte = table[slot]
            page = pte >> PAGE_SHIFT
            if pte & _MAPPED and page < kernel.max_mapnr:
                if self.mapping[page] & ANON:
                    raise KernelBug("try_to_unmap_cluster", f"frame {page} in the nonlinear {vma} is anonymous", "anon")
                if self.flags[page] & RESERVED:
                    pass
                elif pte & _PAGE_ACCESSED:
                    table[slot] = pte & ~_PAGE_ACCESSED
                    kernel.mmu.flush_tlb_page(vma, address)
                else:
                    index = self.index[page]
                    linear = (address - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff & _M32
                    table[slot] = 0 if index == linear else pgoff_to_pte(index)
                    kernel.mmu.flush_tlb_page(vma, address)
                    if pte & _PAGE_DIRTY:
                        kernel.filemap.set_page_dirty(page)
                    if self.on_event is not None:
                        self.on_event(("unmap_one", page, address, table[slot]))
                    self.page_remove_rmap(page, mm, address)
                    kernel.put_page(page)
                    mm.rss -= 1
                    done += 1
            address += PAGE_SIZE
            slot += 1
        return done

    def try_to_unmap(self, pfn: int) -> int:
        """In 2.6 new, because reclaim starts from pages: unmap the locked page everywhere.

        Returns SWAP_SUCCESS, SWAP_AGAIN (a mapping was missed) or SWAP_FAIL (it has to stay). kernel: mm/rmap.c:try_to_unmap
        """
        flags = self.flags[pfn]
        if flags & RESERVED or not flags & _LOCKED:
            raise KernelBug("try_to_unmap", f"frame {pfn} is {'reserved' if flags & RESERVED else 'not locked'}", "locked")
        ret = self.try_to_unmap_anon(pfn) if self.mapping[pfn] & ANON else self.try_to_unmap_file(pfn)
        if self.mapcount[pfn] < 0:
            ret = SWAP_SUCCESS
        if self.on_event is not None:
            self.on_event(("try_to_unmap", pfn, ret))
        return ret
