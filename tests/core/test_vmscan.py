"""Page reclaim on small machines: what the clock, the lists and kswapd do, and that nothing is lost by it."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from vmlab import KernelHang, KernelPanic, Machine
from vmlab.mm.gfp import GFP_ATOMIC, GFP_HIGHUSER, GFP_KERNEL, GFP_KSWAPD, PF_MEMALLOC
from vmlab.mm.page_flags import PG_active, PG_dirty, PG_locked, PG_lru, PG_referenced
from vmlab.mm.swap_header import write_header
from vmlab.mm.task import Task
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, TASK_SIZE, VM_LOCKED, VM_RESERVED
from vmlab.mm.vmscan import Vmscan

LRU, ACTIVE, REFERENCED, DIRTY, LOCKED = (1 << bit for bit in (PG_lru, PG_active, PG_referenced, PG_dirty, PG_locked))
PAGE = 4096


def machine(mib: int = 5, swap_pages: int = 2000, io_mode: int = 0, **options: Any) -> Machine:
    m = Machine(
        e820=[[0, 0x9F000, 1], [1 << 20, mib - 1 << 20, 1]],
        kernel_end=2 << 20,
        highmem=False,
        kernel_objects="outside",
        io_mode=io_mode,
        **options,
    ).power_on()
    m.init_task.cap_effective = 0xFFFFFFFF
    m.mmap.sysctl_overcommit_memory = 1
    if swap_pages:
        m.block.add_disk(0, swap_pages).write_page(0, write_header(2, 1, swap_pages - 1))
        assert m.swapfile.sys_swapon(0, 0) == 0
    return m


def process(m: Machine, pid: int = 1, pages: int = 100) -> tuple[Task, int]:
    """A new process with an anonymous area of so many pages, and the area's address."""
    task = m.fork.new_task(pid)
    assert task is not None
    with m.running(task):
        address = m.mmap.do_mmap_pgoff(None, 0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    return task, address


def write(m: Machine, task: Task, address: int, pages: int, stamp: int = 1) -> None:
    ran = m.mmu.run(task, [at * 2 + 1 for at in range(pages)], address, stamp)
    assert ran.touches == pages and not ran.signal


def frame(m: Machine, task: Task, address: int) -> int:
    """The frame mapped at *address*."""
    assert task.mm is not None
    found = m.pgtable.pte_lookup(task.mm, address)
    assert found is not None and found[0][found[1]] & 1
    return found[0][found[1]] >> 12


def entry(m: Machine, task: Task, address: int) -> int:
    assert task.mm is not None
    found = m.pgtable.pte_lookup(task.mm, address)
    return 0 if found is None else found[0][found[1]]


def make_old(m: Machine, task: Task, address: int, pages: int) -> None:
    """Clear the ACCESSED bits, as a turn of the clock does."""
    assert task.mm is not None
    for at in range(pages):
        found = m.pgtable.pte_lookup(task.mm, address + at * PAGE)
        assert found is not None
        found[0][found[1]] &= ~0x20


def sound(m: Machine) -> None:
    """Flags, lists, counters, references and page tables tell the same story."""
    active, inactive = m.swap.active(), m.swap.inactive()
    assert (len(active), len(inactive)) == (m.swap.nr_active_pages, m.swap.nr_inactive_pages)
    on_list = set(active) | set(inactive)
    assert len(on_list) == len(active) + len(inactive)
    mapped: Counter[int] = Counter()
    for task in m.sched.tasks.values():
        assert task.mm is not None
        rss = 0
        for vma in task.mm.areas():
            for address in range(vma.vm_start, vma.vm_end, PAGE):
                pte = entry(m, task, address)
                if pte & 0x81:
                    mapped[pte >> 12] += 1
                    rss += not m.mem.flags[pte >> 12] >> 14 & 1
        assert task.mm.rss == rss
    for pfn in range(m.mem.frames):
        flags = m.mem.flags[pfn]
        assert bool(flags & LRU) == (pfn in on_list) and bool(flags & ACTIVE) == (pfn in active)
        if pfn in on_list:
            assert not flags & LOCKED
            assert m.mem.count[pfn] == mapped[pfn] + (m.mem.mapping[pfn] != 0)


@pytest.mark.parametrize("io_mode", [0, 1])
def test_twice_the_memory_comes_back_word_for_word(io_mode: int) -> None:
    m = machine(io_mode=io_mode)
    pages = 2 * m.nr_free_pages()
    task, address = process(m, pages=pages)
    free = m.nr_free_pages()
    write(m, task, address, pages, stamp=1000)
    sound(m)
    assert m.sched.kstat.pswpout > pages // 3
    for at in range(pages):
        assert m.mmu.touch(task, address + at * PAGE) >= 0
        assert m.mmu.loaded == 1000 + at
        m.sched.end_of_op()
    sound(m)
    slots = m.swapfile.total_swap_pages
    with m.running(task):
        m.fork.exit_task(task)
    m.sched.end_of_op()
    assert m.swapfile.nr_swap_pages == slots
    m.vmscan.shrink_cache(10_000, m.zone_table[1] if m.zone_table[1].size else m.zone_table[0], GFP_KSWAPD, 1)
    assert m.nr_free_pages() >= free - m.pgtable.pgtable_cache_size


# -- the clock ------------------------------------------------------------------------------------


def test_a_page_that_was_used_gets_one_more_round() -> None:
    m = machine()
    task, address = process(m)
    write(m, task, address, 4)
    zone = m.zone_table[0]
    pages = [frame(m, task, address + at * PAGE) for at in range(4)]
    assert m.swap.inactive() == pages[::-1]
    m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    # New pages were referenced once when they were mapped; the clock saw them used: they are active, and old now.
    assert m.swap.active() == pages[::-1]
    assert all(not entry(m, task, address + at * PAGE) & 0x20 for at in range(4))
    m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    assert all(entry(m, task, address + at * PAGE) & 1 for at in range(4))  # active pages are never unmapped
    m.vmscan.refill_inactive(4)
    m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    assert [entry(m, task, address + at * PAGE) for at in range(4)] == [0x100, 0x200, 0x300, 0x400]  # slots in clock order
    assert all(m.mem.flags[pfn] & DIRTY and m.mem.count[pfn] == 1 for pfn in pages)
    assert task.mm is not None and task.mm.rss == 0
    sound(m)


def test_the_hand_stops_after_32_pages_and_goes_on_there() -> None:
    m = machine()
    task, address = process(m, pages=100)
    with m.running(task):
        m.mmap.do_mmap_pgoff(None, address + 200 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    write(m, task, address, 100)
    make_old(m, task, address, 100)
    assert m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0]) == 1
    assert task.mm is not None and task.mm.swap_address == address + 32 * PAGE
    assert not entry(m, task, address + 31 * PAGE) & 1 and entry(m, task, address + 32 * PAGE) & 1
    for _ in range(2):
        assert m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0]) == 1
    assert task.mm.swap_address == address + 96 * PAGE
    assert m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0]) == 0
    assert task.mm.rss == 0


