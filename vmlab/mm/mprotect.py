"""mprotect: other rights for a range of addresses. Areas are split where the range begins and ends inside one.

kernel: mm/mprotect.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .errno import EACCES, EINVAL, ENOMEM
from .kernel import Part
from .mmap_areas import U32, can_vma_merge, page_align
from .pgtable import _PAGE_ACCESSED, _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE, PAGE_FLAGS
from .vm import PROT_EXEC, PROT_READ, PROT_WRITE, VM_SHARED, VmArea, protection_map

if TYPE_CHECKING:
    from .kernel import Kernel

_RIGHTS = PROT_READ | PROT_WRITE | PROT_EXEC
_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE
_KEPT = ~PAGE_FLAGS | _PAGE_ACCESSED | _PAGE_DIRTY  # pte_modify() in the loop over a table, without the call
Result = tuple[int, VmArea | None]
"""(0 or a negative error, the area that is now the last one changed)"""


class Mprotect(Part):
    """Changing the rights of areas and of the page table entries below them."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def change_protection(self, start: int, end: int, newprot: int) -> None:
        """Give every present entry of [start, end) of the current task the _PAGE_ bits *newprot*.

        kernel: mm/mprotect.c:change_protection, change_pmd_range, change_pte_range
        """
        kernel = self.kernel
        mm = kernel.current.mm
        assert mm is not None
        if start >= end:
            raise KernelBug("change_protection", f"the range {start:#x}-{end:#x} is empty", "range")
        pgtable = kernel.pgtable
        size = pgtable.PMD_SIZE
        address = start
        while address < end:
            limit = min(end, (address & -size) + size)
            found = pgtable.pte_lookup(mm, address)
            if found is not None:
                table, slot = found
                for at in range(slot, slot + (limit - address >> 12)):
                    pte = table[at]
                    if pte & _MAPPED:
                        table[at] = pte & _KEPT | newprot
            address = limit
        kernel.mmu.flush_tlb_range(mm, start, end)
        if self.on_event is not None:
            self.on_event(("change_protection", mm.pid, start, end, newprot))

    def mprotect_fixup_all(self, vma: VmArea, prev: VmArea | None, newflags: int, prot: int) -> Result:
        """The whole area changes; it may melt into the one before. kernel: mm/mprotect.c:mprotect_fixup_all"""
        mm = vma.vm_mm
        assert mm is not None
        if prev is not None and self._melts(prev, vma, newflags):
            mmap = self.kernel.mmap
            prev.vm_end = vma.vm_end
            mmap.vma_unlink(mm, vma, prev)
            if self.on_event is not None:
                self.on_event(("vma_merge", mm.pid, prev.vm_start, prev.vm_end))
            mmap.free_vma(vma)
            mm.map_count -= 1
            return 0, prev
        vma.vm_flags = newflags
        vma.vm_page_prot = prot
        return 0, vma

    def mprotect_fixup_start(self, vma: VmArea, prev: VmArea | None, end: int, newflags: int, prot: int) -> Result:
        """The part below *end* changes: the area before takes it, or a new one is made for it.

        kernel: mm/mprotect.c:mprotect_fixup_start
        """
        mmap = self.kernel.mmap
        mm = vma.vm_mm
        assert mm is not None
        if prev is not None and self._melts(prev, vma, newflags):
            prev.vm_end = vma.vm_start = end
            if self.on_event is not None:
                self.on_event(("vma_merge", mm.pid, prev.vm_start, end))
            return 0, vma
        new = mmap.copy_vma(vma)
        if new is None:
            return -ENOMEM, vma
        new.vm_end = end
        new.vm_flags = newflags
        new.vm_page_prot = prot
        mmap.get_area_file(new)
        vma.vm_pgoff = vma.vm_pgoff + (end - vma.vm_start >> 12) & U32
        vma.vm_start = end
        if self.on_event is not None:
            self.on_event(("vma_split", mm.pid, end, new.vm_start, end))
        mmap.insert_vm_struct(mm, new)
        return 0, vma

    def mprotect_fixup_end(self, vma: VmArea, prev: VmArea | None, start: int, newflags: int, prot: int) -> Result:
        """The part from *start* on changes and becomes an area of its own. kernel: mm/mprotect.c:mprotect_fixup_end"""
        mmap = self.kernel.mmap
        mm = vma.vm_mm
        assert mm is not None
        new = mmap.copy_vma(vma)
        if new is None:
            return -ENOMEM, prev
        new.vm_start = start
        new.vm_pgoff = new.vm_pgoff + (start - vma.vm_start >> 12) & U32
        new.vm_flags = newflags
        new.vm_page_prot = prot
        mmap.get_area_file(new)
        vma.vm_end = start
        if self.on_event is not None:
            self.on_event(("vma_split", mm.pid, start, start, new.vm_end))
        mmap.insert_vm_struct(mm, new)
        return 0, new

    def mprotect_fixup_middle(self, vma: VmArea, prev: VmArea | None, start: int, end: int, newflags: int, prot: int) -> Result:
        """A part inside changes: the area keeps it, two new ones take what is below and above.

        kernel: mm/mprotect.c:mprotect_fixup_middle
        """
        halves = self.split_middle(vma, start, end)
        if halves is None:
            return -ENOMEM, prev
        left, right = halves
        vma.vm_page_prot = prot
        self.link_middle(vma, (left, right), start, end, newflags)
        return 0, right

    def split_middle(self, vma: VmArea, start: int, end: int) -> tuple[VmArea, VmArea] | None:
        """Copies of *vma* for what is below *start* and what is from *end* on, not linked yet; None without memory."""
        mmap = self.kernel.mmap
        left = mmap.alloc_vma()
        if left is None:
            return None
        right = mmap.alloc_vma()
        if right is None:
            mmap.free_vma(left)
            return None
        mmap.assign_vma(left, vma)
        mmap.assign_vma(right, vma)
        left.vm_end = start
        right.vm_start = end
        right.vm_pgoff = right.vm_pgoff + (end - vma.vm_start >> 12) & U32
        left.vm_raend = right.vm_raend = 0
        mmap.get_area_file(left)
        mmap.get_area_file(right)
        return left, right

    def link_middle(self, vma: VmArea, halves: tuple[VmArea, VmArea], start: int, end: int, newflags: int) -> None:
        """*vma* shrinks to [start, end) with *newflags*; then the two others go into list and tree, left first."""
        mmap = self.kernel.mmap
        mm = vma.vm_mm
        assert mm is not None
        vma.vm_pgoff = vma.vm_pgoff + (start - vma.vm_start >> 12) & U32
        vma.vm_raend = 0
        vma.vm_start, vma.vm_end = start, end
        vma.vm_flags = newflags
        for half in halves:
            if self.on_event is not None:
                self.on_event(("vma_split", mm.pid, start if half is halves[0] else end, half.vm_start, half.vm_end))
            mmap.insert_vm_struct(mm, half)

    def mprotect_fixup(self, vma: VmArea, prev: VmArea | None, start: int, end: int, newflags: int) -> Result:
        """Give [start, end) of *vma* the flags *newflags*. *prev* is the area changed before, for merging.

        kernel: mm/mprotect.c:mprotect_fixup
        """
        if newflags == vma.vm_flags:
            return 0, vma
        newprot = protection_map[newflags & 15]
        if start == vma.vm_start:
            if end == vma.vm_end:
                error, prev = self.mprotect_fixup_all(vma, prev, newflags, newprot)
            else:
                error, prev = self.mprotect_fixup_start(vma, prev, end, newflags, newprot)
        elif end == vma.vm_end:
            error, prev = self.mprotect_fixup_end(vma, prev, start, newflags, newprot)
        else:
            error, prev = self.mprotect_fixup_middle(vma, prev, start, end, newflags, newprot)
        if error:
            return error, prev
        if self.on_event is not None:
            self.on_event(("vm_flags", vma.vm_mm.pid if vma.vm_mm else -1, start, end, newflags))
        self.change_protection(start, end, newprot)
        return 0, prev

    def _melts(self, prev: VmArea, vma: VmArea, newflags: int) -> bool:
        """Whether *vma*, given *newflags*, can become part of the area right before it."""
        return prev.vm_end == vma.vm_start and can_vma_merge(prev, newflags) and vma.vm_file is None and not vma.vm_flags & VM_SHARED

    def sys_mprotect(self, start: int, length: int, prot: int) -> int:
        """mprotect(2) of the current task: rights *prot* (PROT_ bits) for [start, start + length).

        Returns 0, -EINVAL, -ENOMEM (a part is not mapped, or no memory) or -EACCES (the mapping may
        never have these rights). What was changed before the error stays changed.
        kernel: mm/mprotect.c:sys_mprotect
        """
        start &= U32
        if start & 0xFFF:
            return -EINVAL
        length = page_align(length & U32)
        end = start + length & U32
        if end < start or prot & ~_RIGHTS:
            return -EINVAL
        if end == start:
            return 0
        kernel = self.kernel
        mm = kernel.current.mm
        assert mm is not None
        vma, prev = kernel.mmap.find_vma_prev(mm, start)
        if vma is None or vma.vm_start > start:
            return -ENOMEM
        at = start
        while True:
            newflags = prot | vma.vm_flags & ~_RIGHTS
            if newflags & ~(newflags >> 4) & 0xF:  # a right without its VM_MAY bit
                return -EACCES
            if vma.vm_end > end:
                return self.mprotect_fixup(vma, prev, at, end, newflags)[0]
            last = vma.vm_end == end
            upto, following = vma.vm_end, vma.vm_next
            error, prev = self.mprotect_fixup(vma, prev, at, upto, newflags)
            if error:
                return error
            if last:
                break
            at, vma = upto, following
            if vma is None or vma.vm_start != at:
                return -ENOMEM
        if following is not None and prev is not None and self._melts_next(prev, following):
            prev.vm_end = following.vm_end
            kernel.mmap.vma_unlink(mm, following, prev)
            if self.on_event is not None:
                self.on_event(("vma_merge", mm.pid, prev.vm_start, prev.vm_end))
            kernel.mmap.free_vma(following)
            mm.map_count -= 1
        return 0

    def _melts_next(self, prev: VmArea, following: VmArea) -> bool:
        return (
            prev.vm_end == following.vm_start
            and can_vma_merge(following, prev.vm_flags)
            and prev.vm_file is None
            and not prev.vm_flags & VM_SHARED
        )
