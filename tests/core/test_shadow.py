"""Everything at once: processes that fork, map, write and are swapped out, against a model of what they must read."""

from __future__ import annotations

import random

import pytest

from tests.core.processes import machine, new_task
from tests.core.test_memory import ANON, AT, RW, load
from vmlab import GFP_ATOMIC
from vmlab.hw.tlb import Tlb
from vmlab.mm.swap_header import write_header
from vmlab.mm.task import SIGSEGV
from vmlab.mm.vm import MAP_FIXED, PROT_READ


# Do several processes see exactly what they wrote, through forks, copies and swap, and is every frame back at the end?
# With a TLB that holds: every change of an entry in use is followed by its flush.
@pytest.mark.parametrize(("pae", "seed", "tlb"), [(False, 1, False), (True, 2, False), (False, 3, True), (True, 4, True)])
def test_contents_through_fork_and_swap(pae: bool, seed: int, tlb: bool) -> None:
    rng = random.Random(seed)
    m = machine("16M", pae=pae, kernel_objects="ram")
    m.mmu.tlb = Tlb(1024, 1024) if tlb else None
    m.block.add_disk(0, 4000)
    m.block.disks[0].write_page(0, write_header(2, 1, 3999))
    with m.running(new_task(m, 99)):
        m.current.cap_effective = 0xFFFFFFFF
        assert m.swapfile.sys_swapon(0, 0) == 0
    m.fork.exit_task(m.sched.tasks[99])
    while m.nr_free_pages() > 150:
        m.alloc_pages(GFP_ATOMIC)
    start = m.nr_free_pages() + m.pgtable.pgtable_cache_size
    npages = 120
    first = new_task(m, 1)
    with m.running(first):
        assert m.mmap.do_mmap_pgoff(None, AT, npages << 12, RW, ANON | MAP_FIXED, 0) == AT
    shadow: dict[int, list[int]] = {1: [0] * npages}
    for step in range(2500):
        pid = rng.choice(list(shadow))
        task = m.sched.tasks[pid]
        act = rng.random()
        if act < 0.004 and len(shadow) < 4:
            child = m.fork.fork_task(task, pid := max(shadow) + 1)
            assert child is not None
            shadow[pid] = list(shadow[task.pid])
            for page in range(npages):  # the parent goes on writing at once
                assert m.mmu.touch(task, AT + (page << 12), 1, None, step + 1) >= 0
            shadow[task.pid] = [step + 1] * npages
        elif act < 0.006 and len(shadow) > 1:
            with m.running(task):
                m.fork.exit_task(task)
            del shadow[pid]
        elif act < 0.02:
            page = rng.randrange(npages)
            length = min(rng.randrange(1, 20), npages - page)
            with m.running(task):
                if act < 0.014:
                    assert m.mmap.do_mmap_pgoff(None, AT + (page << 12), length << 12, RW, ANON | MAP_FIXED, 0) >= 0
                    shadow[pid][page : page + length] = [0] * length
                else:
                    assert m.mprotect.sys_mprotect(AT + (page << 12), length << 12, PROT_READ) == 0
                    assert m.mmu.touch(task, AT + (page << 12), 1, None, 1) == -SIGSEGV
                    assert m.mprotect.sys_mprotect(AT + (page << 12), length << 12, RW) == 0
        else:
            page = rng.randrange(npages)
            if rng.random() < 0.5:
                assert m.mmu.touch(task, AT + (page << 12), 1, None, step + 1) >= 0
                shadow[pid][page] = step + 1
            else:
                assert load(m, task, AT + (page << 12)) == shadow[pid][page], (step, pid, page)
        m.sched.end_of_op()
    assert m.sched.kstat.pswpin > 100 and m.sched.kstat.pswpout > 100, "the test must swap"
    for pid, pages in shadow.items():
        task = m.sched.tasks[pid]
        assert [load(m, task, AT + (i << 12)) for i in range(npages)] == pages
        with m.running(task):
            m.fork.exit_task(task)
    m.sched.end_of_op()
    while m.slab.kmem_cache_reap(0x1F0):
        pass
    assert m.swapfile.nr_swap_pages == m.swapfile.total_swap_pages
    assert m.nr_free_pages() + m.pgtable.pgtable_cache_size >= start - 4, "no frame is lost (a slab may stay)"
    m.check()
