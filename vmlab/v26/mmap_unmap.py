"""Unmapping in 2.6: first split so that whole areas go, then take them off, then drop their pages together. kernel: mm/mmap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import KernelBug
from ..mm.errno import EINVAL
from ..mm.mmap_areas import U32, page_align
from ..mm.mmap_unmap import Unmapping
from ..mm.rbtree import rb_erase
from ..mm.vm import TASK_SIZE, VM_EXEC, VM_GROWSDOWN, VM_IO, VM_LOCKED, VM_RESERVED, VM_WRITE
from .mmap_place import Places
from .vm import MmStruct26, VmArea26

if TYPE_CHECKING:
    from ..mm.fs import File
    from ..mm.kernel import Kernel
    from ..mm.vm import MmStruct, VmArea


class Unmapping26(Places, Unmapping):
    """do_munmap, exit_mmap, and the accounts of promised memory; the base of Mmap26."""

    state_names: tuple[str, ...] = (*Places.state_names, "max_map_count", "vm_committed_space", "config_proc_fs")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.config_proc_fs = True  # CONFIG_PROC_FS: count kinds of mappings
        self.vm_committed_space = 0  # pages promised to areas with VM_ACCOUNT and to tmpfs; a signed 32-bit count

    # -- accounts ------------------------------------------------------------------------------

    def vm_acct_memory(self, pages: int) -> None:
        """In 2.6 what was promised is counted, because there is a strict mode; before that nobody added it up.

        kernel: include/linux/mman.h:vm_acct_memory
        """
        self.vm_committed_space = (self.vm_committed_space + pages + 0x80000000 & U32) - 0x80000000

    def vm_unacct_memory(self, pages: int) -> None:
        """In 2.6 new, because promises are counted. kernel: include/linux/mman.h:vm_unacct_memory"""
        self.vm_acct_memory(-pages)

    def vm_stat_account(self, mm: MmStruct, flags: int, file: File | None, pages: int) -> None:
        """In 2.6 kinds of mappings are counted as they come and go, because /proc counted them by walking page tables before.

        kernel: mm/mmap.c:__vm_stat_account
        """
        if not self.config_proc_fs:
            return
        mm = cast(MmStruct26, mm)
        if file is not None:
            mm.shared_vm = mm.shared_vm + pages & U32
            if flags & (VM_EXEC | VM_WRITE) == VM_EXEC:
                mm.exec_vm = mm.exec_vm + pages & U32
        elif flags & VM_GROWSDOWN:
            mm.stack_vm = mm.stack_vm + pages & U32
        if flags & (VM_RESERVED | VM_IO):
            mm.reserved_vm = mm.reserved_vm + pages & U32

    def update_mem_hiwater(self) -> None:
        """In 2.6 the current task's peaks are kept, because accounting asks for them. kernel: mm/memory.c:update_mem_hiwater"""
        mm = cast("MmStruct26 | None", self.kernel.current.mm)
        if mm is not None:
            mm.hiwater_rss = max(mm.hiwater_rss, mm.rss)
            mm.hiwater_vm = max(mm.hiwater_vm, mm.total_vm)

    # -- unmapping -----------------------------------------------------------------------------

    def free_pgtables(self, mm: MmStruct, prev: VmArea | None, start: int, end: int) -> None:
        """In 2.6 tables are freed by address ranges, because there are three levels above them; before that by directory entries.

        Those of [start, end) that no area needs; *prev* is some area before, or None. kernel: mm/mmap.c:free_pgtables
        """
        pgtable = self.kernel.pgtable
        size = 1 << pgtable.PGDIR_SHIFT
        first = start & -size
        last = end + size - 1
        if last > TASK_SIZE:
            last = TASK_SIZE
        if prev is None:
            prev = mm.mmap
            if prev is not None and prev.vm_end > start:
                last = min(last, prev.vm_start)
                prev = None
        while prev is not None:
            following = prev.vm_next
            if following is not None:
                if following.vm_start < start:
                    prev = following
                    continue
                last = min(last, following.vm_start)
            first = max(first, prev.vm_end)
            break
        if last < first:
            return
        pmd_mask = -pgtable.PMD_SIZE
        if first & pmd_mask < last & pmd_mask:
            pgtable.clear_page_range(mm, first, last)  # type: ignore[attr-defined]
            self.kernel.mmu.flush_tlb_pgtables(mm, first, last)

    def unmap_region(self, mm: MmStruct, vma: VmArea26, prev: VmArea | None, start: int, end: int) -> None:
        """In 2.6 all areas' pages go in one sweep, because the TLB is then flushed once; before that area by area.

        kernel: mm/mmap.c:unmap_region
        """
        kernel = self.kernel
        kernel.swap.lru_add_drain()  # type: ignore[attr-defined]
        self.vm_unacct_memory(kernel.memory.unmap_vmas(mm, vma, start, end))  # type: ignore[attr-defined]
        self.free_pgtables(mm, prev, start, end)

    def detach_vmas_to_be_unmapped(self, mm: MmStruct, vma: VmArea26, prev: VmArea | None, end: int) -> None:
        """In 2.6 new, because they go together: *vma* and those after it that begin before *end* leave list and tree, still chained.

        kernel: mm/mmap.c:detach_vmas_to_be_unmapped
        """
        ev = self.on_event
        area: VmArea | None = vma
        tail: VmArea = vma
        while area is not None and (area is vma or area.vm_start < end):
            if ev is not None:
                ev(("vma_unlink", mm.pid, area.vm_start, area.vm_end))
            rb_erase(area, mm, ev)
            mm.map_count -= 1
            tail, area = area, area.vm_next
        if prev is None:
            mm.mmap = area
        else:
            prev.vm_next = area
        tail.vm_next = None
        mm.mmap_cache = None

    def unmap_vma(self, area: VmArea26) -> None:
        """In 2.6 what is left of unmap_fixup, because only whole areas come here. kernel: mm/mmap.c:unmap_vma"""
        mm = area.vm_mm
        assert mm is not None
        pages = area.vm_end - area.vm_start >> 12
        mm.total_vm = mm.total_vm - pages & U32
        if area.vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm - pages & U32
        self.vm_stat_account(mm, area.vm_flags, area.vm_file, -pages)
        self.unmap_area(area)
        self.remove_vm_struct(area)

    def do_munmap(self, mm: MmStruct, addr: int, length: int) -> int:
        """In 2.6 areas that only overlap are split first, because then whole ones go; before that the rest was linked anew.

        Remove every mapping in [addr, addr + length). Returns 0 (also when nothing was there), -EINVAL for a
        range that is odd, empty or too high, -ENOMEM when a split fails. kernel: mm/mmap.c:do_munmap
        """
        if addr & 0xFFF or addr > TASK_SIZE or length > TASK_SIZE - addr:
            return -EINVAL
        length = page_align(length)
        if length == 0:
            return -EINVAL
        end = addr + length
        found, prev = self.find_vma_prev(mm, addr)
        if found is None or found.vm_start >= end:
            return 0
        if self.on_event is not None:
            self.on_event(("munmap", mm.pid, addr, end))
        if addr > found.vm_start:
            error = self.split_vma(mm, cast(VmArea26, found), addr, False)
            if error:
                return error
            prev = found
        last = self.find_vma(mm, end)
        if last is not None and end > last.vm_start:
            error = self.split_vma(mm, cast(VmArea26, last), end, True)
            if error:
                return error
        area = cast("VmArea26 | None", prev.vm_next if prev is not None else mm.mmap)
        assert area is not None
        self.detach_vmas_to_be_unmapped(mm, area, prev, end)
        self.unmap_region(mm, area, prev, addr, end)
        while area is not None:
            following = cast("VmArea26 | None", area.vm_next)
            self.unmap_vma(area)
            area = following
        return 0

    def exit_mmap(self, mm: MmStruct) -> None:
        """In 2.6 pages and tables go first, then the areas, because swapoff and reclaim still look for areas meanwhile; before that area by
        area.

        kernel: mm/mmap.c:exit_mmap
        """
        if self.on_event is not None:
            self.on_event(("exit_mmap", mm.pid))
        kernel = self.kernel
        kernel.swap.lru_add_drain()  # type: ignore[attr-defined]
        area = cast("VmArea26 | None", mm.mmap)
        self.vm_unacct_memory(kernel.memory.unmap_vmas(mm, area, 0, U32))  # type: ignore[attr-defined]
        mm.map_count -= len(mm.areas())
        if mm.map_count:
            raise KernelBug("exit_mmap", f"{mm.map_count} areas are counted but not on the list", "count")
        kernel.pgtable.clear_page_range(mm, 0, TASK_SIZE)  # type: ignore[attr-defined]
        kernel.mmu.flush_tlb_mm(mm)
        mm.mmap = mm.mmap_cache = mm.mm_rb = None
        mm.rss = mm.total_vm = mm.locked_vm = 0
        while area is not None:
            following = cast("VmArea26 | None", area.vm_next)
            self.remove_vm_struct(area)
            area = following
