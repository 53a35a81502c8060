"""When nothing can be reclaimed and no swap is left: who has to die. kernel: mm/oom_kill.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelPanic
from .gfp import PF_MEMALLOC, PF_MEMDIE
from .kernel import Part
from .task import CAP_SYS_ADMIN, CAP_SYS_RAWIO, HZ, SIGKILL, SIGTERM

if TYPE_CHECKING:
    from .kernel import Kernel
    from .task import Task

SHIFT_HZ = 7  # log2 of HZ, rounded up
M32 = 0xFFFFFFFF


class OomKill(Part):
    """The out-of-memory killer. Its clock is in jiffies: ``first`` and ``last`` failure, and ``lastkill``."""

    state_names: tuple[str, ...] = ("count", "first", "last", "lastkill")

    def __init__(self) -> None:
        super().__init__()
        self.first = self.last = self.count = self.lastkill = 0

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def int_sqrt(self, x: int) -> int:
        """A very rough square root, at least 1. kernel: mm/oom_kill.c:int_sqrt"""
        out = x
        while x > 1:
            x >>= 2
            out >>= 1
        if x:
            out -= out >> 2
        return out or 1

    def badness(self, task: Task) -> int:
        """How much killing *task* would help, and how little it would hurt: points, about pages of its address space.

        kernel: mm/oom_kill.c:badness
        """
        if task.mm is None or task.flags & PF_MEMDIE:
            return 0
        points = task.mm.total_vm & M32
        cpu_time = (task.utime + task.stime & M32) >> (SHIFT_HZ + 3)  # in 10.24 s
        run_time = (self.kernel.sched.jiffies - task.start_time & M32) >> (SHIFT_HZ + 10)  # in 22 minutes
        points //= self.int_sqrt(cpu_time)
        points //= self.int_sqrt(self.int_sqrt(run_time))
        points = _as_int(points)
        if task.nice > 0:
            points = _as_int(points * 2 & M32)
        if task.capable(CAP_SYS_ADMIN) or task.uid == 0 or task.euid == 0:
            points = _quarter(points)
        if task.capable(CAP_SYS_RAWIO):
            points = _quarter(points)
        if self.on_event is not None:
            self.on_event(("badness", task.pid, points))
        return points

    def select_bad_process(self) -> Task | None:
        """The task with the most points, the oldest of equals; None when none has any. kernel: mm/oom_kill.c:select_bad_process"""
        maxpoints = 0
        chosen = None
        for task in self.kernel.sched.tasks.values():
            if task.pid:
                points = self.badness(task)
                if points > maxpoints:
                    chosen, maxpoints = task, points
        return chosen

    def oom_kill_task(self, task: Task) -> None:
        """Kill *task*: it may use all memory there is so that it can exit. kernel: mm/oom_kill.c:oom_kill_task"""
        kernel = self.kernel
        kernel.printk(3, f"Out of Memory: Killed process {task.pid} ({task.comm}).")
        kernel.sched.kstat.oom_kills += 1
        task.counter = 5 * HZ
        task.flags |= PF_MEMALLOC | PF_MEMDIE
        if self.on_event is not None:
            self.on_event(("oom_kill", task.pid))
        # Whoever drives hardware gets the chance to leave it in order.
        kernel.sched.force_sig(SIGTERM if task.capable(CAP_SYS_RAWIO) else SIGKILL, task)

    def oom_kill(self) -> None:
        """Kill the worst task and all that share its memory, then give them the processor.

        Raises KernelPanic when nobody can be killed. kernel: mm/oom_kill.c:oom_kill
        """
        chosen = self.select_bad_process()
        if chosen is None:
            raise KernelPanic("Out of memory and no killable processes...")
        for task in list(self.kernel.sched.tasks.values()):
            if task.mm is chosen.mm:
                self.oom_kill_task(task)
        self.kernel.sched.yield_()

    def out_of_memory(self) -> None:
        """Reclaim has failed: kill somebody if that goes on for long enough and no swap is left.

        Long enough: ten failures over at least a second, none more than 5 s after the one before, and
        no kill within 5 s. kernel: mm/oom_kill.c:out_of_memory
        """
        if self.kernel.swapfile.nr_swap_pages > 0:
            return
        now = self.kernel.sched.jiffies & M32
        since = now - self.last & M32
        self.last = now
        if since <= 5 * HZ:
            if now - self.first & M32 < HZ:
                return
            self.count += 1
            if self.count < 10:
                return
            if now - self.lastkill & M32 < 5 * HZ:
                return
            self.lastkill = now
            self.oom_kill()
        self.first = now
        self.count = 0


def _as_int(value: int) -> int:
    """The C int with the bits of *value*."""
    return value - (1 << 32) if value >> 31 else value


def _quarter(points: int) -> int:
    """Division by 4 as C does it, towards zero."""
    return -(-points // 4) if points < 0 else points // 4
