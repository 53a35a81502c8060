"""The reverse mapping of 2.6.0, which 2.6.11 no longer has: each page keeps a list of all entries that map it.

    page ─ direct: the address of its only entry
    page ─ chain → pte_chain → pte_chain → …    each NRPTE addresses, filled from the back
                    next_and_idx: the next one, and the first slot in use

Finding the entries of a page is then trivial, but every fault, fork and exit has to keep the chains, and a page
shared by a thousand processes has a thousand addresses in memory. 2.6.7 replaced it by rmap.py's way. Choose it
with ``parts={"rmap": PteChains}`` to compare; ``chain_bytes()`` is what it costs.

kernel: mm/rmap.c (of 2.6.0), include/asm-generic/rmap.h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.gfp import GFP_KERNEL
from ..mm.page_flags import RESERVED, PG_locked, PG_referenced
from ..mm.pgtable import _PAGE_ACCESSED, _PAGE_DIRTY
from ..mm.slab_cache import L1_CACHE_BYTES
from ..mm.vm import VM_LOCKED, VM_RESERVED
from .fs import ANON
from .page_flags import SWAPCACHE
from .rmap import SWAP_AGAIN, SWAP_FAIL, SWAP_SUCCESS
from .rmap_unmap import Unmap
from .swapops import pgoff_to_pte, swp_entry_to_pte
from .vm import MmStruct26

if TYPE_CHECKING:
    from array import array

    from ..mm.vm import MmStruct, VmArea

NRPTE = (L1_CACHE_BYTES - 4) // 4  # entries of a pte_chain, which fills a cache line
_LOCKED, _REFERENCED = 1 << PG_locked, 1 << PG_referenced
_M32 = 0xFFFFFFFF


class PteChain:
    """In 2.6.0 addresses of entries come by the cache line, because a walk should miss the cache once for many; before that (2.4) there
    were none.

    ``ptes[idx:]`` are in use. kernel: mm/rmap.c:pte_chain
    """

    __slots__ = ("address", "idx", "ptes")

    def __init__(self, address: int) -> None:
        self.address = address  # of the object, in its slab cache
        self.ptes = [0] * NRPTE
        self.idx = NRPTE

    def __repr__(self) -> str:
        return f"<PteChain {NRPTE - self.idx} of {NRPTE}>"


class PteChains(Unmap):
    """In 2.6.0 each page knows its entries, because no search is then needed; 2.6.11 finds them through areas, which costs nothing to keep.

    kernel: mm/rmap.c (of 2.6.0)
    """

    state_names: tuple[str, ...] = (*Unmap.state_names, "chains", "direct", "tables")

    def __init__(self) -> None:
        super().__init__()
        self.direct: dict[int, int] = {}  # frame → address of its only entry (PG_direct)
        self.chains: dict[int, list[PteChain]] = {}  # frame → its chain, first link first
        self.tables: dict[int, tuple[MmStruct, int]] = {}  # frame of a page table → whose it is, and the address it begins at

    def anon_vma_init(self) -> None:
        """In 2.6.0 pte_chain_init made a cache of chain links. kernel: mm/rmap.c:pte_chain_init"""
        super().anon_vma_init()
        self.kernel.slab.keep_cache("pte_chain", L1_CACHE_BYTES, 0)

    # -- entries ------------------------------------------------------------------------------

    def ptep_to_paddr(self, mm: MmStruct, address: int) -> int:
        """In 2.6.0 an entry is known by its physical address. The page table's struct page says whose it is (here: ``tables``).

        kernel: include/asm-generic/rmap.h:pgtable_add_rmap, include/asm-i386/rmap.h:ptep_to_paddr
        """
        pgtable = self.kernel.pgtable
        found = pgtable.pmd_lookup(mm, address)
        assert found is not None
        table = found[0][found[1]] >> PAGE_SHIFT
        self.tables[table] = (mm, address & -pgtable.PMD_SIZE)
        slot = address >> PAGE_SHIFT & pgtable.PTRS_PER_PTE - 1
        return (table << PAGE_SHIFT) + slot * (PAGE_SIZE // pgtable.PTRS_PER_PTE)

    def rmap_ptep_map(self, paddr: int) -> tuple[array[int], int, MmStruct, int]:
        """In 2.6.0: the entry at a physical address as (table, slot), whose it is and what it maps.

        kernel: include/asm-generic/rmap.h:ptep_to_mm, ptep_to_address
        """
        frame = paddr >> PAGE_SHIFT
        mm, base = self.tables[frame]
        slot = (paddr & PAGE_SIZE - 1) // (PAGE_SIZE // self.kernel.pgtable.PTRS_PER_PTE)
        return self.kernel.ram.contents[frame], slot, mm, base + (slot << PAGE_SHIFT)

    def entries(self, pfn: int) -> list[int]:
        """Physical addresses of all entries that map the page, in the order a walk finds them."""
        if pfn in self.direct:
            return [self.direct[pfn]]
        return [pa for link in self.chains.get(pfn, ()) for pa in link.ptes[link.idx :]]

    def chain_bytes(self) -> int:
        """Bytes of memory that chain links take at present."""
        return sum(map(len, self.chains.values())) * L1_CACHE_BYTES

    def pte_chain_alloc(self) -> PteChain:
        """In 2.6.0 a new link. kernel: mm/rmap.c:pte_chain_alloc"""
        slab = self.kernel.slab
        address = slab.kmem_cache_alloc(slab.state.named["pte_chain"], GFP_KERNEL)
        if not address:
            raise KernelBug("pte_chain_alloc", "no memory for a pte_chain", "memory")
        return PteChain(address)

    def pte_chain_free(self, link: PteChain) -> None:
        """In 2.6.0 the end of a link. kernel: mm/rmap.c:__pte_chain_free"""
        self.kernel.slab.kmem_cache_free(self.kernel.slab.state.named["pte_chain"], link.address)

    # -- adding and removing ------------------------------------------------------------------

    def page_add_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6.0: note that the entry for *address* maps the page. kernel: mm/rmap.c:page_add_rmap"""
        paddr = self.ptep_to_paddr(mm, address)
        chain = self.chains.get(pfn)
        if chain is None:
            if pfn not in self.direct:
                self.direct[pfn] = paddr
                return
            link = self.pte_chain_alloc()
            link.idx = NRPTE - 2
            link.ptes[NRPTE - 1], link.ptes[NRPTE - 2] = self.direct.pop(pfn), paddr
            self.chains[pfn] = [link]
            return
        if chain[0].idx == 0:  # the first link is full
            chain.insert(0, self.pte_chain_alloc())
        first = chain[0]
        first.idx -= 1
        first.ptes[first.idx] = paddr

    def forget_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6.0: the entry for *address* no longer maps the page; the first one in use takes its place.

        kernel: mm/rmap.c:page_remove_rmap
        """
        paddr = self.ptep_to_paddr(mm, address)
        if self.direct.get(pfn) == paddr:
            del self.direct[pfn]
            return
        for link in self.chains.get(pfn, ()):
            for i in range(link.idx, NRPTE):
                if link.ptes[i] == paddr:
                    self._release(pfn, link, i)
                    return
        raise KernelBug("page_remove_rmap", f"frame {pfn} has no entry for {address:#x} on its chain", "chain")

    def _release(self, pfn: int, link: PteChain, i: int) -> None:
        """Take slot *i* of *link* out of use."""
        chain = self.chains[pfn]
        start = chain[0]
        link.ptes[i] = start.ptes[start.idx]
        start.ptes[start.idx] = 0
        start.idx += 1
        if start.idx == NRPTE:
            del chain[0]
            self.pte_chain_free(start)
            if not chain:
                del self.chains[pfn]

    def page_add_anon_rmap(self, pfn: int, vma: VmArea, address: int) -> None:
        """In 2.6.0 one function served all pages; 2.6.11 has one for anonymous pages. kernel: mm/rmap.c:page_add_rmap"""
        super().page_add_anon_rmap(pfn, vma, address)
        self.page_add_rmap(pfn, cast("MmStruct", vma.vm_mm), address)

    def page_add_file_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6.0 one function served all pages; 2.6.11 has one for pages of files. kernel: mm/rmap.c:page_add_rmap"""
        super().page_add_file_rmap(pfn, mm, address)
        if pfn < self.kernel.max_mapnr and not self.flags[pfn] & RESERVED:
            self.page_add_rmap(pfn, mm, address)

    def page_dup_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6.0 fork noted every entry of the child; 2.6.11 only counts. kernel: mm/rmap.c:page_add_rmap"""
        super().page_dup_rmap(pfn, mm, address)
        self.page_add_rmap(pfn, mm, address)

    def page_remove_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6.0 the entry was looked for on the chain; 2.6.11 only counts. kernel: mm/rmap.c:page_remove_rmap"""
        super().page_remove_rmap(pfn, mm, address)
        self.forget_rmap(pfn, mm, address)

    def page_moved(self, pfn: int, mm: MmStruct, old: int, new: int) -> None:
        """In 2.6.0 mremap noted the new place of each entry; 2.6.11 has nothing to note. kernel: mm/mremap.c:move_one_page"""
        self.forget_rmap(pfn, mm, old)
        self.page_add_rmap(pfn, mm, new)

    # -- walking the chain --------------------------------------------------------------------

    def page_referenced(self, pfn: int, is_locked: int, ignore_token: int) -> int:
        """In 2.6.0 the chain is walked, and one that has become short turns into a direct pointer; 2.6.11 asks areas. Returns the
        references.

        kernel: mm/rmap.c:page_referenced
        """
        referenced = 0
        if self.flags[pfn] & _REFERENCED:
            self.flags[pfn] &= ~_REFERENCED
            referenced = 1
        found = self.entries(pfn)
        for paddr in found:
            table, slot, _, _ = self.rmap_ptep_map(paddr)
            if table[slot] & _PAGE_ACCESSED:
                table[slot] &= ~_PAGE_ACCESSED
                referenced += 1
        if len(found) == 1 and pfn in self.chains:
            self.direct[pfn] = found[0]
            self.pte_chain_free(self.chains.pop(pfn)[0])
        if self.on_event is not None:
            self.on_event(("page_referenced", pfn, referenced))
        return referenced

    def unmap_paddr(self, pfn: int, paddr: int) -> int:
        """In 2.6.0 the entry leads to its process and area; 2.6.11 comes from there. A recently used page is unmapped all the same.

        Returns SWAP_SUCCESS or SWAP_FAIL. kernel: mm/rmap.c:try_to_unmap_one
        """
        kernel = self.kernel
        table, slot, owner, address = self.rmap_ptep_map(paddr)
        mm = cast(MmStruct26, owner)
        vma = kernel.mmap.find_vma(mm, address)
        if vma is None or vma.vm_flags & (VM_LOCKED | VM_RESERVED):
            return SWAP_FAIL
        pte = table[slot]
        table[slot] = 0
        kernel.mmu.flush_tlb_page(vma, address)
        if self.flags[pfn] & SWAPCACHE:
            entry = self.private[pfn]
            kernel.swapfile.swap_duplicate(entry)
            if not any(known is mm for known in kernel.fork.mmlist):
                kernel.fork.mmlist.insert(0, mm)
            table[slot] = swp_entry_to_pte(entry)
        elif self.index[pfn] != (address - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff & _M32:
            table[slot] = pgoff_to_pte(self.index[pfn])
        if pte & _PAGE_DIRTY:
            kernel.filemap.set_page_dirty(pfn)
        if self.mapping[pfn] & ANON:
            mm.anon_rss -= 1
        mm.rss -= 1
        if self.on_event is not None:
            self.on_event(("unmap_one", pfn, address, table[slot]))
        Unmap.page_remove_rmap(self, pfn, mm, address)
        kernel.put_page(pfn)
        return SWAP_SUCCESS

    def try_to_unmap(self, pfn: int) -> int:
        """In 2.6.0 the chain is emptied from its front; 2.6.11 goes through areas. Returns SWAP_SUCCESS, SWAP_AGAIN or SWAP_FAIL.

        kernel: mm/rmap.c:try_to_unmap
        """
        flags = self.flags[pfn]
        if flags & RESERVED or not flags & _LOCKED:
            raise KernelBug("try_to_unmap", f"frame {pfn} is {'reserved' if flags & RESERVED else 'not locked'}", "locked")
        ret = SWAP_SUCCESS
        if pfn in self.direct:
            ret = self.unmap_paddr(pfn, self.direct[pfn])
            if ret == SWAP_SUCCESS:
                del self.direct[pfn]
        else:
            for link in list(self.chains.get(pfn, ())):
                i = link.idx
                while i < NRPTE:
                    if self.unmap_paddr(pfn, link.ptes[i]) == SWAP_FAIL:
                        ret = SWAP_FAIL
                        break
                    self._release(pfn, link, i)
                    i += 1
                if ret == SWAP_FAIL:
                    break
        if ret == SWAP_SUCCESS and self.mapcount[pfn] >= 0:
            ret = SWAP_AGAIN
        if self.on_event is not None:
            self.on_event(("try_to_unmap", pfn, ret))
        return ret
