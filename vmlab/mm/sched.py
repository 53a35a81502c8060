"""Who runs, and what time it is: as much of the scheduler as memory management can notice.

One processor, and a task gives it up only where the kernel says so: in ``yield_()``, ``schedule()``
and ``schedule_timeout()``. Disks, kswapd and tasks that were killed get their turn exactly there
and at the end of each operation. Time is counted in jiffies (100 a second) and passes only when a
task waits, or when somebody lets it pass. kernel: kernel/sched.c, kernel/signal.c
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from ..errors import KernelHang
from .gfp import PF_MEMALLOC
from .kernel import Part
from .task import SIGBUS, SIGKILL, SIGSEGV, SIGTERM, Task

if TYPE_CHECKING:
    from .kernel import Kernel

FATAL = frozenset((SIGKILL, SIGTERM))
KSWAPD_PID = 4  # as on a real machine: init, keventd, ksoftirqd, kswapd
PATIENCE = 256  # yields within one operation before we look whether anything still changes


class KernelStat:
    """Counters since power-on. kernel: include/linux/kernel_stat.h:kernel_stat, and four of our own"""

    __slots__ = ("kswapd_runs", "kswapd_wakes", "oom_kills", "pgpgin", "pgpgout", "pswpin", "pswpout", "yields")

    def __init__(self) -> None:
        self.pgpgin = self.pgpgout = 0  # sectors of 512 bytes read and written
        self.pswpin = self.pswpout = 0  # pages of swap
        self.kswapd_wakes = self.kswapd_runs = 0
        self.yields = self.oom_kills = 0

    def __repr__(self) -> str:
        return "<KernelStat " + ", ".join(f"{name} {getattr(self, name)}" for name in self.__slots__) + ">"


class Sched(Part):
    """Tasks, time, waiting, and the turns of kswapd."""

    state_names: tuple[str, ...] = (
        "tasks",
        "jiffies",
        "last_pid",
        "kstat",
        "kswapd_task",
        "keventd_pending",
        "kswapd_pending",
        "kswapd_running",
        "killed",
        "selfkill",
        "fatal",
        "reaping",
        "op_yields",
        "_seen",
        "_repeats",
    )

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[int, Task] = {}  # by pid, oldest first; the idle task and kswapd are not among them
        self.jiffies = 0
        self.last_pid = 0
        self.kstat = KernelStat()
        self.kswapd_task = Task(KSWAPD_PID, "kswapd")
        self.kswapd_task.flags = PF_MEMALLOC
        self.keventd_pending = False  # it is to write dirty inodes that nobody uses
        self.kswapd_pending = False  # somebody woke it and it has not run yet
        self.kswapd_running = False  # it is off its wait queue: waking it does nothing
        self.killed: list[int] = []  # pids that died of a signal since begin_op(), in order
        self.selfkill: list[int] = []  # the same for the task whose operation it was
        self.fatal = False  # whether a signal that kills was sent and somebody may still have to die of it
        self._behind: Task | None = None  # who yielded to the kswapd that runs: it cannot exit before it runs again
        self._doomed: Task | None = None  # whose operation ends, if it was killed in it
        self.reaping = True  # False: nobody exits, to look at the killer's choice alone
        self.op_yields = 0
        self._seen: tuple[int, ...] = ()
        self._repeats = 0

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel

    @property
    def kswapd_runs(self) -> int:
        """How often kswapd ran."""
        return self.kstat.kswapd_runs

    @property
    def yields(self) -> int:
        """How often a task gave up the processor of its own accord."""
        return self.kstat.yields

    @property
    def kills(self) -> int:
        """Tasks the out-of-memory killer has chosen."""
        return self.kstat.oom_kills

    # -- tasks --------------------------------------------------------------------------------

    def get_pid(self) -> int:
        """A process number nobody has. kernel: kernel/fork.c:get_pid"""
        while True:
            self.last_pid = self.last_pid + 1 if self.last_pid < 32767 else 300
            if self.last_pid not in self.tasks:
                return self.last_pid

    def add_task(self, task: Task) -> None:
        """Put *task* at the end of the task list; it starts now. kernel: include/linux/sched.h:SET_LINKS"""
        self.tasks[task.pid] = task
        task.start_time = self.jiffies

    def remove_task(self, task: Task) -> None:
        """Take *task* off the task list. kernel: include/linux/sched.h:REMOVE_LINKS"""
        self.tasks.pop(task.pid, None)

    # -- signals ------------------------------------------------------------------------------

    def force_sig_info(self, sig: int, task: Task) -> None:
        """Send a signal that cannot be blocked. kernel: kernel/signal.c:force_sig_info"""
        task.pending.add(sig)
        if sig in FATAL:
            self.fatal = True
        if self.on_event is not None:
            self.on_event(("signal", task.pid, sig))

    def force_sig(self, sig: int, task: Task) -> None:
        """Send a signal that cannot be blocked. kernel: kernel/signal.c:force_sig"""
        self.force_sig_info(sig, task)

    def send_sig(self, sig: int, task: Task) -> None:
        """Send a signal. Nothing in this machine blocks or handles signals. kernel: kernel/signal.c:send_sig"""
        self.force_sig_info(sig, task)

    def take_fault_signal(self, task: Task) -> int:
        """SIGSEGV or SIGBUS if one is pending for *task*, which forgets it and lives on; else 0.

        A program would have a handler for it or die; here whoever made the access decides.
        """
        for sig in (SIGBUS, SIGSEGV):
            if sig in task.pending:
                task.pending.discard(sig)
                return sig
        return 0

    def do_exit(self, task: Task) -> None:
        """*task*, the running one, must die: it goes when its operation ends. The caller returns at once.

        kernel: kernel/exit.c:do_exit
        """
        task.pending.add(SIGKILL)
        self.fatal = True

    def dying(self, task: Task) -> bool:
        """Whether a signal that ends *task* is pending. kernel: kernel/signal.c:signal_pending"""
        return not FATAL.isdisjoint(task.pending)

    def reap(self, task: Task) -> None:
        """*task* gets the processor and exits. kernel: kernel/exit.c:do_exit"""
        (self.selfkill if task is self._doomed else self.killed).append(task.pid)
        if self.on_event is not None:
            self.on_event(("task_dies", task.pid))
        with self.kernel.running(task):
            self.kernel.fork.exit_task(task)
        self.tasks.pop(task.pid, None)

    def reap_killed(self, spare: Task | None = None) -> None:
        """Every task that was killed exits, lowest pid first; not *spare*, nor who waits for kswapd."""
        if not self.fatal or not self.reaping:
            return
        doomed = [task for task in self.tasks.values() if task.pending and self.dying(task)]
        leave = [task for task in doomed if task is not spare and task is not self._behind]
        self.fatal = len(leave) < len(doomed)
        for task in sorted(leave, key=lambda task: task.pid):
            self.reap(task)

    # -- giving up the processor --------------------------------------------------------------

    def yield_(self) -> None:
        """Let everybody else run: a jiffy passes, disks finish, killed tasks exit, kswapd runs if it was woken.

        Raises KernelHang when this has gone on and on and nothing changes any more.
        kernel: kernel/sched.c:yield
        """
        self.jiffies += 1
        self.kstat.yields += 1
        self.op_yields += 1
        kernel = self.kernel
        if self.on_event is not None:
            self.on_event(("sched_yield", self.jiffies))
        kernel.block.complete_all()
        self.reap_killed(kernel.current)
        if self.kswapd_pending and not self.kswapd_running:
            self._behind = kernel.current
            try:
                self.run_kswapd()
            finally:
                self._behind = None
        if self.op_yields >= PATIENCE:
            self._check_progress()

    def schedule(self) -> None:
        """Wait for a disk; when no disk has anything to do, a jiffy passes. kernel: kernel/sched.c:schedule"""
        if not self.kernel.block.complete_all():
            self.jiffies += 1
        if self.on_event is not None:
            self.on_event(("schedule", self.jiffies))

    def schedule_timeout(self, timeout: int) -> int:
        """Sleep *timeout* jiffies. Returns the jiffies left, always 0. kernel: kernel/timer.c:schedule_timeout"""
        self.jiffies += timeout
        self.kernel.block.complete_all()
        if self.on_event is not None:
            self.on_event(("sleep", timeout, self.jiffies))
        return 0

    def run_task_queue(self) -> None:
        """Unplug the disks: what was asked of them is done. kernel: include/linux/tqueue.h:run_task_queue (of tq_disk)"""
        self.kernel.block.complete_all()

    def cond_resched(self) -> None:
        """Give way if somebody more important waits; nobody ever does here. kernel: include/linux/sched.h:conditional_schedule"""

    # -- kswapd -------------------------------------------------------------------------------

    def wake_kswapd(self) -> None:
        """Wake kswapd if it sleeps on its queue. kernel: mm/page_alloc.c:__alloc_pages (wake_up_interruptible(&kswapd_wait))"""
        if not self.kswapd_running and not self.kswapd_pending:
            self.kswapd_pending = True
            self.kstat.kswapd_wakes += 1

    def run_kswapd(self) -> None:
        """kswapd gets the processor and keeps it until it goes to sleep again."""
        kernel = self.kernel
        self.kswapd_pending = False
        kernel.block.complete_all()
        self.kswapd_running = True
        self.kstat.kswapd_runs += 1
        try:
            with kernel.running(self.kswapd_task):
                kernel.vmscan.kswapd()
        finally:
            self.kswapd_running = False

    # -- operations ---------------------------------------------------------------------------

    def begin_op(self) -> None:
        """A new operation starts: forget who died in the one before."""
        self.killed = []
        self.selfkill = []
        self.op_yields = 0

    def end_of_op(self, task: Task | None = None) -> None:
        """What happens when an operation of *task* (or of the current one) returns to user mode.

        Disks finish, kswapd runs if it was woken, and who was killed exits.
        """
        kernel = self.kernel
        self.op_yields = 0
        kernel.block.complete_all()
        if self.keventd_pending:
            self.keventd_pending = False
            with kernel.running(kernel.init_task):
                kernel.icache.try_to_sync_unused_inodes()  # keventd's turn
        if not (self.kswapd_pending or self.fatal):
            return
        task = task or kernel.current
        if task.pending and self.dying(task):
            self._doomed = task
        with kernel.running(kernel.init_task):
            while self.kswapd_pending:
                self.run_kswapd()
            self.reap_killed()
        self._doomed = None
        self.op_yields = 0

    # -- endless waiting ----------------------------------------------------------------------

    def _check_progress(self) -> None:
        """Raise KernelHang when the machine is in exactly the state of an earlier yield of this operation.

        With swap slots left nobody will ever be killed, so what happens does not depend on the time: the
        same state twice means that it will come again for ever (Brent's cycle finding: look again at
        twice the distance).
        """
        if self.kernel.swapfile.nr_swap_pages <= 0:
            return  # time decides: in the end somebody is killed, or the kernel panics
        self._check_repetition("nobody is killed for it while swap slots are left")

    def _check_repetition(self, why: str) -> None:
        """Raise KernelHang when nothing changes any more; *why* that never ends."""
        now = self._fingerprint()
        if now == self._seen:
            self._repeats += 1
        if self._repeats >= 3:  # not at once: bits in page tables, which the numbers do not show, may have changed
            raise KernelHang(
                "__alloc_pages",
                f"order ≤ 3 with __GFP_WAIT is retried until it succeeds; nothing can be reclaimed, nothing changes any more, and {why}",
            )
        if self.op_yields & (self.op_yields - 1) == 0:
            self._seen, self._repeats = now, 0

    def _fingerprint(self) -> tuple[int, ...]:
        """A few numbers that are equal only when nothing that reclaim looks at differs."""
        kernel, mem = self.kernel, self.kernel.mem
        columns: list[Any] = [mem.flags, mem.count, mem.lru.next, mem.list.next]
        found = [zlib.crc32(column) for column in columns]
        found += [zone.free_pages for zone in kernel.zone_table.values()]
        for task in self.tasks.values():
            if task.mm is not None:
                found += [task.pid, task.mm.rss, getattr(task.mm, "swap_address", 0)]
        hand = getattr(kernel.reclaim, "swap_mm", None)  # somebody's own reclaim may have none
        found += [-2 if hand is None else hand.pid, kernel.swapfile.nr_swap_pages]
        found += [self.kstat.pswpin, self.kstat.pswpout, self.kstat.pgpgin, self.kstat.pgpgout]
        return tuple(found)
