"""Replacement policies: against their definitions, against each other, and against libcachesim."""

from __future__ import annotations

import pathlib
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmlab.trace.curves import fifo_curve, lru_curve, miss_ratio_curve, stack_distances
from vmlab.trace.machine_policy import kernel_run, squeezed_machine
from vmlab.trace.pagetrace import PageTrace, load_trace
from vmlab.trace.policies import POLICIES, Clock, Opt, belady_anomaly, compare_policies, search_anomaly, simulate

strings = st.lists(st.integers(0, 9), max_size=120)
shared = [random.Random(seed).choices(range(40), weights=[1 / (i + 1) for i in range(40)], k=4000) for seed in (1, 2)]
shared.append([page for lap in range(30) for page in range(25)])
shared.append([r >> 1 for r in load_trace("grep").refs[:60_000]])


@pytest.mark.parametrize("name", list(POLICIES))
@settings(max_examples=40, deadline=None)
@given(references=strings, frames=st.integers(1, 12))
def test_every_policy_is_a_memory(name: str, references: list[int], frames: int) -> None:
    policy = Opt(frames, references) if name == "opt" else POLICIES[name](frames)
    inside: set[int] = set()
    for page in references:
        assert policy.reference(page) == (page in inside)
        inside = {p for p in range(10) if p in policy}
        assert page in inside and len(inside) <= frames


@settings(max_examples=60, deadline=None)
@given(references=strings, frames=st.integers(1, 10))
def test_fifo_and_lru_do_what_their_names_say(references: list[int], frames: int) -> None:
    for name in ("fifo", "lru"):
        queue: list[int] = []
        misses = 0
        for page in references:
            if page in queue:
                if name == "lru":
                    queue.remove(page)
                    queue.append(page)
                continue
            misses += 1
            queue = (queue + [page])[-frames:]
        assert simulate(name, references, frames).misses == misses


def least_misses(references: tuple[int, ...], frames: int) -> int:
    """The fewest misses any choice of victims gives, by trying them all."""
    states = {frozenset(): 0}
    for page in references:
        following: dict[frozenset[int], int] = {}
        for inside, misses in states.items():
            if page in inside:
                choices = [(inside, misses)]
            elif len(inside) < frames:
                choices = [(inside | {page}, misses + 1)]
            else:
                choices = [(inside - {victim} | {page}, misses + 1) for victim in inside]
            for state, count in choices:
                following[state] = min(count, following.get(state, 1 << 30))
        states = following
    return min(states.values())


@settings(max_examples=60, deadline=None)
@given(references=st.lists(st.integers(0, 5), max_size=25), frames=st.integers(1, 4))
def test_opt_cannot_be_beaten(references: list[int], frames: int) -> None:
    best = least_misses(tuple(references), frames)
    assert simulate("opt", references, frames).misses == best
    for name in POLICIES:
        assert simulate(name, references, frames).misses >= best


@settings(max_examples=60, deadline=None)
@given(references=strings)
def test_curves_are_the_simulations(references: list[int]) -> None:
    for name, curve in (("lru", lru_curve(references)), ("fifo", fifo_curve(references))):
        assert curve.frames == list(range(1, len(set(references)) + 1))
        assert curve.misses == [simulate(name, references, frames).misses for frames in curve.frames]
    assert lru_curve(references).misses == sorted(lru_curve(references).misses, reverse=True)


def test_stack_distances_by_hand() -> None:
    assert stack_distances([5, 6, 5, 7, 6, 5, 5]).tolist() == [-1, -1, 1, -1, 2, 2, 0]


def test_other_curves_go_size_by_size() -> None:
    curve = miss_ratio_curve(shared[0], "arc")
    assert len(curve.frames) == 20 and curve.misses[-1] == 40
    assert curve.misses[3] == simulate("arc", shared[0], curve.frames[3]).misses
    assert curve.ratios[0] == curve.misses[0] / 4000


def test_scanning_hurts_lru_and_spares_those_that_know() -> None:
    rng = random.Random(4)
    references: list[int] = []
    for lap in range(40):
        references += [rng.randrange(20) for _ in range(60)] + [1000 + lap * 30 + i for i in range(30)]
    misses = {name: simulate(name, references, 30).misses for name in ("lru", "2q", "arc", "opt")}
    assert misses["opt"] < misses["arc"] < misses["lru"] and misses["2q"] < misses["lru"]


def test_beladys_anomaly_is_found() -> None:
    found = search_anomaly(length=12, pages=5)
    assert found is not None
    string, less, more = found
    assert less.frames + 1 == more.frames and less.misses < more.misses
    assert simulate("fifo", string, less.frames).misses == less.misses
    assert search_anomaly(length=7, pages=4) is None, "it takes a longer string"
    assert not belady_anomaly(string, "lru") and not belady_anomaly(string, "opt")


def test_beladys_anomaly_happens_to_a_real_program() -> None:
    trace = load_trace("grep")
    references = [r >> 1 for r in trace.refs[:400_000]]
    curve = fifo_curve(references)
    assert curve.anomalies(), "grep under FIFO"
    small, large = curve.anomalies()[0]
    assert simulate("fifo", references, small).misses < simulate("fifo", references, large).misses


@pytest.mark.parametrize("name", ["FIFO", "LRU", "Clock", "ARC"])
def test_libcachesim_agrees(name: str, tmp_path: pathlib.Path) -> None:
    libcachesim = pytest.importorskip("libcachesim")
    for number, references in enumerate(shared):
        path = tmp_path / f"{number}.oracleGeneral"
        path.write_bytes(b"".join(struct.pack("<IQIq", i, page, 1, -2) for i, page in enumerate(references)))
        for frames in (3, 8, 20):
            cache = getattr(libcachesim, name)(frames)
            ratio = cache.process_trace(libcachesim.open_trace(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE))
            theirs = round((ratio[0] if isinstance(ratio, tuple) else ratio) * len(references))
            ours = simulate(Clock(frames, new_is_used=False) if name == "Clock" else name.lower(), references, frames)
            assert ours.misses == theirs, (name, number, frames)


def test_the_kernel_is_a_policy_too() -> None:
    trace = load_trace("shell")
    trace = PageTrace(trace.pages, trace.refs[:200_000], name="shell", regions=trace.regions)
    pages = len({r >> 1 for r in trace.refs})
    plenty, tight = kernel_run(trace, 4 * pages), kernel_run(trace, pages // 2)
    assert plenty.misses == pages, "every page once"
    assert tight.misses > plenty.misses
    runs = compare_policies(trace, pages // 2, ("lru", "opt", "2.4"))
    assert runs[0].policy == "opt" and {run.policy for run in runs} == {"lru", "opt", "2.4"}
    assert "misses in 200,000 references" in str(runs[0])
    machine = squeezed_machine(100, 500)
    assert machine.nr_free_pages() <= 100 + sum(zone.pages_low for zone in machine.zones)


def test_wrong_calls_are_told() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        simulate("lru", [1], 0)
    with pytest.raises(ValueError, match="policy 'mru'"):
        simulate("mru", [1], 3)
    with pytest.raises(ValueError, match="how many frames"):
        simulate("lru", [1])
    with pytest.raises(ValueError, match="few more"):
        squeezed_machine(2, 10)
    with pytest.raises(ValueError, match="whole trace"):
        Opt(2).reference(1)
