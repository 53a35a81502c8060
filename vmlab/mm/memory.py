"""User pages of an address space: faulting them in, copying, unmapping, finding them.

The faults are in memory_fault.py, work on ranges in memory_range.py. kernel: mm/memory.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EFAULT, ENOMEM
from .memory_fault import FAULT_MAJOR, FAULT_MINOR, FAULT_SIGBUS, MemoryFault
from .memory_range import MemoryRange
from .pgtable import _PAGE_DIRTY, _PAGE_PRESENT, _PAGE_PROTNONE, _PAGE_RW
from .vm import VM_IO, VM_MAYREAD, VM_MAYWRITE, VM_READ, VM_WRITE

if TYPE_CHECKING:
    from .task import Task
    from .vm import MmStruct, VmArea

_MAPPED = _PAGE_PRESENT | _PAGE_PROTNONE


class Memory(MemoryFault, MemoryRange):
    """``mm/memory.c``: demand paging, copy on write, and page tables by the range."""

    def follow_page(self, mm: MmStruct, address: int, write: int) -> int | None:
        """The frame mapped at *address*; None if there is none, or (for *write*) if it is not writable and dirty yet.

        kernel: mm/memory.c:follow_page
        """
        found = self.kernel.pgtable.pmd_lookup(mm, address)
        if found is None:
            return None
        pmds, at = found
        if not pmds[at] or self.pmd_bad(pmds[at]):
            return None
        table, slot = self.kernel.pgtable.pte_table(pmds[at]), address >> PAGE_SHIFT & self.kernel.pgtable.PTRS_PER_PTE - 1
        pte = table[slot]
        if pte & _MAPPED and (not write or pte & (_PAGE_RW | _PAGE_DIRTY) == _PAGE_RW | _PAGE_DIRTY):
            return pte >> PAGE_SHIFT
        return None

    def get_user_pages(
        self,
        task: Task,
        mm: MmStruct,
        start: int,
        length: int,
        write: int,
        force: int,
        pages: list[int] | None = None,
        vmas: list[VmArea] | None = None,
    ) -> int:
        """Fault in *length* pages from address *start* on; faults count for *task*.

        *pages* and *vmas*, when given, are appended to; each page gets a reference. *force* asks only that
        the area MAY be read or written. Returns how many pages, or -EFAULT, -ENOMEM when not even one.
        kernel: mm/memory.c:get_user_pages, get_page_map
        """
        kernel = self.kernel
        flags = VM_WRITE | VM_MAYWRITE if write else VM_READ | VM_MAYREAD
        flags &= VM_MAYREAD | VM_MAYWRITE if force else VM_READ | VM_WRITE
        done = 0
        while True:
            vma = kernel.mmap.find_extend_vma(mm, start)
            if vma is None or (pages is not None and vma.vm_flags & VM_IO) or not flags & vma.vm_flags:
                return done or -EFAULT
            while True:
                while (page := self.follow_page(mm, start, write)) is None:
                    fault = self.handle_mm_fault(mm, vma, start, write)
                    if fault == FAULT_MINOR:
                        task.min_flt += 1
                    elif fault == FAULT_MAJOR:
                        task.maj_flt += 1
                    else:
                        return done or (-EFAULT if fault == FAULT_SIGBUS else -ENOMEM)
                if pages is not None:
                    if page >= kernel.max_mapnr:
                        for pfn in reversed(pages[len(pages) - done :]):
                            kernel.put_page(pfn)
                        del pages[len(pages) - done :]
                        return -EFAULT
                    kernel.get_page(page)
                    pages.append(page)
                if vmas is not None:
                    vmas.append(vma)
                if self.on_event is not None:
                    self.on_event(("user_page", start, page))
                done += 1
                start += PAGE_SIZE
                length -= 1
                if not length or start >= vma.vm_end:
                    break
            if not length:
                return done

    def make_pages_present(self, address: int, end: int) -> int:
        """Fault in all pages of [address, end), which lies in one area of the current process. Returns 0, or -1 if not all came.

        kernel: mm/memory.c:make_pages_present
        """
        current = self.kernel.current
        mm = current.mm
        vma = None if mm is None else self.kernel.mmap.find_vma(mm, address)
        if mm is None or vma is None:
            raise KernelBug("make_pages_present", f"no area at or above {address:#x}", "oops")
        if address >= end:
            raise KernelBug("make_pages_present", f"the range {address:#x}-{end:#x} is empty", "range")
        if end > vma.vm_end:
            raise KernelBug("make_pages_present", f"the range ends at {end:#x}, past {vma}", "end")
        pages = (end + PAGE_SIZE - 1 >> PAGE_SHIFT) - (address >> PAGE_SHIFT)
        got = self.get_user_pages(current, mm, address, pages, int(bool(vma.vm_flags & VM_WRITE)), 0)
        return 0 if got == pages else -1

    def vmalloc_to_page(self, address: int) -> int | None:
        """The frame behind a vmalloc address, or None. kernel: mm/memory.c:vmalloc_to_page"""
        found = self.kernel.pgtable.pte_lookup(self.kernel.init_mm, address)
        if found is None:
            return None
        table, slot = found
        return table[slot] >> PAGE_SHIFT if table[slot] & _MAPPED else None
