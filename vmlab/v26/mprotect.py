"""mprotect in 2.6: merge with neighbours first, split if that fails. kernel: mm/mprotect.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EACCES, EINVAL, ENOMEM
from ..mm.mmap_areas import U32, page_align
from ..mm.mprotect import Mprotect, Result
from ..mm.vm import (
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_GROWSUP,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    VmArea,
    protection_map,
)
from .vm import PROT_GROWSDOWN, PROT_GROWSUP, PROT_SEM, VM_ACCOUNT, VM_HUGETLB, VmArea26

if TYPE_CHECKING:
    from .mmap import Mmap26

_RIGHTS = VM_READ | VM_WRITE | VM_EXEC


class Mprotect26(Mprotect):
    """Changing the rights of areas and of the page table entries below them."""

    def mprotect_fixup(self, vma: VmArea, prev: VmArea | None, start: int, end: int, newflags: int) -> Result:
        """In 2.6 the new piece may join both neighbours, and memory made writable is promised, because merging and accounts are common
        code; before that only anonymous areas joined the one before.

        Give [start, end) of *vma* the flags *newflags*. Returns (0 or a negative error, the first area that
        ends at or after *end*). kernel: mm/mprotect.c:mprotect_fixup
        """
        mmap = cast("Mmap26", self.kernel.mmap)
        mm = vma.vm_mm
        assert mm is not None
        area = cast(VmArea26, vma)
        oldflags = vma.vm_flags
        if newflags == oldflags:
            return 0, vma
        nrpages = end - start >> 12
        charged = 0
        if newflags & VM_WRITE and not oldflags & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_HUGETLB):
            charged = nrpages
            if mmap.security_vm_enough_memory(charged):
                return -ENOMEM, prev
            newflags |= VM_ACCOUNT
        newprot = protection_map[newflags & 15]
        pgoff = vma.vm_pgoff + (start - vma.vm_start >> 12)
        merged = mmap.vma_merge(mm, prev, start, end, newflags, area.anon_vma, vma.vm_file, pgoff)
        if merged is not None:
            area = merged
        else:
            error = mmap.split_vma(mm, area, start, True) if start != area.vm_start else 0
            if not error and end != area.vm_end:
                error = mmap.split_vma(mm, area, end, False)
            if error:
                mmap.vm_unacct_memory(charged)
                return error, area
        area.vm_flags = newflags
        area.vm_page_prot = newprot
        if self.on_event is not None:
            self.on_event(("vm_flags", mm.pid, start, end, newflags))
        self.change_protection(start, end, newprot)
        mmap.vm_stat_account(mm, oldflags, area.vm_file, -nrpages)
        mmap.vm_stat_account(mm, newflags, area.vm_file, nrpages)
        return 0, area

    def sys_mprotect(self, start: int, length: int, prot: int) -> int:
        """In 2.6 the range can be stretched to a stack's whole area (PROT_GROWSDOWN), because glibc makes stacks executable so; before that
        it was taken as given.

        Rights *prot* (PROT_ bits) for [start, start + length) of the current task. Returns 0, -EINVAL,
        -ENOMEM (a part is not mapped, or no memory) or -EACCES. kernel: mm/mprotect.c:sys_mprotect
        """
        mmap = self.kernel.mmap
        mm = self.kernel.current.mm
        start, length, prot = start & U32, length & U32, prot & U32
        grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
        prot &= ~grows
        if grows == PROT_GROWSDOWN | PROT_GROWSUP or start & 0xFFF:
            return -EINVAL
        end = start + page_align(length) & U32
        if end < start:
            return -ENOMEM
        if prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM):
            return -EINVAL
        if end == start:
            return 0
        vma, prev = mmap.find_vma_prev(mm, start)
        if vma is None:
            return -ENOMEM
        if grows & PROT_GROWSDOWN:
            if vma.vm_start >= end:
                return -ENOMEM
            start = vma.vm_start
            if not vma.vm_flags & VM_GROWSDOWN:
                return -EINVAL
        else:
            if vma.vm_start > start:
                return -ENOMEM
            if grows & PROT_GROWSUP:
                end = vma.vm_end
                if not vma.vm_flags & VM_GROWSUP:
                    return -EINVAL
        if start > vma.vm_start:
            prev = vma
        at = start
        while True:
            if vma.vm_flags & VM_HUGETLB:
                return -EACCES
            newflags = prot & _RIGHTS | vma.vm_flags & ~_RIGHTS
            if newflags & ~(newflags >> 4) & 0xF:
                return -EACCES
            upto = min(vma.vm_end, end)
            error, prev = self.mprotect_fixup(vma, prev, at, upto, newflags)
            if error:
                return error
            assert prev is not None
            at = max(upto, prev.vm_end)
            if at >= end:
                return 0
            vma = prev.vm_next
            if vma is None or vma.vm_start != at:
                return -ENOMEM
