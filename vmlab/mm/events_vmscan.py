"""Events of the scheduler, the page lists, page reclaim and the out-of-memory killer."""

from .events_base import spec

_VS, _SW = "mm/vmscan.c:", "mm/swap.c:"

SPECS = [
    spec("signal", "kernel/signal.c:force_sig_info", "pid sig", "signal {sig} is sent to process {pid}"),
    spec("task_dies", "kernel/exit.c:do_exit", "pid", "process {pid} was killed and exits"),
    spec("sched_yield", "kernel/sched.c:yield", "jiffies", "the task gives up the processor; it is jiffy {jiffies}"),
    spec("schedule", "kernel/sched.c:schedule", "jiffies", "the task waits for a disk; it is jiffy {jiffies}"),
    spec("sleep", "kernel/timer.c:schedule_timeout", "timeout jiffies", "the task slept {timeout} jiffies; it is jiffy {jiffies}"),
    spec("lru_add", _SW + "lru_cache_add", "pfn", "{pfn} goes to the head of the inactive list"),
    spec("lru_del", _SW + "lru_cache_del", "pfn", "{pfn} leaves the page lists"),
    spec("activate", _SW + "activate_page", "pfn", "{pfn} was used again: it moves to the head of the active list"),
]