def test_in_the_last_area_the_hand_leaves_the_process_even_when_it_stops_early() -> None:
    m = machine()
    task, address = process(m, pages=100)
    write(m, task, address, 100)
    make_old(m, task, address, 100)
    assert m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0]) == 1
    assert task.mm is not None and task.mm.rss == 68 and task.mm.swap_address == TASK_SIZE


def test_the_hand_goes_from_process_to_process() -> None:
    m = machine()
    first, at_first = process(m, 1)
    second, at_second = process(m, 2)
    for task, address in ((first, at_first), (second, at_second)):
        write(m, task, address, 20)
        make_old(m, task, address, 20)
    assert m.fork.mmlist == [second.mm, first.mm]  # a new process goes to the head
    assert m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0]) == 1
    assert m.vmscan.swap_mm is first.mm
    assert first.mm is not None and second.mm is not None
    assert (first.mm.rss, second.mm.rss) == (8, 0)
    assert second.mm.swap_address == 0  # ready for the next turn
    with m.running(first):
        m.fork.exit_task(first)
    assert m.vmscan.swap_mm is not first.mm  # the hand does not stay in an address space that is gone


@pytest.mark.parametrize(("flag", "young"), [(VM_LOCKED, False), (VM_LOCKED, True), (VM_RESERVED, False)])
def test_locked_and_reserved_areas_keep_their_pages(flag: int, young: bool) -> None:
    m = machine()
    task, address = process(m)
    write(m, task, address, 10)
    if not young:
        make_old(m, task, address, 10)
    assert task.mm is not None
    vma = m.mmap.find_vma(task.mm, address)
    assert vma is not None
    vma.vm_flags |= flag
    for _ in range(3):
        m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0])
    assert task.mm.rss == 10
    assert bool(entry(m, task, address) & 0x20) == young  # locked pages are not aged either
    assert len(m.swap.active()) == (10 if flag == VM_LOCKED else 0)  # but count as used


