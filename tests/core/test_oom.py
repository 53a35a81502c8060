"""Who is killed when memory has run out, and when."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from vmlab.errors import KernelPanic
from vmlab.mm.gfp import PF_MEMALLOC, PF_MEMDIE
from vmlab.mm.oom_kill import OomKill
from vmlab.mm.sched import Sched
from vmlab.mm.task import CAP_SYS_ADMIN, CAP_SYS_RAWIO, HZ, SIGKILL, SIGTERM, Task

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """A kernel of which only the scheduler and the killer exist; the dead leave a list of pids."""

    def __init__(self) -> None:
        self.current = self.init_task = Task()
        self.console: list[str] = []
        self.exited: list[int] = []
        self.sched, self.oom_kill = Sched(), OomKill()
        self.block = SimpleNamespace(complete_all=lambda: 0)
        self.swapfile = SimpleNamespace(nr_swap_pages=0)
        self.fork = SimpleNamespace(exit_task=lambda task: self.exited.append(task.pid))
        for part in (self.sched, self.oom_kill):
            part.attach(self)  # type: ignore[arg-type]
        self.sched.jiffies = 1_000_000

    def printk(self, level: int, text: str) -> None:
        self.console.append(text)

    @contextmanager
    def running(self, task: Task) -> Iterator[None]:
        before, self.current = self.current, task
        yield
        self.current = before

    def task(self, pid: int, pages: int, mm: Any = None) -> Task:
        task = Task(pid, "p")
        task.uid = task.euid = 1000
        task.start_time = self.sched.jiffies
        task.mm = mm or SimpleNamespace(total_vm=pages)
        self.sched.tasks[pid] = task
        return task

    def fail(self, times: int, step: int) -> None:
        """*times* failures of reclaim, *step* jiffies before each."""
        for _ in range(times):
            self.sched.jiffies += step
            self.oom_kill.out_of_memory()


def test_the_rough_square_root() -> None:
    known = {0: 1, 1: 1, 3: 1, 4: 2, 100: 9, 1000: 31, 10000: 78}
    assert {x: OomKill().int_sqrt(x) for x in known} == known


def test_points_follow_size_time_and_privilege() -> None:
    bench = Bench()
    task = bench.task(1, 8000)
    points = bench.oom_kill.badness
    assert points(task) == 8000
    task.nice = 5
    assert points(task) == 16000
    task.nice = 0
    task.euid = 0
    assert points(task) == 2000
    task.cap_effective = 1 << CAP_SYS_ADMIN  # root and administrator: once only
    assert points(task) == 2000
    task.cap_effective |= 1 << CAP_SYS_RAWIO
    assert points(task) == 500
    task.euid, task.cap_effective = 1000, 0
    task.utime, task.stime = 60 << 10, 40 << 10  # 100 units of processor time: divided by 9
    assert points(task) == 8000 // 9
    task.start_time = bench.sched.jiffies - (4 << 17)  # four units of age: the root of the root of 4 is 1
    assert points(task) == 8000 // 9
    task.flags |= PF_MEMDIE
    assert points(task) == 0
    task.flags, task.mm = 0, None
    assert points(task) == 0


def test_the_oldest_of_equals_is_chosen_and_nobody_without_points() -> None:
    bench = Bench()
    assert bench.oom_kill.select_bad_process() is None
    bench.task(3, 0)
    assert bench.oom_kill.select_bad_process() is None
    second, _, third = bench.task(9, 40), bench.task(2, 40), bench.task(1, 41)
    assert bench.oom_kill.select_bad_process() is third
    del bench.sched.tasks[1]
    assert bench.oom_kill.select_bad_process() is second


def test_nobody_dies_while_there_is_swap() -> None:
    bench = Bench()
    bench.task(1, 100)
    bench.swapfile.nr_swap_pages = 1
    bench.fail(1000, 20)
    assert not bench.exited and bench.oom_kill.count == 0


def test_ten_failures_after_a_second() -> None:
    bench = Bench()
    bench.task(1, 100)
    bench.fail(1, 0)  # the first for a long time only starts the clock
    bench.fail(9, 10)  # within the first second failures do not count
    bench.fail(9, 10)
    assert not bench.exited and bench.oom_kill.count == 9
    bench.fail(1, 10)
    assert bench.exited == [1] and bench.console == ["Out of Memory: Killed process 1 (p)."]
    assert bench.oom_kill.count == 0


def test_a_gap_of_five_seconds_starts_again() -> None:
    bench = Bench()
    bench.task(1, 100)
    bench.fail(1, 0)
    bench.fail(9, HZ)
    bench.fail(1, 5 * HZ + 1)
    assert bench.oom_kill.count == 0
    bench.fail(9, 5 * HZ)  # exactly five seconds apart is no gap
    assert not bench.exited
    bench.fail(1, 5 * HZ)
    assert bench.exited == [1]


def test_five_seconds_between_kills() -> None:
    bench = Bench()
    bench.task(1, 100)
    bench.task(2, 50)
    bench.fail(1, 0)
    bench.fail(10, HZ)
    assert bench.exited == [1]
    start = bench.oom_kill.lastkill
    while len(bench.exited) == 1:
        bench.fail(1, 30)
    assert bench.exited == [1, 2] and bench.sched.jiffies - start >= 5 * HZ


def test_who_shares_the_memory_dies_too_and_hardware_drivers_get_sigterm() -> None:
    bench = Bench()
    worst = bench.task(4, 900)
    bench.task(2, 10)
    thread = bench.task(7, 0, worst.mm)
    thread.cap_effective = 1 << CAP_SYS_RAWIO
    sent: list[tuple[int, int]] = []
    bench.sched.on_event = lambda e: sent.append(e[1:]) if e[0] == "signal" else None
    before = bench.sched.jiffies
    bench.oom_kill.oom_kill()
    assert sent == [(4, SIGKILL), (7, SIGTERM)]
    assert bench.exited == [4, 7] and list(bench.sched.tasks) == [2]
    assert worst.flags & PF_MEMALLOC and worst.flags & PF_MEMDIE and worst.counter == 5 * HZ
    assert bench.sched.jiffies == before + 1  # one yield


def test_a_task_that_chose_itself_lives_to_the_end_of_its_operation() -> None:
    bench = Bench()
    task = bench.task(4, 900)
    with bench.running(task):
        bench.oom_kill.oom_kill()
        assert not bench.exited and task.flags & PF_MEMDIE
        bench.sched.end_of_op()
    assert bench.exited == [4] and bench.sched.selfkill == [4] and not bench.sched.killed


def test_panic_when_nobody_is_left() -> None:
    bench = Bench()
    bench.fail(1, 0)
    with pytest.raises(KernelPanic, match="no killable processes"):
        bench.fail(20, HZ)
    assert bench.oom_kill.lastkill == bench.sched.jiffies
