"""Events of the scheduler, the page lists, page reclaim and the out-of-memory killer."""

from .events_base import spec

_VS, _SW = "mm/vmscan.c:", "mm/swap.c:"

SPECS = [
    spec("signal", "kernel/signal.c:force_sig_info", "pid sig", "{signal_name} is sent to process {pid}"),
    spec("task_dies", "kernel/exit.c:do_exit", "pid", "process {pid} was killed and exits"),
    spec("sched_yield", "kernel/sched.c:yield", "jiffies", "the task gives up the processor; it is jiffy {jiffies}"),
    spec("schedule", "kernel/sched.c:schedule", "jiffies", "the task waits for a disk; it is jiffy {jiffies}"),
    spec("sleep", "kernel/timer.c:schedule_timeout", "timeout jiffies", "the task slept {timeout} jiffies; it is jiffy {jiffies}"),
    spec("lru_add", _SW + "lru_cache_add", "pfn", "{pfn} goes to the head of the inactive list"),
    spec("lru_del", _SW + "lru_cache_del", "pfn", "{pfn} leaves the page lists"),
    spec("activate", _SW + "activate_page", "pfn", "{pfn} was used again: it moves to the head of the active list"),
    spec("swap_out", _VS + "swap_out", "priority zone", "the clock sets out to unmap pages that {zone_name} can use"),
    spec("swap_mm", _VS + "swap_out", "pid", "the clock's hand moves to process {pid}"),
    spec("pte_young", _VS + "try_to_swap_out", "pid address pfn", "{address:#x} of process {pid} was used (or is locked): {pfn} stays"),
    spec(
        "unmap", _VS + "try_to_swap_out", "pid address pfn entry", "{address:#x} of process {pid} is unmapped from {pfn}; entry {entry:#x}"
    ),
    spec("swap_full", _VS + "try_to_swap_out", "pid address pfn", "no swap slot for {pfn}: {address:#x} of process {pid} stays mapped"),
    spec(
        "shrink_caches",
        _VS + "shrink_caches",
        "zone priority nr_pages",
        "reclaim: {nr_pages} pages wanted for {zone_name}, priority {priority}",
    ),
    spec("too_many_mapped", _VS + "shrink_cache", "pfn", "{pfn} is in use, as too many before it: time to unmap some"),
    spec("launder", _VS + "shrink_cache", "pfn", "{pfn} is dirty: it is written"),
    spec("reclaim_page", _VS + "shrink_cache", "pfn", "{pfn} is clean and unused: it is freed"),
    spec("second_chance", _VS + "refill_inactive", "pfn", "{pfn} was referenced: to the head of the active list again"),
    spec("deactivate", _VS + "refill_inactive", "pfn", "{pfn} moves from the active to the inactive list"),
    spec("zone_balanced", _VS + "kswapd_balance_pgdat", "zone free_pages", "{zone_name} is balanced: {free_pages} pages free"),
    spec("kswapd", _VS + "kswapd", "", "kswapd runs"),
    spec("kswapd_sleeps", _VS + "kswapd", "", "kswapd goes to sleep"),
    spec("badness", "mm/oom_kill.c:badness", "pid points", "process {pid} has {points} points"),
    spec("oom_kill", "mm/oom_kill.c:oom_kill_task", "pid", "out of memory: process {pid} is killed"),
]