def test_pages_of_other_zones_are_left_alone() -> None:
    m = machine(20)
    task, address = process(m, pages=1000)
    write(m, task, address, 1000)
    make_old(m, task, address, 1000)
    normal = [at for at in range(1000) if m.mem.flags[frame(m, task, address + at * PAGE)] >> 24 == 1]
    assert normal and len(normal) < 1000
    while m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0]):
        pass
    assert [at for at in range(1000) if entry(m, task, address + at * PAGE) & 1] == normal


def test_without_swap_dirty_anonymous_pages_stay_and_clean_ones_go() -> None:
    m = machine(swap_pages=0)
    task, address = process(m)
    write(m, task, address, 10)
    make_old(m, task, address, 10)
    assert task.mm is not None
    found = m.pgtable.pte_lookup(task.mm, address + 3 * PAGE)
    assert found is not None
    pfn = found[0][found[1]] >> 12
    found[0][found[1]] &= ~0x40  # as if it had never been written
    m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0])
    assert task.mm.rss == 9 and entry(m, task, address + 3 * PAGE) == 0
    assert m.mem.count[pfn] == 0 and not m.mem.flags[pfn] & LRU
    sound(m)


def test_a_shared_page_is_freeable_only_with_its_last_user() -> None:
    m = machine()
    task, address = process(m)
    write(m, task, address, 1)
    pfn = frame(m, task, address)
    with m.running(task):
        assert m.fork.do_fork(2) == 0
    child = m.sched.tasks[2]
    make_old(m, task, address, 1)
    make_old(m, child, address, 1)
    assert m.mem.count[pfn] == 2
    while m.mem.count[pfn] != 1:
        m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0])
    slot = entry(m, task, address)
    assert slot == entry(m, child, address) == 0x100
    assert dict(m.swapfile.swap_info[0].used_slots())[1] == 3  # two page tables and the swap cache
    sound(m)


