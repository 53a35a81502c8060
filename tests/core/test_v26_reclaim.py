"""Page reclaim of 2.6 on small machines: what it frees, what it keeps, and that nothing is lost by it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

import vmlab
from vmlab.mm.gfp import GFP_ATOMIC, GFP_KERNEL
from vmlab.mm.page_flags import PG_active, PG_dirty, PG_referenced
from vmlab.mm.swap_header import write_header
from vmlab.v26.page_flags import SWAPCACHE, WRITEBACK
from vmlab.v26.vmscan_control import ScanControl

PAGE = 4096
ACTIVE, DIRTY, REFERENCED = 1 << PG_active, 1 << PG_dirty, 1 << PG_referenced
PRIVATE_ANON = 0x22


def boot(mib: int = 8, swap_pages: int = 4000, io_mode: int = 0) -> Any:
    m: Any = vmlab.Machine(f"{mib}M", kernel="2.6", kernel_objects="outside", io_mode=io_mode).power_on()
    m.mmap.sysctl_overcommit_memory = 1
    if swap_pages:
        m.block.add_disk(0, swap_pages).write_page(0, write_header(2, 1, swap_pages - 1))
        assert m.swapfile.sys_swapon(0, 0) == 0
    return m


def area(m: Any, pid: int, pages: int) -> tuple[Any, int]:
    """A new process and the address of its anonymous area."""
    task = m.fork.new_task(pid)
    with m.running(task):
        return task, m.mmap.do_mmap_pgoff(None, 0, pages * PAGE, 3, PRIVATE_ANON, 0)


def touch(m: Any, task: Any, address: int, value: int | None = None) -> None:
    m.sched.begin_op()
    assert m.mmu.touch(task, address, int(value is not None), value=value or 0) >= 0
    m.sched.end_of_op(task)


def entry(m: Any, task: Any, address: int) -> int:
    """The page table entry for *address*."""
    table, slot = m.pgtable.pte_lookup(task.mm, address)
    return int(table[slot])


def control(priority: int, nr_to_scan: int = 32) -> ScanControl:
    sc = ScanControl(GFP_KERNEL)
    sc.priority, sc.nr_to_scan, sc.nr_to_reclaim = priority, nr_to_scan, 32
    return sc


def listed(m: Any, zone: Any) -> tuple[list[int], list[int]]:
    return list(m.mem.lru.walk(zone.active_list)), list(m.mem.lru.walk(zone.inactive_list))


@pytest.mark.parametrize("io_mode", [0, 1])
def test_a_program_larger_than_memory_gets_all_its_words_back(io_mode: int) -> None:
    m = boot(io_mode=io_mode)
    pages = 2500
    task, address = area(m, 2, pages)
    random = Random(5)
    words: dict[int, int] = {}
    for step in range(4000):
        at = random.randrange(pages)
        words[at] = step + 1
        touch(m, task, address + at * PAGE, step + 1)
        zone = m.zones[0]
        assert zone.free_pages > zone.pages_min // 4
    for at in range(pages):
        touch(m, task, address + at * PAGE)
        assert m.ram.words(entry(m, task, address + at * PAGE) >> 12)[0] == words.get(at, 0)
    state = m.page_allocator.page_state
    assert state.kswapd_steal > 0 and state.pageoutrun > 0 and state.pswpin > 0
    assert bool(state.pgrotated) == bool(io_mode)
    m.check()


def test_kswapd_stops_when_the_zone_is_at_pages_high() -> None:
    m = boot()
    task, address = area(m, 2, 2000)
    for at in range(1400):
        touch(m, task, address + at * PAGE, 1)
    zone = m.zones[0]
    zone.pages_high = zone.free_pages + 60
    m.sched.run_kswapd()
    assert zone.pages_high < zone.free_pages < zone.pages_high + 40
    assert zone.prev_priority == zone.temp_priority


def test_refill_spares_mapped_pages_until_memory_is_mostly_mapped() -> None:
    m = boot()
    task, address = area(m, 2, 200)
    for at in range(100):
        touch(m, task, address + at * PAGE, 1)
    zone = m.zones[0]
    m.swap.lru_add_drain()
    before = listed(m, zone)[0]
    sc = control(12)
    with m.running(m.sched.kswapd_task):
        m.reclaim.refill_inactive_zone(zone, sc)
    active, inactive = listed(m, zone)
    assert inactive == [] and sorted(active) == sorted(before)
    assert active == before[-32:] + before[:-32]  # looked at, and back to the head
    # In distress they are asked whether they were used: all were, since no one asked before.
    zone.prev_priority = 0
    with m.running(m.sched.kswapd_task):
        m.reclaim.refill_inactive_zone(zone, control(0, 200))
        assert zone.nr_inactive == 0
        m.reclaim.refill_inactive_zone(zone, control(0, 200))
    assert zone.nr_active == 0 and zone.nr_inactive == 100
    assert not any(m.mem.flags[pfn] & ACTIVE for pfn in listed(m, zone)[1])


def test_without_swap_anonymous_pages_are_never_deactivated() -> None:
    m = boot(swap_pages=0)
    task, address = area(m, 2, 64)
    for at in range(64):
        touch(m, task, address + at * PAGE, 1)
    zone = m.zones[0]
    zone.prev_priority = 0
    for _ in range(3):
        m.reclaim.refill_inactive_zone(zone, control(0, 100))
    assert (zone.nr_active, zone.nr_inactive) == (64, 0)
    m.reclaim.vm_swappiness = 100
    m.reclaim.refill_inactive_zone(zone, control(0, 100))
    assert zone.nr_inactive == 0


@pytest.mark.parametrize("io_mode", [0, 1])
def test_an_old_dirty_page_is_given_a_slot_written_and_freed(io_mode: int) -> None:
    m = boot(io_mode=io_mode)
    task, address = area(m, 2, 40)
    for at in range(40):
        touch(m, task, address + at * PAGE, at + 1)
    zone = m.zones[0]
    zone.prev_priority = 0
    for _ in range(2):
        m.reclaim.refill_inactive_zone(zone, control(0, 100))
    first = listed(m, zone)[1][-1]
    sc = control(0)
    free = zone.free_pages + len(zone.parked())
    m.reclaim.shrink_cache(zone, sc)
    if io_mode:
        assert sc.nr_reclaimed == 0
        assert m.mem.flags[first] & (SWAPCACHE | WRITEBACK | DIRTY) == SWAPCACHE | WRITEBACK
        m.block.complete_all()
        assert m.page_allocator.page_state.pgrotated == 32
        assert listed(m, zone)[1][-32] == first and not m.mem.flags[first] & WRITEBACK
        m.reclaim.shrink_cache(zone, sc)
    assert sc.nr_reclaimed == 32
    assert zone.free_pages + len(zone.parked()) == free + 32
    assert m.page_allocator.page_state.pswpout == 32
    assert task.mm.rss == task.mm.anon_rss == 8
    entries = [entry(m, task, address + at * PAGE) for at in range(40)]
    assert sum(1 for pte in entries if pte and not pte & 1) == 32
    assert m.fork.mmlist == [task.mm]


def test_a_full_batch_counts_one_page_too_many() -> None:
    m = boot()
    task, address = area(m, 2, 100)
    for at in range(100):
        touch(m, task, address + at * PAGE, 1)
    zone = m.zones[0]
    zone.prev_priority = 0
    for _ in range(2):
        m.reclaim.refill_inactive_zone(zone, control(0, 200))
    m.reclaim.shrink_cache(zone, control(12, 34))  # one batch of 32 counts as 33, so 34 are two batches
    state = m.page_allocator.page_state
    assert state.pgscan_direct[0] == 66
    assert state.pgsteal[0] == 64


def test_locked_pages_are_kept_and_the_zone_is_given_up() -> None:
    m = boot(swap_pages=400)
    task, address = area(m, 2, 300)
    task.cap_effective = 1 << 14
    with m.running(task):
        assert m.mlock.sys_mlock(address, 300 * PAGE) == 0
    m.sched.end_of_op(task)
    zone = m.zones[0]
    assert m.reclaim.try_to_free_pages([zone], GFP_KERNEL, 0) == 0
    assert task.mm.rss == 300
    zone.pages_high = 5000
    m.sched.run_kswapd()
    assert zone.all_unreclaimable and task.mm.rss == 300


def test_the_last_resort_is_to_kill() -> None:
    m = boot(swap_pages=0)
    small, at_small = area(m, 2, 10)
    touch(m, small, at_small, 1)
    big, at_big = area(m, 3, 4000)
    died = False
    for at in range(4000):
        m.sched.begin_op()
        m.mmu.touch(big, at_big + at * PAGE, 1, value=1)
        m.sched.end_of_op(big)
        died = 3 not in m.sched.tasks
        if died:
            break
    assert died and 2 in m.sched.tasks
    assert m.sched.kstat.oom_kills == 1
    m.check()


def test_copies_and_originals_go_on_alike() -> None:
    m = boot(io_mode=1)
    task, address = area(m, 2, 2500)
    random = Random(1)
    for _ in range(3000):
        touch(m, task, address + random.randrange(2500) * PAGE, 7)
    other = m.copy()
    steps = [random.randrange(2500) for _ in range(1500)]
    ends = []
    for machine in (m, other):
        mine = machine.sched.tasks[2]
        for at in steps:
            touch(machine, mine, address + at * PAGE, at)
        ends.append((machine.page_allocator.page_state.values(), [listed(machine, zone) for zone in machine.zones], machine.sched.jiffies))
    assert ends[0] == ends[1]


def test_an_atomic_request_wakes_kswapd_and_does_not_wait() -> None:
    m = boot()
    task, address = area(m, 2, 2000)
    for at in range(1300):
        touch(m, task, address + at * PAGE, 1)
    runs = m.sched.kstat.kswapd_runs
    zone = m.zones[0]
    while zone.free_pages > zone.pages_low - 5:
        assert m.alloc_page(GFP_ATOMIC) is not None
    assert m.sched.kswapd_pending and m.sched.kstat.kswapd_runs == runs
    assert m.page_allocator.page_state.allocstall == 0
    m.sched.end_of_op()
    assert m.sched.kstat.kswapd_runs == runs + 1 and zone.free_pages > zone.pages_high
