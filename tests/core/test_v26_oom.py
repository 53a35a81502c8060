"""2.6: who is killed when memory runs out, the swap token, waiting for the disk, dirty limits, shrinkers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import vmlab
import vmlab.v26.vmscan_control
from vmlab.errors import KernelPanic
from vmlab.mm.gfp import PF_MEMDIE
from vmlab.mm.task import CAP_SYS_ADMIN, CAP_SYS_RAWIO, SIGKILL, Task
from vmlab.v26.task import HZ, PF_EXITING, PF_SWAPOFF


def boot(**options: Any) -> Any:
    options.setdefault("kernel_objects", "outside")
    return vmlab.Machine("8M", kernel="2.6", **options).power_on()


def add(m: Any, pid: int, pages: int, parent: Task | None = None, mm: Any = None) -> Task:
    """A task of an ordinary user with an address space that is only a size."""
    task = Task(pid, "p")
    task.uid = task.euid = 1000
    task.mm = mm or SimpleNamespace(total_vm=pages, rss=0)
    with m.running(parent or m.init_task):
        m.sched.add_task(task)
    return task


def victims(m: Any) -> list[int]:
    """Who gets SIGKILL when memory runs out once. Nobody exits."""
    m.sched.reaping = False
    m.oom_kill.out_of_memory(0x1F0)
    return [task.pid for task in m.sched.tasks.values() if SIGKILL in task.pending]


@pytest.mark.parametrize(
    ("change", "points"),
    [
        ({}, 10_000),
        ({"utime": 12 << 13, "stime": 4 << 13}, 2500),  # 16 units of 8 s: the square root is 4
        ({"utime": 3 << 13}, 10_000),  # the root of 3 is 1, exactly
        ({"nice": 1}, 20_000),
        ({"uid": 0}, 2500),
        ({"euid": 0, "cap_effective": 1 << CAP_SYS_ADMIN}, 2500),
        ({"cap_effective": 1 << CAP_SYS_RAWIO | 1 << CAP_SYS_ADMIN}, 625),
        ({"oomkilladj": 3}, 80_000),
        ({"oomkilladj": -16}, 0),
        ({"oomkilladj": 20}, 10_000 << 20 & 0xFFFFFFFF),
        ({"mm": None}, 0),
    ],
)
def test_points_of_one_task(change: dict[str, Any], points: int) -> None:
    m = boot()
    task = add(m, 2, 10_000)
    for name, value in change.items():
        setattr(task, name, value)
    assert m.oom_kill.badness(task, 0) == points


def test_run_time_counts_by_its_fourth_root() -> None:
    m = boot()
    task = add(m, 2, 10_000)
    task.start_time = 100 * HZ
    assert [m.oom_kill.badness(task, 100 + (n << 10)) for n in (0, 15, 16, 81)] == [10_000, 10_000, 5000, 3333]
    assert m.oom_kill.badness(task, 99) == 10_000  # it starts in the future


def test_a_parent_answers_for_children_with_memory_of_their_own() -> None:
    m = boot()
    parent = add(m, 2, 100)
    add(m, 3, 40, parent)
    add(m, 4, 70, parent)
    add(m, 5, 0, parent, parent.mm)  # a thread
    add(m, 6, 1000)
    assert m.oom_kill.badness(parent, 0) == 210
    m.sched.remove_task(m.sched.tasks[3])
    assert m.oom_kill.badness(parent, 0) == 170
    orphan = m.sched.tasks[4]
    m.sched.remove_task(parent)
    assert orphan.parent is m.init_task and m.sched.children(parent) == []


def test_one_call_kills_though_swap_is_free() -> None:
    m = boot()
    add(m, 2, 10)
    big = add(m, 3, 20)
    m.swapfile.nr_swap_pages = 1000
    assert victims(m) == [3]
    assert big.flags & PF_MEMDIE and m.sched.kstat.oom_kills == 1 and m.sched.jiffies == 1
    assert victims(m) == [3]  # it is dying: nobody else is chosen
    assert m.sched.kstat.oom_kills == 1
    assert any(line.startswith("oom-killer: gfp_mask=0xd0") for line in m.console)


def test_a_child_goes_before_its_parent_and_threads_go_together() -> None:
    m = boot()
    parent = add(m, 2, 500)
    add(m, 3, 1, parent)
    add(m, 4, 1, parent, m.sched.tasks[3].mm)
    assert victims(m) == [3, 4]


def test_the_first_of_equals_is_chosen_even_with_no_points() -> None:
    m = boot()
    add(m, 1, 10_000)  # init is never chosen
    add(m, 2, 0)
    add(m, 3, 0)
    assert victims(m) == [2]


@pytest.mark.parametrize("flag", [PF_MEMDIE, PF_EXITING])
def test_nobody_is_chosen_while_somebody_is_dying(flag: int) -> None:
    m = boot()
    add(m, 2, 10)
    add(m, 3, 10).flags |= flag
    assert m.oom_kill.select_bad_process() == -1 and victims(m) == []


def test_who_is_in_swapoff_goes_first() -> None:
    m = boot()
    add(m, 2, 10_000)
    add(m, 3, 1).flags |= PF_SWAPOFF
    assert victims(m) == [3]


def test_nobody_to_kill_is_a_panic() -> None:
    m = boot()
    add(m, 1, 10)
    with pytest.raises(KernelPanic):
        m.oom_kill.out_of_memory(0)


def test_the_swap_token_moves_every_two_seconds_at_most() -> None:
    m = boot()
    token = m.reclaim
    one, two = add(m, 2, 1), add(m, 3, 1)

    def grab(task: Task) -> Any:
        with m.running(task):
            token.grab_swap_token()
        return token.swap_token_mm

    assert grab(one) is m.init_mm  # jiffy 0 is not after jiffy 0
    m.sched.jiffies = 1
    assert grab(one) is one.mm
    assert grab(two) is one.mm
    m.sched.jiffies = 2001
    assert grab(one) is one.mm  # still faults: it says so
    assert grab(two) is one.mm  # asked too early
    m.sched.jiffies = 2002
    assert grab(two) is two.mm
    token.put_swap_token(one.mm)
    assert token.has_swap_token(two.mm)
    token.put_swap_token(two.mm)
    assert token.swap_token_mm is m.init_mm and token.swap_token_check == 2002


def test_waiting_passes_time_and_gives_turns() -> None:
    m = boot()
    zone = m.zones[0]
    m.sched.wake_kswapd()
    m.sched.wake_kswapd()
    assert m.sched.kstat.kswapd_wakes == 1
    m.sched.blk_congestion_wait(1, 100)
    assert (m.sched.jiffies, m.sched.kstat.congestion_waits, m.sched.kstat.kswapd_runs) == (100, 1, 1)
    assert not m.sched.kswapd_pending
    m.sched.schedule_timeout(7)
    m.sched.schedule()
    assert m.sched.jiffies == 107
    # An order is remembered even when there is nobody to wake.
    m.sched.kswapd_node = 0
    zone.pages_low = zone.free_pages + 1
    m.reclaim.wakeup_kswapd(zone, 3)
    m.reclaim.wakeup_kswapd(zone, 1)
    assert zone.pgdat.kswapd_max_order == 3 and not m.sched.kswapd_pending


def test_kswapd_gives_a_zone_up_in_which_nothing_is_to_be_found() -> None:
    m = boot()
    zone = m.zones[0]
    zone.pages_high = zone.free_pages + 1
    m.sched.run_kswapd()
    assert zone.all_unreclaimable
    assert zone.prev_priority == zone.temp_priority == 12
    pfn = m.alloc_page(0x1F0)
    m.page_allocator.free_pages(pfn, 0)
    while zone.all_unreclaimable:  # until a page reaches the zone itself
        m.page_allocator.free_pages(m.page_allocator.alloc_pages(0x1F0, 1), 1)
    assert zone.pages_scanned == 0


def test_what_is_too_little_to_scan_piles_up() -> None:
    m = boot()
    zone = m.zones[0]
    sc = vmlab.v26.vmscan_control.ScanControl(0x1F0)
    sc.priority = 12
    for n in range(1, 32):
        m.reclaim.shrink_zone(zone, sc)
        assert zone.nr_scan_active == zone.nr_scan_inactive == n
    m.reclaim.shrink_zone(zone, sc)
    assert zone.nr_scan_active == zone.nr_scan_inactive == 0
    assert zone.pages_scanned == 1  # the kernel counts a page that is not there


def test_dirty_limits_fall_with_mapped_memory() -> None:
    m = boot()
    part, state = m.page_writeback, m.page_allocator.page_state
    total = part.total_pages
    assert part.get_dirty_limits() == (total * 10 // 100, total * 40 // 100)
    state.nr_mapped = total // 2
    assert part.get_dirty_limits() == (total * 10 // 100, total * 25 // 100)
    state.nr_mapped = total
    assert part.get_dirty_limits() == (total * 2 // 100, total * 5 // 100)
    m.init_task.rt_priority = 1
    assert part.get_dirty_limits().dirty == total * 5 // 100 * 5 // 4


def test_reclaim_asks_for_writing_and_nobody_does_it() -> None:
    m = boot()
    m.page_writeback.wakeup_bdflush(0)
    assert m.sched.kstat.pdflush_requests == 1


def test_caches_shrink_with_the_lists() -> None:
    m = boot()
    asked: list[int] = []

    def shrink(nr: int, gfp_mask: int) -> int:
        asked.append(nr)
        return 1000

    m.diskfs.shrink_something = shrink
    shrinker = m.reclaim.set_shrinker(2, "diskfs", "shrink_something")
    m.reclaim.shrink_slab(32, 0, 999)  # 4 * 32 / 2 seeks * 1000 objects / 1000 pages
    assert shrinker.nr == 64 and asked == [0]
    m.reclaim.shrink_slab(0, 0, 999)  # as if 32 had been scanned
    assert shrinker.nr == 0 and asked == [0, 0, 128]
    assert m.page_allocator.page_state.slabs_scanned == 128
    m.reclaim.remove_shrinker(shrinker)
    assert m.reclaim.shrinker_list == []


@pytest.mark.parametrize("io_mode", [0, 1])
def test_a_writer_writes_when_too_much_is_dirty(io_mode: int) -> None:
    m = boot(io_mode=io_mode)
    file = m.diskfs.fake_file(0, 600, 600 << 12, 3)
    part, state = m.page_writeback, m.page_allocator.page_state
    state.nr_mapped = part.total_pages  # all mapped: 5 % may be dirty
    for index in range(200):
        pfn = m.alloc_page(0x1F0)
        assert m.filemap.add_to_page_cache(pfn, file.inode.i_mapping, index, 0x1F0) == 0
        m.filemap.unlock_page(pfn)
        m.filemap.set_page_dirty(pfn)
        part.balance_dirty_pages_ratelimited(file.inode.i_mapping)
        m.put_page(pfn)
    assert state.nr_dirty + state.nr_writeback <= part.get_dirty_limits().dirty + part.ratelimit_pages
    assert m.block.file_writes >= 90
    m.block.complete_all()
    assert state.nr_writeback == 0
