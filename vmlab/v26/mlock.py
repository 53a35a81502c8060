"""mlock in 2.6: anybody may lock memory, up to RLIMIT_MEMLOCK. kernel: mm/mlock.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EAGAIN, EINVAL, ENOMEM, EPERM
from ..mm.mlock import Mlock, _whole_pages
from ..mm.mmap_areas import U32, page_align
from ..mm.task import CAP_IPC_LOCK, RLIMIT_MEMLOCK
from ..mm.vm import MCL_CURRENT, MCL_FUTURE, VM_IO, VM_LOCKED, VmArea
from .mmap import can_do_mlock
from .vm import VmArea26

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from .mmap import Mmap26


class Mlock26(Mlock):
    """Locking and unlocking ranges and whole address spaces of the current task."""

    state_names: tuple[str, ...] = ("locked_shm",)

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.locked_shm: dict[int, int] = {}  # user → pages of shared memory locked for it

    def mlock_fixup(self, vma: VmArea, start: int, end: int, newflags: int) -> int:
        """In 2.6 split_vma cuts, and an error of paging in is reported, because a lock without its pages is none; before that it was
        passed over.

        Returns 0, -EAGAIN, or what paging in returned. kernel: mm/mlock.c:mlock_fixup
        """
        if newflags == vma.vm_flags:
            return 0
        mmap = cast("Mmap26", self.kernel.mmap)
        mm = vma.vm_mm
        assert mm is not None
        area = cast(VmArea26, vma)
        error = mmap.split_vma(mm, area, start, True) if start != area.vm_start else 0
        if not error and end != area.vm_end:
            error = mmap.split_vma(mm, area, end, False)
        if not error:
            area.vm_flags = newflags
            if self.on_event is not None:
                self.on_event(("vm_flags", mm.pid, start, end, newflags))
            pages = end - start >> 12
            if newflags & VM_LOCKED:
                pages = -pages
                if not newflags & VM_IO:
                    error = self.kernel.memory.make_pages_present(start, end) or 0
            mm.locked_vm = mm.locked_vm - pages & U32
        return -EAGAIN if error == -ENOMEM else error

    def do_mlock(self, start: int, length: int, on: bool) -> int:
        """In 2.6 the right to lock was checked before, because it depends on the limit too; before that here.

        Lock or unlock whole pages. Returns 0, -EINVAL, -ENOMEM (a part is not mapped) or -EAGAIN. kernel: mm/mlock.c:do_mlock
        """
        mmap = self.kernel.mmap
        end = start + page_align(length) & U32
        if end < start:
            return -EINVAL
        if end == start:
            return 0
        vma = mmap.find_vma(self.kernel.current.mm, start)
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
        """In 2.6 a limit for everybody, and none with CAP_IPC_LOCK, because users need a little; before that root could lock half of RAM.

        Errors as do_mlock, and -EPERM. kernel: mm/mlock.c:sys_mlock
        """
        task = self.kernel.current
        mm = task.mm
        assert mm is not None
        if not can_do_mlock(task):
            return -EPERM
        start, length = _whole_pages(start, length)
        if (length >> 12) + mm.locked_vm & U32 > task.rlim[RLIMIT_MEMLOCK] >> 12 and not task.capable(CAP_IPC_LOCK):
            return -ENOMEM
        return self.do_mlock(start, length, True)

    def do_mlockall(self, flags: int) -> int:
        """In 2.6 errors are passed over and MCL_FUTURE alone leaves areas as they are, because POSIX says so; before that it unlocked them.

        kernel: mm/mlock.c:do_mlockall
        """
        mm = self.kernel.current.mm
        assert mm is not None
        mm.def_flags = VM_LOCKED if flags & MCL_FUTURE else 0
        if flags == MCL_FUTURE:
            return 0
        vma = mm.mmap
        while vma is not None:
            newflags = vma.vm_flags | VM_LOCKED if flags & MCL_CURRENT else vma.vm_flags & ~VM_LOCKED
            self.mlock_fixup(vma, vma.vm_start, vma.vm_end, newflags)
            vma = vma.vm_next
        return 0

    def sys_mlockall(self, flags: int) -> int:
        """In 2.6 the limit holds for MCL_CURRENT only, because nothing is locked otherwise; before that always.

        Returns 0, -EINVAL, -ENOMEM or -EPERM. kernel: mm/mlock.c:sys_mlockall
        """
        task = self.kernel.current
        mm = task.mm
        assert mm is not None
        if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE):
            return -EINVAL
        if not can_do_mlock(task):
            return -EPERM
        if flags & MCL_CURRENT and mm.total_vm > task.rlim[RLIMIT_MEMLOCK] >> 12 and not task.capable(CAP_IPC_LOCK):
            return -ENOMEM
        return self.do_mlockall(flags)

    def user_shm_lock(self, size: int, uid: int) -> bool:
        """In 2.6 locked shared memory is charged to its user, because it outlives processes; before that only root could lock it.

        *size* in bytes. Returns whether RLIMIT_MEMLOCK allows it. kernel: mm/mlock.c:user_shm_lock
        """
        task = self.kernel.current
        pages = size + 0xFFF >> 12
        locked = self.locked_shm.get(uid, 0)
        if locked + pages > task.rlim[RLIMIT_MEMLOCK] >> 12 and not task.capable(CAP_IPC_LOCK):
            return False
        self.locked_shm[uid] = locked + pages
        return True

    def user_shm_unlock(self, size: int, uid: int) -> None:
        """In 2.6 new, because of user_shm_lock. kernel: mm/mlock.c:user_shm_unlock"""
        self.locked_shm[uid] = self.locked_shm.get(uid, 0) - (size + 0xFFF >> 12)