@pytest.mark.parametrize("pages", [256, 1024])
def test_the_clock_does_not_pass_over_what_has_changed_meanwhile(pages: int) -> None:
    m = machine(8)
    task, address = process(m, pages=pages)
    write(m, task, address, pages)
    make_old(m, task, address, pages)
    before = m.snapshot()
    frames = [frame(m, task, address + at * PAGE) for at in range(pages)]
    for pfn in frames:
        m.swap.activate_page(pfn)
    zone = m.zone_table[0]
    for _ in range(2):
        assert m.vmscan.swap_out(6, GFP_KSWAPD, zone) == 0
    # All active and old: nothing to be done there. A whole page table is passed in one step.
    assert len(m.swap.settled.entries) == pages // 128 and len(m.swap.settled.tables) == pages // 1024
    after = m.snapshot()
    m.restore(before)
    assert m.vmscan.swap_out(6, GFP_KSWAPD, zone) == 1  # in this state the same entries belong to inactive pages
    m.restore(after)
    task = m.sched.tasks[1]
    for _ in range(2):
        m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    m.vmscan.refill_inactive(1)
    assert m.mem.flags[frames[0]] & LRU and not m.mem.flags[frames[0]] & ACTIVE
    m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    assert not entry(m, task, address) & 1 and entry(m, task, address + PAGE) & 1
    m.mmu.touch(task, address + 200 * PAGE)
    m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    assert not entry(m, task, address + 200 * PAGE) & 0x20
    for _ in range(2):
        m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    assert task.mm is not None and task.mm.mmap is not None
    task.mm.mmap.vm_flags |= VM_LOCKED
    m.vmscan.swap_out(6, GFP_KSWAPD, zone)
    assert all(m.mem.flags[pfn] & REFERENCED for pfn in frames[1:])  # locked pages count as used each time


@pytest.mark.parametrize("seed", range(3))
def test_the_clocks_shortcut_changes_nothing(seed: int) -> None:
    """Two machines, one without it and watched, go through the same: hot and cold pages, forks, locks, unmaps, a time jump."""
    rng = Random(seed)
    machines = [machine(6, swap_pages=6000, io_mode=seed & 1) for _ in range(2)]
    machines[1].vmscan.shortcut = False
    machines[1].on_event = lambda event: None  # who is watched takes each step by itself
    for m in machines:
        process(m, 1, 1500)
        process(m, 2, 700)
    address = 0x40000000
    pids, skipped, saved = [1, 2], 0, [m.snapshot() for m in machines]
    for step in range(60):
        what, pid, at, n = rng.choice("rrrrwwwwhhhflmt"), rng.choice(pids), rng.randrange(1200), rng.randrange(1, 400)
        for m in machines:
            m.sched.begin_op()
            task = m.sched.tasks.get(pid)
            if what == "t" and n < 20:
                m.restore(saved[machines.index(m)])
            elif what == "t":
                saved[machines.index(m)] = m.snapshot()
            elif task is not None and what in "rwh":
                places = [rng_at % 700 if what != "h" else 100 + rng_at % 40 for rng_at in range(at, at + n)]
                m.mmu.run(task, [p * 2 + (what == "w") for p in places], address, at)
            elif task is not None:
                with m.running(task):
                    if what == "f" and len(pids) < 5:
                        m.fork.do_fork(len(pids) + 1)
                    elif what == "l":
                        m.mlock.sys_mlock(address + at % 600 * PAGE, 20 * PAGE)
                    elif what == "m":
                        m.mmap.do_munmap(task.mm, address + 1200 * PAGE + at % 300 * PAGE, n % 30 * PAGE)
            m.sched.end_of_op()
        pids = sorted(set(pids) | set(machines[0].sched.tasks))
        skipped += len(machines[0].swap.settled.entries)
        assert not machines[1].swap.settled.entries
        if step % 6 == 5:
            for m in machines:
                m.mmu.loaded = 0  # run() leaves it where it is when nobody watches
            states = [m.snapshot() for m in machines]
            assert states[0].blobs == states[1].blobs
    assert skipped
    sound(machines[0])


# -- the lists ------------------------------------------------------------------------------------


def test_refill_gives_referenced_pages_another_round() -> None:
    m = machine()
    pages = []
    for _ in range(5):
        pfn = m.alloc_page(GFP_HIGHUSER)
        assert pfn is not None
        pages.append(pfn)
        m.swap.lru_cache_add(pfn)
        m.swap.activate_page(pfn)
    a, b, c, d, e = pages
    m.mem.flags[a] |= REFERENCED
    m.mem.flags[c] |= REFERENCED
    m.vmscan.refill_inactive(2)  # tail: a b c d e: head
    assert m.swap.active() == [c, a, e] and m.swap.inactive() == [d, b]
    assert not m.mem.flags[a] & REFERENCED and m.mem.flags[b] & REFERENCED
    m.vmscan.refill_inactive(0)
    assert m.swap.active() == [c, a, e]
    m.vmscan.refill_inactive(100)
    assert m.swap.active() == [] and m.swap.inactive() == [c, a, e, d, b]


