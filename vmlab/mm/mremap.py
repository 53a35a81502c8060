"""mremap: a mapping that grows, shrinks, or moves with its page table entries; pages are never copied.

kernel: mm/mremap.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from .errno import EAGAIN, EFAULT, EINVAL, ENOMEM
from .kernel import Part
from .mmap_areas import U32, can_vma_merge, page_align
from .task import RLIMIT_AS, RLIMIT_MEMLOCK
from .vm import (
    MAP_NORESERVE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    TASK_SIZE,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
    MmStruct,
    VmArea,
)

if TYPE_CHECKING:
    from .kernel import Kernel


class Mremap(Part):
    """Moving and resizing one mapping of the current task."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def move_one_page(self, mm: MmStruct, old_addr: int, new_addr: int) -> int:
        """Move one entry. Returns 0 (also when there was none) or 1 when no page table could be had.

        kernel: mm/mremap.c:move_one_page, get_one_pte, alloc_one_pte, copy_one_pte
        """
        pgtable = self.kernel.pgtable
        found = pgtable.pte_lookup(mm, old_addr)
        if found is None or not found[0][found[1]]:
            return 0
        table, slot = found
        target = pgtable.pte_alloc(mm, new_addr)
        pte = table[slot]  # allocating a page table may have swapped the page out: look again
        if not pte:
            return 0
        if target is None:
            return 1
        table[slot] = 0
        target[0][target[1]] = pte
        return 0

    def move_page_tables(self, mm: MmStruct, new_addr: int, old_addr: int, length: int) -> int:
        """Move the entries of *length* bytes, last page first. Returns 0, or -1 after everything was moved back.

        kernel: mm/mremap.c:move_page_tables
        """
        kernel = self.kernel
        if self.on_event is not None:
            self.on_event(("move_page_tables", mm.pid, old_addr, new_addr, length))
        for offset in range(length - 0x1000, -1, -0x1000):
            if self.move_one_page(mm, old_addr + offset, new_addr + offset):
                for back in range(offset + 0x1000, length, 0x1000):
                    self.move_one_page(mm, new_addr + back, old_addr + back)
                kernel.memory.zap_page_range(mm, new_addr, length)
                return -1
        kernel.mmu.flush_tlb_range(mm, old_addr, old_addr + length)
        return 0

    def move_vma(self, vma: VmArea, addr: int, old_len: int, new_len: int, new_addr: int) -> int:
        """Move [addr, addr + old_len) of *vma* to *new_addr*, where it is *new_len* long. Returns *new_addr* or -ENOMEM.

        A neighbour at the new place takes it in if it can. kernel: mm/mremap.c:move_vma
        """
        kernel = self.kernel
        mmap = kernel.mmap
        mm = vma.vm_mm
        current_mm = kernel.current.mm
        assert mm is not None and current_mm is not None
        host = self._neighbour(mm, vma, new_addr, new_len)
        new_vma = None
        if host is None:
            new_vma = mmap.alloc_vma()
            if new_vma is None:
                return -ENOMEM
        if self.move_page_tables(current_mm, new_addr, addr, old_len):
            if new_vma is not None:
                mmap.free_vma(new_vma)
            return -ENOMEM
        locked = vma.vm_flags & VM_LOCKED
        if new_vma is not None:
            mmap.assign_vma(new_vma, vma)
            new_vma.vm_start, new_vma.vm_end = new_addr, new_addr + new_len
            new_vma.vm_pgoff = new_vma.vm_pgoff + (addr - vma.vm_start >> 12) & U32
            new_vma.vm_raend = 0
            mmap.get_area_file(new_vma)
            mmap.insert_vm_struct(current_mm, new_vma)
        mmap.do_munmap(current_mm, addr, old_len)
        current_mm.total_vm = current_mm.total_vm + (new_len >> 12) & U32
        if locked:
            current_mm.locked_vm = current_mm.locked_vm + (new_len >> 12) & U32
            if new_len > old_len:
                kernel.memory.make_pages_present(new_addr + old_len, new_addr + new_len)
        return new_addr

    def _neighbour(self, mm: MmStruct, vma: VmArea, start: int, length: int) -> VmArea | None:
        """The area that grew over [start, start + length) for what moves there from *vma*, or None."""
        mmap = self.kernel.mmap
        flags = vma.vm_flags
        end = start + length
        following, prev = mmap.find_vma_prev(mm, start)
        if following is None:
            prev = mmap.find_vma(mm, start - 1)
        if vma.vm_file is not None or flags & VM_SHARED:
            return None
        host = None
        if prev is not None and prev.vm_end == start and can_vma_merge(prev, flags):
            prev.vm_end = end
            host = prev
            if following is not None:
                if following is not prev.vm_next:
                    raise KernelBug("move_vma", f"{following} does not follow {prev} on the list", "list")
                if end == following.vm_start and can_vma_merge(following, flags):
                    prev.vm_end = following.vm_end
                    mmap.vma_unlink(mm, following, prev)
                    mm.map_count -= 1
                    mmap.free_vma(following)
        elif following is not None and following.vm_start == end and can_vma_merge(following, flags):
            following.vm_start = start
            host = following
        if host is not None and self.on_event is not None:
            self.on_event(("vma_merge", mm.pid, host.vm_start, host.vm_end))
        return host

    def do_mremap(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
        """Resize [addr, addr + old_len) of the current task to *new_len* bytes, moving it if *flags* allow.

        Returns its address, or -EINVAL, -EFAULT (not one area), -EAGAIN (too much locked), -ENOMEM.
        kernel: mm/mremap.c:do_mremap
        """
        kernel = self.kernel
        mmap = kernel.mmap
        task = kernel.current
        mm = task.mm
        assert mm is not None
        if flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE) or addr & 0xFFF:
            return -EINVAL
        old_len, new_len = page_align(old_len), page_align(new_len)
        fixed = bool(flags & MREMAP_FIXED)
        if fixed:
            if not self._fixed_target_ok(addr, old_len, new_len, flags, new_addr):
                return -EINVAL
            mmap.do_munmap(mm, new_addr, new_len)  # its result is not looked at: the kernel's own bug
        if old_len >= new_len:
            mmap.do_munmap(mm, addr + new_len & U32, old_len - new_len)
            if not fixed or new_addr == addr:
                return addr
        vma = mmap.find_vma(mm, addr)
        if vma is None or vma.vm_start > addr or old_len > vma.vm_end - addr:
            return -EFAULT
        if vma.vm_flags & VM_DONTEXPAND and new_len > old_len:
            return -EFAULT
        more = new_len - old_len & U32
        if vma.vm_flags & VM_LOCKED and (mm.locked_vm << 12) + more & U32 > task.rlim[RLIMIT_MEMLOCK]:
            return -EAGAIN
        if (mm.total_vm << 12) + more & U32 > task.rlim[RLIMIT_AS]:
            return -ENOMEM
        if vma.vm_flags & (VM_SHARED | VM_WRITE) == VM_WRITE and not flags & MAP_NORESERVE and not mmap.vm_enough_memory(more >> 12):
            return -ENOMEM
        to_the_end = old_len == vma.vm_end - addr
        if to_the_end and not (fixed and addr != new_addr) and (old_len != new_len or not flags & MREMAP_MAYMOVE):
            limit = vma.vm_next.vm_start if vma.vm_next is not None else TASK_SIZE
            if (limit - addr & U32) >= new_len:
                self._grow(mm, vma, addr, old_len, new_len)
                return addr
        if not flags & MREMAP_MAYMOVE:
            return -ENOMEM
        if not fixed:
            new_addr = mmap.get_unmapped_area(vma.vm_file, 0, new_len, vma.vm_pgoff, MAP_SHARED if vma.vm_flags & VM_SHARED else 0)
            if new_addr & 0xFFF:
                return new_addr
        return self.move_vma(vma, addr, old_len, new_len, new_addr)

    def _fixed_target_ok(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> bool:
        """Whether MREMAP_FIXED may move to *new_addr*: whole pages, below TASK_SIZE, not overlapping the old place."""
        if new_addr & 0xFFF or not flags & MREMAP_MAYMOVE:
            return False
        if new_len > TASK_SIZE or new_addr > TASK_SIZE - new_len:
            return False
        if new_addr <= addr < new_addr + new_len:
            return False
        return not addr <= new_addr < (addr + old_len & U32)

    def _grow(self, mm: MmStruct, vma: VmArea, addr: int, old_len: int, new_len: int) -> None:
        """The area just gets longer, where it is."""
        pages = new_len - old_len >> 12
        vma.vm_end = addr + new_len
        mm.total_vm = mm.total_vm + pages & U32
        if self.on_event is not None:
            self.on_event(("vma_trim", mm.pid, vma.vm_start, vma.vm_end))
        if vma.vm_flags & VM_LOCKED:
            mm.locked_vm = mm.locked_vm + pages & U32
            self.kernel.memory.make_pages_present(addr + old_len, addr + new_len)

    def sys_mremap(self, addr: int, old_len: int, new_len: int, flags: int, new_addr: int = 0) -> int:
        """mremap(2) of the current task. kernel: mm/mremap.c:sys_mremap"""
        return self.do_mremap(addr & U32, old_len & U32, new_len & U32, flags, new_addr & U32)
