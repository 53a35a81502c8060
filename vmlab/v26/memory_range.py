"""Ranges of a page table in 2.6: copying at fork, emptying, finding everybody who maps a part of a file.

kernel: mm/memory.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EFBIG, ENOMEM, ETXTBSY
from ..mm.memory import Memory
from ..mm.memory_range import SIGXFSZ
from ..mm.page_flags import RESERVED
from ..mm.pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE, _PAGE_RW
from ..mm.task import RLIM_INFINITY, RLIMIT_FSIZE
from ..mm.vm import VM_IO, VM_MAYWRITE, VM_RESERVED, VM_SHARED
from .fs import ANON, AddressSpace26
from .swapops import pgoff_to_pte, pte_file, pte_to_swp_entry
from .vm import VM_ACCOUNT, VM_HUGETLB, MmStruct26, VmArea26

if TYPE_CHECKING:
    from array import array

    from ..mm.fs import Inode
    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct, VmArea
    from .rmap_unmap import Unmap
    from .swap import LruCache26

ZAP_BLOCK_SIZE = 1024 * PAGE_SIZE  # bytes unmapped before rss is brought up to date
S_SWAPFILE = 256  # in Inode.i_flags: swap is on it
_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_PAGE_MASK = 0xFFFFF000
_U32 = 0xFFFFFFFF


class ZapDetails:
    """In 2.6 unmapping can be choosy, because invalidating a file must leave private copies, and nonlinear areas hold pages in any order;
    before that everything in a range went.

    Pages *first_index* to *last_index* of a file; with *check_mapping* only pages of that file itself.
    kernel: include/linux/mm.h:zap_details
    """

    __slots__ = ("check_mapping", "first_index", "last_index", "nonlinear_vma", "truncate_count")

    def __init__(self, check_mapping: int, first_index: int, last_index: int) -> None:
        self.check_mapping = check_mapping  # id of the address_space, 0: any page
        self.nonlinear_vma: VmArea | None = None
        self.first_index = first_index
        self.last_index = last_index
        self.truncate_count = 0


class MemoryRange26(Memory):
    """Page-table work on whole ranges. Addresses and sizes are in bytes."""

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.index = kernel.mem.index
        self.mapping = kernel.mem.mapping
        self.page_state = kernel.page_allocator.page_state  # type: ignore[attr-defined]

    @property
    def rmap(self) -> Unmap:
        """The reverse mapping."""
        return self.kernel.rmap  # type: ignore[attr-defined,no-any-return]

    @property
    def lru_cache(self) -> LruCache26:
        """The zones' lists."""
        return self.kernel.swap  # type: ignore[return-value]

    def anon_vma_init(self) -> None:
        """In 2.6 new, because of anon_vma objects. kernel: mm/rmap.c:anon_vma_init"""
        self.rmap.anon_vma_init()

    # -- fork ---------------------------------------------------------------------------------

    def copy_page_range(self, dst: MmStruct, src: MmStruct, vma: VmArea) -> int:
        """In 2.6 each copy is one mapping more of its page, and a mm with swap entries gets on the list of those, because swapoff looks at
        no others; before that only the reference was counted.

        Give *dst* the same pages as *src* in the range of *vma*. Returns 0, or -ENOMEM. kernel: mm/memory.c:copy_page_range, copy_one_pte
        """
        kernel, flags, count, ev, rmap, mapping = self.kernel, self.flags, self.count, self.on_event, self.rmap, self.mapping
        if vma.vm_flags & VM_HUGETLB:
            return int(kernel.hugetlb.copy_hugetlb_page_range(dst, src, vma))  # type: ignore[attr-defined]
        if not vma.vm_start:
            return 0  # the kernel's loop takes address 0 for the end: such an area is not copied
        max_mapnr = kernel.max_mapnr
        to = cast(MmStruct26, dst)
        cow = vma.vm_flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
        clear = _PAGE_ACCESSED | _PAGE_DIRTY if vma.vm_flags & VM_SHARED else _PAGE_ACCESSED
        for address, _, src_table, first, nr in self.pmd_spans(src, vma.vm_start, vma.vm_end):
            found = kernel.pgtable.pte_alloc(dst, address)
            if found is None:
                return -ENOMEM
            dst_table = found[0]
            for slot in range(first, first + nr):
                pte = src_table[slot]
                if not pte:
                    continue
                at = address + (slot - first << PAGE_SHIFT)
                if pte & _MAPPED:
                    page = pte >> PAGE_SHIFT
                    if page < max_mapnr and not flags[page] & RESERVED:
                        if cow and pte & _PAGE_RW:
                            pte &= ~_PAGE_RW
                            src_table[slot] = pte
                        pte &= ~clear
                        count[page] += 1
                        to.rss += 1
                        if mapping[page] & ANON:
                            to.anon_rss += 1
                        dst_table[slot] = pte
                        rmap.page_dup_rmap(page, dst, at)
                        if ev is not None:
                            ev(("copy_pte", at, page, pte))
                        continue
                elif not pte_file(pte):
                    kernel.swapfile.swap_duplicate(pte_to_swp_entry(pte))
                    self.enter_mmlist(dst, src)
                    if ev is not None:
                        ev(("copy_swap_pte", at, pte))
                dst_table[slot] = pte
        return 0

    def enter_mmlist(self, mm: MmStruct, after: MmStruct) -> None:
        """In 2.6 only address spaces with pages in swap are listed, because only swapoff walks them; before that all were.

        Put *mm* on the list right after *after*, if it is not there. kernel: mm/memory.c:copy_swap_pte
        """
        mmlist = self.kernel.fork.mmlist
        place = 0
        for at, known in enumerate(mmlist):
            if known is mm:
                return
            if known is after:
                place = at + 1
        mmlist.insert(place, mm)

    # -- unmapping ----------------------------------------------------------------------------

    def zap_range(self, vma: VmArea, start: int, end: int, details: ZapDetails | None) -> int:
        """In 2.6 the page learns of each mapping that goes, because reclaim relies on the count; before that only its reference was
        dropped.

        Unmap [start, end) of one area. Returns the pages that counted in rss.
        kernel: mm/memory.c:unmap_page_range, zap_pte_range, include/asm-generic/tlb.h:tlb_remove_page
        """
        kernel, flags, mapping, ev, rmap = self.kernel, self.flags, self.mapping, self.on_event, self.rmap
        mm = cast(MmStruct26, vma.vm_mm)
        swap_state, filemap, swap = kernel.swap_state, kernel.filemap, kernel.swap
        max_mapnr = kernel.max_mapnr
        choosy = details is not None and (details.check_mapping or details.nonlinear_vma is not None)
        freed = 0
        for address, _, table, first, nr in self.pmd_spans(mm, start, end):
            for slot in range(first, first + nr):
                pte = table[slot]
                if not pte:
                    continue
                at = address + (slot - first << PAGE_SHIFT)
                if not pte & _MAPPED:
                    if not choosy:
                        if not pte_file(pte):
                            kernel.swapfile.free_swap_and_cache(pte_to_swp_entry(pte))
                        table[slot] = 0
                        if ev is not None:
                            ev(("zap_pte", at, pte))
                    continue
                page = pte >> PAGE_SHIFT
                if page >= max_mapnr or flags[page] & RESERVED:
                    table[slot] = 0
                    continue
                entry = 0
                if choosy:
                    left = self._left_alone(cast(ZapDetails, details), page, at)
                    if left < 0:
                        continue
                    entry = left
                table[slot] = entry
                if ev is not None:
                    ev(("zap_pte", at, pte))
                if pte & _PAGE_DIRTY:
                    filemap.set_page_dirty(page)
                if mapping[page] & ANON:
                    mm.anon_rss -= 1
                elif pte & _PAGE_ACCESSED:
                    swap.mark_page_accessed(page)
                freed += 1
                rmap.page_remove_rmap(page, mm, at)
                swap_state.free_page_and_swap_cache(page)
        return freed

    def _left_alone(self, details: ZapDetails, page: int, address: int) -> int:
        """-1 when a choosy unmapping passes this page by, else the entry to leave in its place."""
        if details.check_mapping and details.check_mapping != self.mapping[page]:
            return -1
        vma = details.nonlinear_vma
        if vma is None:
            return 0
        index = self.index[page]
        if not details.first_index <= index <= details.last_index:
            return -1
        linear = (address - vma.vm_start >> PAGE_SHIFT) + vma.vm_pgoff & _U32
        return 0 if linear == index else pgoff_to_pte(index)

    def unmap_vmas(self, mm: MmStruct, vma: VmArea | None, start_addr: int, end_addr: int, details: ZapDetails | None = None) -> int:
        """In 2.6 areas are unmapped in blocks of 4 MiB, because other processes want to run meanwhile; before that each in one go.

        Unmap what [start_addr, end_addr) has of *vma* and the areas after it.
        Returns the pages of it that were promised (VM_ACCOUNT). kernel: mm/memory.c:unmap_vmas, include/asm-generic/tlb.h:tlb_finish_mmu
        """
        accounted = freed = 0
        zap_bytes = ZAP_BLOCK_SIZE
        unmapped = False
        while vma is not None and vma.vm_start < end_addr:
            start, end = max(vma.vm_start, start_addr), min(vma.vm_end, end_addr)
            if start < vma.vm_end and end > vma.vm_start:
                if vma.vm_flags & VM_ACCOUNT:
                    accounted += end - start >> PAGE_SHIFT
                while start != end:
                    if vma.vm_flags & VM_HUGETLB:
                        block = end - start
                        self.kernel.hugetlb.unmap_hugepage_range(vma, start, end)  # type: ignore[attr-defined]
                    else:
                        block = min(zap_bytes, end - start)
                        freed += self.zap_range(vma, start, start + block, details)
                    start += block
                    zap_bytes -= block
                    if zap_bytes <= 0:
                        unmapped |= freed > 0
                        mm.rss -= min(freed, mm.rss)
                        freed = 0
                        zap_bytes = ZAP_BLOCK_SIZE
            vma = vma.vm_next
        mm.rss -= min(freed, mm.rss)
        if unmapped or freed:
            self.kernel.mmu.flush_tlb_mm(mm)
        if self.on_event is not None:
            self.on_event(("zap", start_addr, end_addr, freed))
        return accounted

    def zap_page_range(self, vma: VmArea, address: int, size: int, details: ZapDetails | None = None) -> None:  # type: ignore[override]
        """In 2.6 of an area, because huge pages and nonlinear areas are special; before that of an address space.

        Unmap [address, address + size). kernel: mm/memory.c:zap_page_range
        """
        if vma.vm_flags & VM_HUGETLB:
            self.kernel.hugetlb.zap_hugepage_range(vma, address, size)  # type: ignore[attr-defined]
            return
        self.lru_cache.lru_add_drain()
        assert vma.vm_mm is not None
        self.unmap_vmas(vma.vm_mm, vma, address, address + size, details)

    # -- everybody who maps a part of a file --------------------------------------------------

    def _unmap_mapping_vma(self, vma: VmArea, start: int, end: int, details: ZapDetails) -> None:
        """kernel: mm/memory.c:unmap_mapping_range_vma"""
        area = cast(VmArea26, vma)
        restart = area.vm_truncate_count
        if not restart & ~_PAGE_MASK and start < restart:
            # A truncation that was interrupted left the address to go on from (none ever is interrupted here).
            start = restart
            if start >= end:
                area.vm_truncate_count = details.truncate_count
                return
        self.zap_page_range(vma, start, end - start, details)
        area.vm_truncate_count = details.truncate_count

    def unmap_mapping_range(self, mapping: AddressSpace26, holebegin: int, holelen: int, even_cows: int) -> None:
        """In 2.6 the tree gives only the areas that map the part, because a library is mapped by hundreds; before that all were walked.

        Unmap bytes from *holebegin* on (*holelen* 0: to the end) of the file wherever it is mapped, *even_cows*: private copies too.
        kernel: mm/memory.c:unmap_mapping_range, unmap_mapping_range_tree, unmap_mapping_range_list
        """
        hba = holebegin >> PAGE_SHIFT & _U32
        hlen = holelen + PAGE_SIZE - 1 >> PAGE_SHIFT & _U32
        if holebegin + holelen + PAGE_SIZE - 1 >> PAGE_SHIFT & ~_U32:
            hlen = _U32 - hba + 1 & _U32
        details = ZapDetails(0 if even_cows else mapping.id, hba, hba + hlen - 1 & _U32)
        if details.last_index < details.first_index:
            details.last_index = _U32
        mapping.truncate_count = mapping.truncate_count + 1 & _U32
        if not mapping.truncate_count & ~_PAGE_MASK:
            if not mapping.truncate_count:
                for vma in self.kernel.mmap.vma_prio_tree_foreach(mapping, 0, _U32):  # type: ignore[attr-defined]
                    vma.vm_truncate_count = 0
                for area in mapping.i_mmap_nonlinear:
                    area.vm_truncate_count = 0  # type: ignore[attr-defined]
            mapping.truncate_count += 1
        details.truncate_count = mapping.truncate_count
        for vma in self.kernel.mmap.vma_prio_tree_foreach(mapping, details.first_index, details.last_index):  # type: ignore[attr-defined]
            if vma.vm_truncate_count == details.truncate_count:
                continue
            vba = vma.vm_pgoff
            vea = vba + (vma.vm_end - vma.vm_start >> PAGE_SHIFT) - 1
            zba, zea = max(details.first_index, vba), min(details.last_index, vea)
            self._unmap_mapping_vma(
                vma, (zba - vba << PAGE_SHIFT) + vma.vm_start & _U32, (zea - vba + 1 << PAGE_SHIFT) + vma.vm_start & _U32, details
            )
        for vma in mapping.i_mmap_nonlinear:
            if vma.vm_truncate_count != details.truncate_count:  # type: ignore[attr-defined]
                details.nonlinear_vma = vma
                self._unmap_mapping_vma(vma, vma.vm_start, vma.vm_end, details)

    def vmtruncate(self, inode: Inode, offset: int) -> int:
        """In 2.6 a file that swap is on cannot be cut, because swapping would then write into others' blocks; before that it could.

        Set a file's size to *offset* bytes. Returns 0, -EFBIG or -ETXTBSY. kernel: mm/memory.c:vmtruncate
        """
        kernel = self.kernel
        if self.on_event is not None:
            self.on_event(("vmtruncate", inode.i_ino, inode.i_size, offset))
        if inode.i_size < offset:
            limit = kernel.current.rlim[RLIMIT_FSIZE]
            if limit != RLIM_INFINITY and offset > limit:
                kernel.sched.send_sig(SIGXFSZ, kernel.current)
                return -EFBIG
            if inode.i_sb is not None and offset > inode.i_sb.s_maxbytes:
                return -EFBIG
            inode.i_size = offset
        else:
            if inode.i_flags & S_SWAPFILE:
                return -ETXTBSY
            inode.i_size = offset
            mapping = cast(AddressSpace26, inode.i_mapping)
            self.unmap_mapping_range(mapping, offset + PAGE_SIZE - 1, 0, 1)
            kernel.filemap.truncate_inode_pages(mapping, offset)
        if inode.i_op is not None and inode.i_op.truncate is not None:
            inode.i_op.truncate(inode)
        return 0

    # -- filling with given frames ------------------------------------------------------------

    def remap_pfn_range(self, vma: VmArea, address: int, pfn: int, size: int, prot: int) -> int:
        """In 2.6 it takes a frame number, because devices may lie beyond 4 GiB, and marks the area; before that an address
        (remap_page_range).

        Map frames from *pfn* on at [address, address + size). Returns 0 or -ENOMEM. kernel: mm/memory.c:remap_pfn_range
        """
        kernel, flags, mm = self.kernel, self.flags, vma.vm_mm
        end = address + size
        if address >= end or mm is None:
            raise KernelBug("remap_pfn_range", f"the range {address:#x}-{end:#x} is empty", "range")
        vma.vm_flags |= VM_IO | VM_RESERVED
        error, at = 0, address
        while at < end:
            found: tuple[array[int], int] | None = kernel.pgtable.pte_alloc(mm, at)
            if found is None:
                error = -ENOMEM
                break
            table, slot = found
            if table[slot]:
                raise KernelBug("remap_pte_range", f"the entry {table[slot]:#x} at {at:#x} was in use", "pte")
            page = pfn + (at - address >> PAGE_SHIFT)
            if page >= kernel.max_mapnr or flags[page] & RESERVED:
                table[slot] = page << PAGE_SHIFT | prot
            at += PAGE_SIZE
        kernel.mmu.flush_tlb_range(mm, address, end)
        return error