def test_dirty_pages_are_written_first_and_freed_on_the_next_visit() -> None:
    m = machine()
    task, address = process(m)
    write(m, task, address, 10)
    make_old(m, task, address, 10)
    m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0])
    order = m.swap.inactive()
    free = m.nr_free_pages()
    assert m.vmscan.shrink_cache(32, m.zone_table[0], GFP_ATOMIC, 1) == 32  # may not enter the file system: nothing happens
    assert m.sched.kstat.pswpout == 0 and m.swap.inactive() == order
    assert m.vmscan.shrink_cache(32, m.zone_table[0], GFP_KSWAPD, 2) == 32  # half of the list
    assert m.sched.kstat.pswpout == 5 and m.nr_free_pages() == free
    assert m.swap.inactive() == order[5:] + order[:5]
    assert m.vmscan.shrink_cache(32, m.zone_table[0], GFP_KSWAPD, 1) == 27
    assert m.sched.kstat.pswpout == 10 and m.nr_free_pages() == free + 5
    assert m.vmscan.shrink_cache(2, m.zone_table[0], GFP_KSWAPD, 1) == 0  # no more than asked for
    assert m.nr_free_pages() == free + 7
    sound(m)


def test_too_many_mapped_pages_set_the_clock_going() -> None:
    m = machine()
    task, address = process(m)
    write(m, task, address, 60)
    make_old(m, task, address, 60)
    head = m.swap.inactive()[-7]
    assert m.vmscan.shrink_cache(32, m.zone_table[0], GFP_KSWAPD, 1) == 32
    assert task.mm is not None and task.mm.rss == 60 - 32
    assert m.swap.inactive()[0] == head  # a tenth of the list may be mapped: the 7th page was one too many


def test_an_i_o_that_is_under_way_is_waited_for() -> None:
    m = machine(io_mode=1)
    task, address = process(m)
    write(m, task, address, 2)
    make_old(m, task, address, 2)
    m.vmscan.swap_out(6, GFP_KSWAPD, m.zone_table[0])
    m.vmscan.shrink_cache(32, m.zone_table[0], GFP_KSWAPD, 1)
    assert len(m.block.queue) == 2 and all(m.mem.flags[pfn] & LOCKED for pfn in m.swap.inactive())
    before = m.sched.jiffies
    assert m.vmscan.shrink_cache(32, m.zone_table[0], GFP_KSWAPD, 1) == 31  # waited for the first, freed the second
    assert not m.block.queue and m.sched.jiffies == before + 1  # sync_page() has done it all when schedule() comes


# -- kswapd and the end ---------------------------------------------------------------------------


def test_kswapd_balances_a_zone_to_its_high_watermark() -> None:
    m = machine()
    zone = m.zone_table[0]
    task, address = process(m, pages=m.nr_free_pages())
    pages = m.nr_free_pages() - zone.pages_low - 2
    write(m, task, address, pages)
    make_old(m, task, address, pages)
    assert not zone.need_balance and not m.sched.kswapd_pending
    while not zone.need_balance:
        assert m.alloc_page(GFP_ATOMIC) is not None
    assert zone.free_pages <= zone.pages_low
    assert zone.need_balance and m.sched.kswapd_pending and not m.vmscan.kswapd_can_sleep()
    failed = 0
    m.sched.end_of_op()
    while zone.free_pages <= zone.pages_high:
        # The clock still unmaps page after page that stands in the way; after each try kswapd sleeps over it for a second.
        failed += 1
        assert m.sched.jiffies == 100 * failed and not zone.need_balance and failed < 10
        assert m.alloc_page(GFP_ATOMIC) is not None
        m.sched.end_of_op()
    assert failed and not zone.need_balance and m.sched.jiffies == 100 * failed
    assert m.vmscan.check_classzone_need_balance(zone) == 0 and m.vmscan.kswapd_can_sleep()
    sound(m)


