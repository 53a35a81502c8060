"""Where a mapping goes when the program leaves it to the kernel.

    legacy     from a third of the address space upwards, as in 2.4
    top-down   from below the largest stack downwards, so that heap and mappings share one gap

``free_area_cache`` remembers where the last search ended. kernel: mm/mmap.c, arch/i386/mm/mmap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EINVAL, ENOMEM
from ..mm.mmap_areas import PAGE_MASK, U32, page_align
from ..mm.task import RLIM_INFINITY, RLIMIT_STACK
from ..mm.vm import MAP_FIXED, TASK_SIZE, TASK_UNMAPPED_BASE
from .mmap_areas import HPAGE_MASK, Areas26
from .vm import MmStruct26

if TYPE_CHECKING:
    from ..mm.fs import File
    from ..mm.kernel import Kernel
    from ..mm.vm import VmArea

MIN_GAP = 128 << 20  # bytes for the stack
MAX_GAP = TASK_SIZE // 6 * 5


class Places(Areas26):
    """Finding a free range of addresses."""

    state_names: tuple[str, ...] = (*Areas26.state_names, "sysctl_legacy_va_layout")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.sysctl_legacy_va_layout = 0

    def arch_pick_mmap_layout(self, mm: MmStruct26) -> None:
        """In 2.6 a program's mappings begin below its stack and go down, because one large gap serves everything; before that they began at
        a third of the address space.

        With an unlimited stack, or the sysctl, the old layout. kernel: arch/i386/mm/mmap.c:arch_pick_mmap_layout, mmap_base
        """
        stack = self.kernel.current.rlim[RLIMIT_STACK]
        mm.legacy = bool(self.sysctl_legacy_va_layout) or stack == RLIM_INFINITY
        mm.mmap_base = TASK_UNMAPPED_BASE if mm.legacy else TASK_SIZE - (min(max(stack, MIN_GAP), MAX_GAP) & PAGE_MASK)

    def get_unmapped_area(self, file: File | None, addr: int, length: int, pgoff: int, flags: int) -> int:
        """In 2.6 the address space says how to search, because there are two layouts; before that there was one.

        An address for *length* bytes in the current task: *addr* itself with MAP_FIXED. Returns it, or -ENOMEM or -EINVAL.
        kernel: mm/mmap.c:get_unmapped_area
        """
        if flags & MAP_FIXED:
            if addr > (TASK_SIZE - length & U32):
                return -ENOMEM
            if addr & 0xFFF or (self.is_file_hugepages(file) and (addr | length) & ~HPAGE_MASK & U32):
                return -EINVAL
            return addr
        if file is not None and file.f_op is not None and file.f_op.get_unmapped_area is not None:
            return int(file.f_op.get_unmapped_area(file, addr, length, pgoff, flags))
        if cast(MmStruct26, self.kernel.current.mm).legacy:
            return self.arch_get_unmapped_area(file, addr, length, pgoff, flags)
        return self.arch_get_unmapped_area_topdown(file, addr, length, pgoff, flags)

    def is_file_hugepages(self, file: File | None) -> bool:
        """In 2.6 new, because huge pages are files of their own. kernel: include/linux/hugetlb.h:is_file_hugepages"""
        return file is not None and file.f_op is not None and file.f_op is self.kernel.ops.get("hugetlbfs_file_operations")

    def _at_hint(self, mm: MmStruct26, addr: int, length: int) -> int:
        """The page-aligned *addr* if [addr, addr + length) is free there, else -1."""
        addr = page_align(addr)
        vma = self.find_vma(mm, addr)
        return addr if TASK_SIZE - length >= addr and (vma is None or addr + length <= vma.vm_start) else -1

    def arch_get_unmapped_area(self, file: File | None, addr: int, length: int, pgoff: int, flags: int) -> int:
        """In 2.6 the search goes on where the last one ended, because starting over made many mappings slow; before that it always began at
        TASK_UNMAPPED_BASE.

        Gaps below are found only when the rest is full. kernel: mm/mmap.c:arch_get_unmapped_area
        """
        mm = cast(MmStruct26, self.kernel.current.mm)
        if length > TASK_SIZE:
            return -ENOMEM
        if addr and (hint := self._at_hint(mm, addr, length)) >= 0:
            return hint
        start_addr = addr = mm.free_area_cache
        vma = self.find_vma(mm, addr)
        while True:
            if TASK_SIZE - length < addr:
                if start_addr == TASK_UNMAPPED_BASE:
                    return -ENOMEM
                start_addr = addr = TASK_UNMAPPED_BASE
                vma = self.find_vma(mm, addr)
                continue
            if vma is None or addr + length <= vma.vm_start:
                mm.free_area_cache = addr + length
                return self._found(mm, addr, length)
            addr = vma.vm_end
            vma = vma.vm_next

    def arch_get_unmapped_area_topdown(self, file: File | None, addr0: int, length: int, pgoff: int, flags: int) -> int:
        """In 2.6 new, because of the layout from the top: the gap just below ``free_area_cache``, or one further down.

        Tried again from ``mmap_base``, and at last upwards. kernel: mm/mmap.c:arch_get_unmapped_area_topdown
        """
        mm = cast(MmStruct26, self.kernel.current.mm)
        if length > TASK_SIZE:
            return -ENOMEM
        base = mm.mmap_base
        mm.free_area_cache = min(mm.free_area_cache, base)
        if addr0 and (hint := self._at_hint(mm, addr0, length)) >= 0:
            return hint
        for first_time in (True, False):
            found = self._search_down(mm, length)
            if found >= 0:
                return self._found(mm, found, length)
            if first_time:
                mm.free_area_cache = base
        mm.free_area_cache = TASK_UNMAPPED_BASE
        addr = self.arch_get_unmapped_area(file, addr0, length, pgoff, flags)
        mm.free_area_cache = base
        return addr

    def _search_down(self, mm: MmStruct26, length: int) -> int:
        """A gap of *length* bytes below ``free_area_cache``, -1 when there is none."""
        if mm.free_area_cache < length:
            return -1
        addr = mm.free_area_cache - length & PAGE_MASK
        while True:
            vma, prev = self.find_vma_prev(mm, addr)
            if vma is None:
                return addr
            if addr + length <= vma.vm_start and (prev is None or addr >= prev.vm_end):
                mm.free_area_cache = addr
                return addr
            if mm.free_area_cache == vma.vm_end:
                mm.free_area_cache = vma.vm_start
            addr = vma.vm_start - length
            if length > vma.vm_start:
                return -1

    def _found(self, mm: MmStruct26, addr: int, length: int) -> int:
        if self.on_event is not None:
            self.on_event(("unmapped_area", mm.pid, addr, length))
        return addr

    def unmap_area(self, area: VmArea) -> None:
        """In 2.6 new, because searches go on where they ended: a hole outside what is still to be searched moves the mark.

        kernel: mm/mmap.c:arch_unmap_area, arch_unmap_area_topdown
        """
        mm = cast(MmStruct26, area.vm_mm)
        if mm.legacy:
            if TASK_UNMAPPED_BASE <= area.vm_start < mm.free_area_cache:
                mm.free_area_cache = area.vm_start
        elif area.vm_end > mm.free_area_cache:
            mm.free_area_cache = area.vm_end
