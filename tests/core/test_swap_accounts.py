"""Processes, swap areas coming and going, reclaim: is every slot's count the number of its users, and no byte lost?"""

from __future__ import annotations

import random

import pytest

import vmlab
from tests.core.processes import new_task
from vmlab.mm.gfp import GFP_KSWAPD
from vmlab.mm.swap_header import mkswap
from vmlab.mm.swap_map import SWAP_MAP_BAD
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE

BASE, PAGES = 0x40000000, 1500
RIGHTS, PRIVATE = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
MACHINES = {
    "outside": {"ram": "8M", "kernel_objects": "outside"},
    "ram": {"ram": "8M", "kernel_objects": "ram"},
    "pae": {"ram": "12M", "kernel_objects": "ram", "pae": True},
}


def users(m: vmlab.Machine) -> dict[int, int]:
    """How many page table entries and cached pages refer to each swap entry."""
    found: dict[int, int] = {}
    pgtable = m.pgtable
    for task in m.sched.tasks.values():
        for vma in task.mm.areas() if task.mm is not None else []:
            for address in range(vma.vm_start & -pgtable.PMD_SIZE, vma.vm_end, pgtable.PMD_SIZE):
                place = pgtable.pte_lookup(task.mm, address)  # type: ignore[arg-type]
                for pte in place[0] if place is not None else ():
                    if pte and not pte & 0x81:
                        found[pte] = found.get(pte, 0) + 1
    for pfn in m.filemap.cached_pages(m.swap_state.swapper_space):
        found[m.mem.index[pfn]] = found.get(m.mem.index[pfn], 0) + 1
    return found


def check(m: vmlab.Machine) -> None:
    """Slot counts, free slots and the areas' own bounds agree with what is in use."""
    counts, free = {}, 0
    for area, p in enumerate(m.swapfile.swap_info[: m.swapfile.nr_swapfiles]):
        used = p.used_slots()
        counts.update({area << 1 | slot << 8: count for slot, count in used if count != SWAP_MAP_BAD})
        if p.flags == 3:
            free += p.max - len(used)
            taken = {slot for slot, _ in used}
            assert all(slot in taken or p.lowest_bit <= slot <= p.highest_bit for slot in range(1, p.max)), "a free slot out of bounds"
    assert users(m) == counts
    assert m.swapfile.nr_swap_pages == free


class Life:
    """A machine, and beside it what each process wrote."""

    def __init__(self, seed: int, kind: str, io_mode: int) -> None:
        self.rnd = random.Random(seed)
        self.m = m = vmlab.Machine(io_mode=io_mode, **MACHINES[kind]).power_on()  # type: ignore[arg-type]
        m.init_task.cap_effective = 0xFFFFFFFF
        m.mmap.sysctl_overcommit_memory = 1
        for number in range(3):
            m.block.add_disk(number, 2000).write_page(0, mkswap(2000, 2 - number % 2, self.rnd.sample(range(1, 500), 40)))
        self.areas: set[int] = set()
        self.words: dict[int, dict[int, int]] = {}
        self.pid = 0

    def swap(self) -> None:
        """An area is put in, or taken out again."""
        number = self.rnd.randrange(3)
        if number in self.areas and len(self.areas) > 1:
            assert self.m.swapfile.sys_swapoff(number) == 0
            self.areas.remove(number)
        elif number not in self.areas:
            assert self.m.swapfile.sys_swapon(number, self.rnd.choice([0, 0x8000, 0x8001])) == 0
            self.areas.add(number)

    def process(self) -> None:
        """A new one, a fork, or an exit."""
        m, old = self.m, list(self.words)
        if len(old) > 3:
            pid = self.rnd.choice(old)
            task = m.sched.tasks[pid]
            with m.running(task):
                m.fork.exit_task(task)
            m.sched.tasks.pop(pid, None)
            del self.words[pid]
            return
        self.pid += 1
        if old and self.rnd.random() < 0.6:
            parent = self.rnd.choice(old)
            with m.running(m.sched.tasks[parent]):
                assert m.fork.do_fork(self.pid) == 0
            self.words[self.pid] = dict(self.words[parent])
        else:
            with m.running(new_task(m, self.pid)):
                assert m.mmap.do_mmap(None, BASE, PAGES << 12, RIGHTS, PRIVATE, 0) == BASE
            self.words[self.pid] = {}

    def touch(self) -> None:
        """A process reads or writes a run of pages, or replaces some by new ones."""
        m = self.m
        pid = self.rnd.choice(list(self.words))
        task, mine = m.sched.tasks[pid], self.words[pid]
        first, n, what = self.rnd.randrange(PAGES), self.rnd.choice([1, 30, 300]), self.rnd.random()
        for page in range(first, min(first + n, PAGES)):
            address = BASE + (page << 12)
            if what < 0.1:
                with m.running(task):
                    assert m.mmap.do_mmap(None, address, 4096, RIGHTS, PRIVATE | MAP_FIXED, 0) == address
                mine.pop(address, None)
            elif what < 0.6:
                mine[address] = self.rnd.getrandbits(32)
                m.mmu.touch(task, address, 1, value=mine[address])
            else:
                m.mmu.touch(task, address)
                assert m.mmu.loaded == mine.get(address, 0), f"process {pid}, page {page}"
            m.sched.end_of_op()

    def reclaim(self) -> None:
        """Memory is short."""
        for _ in range(self.rnd.randrange(6)):
            self.m.vmscan.try_to_free_pages_zone(self.m.zones[-1], GFP_KSWAPD)


@pytest.mark.parametrize("io_mode", [0, 1])
@pytest.mark.parametrize("kind", sorted(MACHINES))
def test_every_slot_is_accounted_for(kind: str, io_mode: int) -> None:
    life = Life(sum(kind.encode()) + io_mode, kind, io_mode)
    life.swap()
    life.process()
    m = life.m
    for step in range(150):
        life.rnd.choices([life.swap, life.process, life.touch, life.reclaim], [1, 1, 8, 2])[0]()
        m.sched.end_of_op()
        if not step % 10:
            check(m)
    assert m.sched.kstat.pswpout > 500 and not m.sched.kstat.oom_kills, "the test is of swap, not of the killer"
    for number in sorted(life.areas):
        if len(life.areas) > 1:
            assert m.swapfile.sys_swapoff(number) == 0
            life.areas.remove(number)
            check(m)
    for pid, words in life.words.items():
        for address, word in words.items():
            m.mmu.touch(m.sched.tasks[pid], address)
            assert m.mmu.loaded == word
    check(m)
