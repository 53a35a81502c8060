"""mlock: pages that must stay in memory. Their areas have VM_LOCKED, which reclaim respects.

Unlike mprotect nothing here ever merges areas. kernel: mm/mlock.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errno import EAGAIN, EINVAL, ENOMEM, EPERM
from .kernel import Part
from .mmap_areas import PAGE_MASK, U32, page_align
from .task import CAP_IPC_LOCK, RLIMIT_MEMLOCK
from .vm import MCL_CURRENT, MCL_FUTURE, VM_LOCKED, VmArea

if TYPE_CHECKING:
    from .kernel import Kernel


class Mlock(Part):
    """Locking and unlocking ranges and whole address spaces of the current task."""

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def mlock_fixup_all(self, vma: VmArea, newflags: int) -> int:
        """The whole area changes. kernel: mm/mlock.c:mlock_fixup_all"""
        vma.vm_flags = newflags
        return 0

    def mlock_fixup_start(self, vma: VmArea, end: int, newflags: int) -> int:
        """The part below *end* becomes an area of its own. Returns 0 or -EAGAIN. kernel: mm/mlock.c:mlock_fixup_start"""
        mmap = self.kernel.mmap
        new = mmap.copy_vma(vma)
        if new is None:
            return -EAGAIN
        new.vm_end = end
        new.vm_flags = newflags
        mmap.get_area_file(new)
        vma.vm_pgoff = vma.vm_pgoff + (end - vma.vm_start >> 12) & U32
        vma.vm_start = end
        self._insert(end, new)
        return 0

    def mlock_fixup_end(self, vma: VmArea, start: int, newflags: int) -> int:
        """The part from *start* on becomes an area of its own. Returns 0 or -EAGAIN. kernel: mm/mlock.c:mlock_fixup_end"""
        mmap = self.kernel.mmap
        new = mmap.copy_vma(vma)
        if new is None:
            return -EAGAIN
        new.vm_start = start
        new.vm_pgoff = new.vm_pgoff + (start - vma.vm_start >> 12) & U32
        new.vm_flags = newflags
        mmap.get_area_file(new)
        vma.vm_end = start
        self._insert(start, new)
        return 0

    def _insert(self, at: int, new: VmArea) -> None:
        mm = self.kernel.current.mm
        assert mm is not None
        if self.on_event is not None:
            self.on_event(("vma_split", mm.pid, at, new.vm_start, new.vm_end))
        self.kernel.mmap.insert_vm_struct(mm, new)

    def mlock_fixup_middle(self, vma: VmArea, start: int, end: int, newflags: int) -> int:
        """The area keeps [start, end); two new ones take the rest. Returns 0 or -EAGAIN. kernel: mm/mlock.c:mlock_fixup_middle"""
        halves = self.kernel.mprotect.split_middle(vma, start, end)
        if halves is None:
            return -EAGAIN
        self.kernel.mprotect.link_middle(vma, halves, start, end, newflags)
        return 0

    def mlock_fixup(self, vma: VmArea, start: int, end: int, newflags: int) -> int:
        """Give [start, end) of *vma* the flags *newflags* and, when they lock, make its pages present.

        Returns 0 or -EAGAIN. kernel: mm/mlock.c:mlock_fixup
        """
        if newflags == vma.vm_flags:
            return 0
        mm = vma.vm_mm
        assert mm is not None
        if start == vma.vm_start:
            error = self.mlock_fixup_all(vma, newflags) if end == vma.vm_end else self.mlock_fixup_start(vma, end, newflags)
        elif end == vma.vm_end:
            error = self.mlock_fixup_end(vma, start, newflags)
        else:
            error = self.mlock_fixup_middle(vma, start, end, newflags)
        if error:
            return error
        if self.on_event is not None:
            self.on_event(("vm_flags", mm.pid, start, end, newflags))
        pages = end - start >> 12
        if newflags & VM_LOCKED:
            pages = -pages
            self.kernel.memory.make_pages_present(start, end)
        mm.locked_vm = mm.locked_vm - pages & U32
        return 0

    def do_mlock(self, start: int, length: int, on: bool) -> int:
        """Lock or unlock whole pages of the current task.

        Returns 0, -EPERM (locking needs CAP_IPC_LOCK), -EINVAL, -ENOMEM (a part is not mapped) or
        -EAGAIN (no memory for records). kernel: mm/mlock.c:do_mlock
        """
        kernel = self.kernel
        if on and not kernel.current.capable(CAP_IPC_LOCK):
            return -EPERM
        length = page_align(length)
        end = start + length & U32
        if end < start:
            return -EINVAL
        if end == start:
            return 0
        vma = kernel.mmap.find_vma(kernel.current.mm, start)
        if vma is None or vma.vm_start > start:
            return -ENOMEM
        at = start
        while True:
            newflags = vma.vm_flags | VM_LOCKED if on else vma.vm_flags & ~VM_LOCKED
            if vma.vm_end >= end:
                return self.mlock_fixup(vma, at, end, newflags)
            upto, following = vma.vm_end, vma.vm_next
            error = self.mlock_fixup(vma, at, upto, newflags)
            if error:
                return error
            at = upto
            if following is None or following.vm_start != at:
                return -ENOMEM
            vma = following

    def sys_mlock(self, start: int, length: int) -> int:
        """mlock(2): at most RLIMIT_MEMLOCK and half of the machine's pages. Errors as do_mlock. kernel: mm/mlock.c:sys_mlock"""
        kernel = self.kernel
        task = kernel.current
        mm = task.mm
        assert mm is not None
        start, length = _whole_pages(start, length)
        locked = (length >> 12) + mm.locked_vm & U32
        if locked > task.rlim[RLIMIT_MEMLOCK] >> 12 or locked > kernel.num_physpages // 2:
            return -ENOMEM
        return self.do_mlock(start, length, True)

    def sys_munlock(self, start: int, length: int) -> int:
        """munlock(2). Errors as do_mlock. kernel: mm/mlock.c:sys_munlock"""
        start, length = _whole_pages(start, length)
        return self.do_mlock(start, length, False)

    def do_mlockall(self, flags: int) -> int:
        """Lock or unlock every area, and say what becomes of future ones. The error is the last one's. kernel: mm/mlock.c:do_mlockall"""
        kernel = self.kernel
        mm = kernel.current.mm
        assert mm is not None
        if not kernel.current.capable(CAP_IPC_LOCK):
            return -EPERM
        mm.def_flags = VM_LOCKED if flags & MCL_FUTURE else 0
        error = 0
        vma = mm.mmap
        while vma is not None:
            newflags = vma.vm_flags | VM_LOCKED if flags & MCL_CURRENT else vma.vm_flags & ~VM_LOCKED
            error = self.mlock_fixup(vma, vma.vm_start, vma.vm_end, newflags)
            if error:
                break
            vma = vma.vm_next
        return error

    def sys_mlockall(self, flags: int) -> int:
        """mlockall(2): MCL_CURRENT, MCL_FUTURE or both. Returns 0, -EINVAL, -ENOMEM or -EPERM. kernel: mm/mlock.c:sys_mlockall"""
        kernel = self.kernel
        task = kernel.current
        mm = task.mm
        assert mm is not None
        if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE):
            return -EINVAL
        if mm.total_vm > task.rlim[RLIMIT_MEMLOCK] >> 12 or mm.total_vm > kernel.num_physpages // 2:
            return -ENOMEM
        return self.do_mlockall(flags)

    def sys_munlockall(self) -> int:
        """munlockall(2). Returns 0 or -EPERM. kernel: mm/mlock.c:sys_munlockall"""
        return self.do_mlockall(0)


def _whole_pages(start: int, length: int) -> tuple[int, int]:
    """The pages that [start, start + length) touches, in 32 bits."""
    start, length = start & U32, length & U32
    return start & PAGE_MASK, page_align(length + (start & 0xFFF) & U32)