def test_kswapd_gives_up_for_a_second_when_nothing_can_be_freed() -> None:
    m = machine(swap_pages=0)
    before = m.sched.jiffies
    m.zone_table[0].need_balance = 1
    m.sched.wake_kswapd()
    m.sched.end_of_op()
    assert m.sched.jiffies == before + 100 and m.vmscan.kswapd_can_sleep()


def test_a_process_that_needs_more_than_there_is_dies_and_gives_everything_back() -> None:
    m = machine(swap_pages=200)
    free = m.nr_free_pages() + m.pgtable.pgtable_cache_size
    task, address = process(m, 5, pages=2 * free)
    ran = m.mmu.run(task, [at * 2 + 1 for at in range(2 * free)], address)
    assert ran.touches < 2 * free and 5 not in m.sched.tasks
    assert m.sched.killed + m.sched.selfkill == [5]
    assert "<3>Out of Memory: Killed process 5 (p)." in m.console
    assert m.swapfile.nr_swap_pages == m.swapfile.total_swap_pages
    assert m.nr_free_pages() + m.pgtable.pgtable_cache_size >= free
    assert not m.swap.nr_active_pages + m.swap.nr_inactive_pages
    sound(m)


def test_memory_that_nobody_can_give_back_hangs_or_panics() -> None:
    m = machine()
    with pytest.raises(KernelHang, match="nobody is killed for it while swap slots are left"):
        while True:
            assert m.alloc_page(GFP_KERNEL) is not None
    m = machine(swap_pages=0)
    with pytest.raises(KernelPanic, match="no killable processes"):
        while True:
            assert m.alloc_page(GFP_KERNEL) is not None


def test_the_one_who_frees_memory_may_use_all_of_it() -> None:
    m = machine(swap_pages=0)
    m.current.flags |= PF_MEMALLOC
    taken = 0
    while m.alloc_page(GFP_KERNEL) is not None:
        taken += 1
    assert m.nr_free_pages() == 0 and m.sched.kstat.yields == 0
    m.current.flags &= ~PF_MEMALLOC


class Shrinker(Vmscan):
    """Knows a cache of its own that can be shrunk."""

    asked = 0

    def shrink_dcache_memory(self, priority: int, gfp_mask: int) -> int:
        self.asked += 1
        return 0


def test_other_caches_are_asked_when_pages_are_not_enough() -> None:
    m = machine(swap_pages=0, reclaim=Shrinker)
    assert m.vmscan.try_to_free_pages_zone(m.zone_table[0], GFP_KERNEL) == 0
    assert isinstance(m.reclaim, Shrinker) and m.reclaim.asked == 6


def test_every_step_can_be_put_into_words() -> None:
    import vmlab

    m = machine(swap_pages=150, io_mode=1)
    heard: list[Any] = []
    m.on_event = heard.append
    task, address = process(m, 5, pages=2000)
    m.mmu.run(task, [at * 2 + 1 for at in range(2000)], address)
    m.sched.schedule()
    pfn = m.alloc_page(GFP_HIGHUSER)
    assert pfn is not None
    m.swap.lru_cache_add(pfn)
    for _ in range(3):
        m.swap.mark_page_accessed(pfn)
    m.vmscan.refill_inactive(1)
    own = {spec.name for spec in vmlab.mm.events_vmscan.SPECS}
    assert own - {e[0] for e in heard} <= {"zone_balanced"}
    for event in {e[0]: e for e in heard if e[0] in own}.values():
        assert "{" not in vmlab.describe(event)
