"""From a page to the page table entries that map it.

    page of a file   mapping → the tree of areas that map the file (mmap part)   → address by page->index
    anonymous page   mapping → AnonVma → the areas that may have it              → address by page->index

No list of entries is kept: where a page can be mapped follows from the areas, and each place is looked at.

kernel: mm/rmap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT
from ..mm.errno import EFAULT, ENOMEM
from ..mm.gfp import GFP_KERNEL
from ..mm.kernel import Part
from ..mm.page_flags import PG_locked, PG_referenced
from ..mm.pgtable import _PAGE_ACCESSED, _PAGE_PRESENT, _PAGE_PROTNONE
from ..mm.vm import VM_LOCKED, VM_MAYSHARE
from .fs import ANON, AddressSpace26
from .page_flags import RESERVED

if TYPE_CHECKING:
    from array import array

    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct, VmArea

SWAP_SUCCESS, SWAP_AGAIN, SWAP_FAIL = 0, 1, 2
SIZEOF_ANON_VMA = 8  # a list head: with one processor the lock takes no room
_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_LOCKED, _REFERENCED = 1 << PG_locked, 1 << PG_referenced
_LOCKED_SHARED = VM_LOCKED | VM_MAYSHARE
_M32 = 0xFFFFFFFF


class AnonVma:
    """In 2.6 an anonymous page points to this list of areas that may map it, because reclaim starts from pages and must find their
    entries; before that nothing led from an anonymous page to an address space.

    ``head`` has the areas that come from one another by fork or split, the first of the list first;
    ``serial`` says that it was the n-th ever made, ``id`` is what mem.mapping holds.
    kernel: include/linux/rmap.h:anon_vma
    """

    __slots__ = ("address", "head", "id", "serial")

    def __init__(self, serial: int, address: int) -> None:
        self.serial = serial
        self.id = ANON | serial
        self.address = address  # of the object, in its slab cache
        self.head: list[VmArea] = []

    def __repr__(self) -> str:
        return f"<AnonVma {self.serial}: {len(self.head)} areas>"


class AnonVmas(Part):
    """The objects behind anonymous areas: made at the first write fault, shared by fork and split."""

    state_names: tuple[str, ...] = ("anon_vmas",)

    def __init__(self) -> None:
        super().__init__()
        self.anon_vmas = 0  # ever made

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.count = kernel.mem.count
        self.index = kernel.mem.index
        self.mapping = kernel.mem.mapping
        self.mapcount: array[int] = kernel.mem.column("mapcount", "i", -1)
        self.private: array[int] = kernel.mem.column("private")
        self.page_state = kernel.page_allocator.page_state  # type: ignore[attr-defined]

    def anon_vma_init(self) -> None:
        """In 2.6 a cache of its own, because there is one for each anonymous area; before that there was no such object.

        kernel: mm/rmap.c:anon_vma_init
        """
        self.kernel.slab.keep_cache("anon_vma", SIZEOF_ANON_VMA, 0)

    def anon_vma_alloc(self) -> AnonVma | None:
        """In 2.6 new, because of AnonVma. None without memory. kernel: include/linux/rmap.h:anon_vma_alloc"""
        slab = self.kernel.slab
        address = slab.kmem_cache_alloc(slab.state.named["anon_vma"], GFP_KERNEL)
        if not address:
            return None
        self.anon_vmas += 1
        made = AnonVma(self.anon_vmas, address)
        self.kernel.mappings[made.id] = made  # type: ignore[assignment]
        return made

    def anon_vma_free(self, anon_vma: AnonVma) -> None:
        """In 2.6 new, because of AnonVma. kernel: include/linux/rmap.h:anon_vma_free"""
        slab = self.kernel.slab
        self.kernel.mappings.pop(anon_vma.id, None)
        slab.kmem_cache_free(slab.state.named["anon_vma"], anon_vma.address)

    def anon_vma_prepare(self, vma: VmArea) -> int:
        """In 2.6 an area gets its list when it first has a page of its own, because areas that only read need none; before that there were
        no lists.

        A neighbour's is used if the two could be merged. Returns 0, or -ENOMEM. kernel: mm/rmap.c:anon_vma_prepare
        """
        area: Any = vma
        if area.anon_vma is None:
            found = self.kernel.mmap.find_mergeable_anon_vma(vma)  # type: ignore[attr-defined]
            made = None
            if found is None:
                found = made = self.anon_vma_alloc()
                if found is None:
                    return -ENOMEM
            now: AnonVma | None = getattr(vma, "anon_vma")  # noqa: B009  # the allocation may have slept
            if now is None:
                area.anon_vma = found
                found.head.insert(0, vma)
                if self.on_event is not None:
                    self.on_event(("anon_vma", vma.vm_start, found.serial, int(made is None)))
            elif made is not None:
                self.anon_vma_free(made)
        return 0

    def anon_vma_merge(self, vma: VmArea, following: VmArea) -> None:
        """In 2.6 new, because of AnonVma: *following* is being merged into *vma*. kernel: mm/rmap.c:__anon_vma_merge"""
        anon_vma: AnonVma | None = vma.anon_vma  # type: ignore[attr-defined]
        if anon_vma is not following.anon_vma or anon_vma is None:  # type: ignore[attr-defined]
            raise KernelBug("__anon_vma_merge", f"{vma} and {following} have different anon_vmas", "anon_vma")
        remove_area(anon_vma.head, following)

    def anon_vma_link(self, vma: VmArea) -> None:
        """In 2.6 new, because of AnonVma: a new area with that of another one enters its list, at the head.

        kernel: mm/rmap.c:anon_vma_link, __anon_vma_link
        """
        anon_vma: AnonVma | None = vma.anon_vma  # type: ignore[attr-defined]
        if anon_vma is not None:
            anon_vma.head.insert(0, vma)

    def anon_vma_unlink(self, vma: VmArea) -> None:
        """In 2.6 new, because of AnonVma: the area leaves, the last one frees it. kernel: mm/rmap.c:anon_vma_unlink"""
        anon_vma: AnonVma | None = vma.anon_vma  # type: ignore[attr-defined]
        if anon_vma is not None:
            remove_area(anon_vma.head, vma)
            if not anon_vma.head:
                self.anon_vma_free(anon_vma)


def remove_area(areas: list[VmArea], vma: VmArea) -> None:
    """Take *vma* itself out of a list. kernel: include/linux/list.h:list_del"""
    for at, area in enumerate(areas):
        if area is vma:
            del areas[at]
            return
    raise KernelBug("list_del", f"{vma} is not on the list", "list")


class Rmap(AnonVmas):
    """In 2.6 reclaim takes a page and unmaps it everywhere, because it must free pages of one zone; before that it walked the address
    spaces of processes and took what it met.

    Object-based reverse mapping. kernel: mm/rmap.c
    """

    # -- counting mappings --------------------------------------------------------------------

    def page_mapped(self, pfn: int) -> bool:
        """In 2.6 a page knows how many entries map it, because ``count`` also counts other users; before that only the sum was known.

        kernel: include/linux/mm.h:page_mapped
        """
        return self.mapcount[pfn] >= 0

    def page_add_anon_rmap(self, pfn: int, vma: VmArea, address: int) -> None:
        """In 2.6 new, because mappings are counted: one more entry, at *address*, maps an anonymous page.

        kernel: mm/rmap.c:page_add_anon_rmap
        """
        anon_vma: AnonVma | None = vma.anon_vma  # type: ignore[attr-defined]
        if self.flags[pfn] & RESERVED:
            raise KernelBug("page_add_anon_rmap", f"frame {pfn} is reserved", "reserved")
        if anon_vma is None:
            raise KernelBug("page_add_anon_rmap", f"{vma} has no anon_vma", "anon_vma")
        vma.vm_mm.anon_rss += 1  # type: ignore[union-attr]
        maps = self.mapcount[pfn] + 1
        self.mapcount[pfn] = maps
        if not maps:
            self.index[pfn] = (address - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff & _M32
            self.mapping[pfn] = anon_vma.id
            self.page_state.nr_mapped += 1
        if self.on_event is not None:
            self.on_event(("rmap_add", pfn, address, maps + 1))

    def page_add_file_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6 new, because mappings are counted: one more entry maps a page of a file.

        kernel: mm/rmap.c:page_add_file_rmap
        """
        if self.mapping[pfn] & ANON:
            raise KernelBug("page_add_file_rmap", f"frame {pfn} is anonymous", "anon")
        if pfn >= self.kernel.max_mapnr or self.flags[pfn] & RESERVED:
            return
        maps = self.mapcount[pfn] + 1
        self.mapcount[pfn] = maps
        if not maps:
            self.page_state.nr_mapped += 1
        if self.on_event is not None:
            self.on_event(("rmap_add", pfn, address, maps + 1))

    def page_dup_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6 new, because mappings are counted: fork maps a mapped page once more. kernel: include/linux/rmap.h:page_dup_rmap"""
        self.mapcount[pfn] += 1

    def page_remove_rmap(self, pfn: int, mm: MmStruct, address: int) -> None:
        """In 2.6 new, because mappings are counted: one entry less. Whose page it was stays noted until it is freed.

        kernel: mm/rmap.c:page_remove_rmap
        """
        if self.flags[pfn] & RESERVED:
            raise KernelBug("page_remove_rmap", f"frame {pfn} is reserved", "reserved")
        maps = self.mapcount[pfn] - 1
        self.mapcount[pfn] = maps
        if maps < 0:
            if maps < -1:
                raise KernelBug("page_remove_rmap", f"frame {pfn} was not mapped", "mapcount")
            self.page_state.nr_mapped -= 1
        if self.on_event is not None:
            self.on_event(("rmap_remove", pfn, address, maps + 1))

    def page_moved(self, pfn: int, mm: MmStruct, old: int, new: int) -> None:
        """In 2.6 mremap has nothing to tell, because the area's offset still leads to the entry; with 2.6.0's chains the entry was noted.

        kernel: mm/mremap.c:move_one_page
        """

    # -- where a page is ----------------------------------------------------------------------

    def page_anon_vma(self, pfn: int) -> AnonVma | None:
        """In 2.6 new, because of AnonVma: that of a mapped anonymous page, else None. kernel: mm/rmap.c:page_lock_anon_vma"""
        if self.mapcount[pfn] < 0 or not self.mapping[pfn] & ANON:
            return None
        return self.kernel.mappings[self.mapping[pfn]]  # type: ignore[return-value]

    def vma_address(self, pfn: int, vma: VmArea) -> int:
        """In 2.6 the address follows from page->index, because anonymous pages have one too now; before that only a file's page did.

        Where *vma* would map the page (bytes), or -EFAULT when that is outside it. kernel: mm/rmap.c:vma_address
        """
        address = vma.vm_start + (self.index[pfn] - vma.vm_pgoff << PAGE_SHIFT) & _M32
        if vma.vm_start <= address < vma.vm_end:
            return address
        if not self.mapping[pfn] & ANON:
            raise KernelBug("vma_address", f"page {self.index[pfn]} of its file is not in {vma}", "file")
        return -EFAULT

    def page_address_in_vma(self, pfn: int, vma: VmArea) -> int:
        """In 2.6 new, because swapoff asks page by page: the address at which *vma* may map it, or -EFAULT.

        kernel: mm/rmap.c:page_address_in_vma
        """
        mapping = self.mapping[pfn]
        if mapping & ANON:
            if vma.anon_vma is None or vma.anon_vma.id != mapping:  # type: ignore[attr-defined]
                return -EFAULT
        elif not mapping or vma.vm_file is None or vma.vm_file.inode.i_mapping.id != mapping:
            return -EFAULT
        return self.vma_address(pfn, vma)

    def find_pte(self, pfn: int, vma: VmArea) -> tuple[array[int], int, int] | None:
        """The entry of *vma* that maps the page: (table, slot, address), None when it does not."""
        mm = vma.vm_mm
        if mm is None or not mm.rss:
            return None
        address = self.vma_address(pfn, vma)
        if address == -EFAULT:
            return None
        found = self.kernel.pgtable.pte_lookup(mm, address)
        if found is None:
            return None
        table, slot = found
        pte = table[slot]
        return (table, slot, address) if pte & _MAPPED and pte >> PAGE_SHIFT == pfn else None

    # -- was it used? -------------------------------------------------------------------------

    def page_referenced_one(self, pfn: int, vma: VmArea, ignore_token: int) -> int | None:
        """In 2.6 new, because reclaim asks a page and not an entry: whether it was accessed through *vma*, clearing the bit.

        Returns the references (two with the swap token), None when *vma* does not map it.
        kernel: mm/rmap.c:page_referenced_one
        """
        found = self.find_pte(pfn, vma)
        if found is None:
            return None
        table, slot, address = found
        referenced = 0
        if table[slot] & _PAGE_ACCESSED:
            table[slot] &= ~_PAGE_ACCESSED
            self.kernel.mmu.flush_tlb_page(vma, address)
            referenced = 1
        mm = vma.vm_mm
        if not ignore_token and mm is not self.kernel.current.mm and self.kernel.reclaim.has_swap_token(mm):  # type: ignore[attr-defined]
            referenced += 1
        return referenced

    def page_referenced_anon(self, pfn: int, ignore_token: int) -> int:
        """In 2.6 new, because anonymous pages lead to their areas: references through all of them.

        kernel: mm/rmap.c:page_referenced_anon
        """
        anon_vma = self.page_anon_vma(pfn)
        if anon_vma is None:
            return 0
        referenced = 0
        mapcount = self.mapcount[pfn] + 1
        for vma in anon_vma.head:
            found = self.page_referenced_one(pfn, vma, ignore_token)
            if found is not None:
                referenced += found
                mapcount -= 1
                if not mapcount:
                    break
        return referenced

    def page_referenced_file(self, pfn: int, ignore_token: int) -> int:
        """In 2.6 new, because a file's pages lead to the areas that map it: references through all of them.

        A page in a locked shared mapping counts as referenced. kernel: mm/rmap.c:page_referenced_file
        """
        if not self.flags[pfn] & _LOCKED:
            raise KernelBug("page_referenced_file", f"frame {pfn} is not locked", "unlocked")
        referenced = 0
        mapcount = self.mapcount[pfn] + 1
        pgoff = self.index[pfn]
        mapping = self.kernel.mappings[self.mapping[pfn]]
        for vma in self.kernel.mmap.vma_prio_tree_foreach(mapping, pgoff, pgoff):  # type: ignore[attr-defined]
            if vma.vm_flags & _LOCKED_SHARED == _LOCKED_SHARED:
                referenced += 1
                break
            found = self.page_referenced_one(pfn, vma, ignore_token)
            if found is not None:
                referenced += found
                mapcount -= 1
                if not mapcount:
                    break
        return referenced

    def page_referenced(self, pfn: int, is_locked: int, ignore_token: int) -> int:
        """In 2.6 new, because reclaim wants the use of a page by all its users: how many entries (and PG_referenced) say it was used
        since last asked. All are cleared.

        kernel: mm/rmap.c:page_referenced
        """
        if not getattr(self.kernel.reclaim, "swap_token_default_timeout", 0):
            ignore_token = 1
        referenced = 0
        flags = self.flags
        if flags[pfn] & _REFERENCED:
            flags[pfn] &= ~_REFERENCED
            referenced = 1
        mapping = self.mapping[pfn]
        if mapping and self.mapcount[pfn] >= 0:
            if mapping & ANON:
                referenced += self.page_referenced_anon(pfn, ignore_token)
            elif is_locked:
                referenced += self.page_referenced_file(pfn, ignore_token)
            elif flags[pfn] & _LOCKED:
                referenced += 1
            else:
                flags[pfn] |= _LOCKED
                referenced += self.page_referenced_file(pfn, ignore_token)
                self.kernel.filemap.unlock_page(pfn)
        if self.on_event is not None:
            self.on_event(("page_referenced", pfn, referenced))
        return referenced

    def file_space(self, pfn: int) -> AddressSpace26:
        """The address_space of a file's page."""
        return self.kernel.mappings[self.mapping[pfn]]  # type: ignore[return-value]
