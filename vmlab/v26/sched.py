"""Turns, time and waiting in 2.6: a kswapd for each node, and waiting for the disk. kernel: kernel/sched.c, drivers/block/ll_rw_blk.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mm.gfp import PF_MEMALLOC
from ..mm.sched import KSWAPD_PID, PATIENCE, KernelStat, Sched
from ..mm.task import Task
from .task import PF_KSWAPD

if TYPE_CHECKING:
    from ..mm.kernel import Kernel

_NOBODY = -1


class KernelStat26(KernelStat):
    """Counters since power-on."""

    __slots__ = ("congestion_waits", "pdflush_requests")

    def __init__(self) -> None:
        super().__init__()
        self.congestion_waits = 0  # calls of blk_congestion_wait
        self.pdflush_requests = 0  # nobody acts on them


class Sched26(Sched):
    """Tasks, time, waiting, and the turns of the kswapds. 1000 jiffies a second."""

    state_names = (*Sched.state_names, "kswapds_pending", "kswapd_node")

    def __init__(self) -> None:
        super().__init__()
        self.kstat: KernelStat26 = KernelStat26()
        self.kswapd_task.comm = "kswapd0"
        self.kswapd_task.flags = PF_MEMALLOC | PF_KSWAPD
        self.kswapds_pending: list[int] = []  # nodes whose kswapd was woken and has not run yet
        self.kswapd_node = _NOBODY  # whose kswapd runs
        self.kswapd_tasks: dict[int, Task] = {0: self.kswapd_task}

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        kernel.init_task.parent = kernel.init_task

    # -- tasks --------------------------------------------------------------------------------

    def add_task(self, task: Task) -> None:
        """In 2.6 a task knows its children, because the out-of-memory killer looks at them; before that it did not care.

        The current task is the parent. kernel: include/linux/sched.h:SET_LINKS
        """
        super().add_task(task)
        task.parent = self.kernel.current

    def remove_task(self, task: Task) -> None:
        """In 2.6 its children become init's, because somebody must know them; before that nobody asked.

        kernel: kernel/exit.c:forget_original_parent
        """
        super().remove_task(task)
        for child in self.tasks.values():
            if child.parent is task:
                child.parent = self.kernel.init_task

    def children(self, task: Task) -> list[Task]:
        """In 2.6 a list in the parent, because the killer needs it; before that links to the youngest and next older.

        Oldest first. kernel: include/linux/sched.h:task_struct
        """
        return [child for child in self.tasks.values() if child.parent is task]

    # -- giving up the processor --------------------------------------------------------------

    def _others_run(self) -> None:
        """Disks finish, killed tasks exit, and a kswapd that was woken runs; then it is our turn again."""
        kernel = self.kernel
        kernel.block.complete_all()
        self.reap_killed(kernel.current)
        if self.kswapd_pending and not self.kswapd_running:
            self._behind = kernel.current
            try:
                while self.kswapd_pending:
                    self.run_kswapd()
            finally:
                self._behind = None
        self.op_yields += 1
        if self.op_yields >= PATIENCE:
            self._check_progress()

    def blk_congestion_wait(self, write: int, timeout: int) -> None:
        """In 2.6 new, because who has nothing to free waits for the disk, not for its turn. All of *timeout* jiffies pass.

        kernel: drivers/block/ll_rw_blk.c:blk_congestion_wait
        """
        self.kstat.congestion_waits += 1
        self.jiffies += timeout
        if self.on_event is not None:
            self.on_event(("blk_congestion_wait", timeout, self.jiffies))
        self._others_run()

    def schedule_timeout(self, timeout: int) -> int:
        """In 2.6 the others get their turn here, because the out-of-memory killer lets its victim exit by it; before that it yielded.

        Sleep *timeout* jiffies. Returns the jiffies left, always 0. kernel: kernel/timer.c:schedule_timeout
        """
        self.jiffies += timeout
        if self.on_event is not None:
            self.on_event(("sleep", timeout, self.jiffies))
        self._others_run()
        return 0

    def schedule(self) -> None:
        """In 2.6 waiting for a page to be written is io_schedule()'s, because that time is accounted apart; before that it was this one's.

        Disks finish, killed tasks exit. kernel: kernel/sched.c:schedule
        """
        self.kernel.block.complete_all()
        self.reap_killed(self.kernel.current)
        if self.on_event is not None:
            self.on_event(("schedule", self.jiffies))

    def io_schedule(self) -> bool:
        """In 2.6 new, because time spent waiting for a disk is accounted: wait for one. Returns whether any had something to do.

        kernel: kernel/sched.c:io_schedule
        """
        if self.on_event is not None:
            self.on_event(("schedule", self.jiffies))
        return bool(self.kernel.block.complete_all())

    # -- kswapd -------------------------------------------------------------------------------

    def wake_kswapd(self, nid: int = 0) -> None:
        """In 2.6 each node has its own, because one could not keep up with many; before that there was one.

        Wake the kswapd of node *nid* if it sleeps on its queue. kernel: mm/vmscan.c:wakeup_kswapd
        """
        if nid == self.kswapd_node or nid in self.kswapds_pending:
            return
        self.kswapds_pending.append(nid)
        self.kswapd_pending = True
        self.kstat.kswapd_wakes += 1

    def kswapd_of(self, nid: int) -> Task:
        """In 2.6 a task per node, because a node's kswapd runs on the node; before that one.

        The task of node *nid*'s kswapd. kernel: mm/vmscan.c:kswapd_init
        """
        task = self.kswapd_tasks.get(nid)
        if task is None:
            task = self.kswapd_tasks[nid] = Task(KSWAPD_PID + nid, f"kswapd{nid}")
            task.flags = PF_MEMALLOC | PF_KSWAPD
        return task

    def run_kswapd(self) -> None:
        """In 2.6 a node at a time, because each has its own; before that there was one.

        The kswapd that was woken first (node 0's if none was) gets the processor until it sleeps again.
        """
        kernel = self.kernel
        nid = self.kswapds_pending.pop(0) if self.kswapds_pending else 0
        self.kswapd_pending = bool(self.kswapds_pending)
        kernel.block.complete_all()
        self.kswapd_running = True
        self.kswapd_node = nid
        self.kstat.kswapd_runs += 1
        try:
            with kernel.running(self.kswapd_of(nid)):
                kernel.reclaim.kswapd(nid)  # type: ignore[attr-defined]
        finally:
            self.kswapd_running = False
            self.kswapd_node = _NOBODY

    # -- endless waiting ----------------------------------------------------------------------

    def _check_progress(self) -> None:
        """In 2.6 swap slots make no difference, because the killer is called whether there are any or not; before that none was killed
        while slots were left.
        """
        self._check_repetition("nobody can exit, or be killed, to end it")
