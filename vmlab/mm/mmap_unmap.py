"""Unmapping: areas cut off, cut through or removed, their pages and page tables given back. kernel: mm/mmap.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .errno import EINVAL, ENOMEM
from .mmap_areas import U32, Areas, page_align
from .rbtree import rb_erase
from .vfs import fput
from .vm import DEFAULT_MAX_MAP_COUNT, TASK_SIZE, VM_DENYWRITE, VM_LOCKED, MmStruct, VmArea

if TYPE_CHECKING:
    from .kernel import Kernel


class Unmapping(Areas):
    """do_munmap, exit_mmap and what they need; the base of Mmap."""

    state_names = (*Areas.state_names, "max_map_count")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.max_map_count = DEFAULT_MAX_MAP_COUNT

    def unmap_fixup(self, mm: MmStruct, area: VmArea, addr: int, length: int, extra: VmArea | None) -> VmArea | None:
        """Settle what is left of *area*, already off all lists, when [addr, addr + length) goes.

        All of it: free it. One end: shorten it and link it again. The middle: *extra* becomes the
        upper part. Returns *extra* if it was not used. kernel: mm/mmap.c:unmap_fixup
        """
        end = addr + length
        owner = area.vm_mm
        assert owner is not None
        owner.total_vm = owner.total_vm - (length >> 12) & U32
        if area.vm_flags & VM_LOCKED:
            owner.locked_vm = owner.locked_vm - (length >> 12) & U32
        if addr == area.vm_start and end == area.vm_end:
            if area.vm_ops is not None and area.vm_ops.close is not None:
                area.vm_ops.close(area)
            if area.vm_file is not None:
                fput(self.kernel, area.vm_file)
            self.free_vma(area)
            return extra
        ev = self.on_event
        if end == area.vm_end:
            area.vm_end = addr
        elif addr == area.vm_start:
            area.vm_pgoff = area.vm_pgoff + (end - area.vm_start >> 12) & U32
            area.vm_start = end
        else:
            upper = extra
            extra = None
            assert upper is not None  # only one area can have a hole in the middle
            upper.vm_mm = owner
            upper.vm_start, upper.vm_end = end, area.vm_end
            upper.vm_page_prot, upper.vm_flags = area.vm_page_prot, area.vm_flags
            upper.vm_raend = 0
            upper.vm_ops = area.vm_ops
            upper.vm_pgoff = area.vm_pgoff + (end - area.vm_start >> 12) & U32
            upper.vm_file, upper.vm_private_data = area.vm_file, area.vm_private_data
            self.get_area_file(upper)
            area.vm_end = addr
            if ev is not None:
                ev(("vma_split", mm.pid, end, end, upper.vm_end))
            self.insert_vm_struct(mm, upper)
        if ev is not None:
            ev(("vma_trim", mm.pid, area.vm_start, area.vm_end))
        self.insert_vm_struct(mm, area)
        return extra

    def free_pgtables(self, mm: MmStruct, prev: VmArea | None, start: int, end: int) -> None:
        """Free page tables of [start, end) in directory entries that no area uses any more.

        *prev* is some area before *start*, or None. kernel: mm/mmap.c:free_pgtables
        """
        shift = self.kernel.pgtable.PGDIR_SHIFT
        size = 1 << shift  # bytes per directory entry
        first = start & -size
        last = end + size - 1 & U32
        if prev is None:
            prev = mm.mmap
            if prev is not None and prev.vm_end > start:
                last = min(last, prev.vm_start)
                prev = None
        if prev is not None:
            while True:
                following = prev.vm_next
                if following is not None:
                    if following.vm_start < start:
                        prev = following
                        continue
                    last = min(last, following.vm_start)
                if prev.vm_end > first:
                    first = prev.vm_end + size - 1 & U32
                break
        if last < first:
            return
        first_index, last_index = first >> shift, last >> shift
        if last_index > first_index:
            self.kernel.pgtable.clear_page_tables(mm, first_index, last_index - first_index)
            self.kernel.mmu.flush_tlb_pgtables(mm, first & -size, last & -size)

    def do_munmap(self, mm: MmStruct, addr: int, length: int) -> int:
        """Remove every mapping in [addr, addr + length); areas that only overlap are cut.

        Returns 0 (also when nothing was there), -EINVAL for a range that is odd, empty or too high,
        -ENOMEM when it would make a hole beyond ``max_map_count`` or without memory for the
        record of a second half. kernel: mm/mmap.c:do_munmap
        """
        if addr & 0xFFF or addr > TASK_SIZE or length > TASK_SIZE - addr:
            return -EINVAL
        length = page_align(length)
        if length == 0:
            return -EINVAL
        limit = addr + length
        area, prev = self.find_vma_prev(mm, addr)
        if area is None or area.vm_start >= limit:
            return 0
        if area.vm_start < addr and area.vm_end > limit and mm.map_count >= self.max_map_count:
            return -ENOMEM
        extra = self.alloc_vma()
        if extra is None:
            return -ENOMEM
        ev = self.on_event
        if ev is not None:
            ev(("munmap", mm.pid, addr, limit))
        free: list[VmArea] = []  # the kernel's list runs backwards: the highest area is dealt with first
        while area is not None and area.vm_start < limit:
            if ev is not None:
                ev(("vma_unlink", mm.pid, area.vm_start, area.vm_end))
            following = area.vm_next
            area.vm_next = free[-1] if free else None
            free.append(area)
            rb_erase(area, mm, ev)
            area = following
        if prev is None:
            mm.mmap = area
        else:
            prev.vm_next = area
        mm.mmap_cache = None
        zap_page_range = self.kernel.memory.zap_page_range
        spare: VmArea | None = extra
        while free:
            area = free.pop()
            start = max(addr, area.vm_start)
            end = min(limit, area.vm_end)
            file = None
            if area.vm_flags & VM_DENYWRITE and (start != area.vm_start or end != area.vm_end):
                file = area.vm_file
                if file is not None:
                    file.inode.i_writecount -= 1
            self.remove_shared_vm_struct(area)
            mm.map_count -= 1
            zap_page_range(mm, start, end - start)
            spare = self.unmap_fixup(mm, area, start, end - start, spare)
            if file is not None:
                file.inode.i_writecount += 1
        if spare is not None:
            self.free_vma(spare)
        self.free_pgtables(mm, prev, addr, limit)
        return 0

    def sys_munmap(self, addr: int, length: int) -> int:
        """munmap(2) of the current task. kernel: mm/mmap.c:sys_munmap"""
        mm = self.kernel.current.mm
        assert mm is not None
        return self.do_munmap(mm, addr & U32, length & U32)

    def exit_mmap(self, mm: MmStruct) -> None:
        """Remove every area and all user page tables: the address space is empty after it. kernel: mm/mmap.c:exit_mmap"""
        if self.on_event is not None:
            self.on_event(("exit_mmap", mm.pid))
        kernel = self.kernel
        area = mm.mmap
        mm.mmap = mm.mmap_cache = mm.mm_rb = None
        mm.rss = mm.total_vm = mm.locked_vm = 0
        while area is not None:
            following = area.vm_next
            if area.vm_ops is not None and area.vm_ops.close is not None:
                area.vm_ops.close(area)
            mm.map_count -= 1
            self.remove_shared_vm_struct(area)
            kernel.memory.zap_page_range(mm, area.vm_start, area.vm_end - area.vm_start)
            if area.vm_file is not None:
                fput(kernel, area.vm_file)
            self.free_vma(area)
            area = following
        if mm.map_count:
            raise KernelBug("exit_mmap", f"{mm.map_count} areas are counted but not on the list", "count")
        kernel.pgtable.clear_page_tables(mm, 0, kernel.pgtable.USER_PTRS_PER_PGD)
        kernel.mmu.flush_tlb_mm(mm)
