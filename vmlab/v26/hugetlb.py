"""Huge pages of 2.6: 4 MiB (2 MiB with PAE) behind one entry of the page directory.

The administrator sets pages aside (``set_max_huge_pages``, /proc/sys/vm/nr_hugepages); files of hugetlbfs are made
of them; mmap of such a file maps all its pages at once, so no page fault ever happens there, and nothing is
swapped out. One TLB entry then serves what would need a thousand.

kernel: mm/hugetlb.c, arch/i386/mm/hugetlbpage.c, fs/hugetlbfs/inode.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.errno import EINVAL, ENOMEM
from ..mm.filemap_cache import UPTODATE
from ..mm.fs import AddressSpaceOps, File, FileOps, Inode, SuperBlock, SuperOps, VmOps
from ..mm.kernel import Part
from ..mm.page_flags import RESERVED, PG_active, PG_dirty, PG_error, PG_locked, PG_referenced
from ..mm.pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PSE, _PAGE_RW
from ..mm.vfs import clear_inode, iput, new_inode, open_file
from ..mm.vm import TASK_SIZE, TASK_UNMAPPED_BASE, VM_MAYSHARE, VM_RESERVED, VM_WRITE
from .fs import AddressSpace26
from .gfp import COMP, GFP_HIGHUSER, NOWARN
from .page_flags import PRIVATE, WRITEBACK
from .swap import PAGEVEC_SIZE
from .vm import VM_HUGETLB, MmStruct26

if TYPE_CHECKING:
    from array import array
    from collections.abc import MutableSequence

    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct, VmArea
    from .pagecache import PageCache26

HUGETLBFS_MAGIC = 0x958458F6
_DTOR = 0xFFFFFFFF  # in page[1].mapping: free_huge_page is to be called for it
_CLEARED = 1 << PG_locked | 1 << PG_error | 1 << PG_referenced | 1 << PG_dirty | 1 << PG_active | RESERVED | PRIVATE | WRITEBACK
_HUGE = _PAGE_PRESENT | _PAGE_PSE


class HugeTlbVmOps(VmOps):
    """kernel: mm/hugetlb.c:hugetlb_vm_ops"""

    name = "hugetlb_vm_ops"

    def nopage(self, vma: VmArea, address: int, kind: object) -> int:
        """Never called: everything was mapped by mmap. kernel: mm/hugetlb.c:hugetlb_nopage"""
        raise KernelBug("hugetlb_nopage", f"a fault at {address:#x} in {vma}", "fault")


class HugeTlbFsAops(AddressSpaceOps):
    """kernel: fs/hugetlbfs/inode.c:hugetlbfs_aops"""

    name = "hugetlbfs_aops"

    def readpage(self, file: File | None, pfn: int) -> int:
        """There is nothing to read from. kernel: fs/hugetlbfs/inode.c:hugetlbfs_readpage"""
        self.kernel.filemap.unlock_page(pfn)
        return -EINVAL


class HugeTlbFileOps(FileOps):
    """kernel: fs/hugetlbfs/inode.c:hugetlbfs_file_operations"""

    name = "hugetlbfs_file_operations"

    def mmap(self, file: File, vma: VmArea) -> int:
        """kernel: fs/hugetlbfs/inode.c:hugetlbfs_file_mmap"""
        return int(self.kernel.hugetlb.hugetlbfs_file_mmap(file, vma))  # type: ignore[attr-defined]

    def get_unmapped_area(self, file: File, addr: int, length: int, pgoff: int, flags: int) -> int:
        """kernel: fs/hugetlbfs/inode.c:hugetlb_get_unmapped_area"""
        return int(self.kernel.hugetlb.hugetlb_get_unmapped_area(addr, length))  # type: ignore[attr-defined]


class HugeTlbSuperOps(SuperOps):
    """kernel: fs/hugetlbfs/inode.c:hugetlbfs_ops"""

    name = "hugetlbfs_super_operations"

    def put_inode(self, inode: Inode) -> None:
        """The last reference of an unlinked file gives its pages back. kernel: fs/hugetlbfs/inode.c:hugetlbfs_drop_inode"""
        if inode.i_count == 1 and not inode.i_nlink:
            self.kernel.hugetlb.truncate_hugepages(inode.i_mapping, 0)  # type: ignore[attr-defined]

    def delete_inode(self, inode: Inode) -> None:
        """kernel: fs/hugetlbfs/inode.c:hugetlbfs_delete_inode"""
        clear_inode(self.kernel, inode)


class HugeTlb(Part):
    """In 2.6 programs with much memory can have large pages, because a TLB of 64 entries covers only 256 KiB in small ones; before that the
    kernel alone used them.

    The pages set aside, and the files made of them. kernel: mm/hugetlb.c, fs/hugetlbfs/inode.c
    """

    state_names = ("files", "free_list", "next_ino", "nr_huge_pages", "sb")

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags, self.count = kernel.mem.flags, kernel.mem.count
        self.mapping, self.index = kernel.mem.mapping, kernel.mem.index
        self.private: array[int] = kernel.mem.column("private")
        self.order = 9 if kernel.config.pae else 10
        self.size = PAGE_SIZE << self.order  # HPAGE_SIZE, bytes
        self.free_list: list[int] = []  # first frames of free huge pages, the next one to use at the end
        self.nr_huge_pages = 0  # free or not
        self.files: dict[str, Inode] = {}
        self.next_ino = 1
        self.aops: AddressSpaceOps = HugeTlbFsAops(kernel)
        self.file_ops: FileOps = HugeTlbFileOps(kernel)
        self.vm_ops: VmOps = HugeTlbVmOps(kernel)
        self.sb = SuperBlock(HugeTlbSuperOps(kernel), 0x7FFFFFFF, HUGETLBFS_MAGIC)

    @property
    def free_huge_pages(self) -> int:
        """Huge pages nobody uses."""
        return len(self.free_list)

    @property
    def filemap(self) -> PageCache26:
        """The page cache."""
        return self.kernel.filemap  # type: ignore[return-value]

    # -- setting pages aside ------------------------------------------------------------------

    def alloc_fresh_huge_page(self) -> int | None:
        """In 2.6 new: a huge page from the buddy allocator, or None. kernel: mm/hugetlb.c:alloc_fresh_huge_page"""
        pfn = self.kernel.page_allocator.alloc_pages(GFP_HIGHUSER | COMP | NOWARN, self.order)
        if pfn is not None:
            self.nr_huge_pages += 1
            self.kernel.mem.owner[pfn] = self.kernel.owner_id("huge page")
        return pfn

    def free_huge_page(self, pfn: int) -> None:
        """In 2.6 new: the last reference of a huge page is gone, it is free again.

        kernel: mm/hugetlb.c:free_huge_page, enqueue_huge_page
        """
        if self.count[pfn]:
            raise KernelBug("free_huge_page", f"huge page {pfn} is in use", "count")
        self.mapping[pfn + 1] = 0
        self.free_list.append(pfn)

    def alloc_huge_page(self) -> int | None:
        """In 2.6 new: a free huge page filled with zeroes, or None. kernel: mm/hugetlb.c:alloc_huge_page, dequeue_huge_page"""
        if not self.free_list:
            return None
        pfn = self.free_list.pop()
        self.count[pfn] = 1
        self.mapping[pfn + 1] = _DTOR
        for frame in range(pfn, pfn + (1 << self.order)):
            self.kernel.highmem.clear_highpage(frame)
        return pfn

    def update_and_free_page(self, pfn: int) -> None:
        """In 2.6 new: a huge page goes back to the buddy allocator. kernel: mm/hugetlb.c:update_and_free_page"""
        self.nr_huge_pages -= 1
        for frame in range(pfn, pfn + (1 << self.order)):
            self.flags[frame] &= ~_CLEARED
            self.count[frame] = 0
        self.count[pfn] = 1
        self.kernel.page_allocator.free_pages(pfn, self.order)

    def set_max_huge_pages(self, wanted: int) -> int:
        """In 2.6 new: have *wanted* huge pages, as far as there are free blocks, or as many as are not in use. Returns how many there are.

        kernel: mm/hugetlb.c:set_max_huge_pages, try_to_free_low, hugetlb_init
        """
        while wanted > self.nr_huge_pages:
            pfn = self.alloc_fresh_huge_page()
            if pfn is None:
                return self.nr_huge_pages
            # As in 2.6.11 the fresh page keeps the reference it was allocated with until somebody uses it.
            self.free_list.append(pfn)
        if wanted < self.nr_huge_pages and self.kernel.config.highmem:
            for pfn in reversed(self.free_list.copy()):  # low memory is scarcer
                if self.kernel.highmem.is_high(pfn):
                    continue
                self.free_list.remove(pfn)
                self.update_and_free_page(pfn)
                if wanted >= self.nr_huge_pages:
                    break
        while wanted < self.nr_huge_pages and self.free_list:
            self.update_and_free_page(self.free_list.pop())
        return self.nr_huge_pages

    def report_meminfo(self) -> str:
        """In 2.6 new: the lines of /proc/meminfo. kernel: mm/hugetlb.c:hugetlb_report_meminfo"""
        total, free = self.nr_huge_pages, self.free_huge_pages
        return f"HugePages_Total: {total:5}\nHugePages_Free:  {free:5}\nHugepagesize:    {self.size // 1024:5} kB\n"

    def is_hugepage_mem_enough(self, size: int) -> bool:
        """In 2.6 new: whether *size* bytes of huge pages are free. kernel: mm/hugetlb.c:is_hugepage_mem_enough"""
        return (size + self.size - 1) // self.size <= self.free_huge_pages

    def hugetlb_total_pages(self) -> int:
        """In 2.6 new: small pages that are inside huge ones, which nobody else can have. kernel: mm/hugetlb.c:hugetlb_total_pages"""
        return self.nr_huge_pages << self.order

    # -- page directories ---------------------------------------------------------------------

    def huge_pte(self, mm: MmStruct, address: int) -> tuple[MutableSequence[int], int]:
        """In 2.6 new: the directory and slot of the entry for a huge page.

        kernel: arch/i386/mm/hugetlbpage.c:huge_pte_alloc, huge_pte_offset
        """
        found = self.kernel.pgtable.pmd_lookup(mm, address)
        assert found is not None
        return found

    def copy_hugetlb_page_range(self, dst: MmStruct, src: MmStruct, vma: VmArea) -> int:
        """In 2.6 new: fork shares huge pages. Returns 0. kernel: arch/i386/mm/hugetlbpage.c:copy_hugetlb_page_range"""
        for address in range(vma.vm_start, vma.vm_end, self.size):
            table, slot = self.huge_pte(dst, address)
            source, at = self.huge_pte(src, address)
            entry = source[at]
            self.count[entry >> PAGE_SHIFT] += 1
            table[slot] = entry
            dst.rss += 1 << self.order
        return 0

    def follow_hugetlb_page(
        self, mm: MmStruct, vma: VmArea, pages: list[int] | None, vmas: list[VmArea] | None, start: int, length: int
    ) -> int:
        """In 2.6 new: get_user_pages in a huge area. Returns how many pages. kernel: arch/i386/mm/hugetlbpage.c:follow_hugetlb_page"""
        got = 0
        while start < vma.vm_end and got < length:
            if pages is not None:
                table, slot = self.huge_pte(mm, start)
                head = table[slot] >> PAGE_SHIFT
                self.count[head] += 1
                pages.append(head + (start >> PAGE_SHIFT & (1 << self.order) - 1))
            if vmas is not None:
                vmas.append(vma)
            start += PAGE_SIZE
            got += 1
        return got

    def follow_huge_pmd(self, address: int, pmd: int, write: int) -> int:
        """In 2.6 new: the frame of *address* in a huge page. kernel: arch/i386/mm/hugetlbpage.c:follow_huge_pmd"""
        return (pmd >> PAGE_SHIFT) + (address >> PAGE_SHIFT & (1 << self.order) - 1)

    def unmap_hugepage_range(self, vma: VmArea, start: int, end: int) -> None:
        """In 2.6 new: unmap whole huge pages. kernel: arch/i386/mm/hugetlbpage.c:unmap_hugepage_range"""
        if (start | end) & (self.size - 1):
            raise KernelBug("unmap_hugepage_range", f"{start:#x}-{end:#x} are not whole huge pages", "aligned")
        mm = vma.vm_mm
        assert mm is not None
        for address in range(start, end, self.size):
            table, slot = self.huge_pte(mm, address)
            entry, table[slot] = table[slot], 0
            if entry:
                self.kernel.put_page(entry >> PAGE_SHIFT)
        mm.rss -= end - start >> PAGE_SHIFT
        self.kernel.mmu.flush_tlb_range(mm, start, end)

    def zap_hugepage_range(self, vma: VmArea, start: int, length: int) -> None:
        """In 2.6 new: the same, by its length. kernel: mm/hugetlb.c:zap_hugepage_range"""
        self.unmap_hugepage_range(vma, start, start + length)

    def hugetlb_prefault(self, mapping: AddressSpace26, vma: VmArea) -> int:
        """In 2.6 new: map every huge page of *vma*, taking free ones for those the file has not yet. Returns 0 or -ENOMEM.

        kernel: arch/i386/mm/hugetlbpage.c:hugetlb_prefault, set_huge_pte
        """
        mm = cast(MmStruct26, vma.vm_mm)
        shift = self.order
        for address in range(vma.vm_start, vma.vm_end, self.size):
            table, slot = self.huge_pte(mm, address)
            if table[slot]:  # an empty page table of small pages
                pfn = table[slot] >> PAGE_SHIFT
                table[slot] = 0
                mm.nr_ptes -= 1
                self.kernel.page_allocator.page_state.nr_page_table_pages -= 1  # type: ignore[attr-defined]
                self.kernel.pgtable.pte_free_slow(pfn)
            index = (address - vma.vm_start >> PAGE_SHIFT >> shift) + (vma.vm_pgoff >> shift)
            page = self.filemap.find_get_page(mapping, index)
            if page is None:
                page = self.alloc_huge_page()
                if page is None:
                    return -ENOMEM
                self.filemap.add_to_page_cache(page, mapping, index)
                self.filemap.unlock_page(page)
            mm.rss += 1 << shift
            entry = page << PAGE_SHIFT | vma.vm_page_prot
            entry = entry | _PAGE_RW | _PAGE_DIRTY if vma.vm_flags & VM_WRITE else entry & ~_PAGE_RW
            table[slot] = entry | _PAGE_ACCESSED | _HUGE
            if self.on_event is not None:
                self.on_event(("set_pte", address, table[slot]))
        return 0

    # -- hugetlbfs ----------------------------------------------------------------------------

    def create(self, name: str) -> Inode:
        """Make an empty file of huge pages. Raises ValueError for a name that is taken. kernel: fs/hugetlbfs/inode.c:hugetlbfs_create"""
        if not name or name in self.files:
            raise ValueError(f"{name!r}: a new file needs a name that is not taken yet")
        inode = new_inode(self.kernel, self.next_ino, 0o100644, self.aops, self.sb)
        self.next_ino += 1
        inode.name = name
        inode.i_fop = self.file_ops
        space = cast(AddressSpace26, inode.i_mapping)
        space.memory_backed = True
        space.ra_pages = 0
        self.files[name] = inode
        return inode

    def open(self, name: str) -> File:
        """Open a file for reading and writing. Raises KeyError when there is none."""
        inode = self.files[name]
        inode.i_writecount += 1
        return open_file(inode, 3, inode.i_fop)

    def unlink(self, name: str) -> None:
        """Take the name away; the pages go when nobody maps them any more. Raises KeyError when there is none."""
        inode = self.files.pop(name)
        inode.i_nlink = 0
        iput(self.kernel, inode)

    def hugetlbfs_file_mmap(self, file: File, vma: VmArea) -> int:
        """In 2.6 new: map a file of huge pages, all at once. Returns 0, EINVAL (22) or ENOMEM (12).

        kernel: fs/hugetlbfs/inode.c:hugetlbfs_file_mmap
        """
        inode, mask = file.inode, self.size - 1
        if vma.vm_flags & (VM_MAYSHARE | VM_WRITE) == VM_WRITE or vma.vm_pgoff & (mask >> PAGE_SHIFT):
            return -EINVAL
        if (vma.vm_start | vma.vm_end) & mask or vma.vm_end - vma.vm_start < self.size:
            return -EINVAL
        vma.vm_flags |= VM_HUGETLB | VM_RESERVED
        vma.vm_ops = self.vm_ops
        length = vma.vm_end - vma.vm_start + (vma.vm_pgoff << PAGE_SHIFT)
        if not vma.vm_flags & VM_WRITE and length > inode.i_size:
            return -ENOMEM
        ret = self.hugetlb_prefault(cast(AddressSpace26, inode.i_mapping), vma)
        if not ret:
            inode.i_size = max(inode.i_size, length)
        return ret

    def hugetlb_get_unmapped_area(self, addr: int, length: int) -> int:
        """In 2.6 new: a gap for whole huge pages, aligned to them. Returns its address or an errno.

        kernel: fs/hugetlbfs/inode.c:hugetlb_get_unmapped_area
        """
        mask = self.size - 1
        mm = cast(Any, self.kernel.current.mm)
        if length & mask:
            return -EINVAL
        if length > TASK_SIZE:
            return -ENOMEM
        find_vma = self.kernel.mmap.find_vma
        if addr:
            addr = addr + mask & ~mask
            vma = find_vma(mm, addr)
            if TASK_SIZE - length >= addr and (vma is None or addr + length <= vma.vm_start):
                return addr
        start = mm.free_area_cache
        while True:
            addr = start + mask & ~mask
            vma = find_vma(mm, addr)
            while TASK_SIZE - length >= addr:
                if vma is None or addr + length <= vma.vm_start:
                    return addr
                addr = vma.vm_end + mask & ~mask
                vma = vma.vm_next
            if start == TASK_UNMAPPED_BASE:
                return -ENOMEM
            start = TASK_UNMAPPED_BASE

    def truncate_hugepages(self, mapping: AddressSpace26, lstart: int) -> None:
        """In 2.6 new: drop the huge pages of a file from byte *lstart* on.

        kernel: fs/hugetlbfs/inode.c:truncate_hugepages, truncate_huge_page
        """
        start = lstart // self.size
        filemap = self.filemap
        while pages := filemap.find_get_pages(mapping, start, PAGEVEC_SIZE):
            for pfn in pages:
                filemap.lock_page(pfn)
                filemap.test_clear_page_dirty(pfn)
                self.flags[pfn] &= ~UPTODATE
                filemap.remove_from_page_cache(pfn)
                self.kernel.put_page(pfn)
                filemap.unlock_page(pfn)
            for pfn in pages:
                self.kernel.put_page(pfn)

    def hugetlb_vmtruncate(self, inode: Inode, offset: int) -> int:
        """In 2.6 new: cut a file of huge pages at byte *offset*; it cannot grow. Returns 0 or EINVAL (22).

        kernel: fs/hugetlbfs/inode.c:hugetlb_vmtruncate, hugetlb_vmtruncate_list
        """
        if offset > inode.i_size or offset & (self.size - 1):
            return -EINVAL
        first = offset // self.size
        inode.i_size = offset
        mapping = cast(AddressSpace26, inode.i_mapping)
        for vma in self.kernel.mmap.vma_prio_tree_foreach(mapping, first, 0xFFFFFFFF):  # type: ignore[attr-defined]
            begin = vma.vm_pgoff >> self.order
            skip = 0 if begin >= first else (first - begin) * self.size
            self.zap_hugepage_range(vma, vma.vm_start + skip, vma.vm_end - vma.vm_start - skip)
        self.truncate_hugepages(mapping, offset)
        return 0
