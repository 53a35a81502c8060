"""The i386 MMU: walking tables made by hand, and touching memory of a running machine."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from tests.core.processes import machine, new_task
from vmlab.hw.memory import PhysicalMemory
from vmlab.hw.mmu import ACCESSED, DIRTY, PRESENT, PSE, RW, USER, I386Mmu
from vmlab.hw.tlb import Tlb
from vmlab.mm.task import SIGSEGV
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE

RIGHTS = st.integers(0, 7)  # PRESENT, RW, USER


def tables(pae: bool, pmd: int, pte: int) -> tuple[I386Mmu, Any, array[int], array[int]]:
    """A directory (frame 1), with PAE a middle one (2), and a table (3), that map address 0x40321xxx to frame 9."""
    ram = PhysicalMemory(16)
    table = ram.quads(3) if pae else ram.words(3)
    table[0x40321000 >> 12 & (511 if pae else 1023)] = 9 << 12 | pte
    if pae:
        pgd: Any = array("Q", [0, 2 << 12 | PRESENT, 0, 0])
        middle = ram.quads(2)
        middle[0x40321000 >> 21 & 511] = 3 << 12 | pmd
    else:
        pgd = middle = ram.words(1)
        middle[0x40321000 >> 22] = 3 << 12 | pmd
    return I386Mmu(ram, pae), pgd, middle, table


# Does a walk grant, refuse and mark exactly as the manual says?
@given(st.booleans(), RIGHTS, RIGHTS, st.booleans(), st.booleans())
def test_rights_of_all_levels(pae: bool, pmd: int, pte: int, write: bool, user: bool) -> None:
    mmu, pgd, middle, table = tables(pae, pmd, pte)
    before = middle[:], table[:]
    got = mmu.translate(pgd, 0x40321ABC, write, user)
    code = 2 * write | 4 * user
    if not (pmd & PRESENT and pte & PRESENT):
        assert got == ~code
    elif (write and not pmd & pte & RW) or (user and not pmd & pte & USER):
        assert got == ~(code | 1)
    else:
        assert got == 9
        assert table[0x321 & (511 if pae else 1023)] == 9 << 12 | pte | ACCESSED | (DIRTY if write else 0)
        assert middle[0x40321000 >> (21 if pae else 22) & (511 if pae else 1023)] == 3 << 12 | pmd | ACCESSED
        return
    assert (middle[:], table[:]) == before, "a fault marks nothing"


# Are large pages one level shorter?
@pytest.mark.parametrize(("pae", "inside"), [(False, 0x321), (True, 0x121)])
def test_large_page(pae: bool, inside: int) -> None:
    mmu, pgd, middle, _ = tables(pae, 0, 0)
    slot = 0x40321000 >> (21 if pae else 22) & (511 if pae else 1023)
    middle[slot] = 0x1000 << 12 | PRESENT | RW | PSE
    assert mmu.translate(pgd, 0x40321ABC, True, False) == 0x1000 + inside
    assert middle[slot] & (ACCESSED | DIRTY) == ACCESSED | DIRTY
    assert mmu.translate(pgd, 0x40321ABC, False, True) == ~5
    found = mmu.bits(pgd, 0x40321ABC)
    assert found is not None and found.frame == 0x1000 + inside and not found.bits & USER


# Does PAE reach frames above 4 GiB?
def test_pae_frames_above_4_gib() -> None:
    mmu, pgd, _, table = tables(True, 7, 0)
    table[0x121] = 0x123456 << 12 | 7
    assert mmu.translate(pgd, 0x40321000, False, True) == 0x123456


# Does a store go to memory, and a load get it back; and does a fault tell why?
def test_touch() -> None:
    m = machine()
    task = new_task(m)
    with m.running(task):
        start = m.mmap.do_mmap_pgoff(None, 0, 4 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    assert m.mmu.touch(task, start + 8, 1, None, 0xDEADBEEF) == 1
    assert m.mmu.touch(task, start + 8) == 0
    assert m.mmu.loaded == 0xDEADBEEF
    assert m.mmu.touch(task, start + 12) == 0 and m.mmu.loaded == 0
    assert m.mmu.touch(task, start + 4096) == 1, "a read gets the zero page"
    assert m.mmu.walk(task.mm, start + 4096).levels[-1].entry >> 12 == m.empty_zero_page
    assert m.mmu.touch(task, start + 4096, 1, None, 7) == 1, "and a write then a page of its own"
    assert m.mmu.touch(task, 0x1000) == -SIGSEGV
    assert "no stack" in str(task.siginfo) or "no area" in str(task.siginfo)
    assert not task.pending, "the process lives on"
    with pytest.raises(ValueError, match="no user memory"):
        m.mmu.touch(m.init_task, 0)


# What does a walk tell for a page that is there, one that is not, and a kernel address?
@pytest.mark.parametrize("pae", [False, True])
def test_walk(pae: bool) -> None:
    m = machine(pae=pae)
    task = new_task(m)
    with m.running(task):
        start = m.mmap.do_mmap_pgoff(None, 0, 4 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    assert m.mmu.walk(task.mm, start).physical is None
    assert "no page table" in m.mmu.walk(task.mm, start).why
    m.mmu.touch(task, start + 0x123, 1, None, 1)
    walk = m.mmu.walk(task.mm, start + 0x123)
    assert walk.error_code is None and walk.physical is not None and walk.physical & 0xFFF == 0x123
    assert [level.name for level in walk.levels] == (["pgd", "pmd", "pte"] if pae else ["pgd", "pte"])
    assert sum(walk.indices.values()) == sum(level.slot for level in walk.levels) + 0x123
    assert f"{walk.physical:#010x}" in str(walk) and "DIRTY" in str(walk)
    assert m.mmu.walk(task.mm, start + 4096, write=True).error_code == 6
    m.mmu.touch(task, start + 4096)
    again = m.mmu.walk(task.mm, start + 4096, write=True)
    assert again.error_code == 7 and again.why == "the page is read-only"
    kernel = m.mmu.walk(task.mm, 0xC0100000)
    assert kernel.error_code in (4, 5) and kernel.why


REFERENCES = st.lists(st.integers(0, 2 * 40 - 1), max_size=120)


def state(m: vmlab.Machine, task: Any) -> Any:
    frames = {pfn: words.tobytes() for pfn, words in m.ram.contents.items() if any(words)}
    return frames, m.mem.flags.tobytes(), m.mem.count.tobytes(), list(m.mem.lru.next), task.mm.rss, task.min_flt, task.maj_flt


# Is the fast loop the slow one, to the bit, with and without somebody listening?
@settings(deadline=None, max_examples=25)
@given(REFERENCES, st.booleans(), st.booleans())
def test_run_is_touch_after_touch(references: list[int], pae: bool, listening: bool) -> None:
    results = []
    for fast in (True, False):
        m = machine(pae=pae)
        task = new_task(m)
        with m.running(task):
            start = m.mmap.do_mmap_pgoff(None, 0, 32 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
        faults = touches = signal = 0
        if fast:
            if listening:
                m.on_event = lambda event: None
            touches, faults, signal = m.mmu.run(task, references, start, 1)
        else:
            stamp = 1
            for reference in references:
                got = m.mmu.touch(task, start + (reference >> 1 << 12), reference & 1, None, stamp)
                m.sched.end_of_op()
                if got < 0:
                    signal = -got
                    break
                faults += got
                touches += 1
                stamp += reference & 1
        results.append((touches, faults, signal, state(m, task)))
    assert results[0] == results[1]


# With a TLB: the same pages, the same values; and every lookup is counted.
@settings(deadline=None, max_examples=25)
@given(REFERENCES, st.sampled_from([(1, 1), (8, 2), (64, 4)]))
def test_a_tlb_changes_no_value(references: list[int], shape: tuple[int, int]) -> None:
    seen = []
    for tlb in (None, Tlb(*shape)):
        m = machine()
        m.mmu.tlb = tlb
        tasks = [new_task(m, pid) for pid in (1, 2)]
        loaded = []
        for task in tasks:
            with m.running(task):
                start = m.mmap.do_mmap_pgoff(None, 0, 40 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
        for i, reference in enumerate(references):
            faults = m.mmu.touch(tasks[i // 3 % 2], start + (reference >> 1 << 12), reference & 1, None, i)
            loaded.append((faults, m.mmu.loaded))
            if i % 10 == 9:
                with m.running(tasks[0]):
                    m.mmap.do_munmap(tasks[0].mm, start + (i % 40 << 12), 4096)
        seen.append((loaded, [task.mm.rss for task in tasks]))
    assert seen[0] == seen[1]
    assert tlb is not None
    if references:
        assert tlb.misses >= 1 and tlb.flushes["mm"] >= 1, "the first touch loads CR3 and misses"


# Without a flush a stale entry is believed, as by the hardware: the flush hooks are what makes munmap work.
def test_stale_entries_are_the_kernels_problem() -> None:
    m = machine()
    m.mmu.tlb = Tlb()
    task = new_task(m)
    with m.running(task):
        start = m.mmap.do_mmap_pgoff(None, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0)
    m.mmu.touch(task, start, 1, None, 42)
    found = m.pgtable.pte_lookup(task.mm, start)
    assert found is not None
    table, slot = found
    entry, table[slot] = table[slot], 0  # behind the kernel's back
    assert m.mmu.touch(task, start) == 0 and m.mmu.loaded == 42
    table[slot] = entry
    with m.running(task):
        assert m.mmap.do_munmap(task.mm, start, 4096) == 0
    assert m.mmu.touch(task, start) == -SIGSEGV
