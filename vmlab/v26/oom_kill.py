"""When nothing can be reclaimed: who has to die. 2.6's killer asks neither for swap nor for the time. kernel: mm/oom_kill.c"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, cast

from ..errors import KernelHang, KernelPanic
from ..mm.gfp import PF_MEMDIE
from ..mm.oom_kill import OomKill
from ..mm.task import CAP_SYS_ADMIN, CAP_SYS_RAWIO, SIGKILL
from .gfp import to_native
from .show_mem import show_free_areas
from .task import HZ, PF_DEAD, PF_EXITING, PF_SWAPOFF, SHIFT_HZ

if TYPE_CHECKING:
    from ..mm.task import Task
    from ..mm.vm import MmStruct
    from .sched import Sched26

M32 = 0xFFFFFFFF
BUSY = -1  # somebody is dying already


class OomKill26(OomKill):
    """The out-of-memory killer of 2.6."""

    state_names = ()

    def int_sqrt(self, x: int) -> int:
        """In 2.6 exact, because the rough one was off by half; before that a few shifts.

        The square root, rounded down. kernel: lib/int_sqrt.c:int_sqrt
        """
        return isqrt(x & M32)

    def badness(self, task: Task, uptime: int = 0) -> int:
        """In 2.6 a parent answers for its children, because a server that forks without end should go and not its last child; before that
        each task stood for itself.

        How much killing *task* would help and how little it would hurt, *uptime* seconds after boot: points, about pages.
        kernel: mm/oom_kill.c:badness
        """
        mm = task.mm
        if mm is None:
            return 0
        points = mm.total_vm
        for child in cast("Sched26", self.kernel.sched).children(task):
            if child.mm is not None and child.mm is not mm:
                points += child.mm.total_vm
        points &= M32
        cpu_time = (task.utime + task.stime & M32) >> (SHIFT_HZ + 3)  # in 8 s
        started = task.start_time // HZ & M32
        run_time = (uptime & M32) - started >> 10 if uptime & M32 >= started else 0  # in 17 minutes
        points //= self.int_sqrt(cpu_time) or 1
        points //= self.int_sqrt(self.int_sqrt(run_time)) or 1
        if task.nice > 0:
            points = points * 2 & M32
        if task.capable(CAP_SYS_ADMIN) or task.uid == 0 or task.euid == 0:
            points //= 4
        if task.capable(CAP_SYS_RAWIO):
            points //= 4
        if task.oomkilladj > 0:
            points = points << (task.oomkilladj & 31) & M32
        elif task.oomkilladj < 0:
            points >>= -task.oomkilladj & 31
        if self.on_event is not None:
            self.on_event(("badness", task.pid, points))
        return points

    def uptime(self) -> int:
        """In 2.6 the clock that only goes forward is asked, because the time of day can be set; before that jiffies were.

        Seconds since boot. kernel: kernel/posix-timers.c:do_posix_clock_monotonic_gettime
        """
        return self.kernel.sched.jiffies // HZ

    def select_bad_process(self) -> Task | int | None:  # type: ignore[override]
        """In 2.6 nobody is chosen while somebody is still dying, because the memory is about to come; before that the next one was killed.

        The task with the most points, the first of equals, even with 0; who is in swapoff goes at once. None when there is no
        task, -1 when somebody is dying. kernel: mm/oom_kill.c:select_bad_process
        """
        uptime = self.uptime()
        maxpoints = 0
        chosen: Task | None = None
        for task in self.kernel.sched.tasks.values():
            if task.pid <= 1:
                continue
            if (task.flags & (PF_MEMDIE | PF_EXITING) or task.exiting) and not task.flags & PF_DEAD:
                if self.on_event is not None:
                    self.on_event(("oom_busy", task.pid))
                return BUSY
            if task.flags & PF_SWAPOFF:
                return task
            points = self.badness(task, uptime)
            if points > maxpoints or chosen is None:
                chosen, maxpoints = task, points
        return chosen

    def kill_one(self, task: Task) -> None:
        """In 2.6 everybody gets SIGKILL, because who drives hardware had rarely used the grace of a SIGTERM; before that those did not.

        The task gets access to all memory so that it can exit. kernel: mm/oom_kill.c:__oom_kill_task
        """
        kernel = self.kernel
        if task.pid == 1:
            kernel.printk(4, "tried to kill init!")
            return
        if task.mm is None or task.mm is kernel.init_mm:
            kernel.printk(4, "tried to kill an mm-less task!")
            return
        kernel.printk(3, f"Out of Memory: Killed process {task.pid} ({task.comm}).")
        kernel.sched.kstat.oom_kills += 1
        task.counter = HZ
        task.flags |= PF_MEMDIE
        if self.on_event is not None:
            self.on_event(("oom_kill", task.pid))
        kernel.sched.force_sig(SIGKILL, task)

    def oom_kill_task(self, task: Task) -> MmStruct | None:  # type: ignore[override]
        """In 2.6 all who share the address space go with it, because it is free only when the last is gone; before that the caller saw to
        it.

        Returns the address space, None when the task has none. kernel: mm/oom_kill.c:oom_kill_task
        """
        mm = task.mm
        if mm is None or mm is self.kernel.init_mm:
            return None
        self.kill_one(task)
        for other in list(self.kernel.sched.tasks.values()):
            if other.mm is mm and other is not task:
                self.kill_one(other)
        return mm

    def oom_kill_process(self, task: Task) -> MmStruct | None:
        """In 2.6 a child with memory of its own goes first, because the parent may be a server worth keeping; before that no one looked.

        kernel: mm/oom_kill.c:oom_kill_process
        """
        for child in cast("Sched26", self.kernel.sched).children(task):
            if child.mm is not task.mm:
                mm = self.oom_kill_task(child)
                if mm is not None:
                    return mm
        return self.oom_kill_task(task)

    def out_of_memory(self, gfp_mask: int = 0) -> None:
        """In 2.6 it kills at the first call, because the allocator calls it only when reclaim found nothing at all; before that ten calls
        within seconds were needed, and full swap.

        Kill somebody, unless somebody is dying; then give them a jiffy. Raises KernelPanic when there is nobody.
        kernel: mm/oom_kill.c:out_of_memory
        """
        kernel = self.kernel
        chosen = self.select_bad_process()
        if chosen is None:
            show_free_areas(kernel)
            raise KernelPanic("Out of memory and no killable processes...")
        if not isinstance(chosen, int):
            kernel.printk(None, f"oom-killer: gfp_mask=0x{to_native(gfp_mask):x}")
            show_free_areas(kernel)
            if self.oom_kill_process(chosen) is None:
                raise KernelHang("out_of_memory", f"process {chosen.pid} is chosen again and again, and has no memory to give")
        kernel.sched.schedule_timeout(1)
