"""Is a page trace run by blocks the same as one reference after the other, whatever the machine and whatever happens?"""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.hw.tlb import Tlb
from vmlab.mm.state import capture
from vmlab.trace import fastpath
from vmlab.trace.fastpath import run_trace
from vmlab.trace.pagetrace import PageTrace, load_trace, shipped

BASE = 0x40000  # page number of the first region


def machine(ram: str, *, swap: str | None = None, pae: bool = False, io_mode: int = 0) -> vmlab.Machine:
    m = vmlab.boot(ram=ram, swap=swap, pae=pae, io_mode=io_mode)
    m.overcommit(1)
    return m


def process_for(m: vmlab.Machine, trace: PageTrace, hole: bool = False) -> vmlab.Process:
    p = m.spawn("trace")
    for page, length in trace.regions:
        assert p.mmap(length << 12, "rwx", addr=page << 12, fixed=True) == page << 12
    if hole:
        page, length = trace.regions[0]
        p.munmap((page + length // 2) << 12, 4096)
    return p


def references(seed: int, pages: int, count: int, kind: str) -> list[int]:
    """References with long stretches of hits, as programs have them, or without."""
    rng = random.Random(seed)
    refs: list[int] = []
    while len(refs) < count:
        if kind == "loops":
            body = [rng.randrange(pages) << 1 | (rng.random() < 0.3) for _ in range(rng.randrange(1, 40))]
            refs += body * rng.randrange(1, 60)
        elif kind == "sweep":
            refs += [i << 1 | (rng.random() < 0.5) for i in range(pages)]
        else:
            refs += [rng.randrange(pages) << 1 | (rng.random() < 0.4) for _ in range(200)]
    return refs[:count]


def state(m: vmlab.Machine) -> tuple[object, ...]:
    found = capture(m)
    blobs = {name: blob for name, blob in found.blobs.items() if name != "objects"}
    tasks = [(t.pid, t.min_flt, t.maj_flt, t.mm.rss, t.mm.swap_address) for t in m.sched.tasks.values() if t.mm is not None]
    return blobs, tasks, repr(m.sched.kstat), m.sched.jiffies, m.swaps(), m.meminfo()


def same_both_ways(trace: PageTrace, ram: str, hole: bool = False, **options: object) -> tuple[fastpath.TraceRun, vmlab.Machine]:
    results, states, last = [], [], None
    for fast in (True, False):
        m = machine(ram, **options)  # type: ignore[arg-type]
        p = process_for(m, trace, hole)
        results.append(run_trace(m, p.task, trace, fast=fast)._replace(fast=True))
        states.append(state(m))
        m.check()
        last = m
    assert results[0] == results[1]
    assert states[0] == states[1]
    assert last is not None
    return results[0], last


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pages=st.integers(1, 700),
    count=st.integers(0, 6000),
    kind=st.sampled_from(["loops", "sweep", "random"]),
    pae=st.booleans(),
)
def test_the_same_where_memory_is_plenty(seed: int, pages: int, count: int, kind: str, pae: bool) -> None:
    trace = PageTrace([BASE + i for i in range(pages)], references(seed, pages, count, kind))
    run, _ = same_both_ways(trace, "24M", pae=pae)
    assert run.references == count and run.signal == 0


@pytest.mark.parametrize("kind", ["loops", "sweep", "random"])
@pytest.mark.parametrize("io_mode", [0, 1])
def test_the_same_while_memory_is_reclaimed(kind: str, io_mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastpath, "BIG", 4096)
    monkeypatch.setattr(fastpath, "SMALL", 256)
    pages = 5200  # of a machine with some 3,400 free
    trace = PageTrace([BASE + i for i in range(pages)], references(7, pages, 24_000, kind))
    run, m = same_both_ways(trace, "16M", swap="24M", io_mode=io_mode)
    assert run.references == 24_000
    if kind != "loops":
        assert m.sched.kstat.pswpout > 0, "the machine never swapped: the test is too easy"


def test_a_signal_ends_both_at_the_same_reference() -> None:
    trace = PageTrace([BASE + i for i in range(60)], references(3, 60, 3000, "random"))
    run, _ = same_both_ways(trace, "24M", hole=True)
    assert run.signal == 11 and 0 < run.references < 3000


def test_who_looks_at_every_access_gets_to_see_every_access() -> None:
    trace = PageTrace([BASE, BASE + 1], [0, 1, 3, 2, 0])
    m = machine("24M")
    p = process_for(m, trace)
    heard: list[vmlab.mm.events.Event] = []
    m.on_event = heard.append
    run = m.run(trace, process=p)
    assert not run.fast and run.references == 5
    assert sum(e[0] == "access" for e in heard) == 5
    m.on_event = None
    m.mmu.tlb = Tlb(16, 4)
    assert not m.run(trace, process=p).fast
    assert m.mmu.tlb.hits + m.mmu.tlb.misses >= 5
    with pytest.raises(ValueError, match="by blocks"):
        run_trace(m, p.task, trace, fast=True)


def test_without_numpy_it_is_the_same_only_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = PageTrace([BASE + i for i in range(9)], references(1, 9, 500, "random"))
    monkeypatch.setitem(sys.modules, "numpy", None)
    m = machine("24M")
    run = m.run(trace)
    assert not run.fast and run.references == 500 and run.faults > 0
    with pytest.raises(ValueError, match="numpy"):
        run_trace(m, m.processes[0].task, trace, fast=True)


def test_a_recorded_run_is_played_again() -> None:
    trace = PageTrace([BASE + i for i in range(30)], references(5, 30, 400, "random"))
    m = machine("24M")
    with m.record() as tape:
        m.run(trace)
    assert not vmlab.compare(m, tape.seek(len(tape) - 1))
    assert [op.name for op in tape.ops].count("touch_list") == 1


@pytest.mark.parametrize("name", ["shell", "grep"])
def test_real_programs_run_the_same(name: str) -> None:
    whole = load_trace(name)
    trace = PageTrace(whole.pages, whole.refs[:150_000], name=name, regions=whole.regions)
    run, _ = same_both_ways(trace, "32M")
    assert run.references == 150_000 and run.faults > 100


def test_the_shipped_traces_are_small_and_hit_dominated() -> None:
    assert {"shell", "compiler", "python", "sort"} <= set(shipped())
    for name in shipped():
        trace = load_trace(name)
        assert len(trace) > 1_000_000 and len(trace.pages) < len(trace) / 1000
        assert all(any(a <= page < a + n for a, n in trace.regions) for page in trace.pages)
        assert max(trace.pages) < 0xC0000


def test_wrong_calls_are_told() -> None:
    trace = PageTrace([BASE], [0])
    m, other = machine("24M"), machine("24M")
    with pytest.raises(ValueError, match="another machine"):
        m.run(trace, process=other.spawn())
    with pytest.raises(OSError, match="cannot be mapped"):
        m.run(PageTrace([0xC0FFF], [0]))
