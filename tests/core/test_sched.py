"""Time, turns and signals."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

from vmlab.mm.gfp import PF_MEMALLOC
from vmlab.mm.sched import Sched
from vmlab.mm.task import HZ, SIGBUS, SIGKILL, SIGSEGV, Task

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """A kernel of which only the scheduler exists; disks, kswapd and exits write into ``said``."""

    def __init__(self, *pids: int) -> None:
        self.current = self.init_task = Task()
        self.said: list[str] = []
        self.queue = 0
        self.sched = Sched()
        self.sched.attach(self)  # type: ignore[arg-type]
        self.block = SimpleNamespace(complete_all=self.complete_all)
        self.vmscan = SimpleNamespace(kswapd=self.kswapd)
        self.fork = SimpleNamespace(exit_task=lambda task: self.said.append(f"exit {task.pid} by {self.current.pid}"))
        for pid in pids:
            self.sched.add_task(Task(pid, "p"))

    def complete_all(self) -> int:
        done, self.queue = self.queue, 0
        if done:
            self.said.append(f"{done} done")
        return done

    def kswapd(self) -> None:
        assert self.current is self.sched.kswapd_task and self.current.flags == PF_MEMALLOC
        self.said.append("kswapd")
        self.sched.wake_kswapd()  # it is awake: nobody waits on the queue
        self.sched.yield_()  # as the killer does, from inside kswapd

    @contextmanager
    def running(self, task: Task) -> Iterator[None]:
        before, self.current = self.current, task
        yield
        self.current = before


def test_jiffies_pass_only_by_waiting() -> None:
    bench = Bench()
    sched = bench.sched
    sched.yield_()
    assert sched.jiffies == 1
    sched.schedule()  # nothing to wait for: time passes
    assert sched.jiffies == 2
    bench.queue = 3
    sched.schedule()  # a disk was busy
    assert sched.jiffies == 2 and bench.queue == 0
    assert sched.schedule_timeout(HZ) == 0
    assert sched.jiffies == 2 + HZ
    bench.queue = 1
    sched.run_task_queue()
    sched.end_of_op()
    assert sched.jiffies == 2 + HZ and bench.queue == 0


def test_kswapd_runs_when_woken_and_never_inside_itself() -> None:
    bench = Bench()
    sched = bench.sched
    sched.end_of_op()
    assert bench.said == []
    sched.wake_kswapd()
    sched.wake_kswapd()
    sched.end_of_op()
    assert bench.said == ["kswapd"] and sched.kswapd_runs == 1 and not sched.kswapd_pending
    sched.wake_kswapd()
    sched.yield_()
    assert bench.said == ["kswapd"] * 2 and bench.current is bench.init_task


def test_yield_lets_the_killed_exit_by_pid_but_not_the_current_task() -> None:
    bench = Bench(5, 3, 8, 4)
    sched = bench.sched
    for pid in (8, 5, 3):
        sched.force_sig(SIGKILL, sched.tasks[pid])
    sched.force_sig(SIGSEGV, sched.tasks[4])  # kills nobody here
    bench.queue = 1
    sched.wake_kswapd()
    with bench.running(sched.tasks[5]):
        sched.begin_op()
        sched.yield_()
        # kswapd yields too, but task 5 waits for it in the middle of its operation.
        assert bench.said == ["1 done", "exit 3 by 3", "exit 8 by 8", "kswapd"]
        sched.end_of_op()
    assert bench.said[4:] == ["exit 5 by 5"] and list(sched.tasks) == [4]
    assert sched.killed == [3, 8] and sched.selfkill == [5]
    sched.begin_op()
    assert not sched.killed and not sched.selfkill


def test_the_end_of_an_operation_runs_kswapd_before_the_killed_exit() -> None:
    bench = Bench(1, 2)
    sched = bench.sched
    bench.kswapd = lambda: bench.said.append("kswapd")  # type: ignore[method-assign]
    bench.vmscan.kswapd = bench.kswapd
    bench.queue = 2
    sched.wake_kswapd()
    with bench.running(sched.tasks[1]):
        sched.do_exit(sched.tasks[1])
        assert sched.dying(sched.tasks[1]) and not sched.dying(sched.tasks[2])
        sched.end_of_op()
    assert bench.said == ["2 done", "kswapd", "exit 1 by 1"] and sched.selfkill == [1]


def test_a_bad_access_is_reported_once() -> None:
    bench = Bench(1)
    task = bench.sched.tasks[1]
    bench.sched.force_sig_info(SIGBUS, task)
    assert bench.sched.take_fault_signal(task) == SIGBUS
    assert bench.sched.take_fault_signal(task) == 0 and not bench.sched.dying(task)


def test_process_numbers_are_not_used_twice() -> None:
    bench = Bench(1, 2, 4)
    sched = bench.sched
    assert [sched.get_pid(), sched.get_pid()] == [3, 5]
    sched.last_pid = 32767
    assert sched.get_pid() == 300
