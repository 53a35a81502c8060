"""compare(workload, kernels=): both kernels in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import vmlab
from vmlab import Machine
from vmlab.trace.compare26 import COUNTERS, compare_kernels


def small(m: Machine) -> Iterator[Any]:
    p = m.spawn("p")
    a = p.mmap(1 << 20)
    yield "writes", p.touch_pages(a, 64, write=True)
    q = p.fork()
    yield "child writes", q.touch_pages(a, 64, write=True)
    q.exit()
    yield "child exits"


def test_one_kernel_with_itself_shows_no_difference() -> None:
    for kernel in ("2.4", "2.6"):
        found = vmlab.compare(small, kernels=(kernel, kernel))
        assert found.first is None
        assert all(a == b for _, a, b in found.rows())
        assert found.operations == 3 and found.runs[0].accesses == 128
        assert "No operation had another outcome" in str(found)


def test_series_have_a_value_for_each_sample_and_both_kernels_the_same_clock() -> None:
    found = vmlab.compare(small)
    assert found.runs[0].operations == found.runs[1].operations == [0, 1, 2, 3]
    for counter in COUNTERS:
        assert [len(values) for values in found.series(counter)] == [4, 4]
    assert found.series("minor faults") == ([0, 64, 128, 128], [0, 64, 128, 128])


def test_machines_are_compared_as_before() -> None:
    m = vmlab.boot(ram="16M")
    assert not vmlab.compare(m, m.copy())
    with pytest.raises(TypeError):
        vmlab.compare(m)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        vmlab.compare(small, m)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="no workload 'nothing'"):
        vmlab.compare("nothing")
    with pytest.raises(ValueError, match="two kernels"):
        compare_kernels(small, ("2.4",))  # type: ignore[arg-type]


def test_the_first_different_operation_says_why() -> None:
    found = vmlab.compare("loader")
    first = found.first
    assert first is not None and first.number == 0
    assert first.outcomes == ({"file reads": 4}, {"file reads": 32})
    rows = first.aligned()
    assert any(a and not b for a, b in rows) and any(b and not a for a, b in rows) and any(a and b for a, b in rows)
    assert first.why().startswith("after ")
    assert "file reads 4 and 32" in str(found)


def test_a_workload_that_dies_on_one_kernel_goes_on_on_the_other() -> None:
    def work(m: Machine) -> Iterator[str]:
        p = m.spawn("p")
        yield "spawned"
        if m.config.kernel == "2.4":
            p.touch(0x1000)
        yield "lived"

    found = vmlab.compare(work)
    assert found.runs[0].ended and not found.runs[1].ended
    assert found.operations == 2 and found.first is not None and found.first.number == 1
    assert "2.4 ended early" in str(found)


def test_a_page_trace_and_allocation_steps_are_workloads() -> None:
    trace = vmlab.PageTrace([0x50000, 0x50001], [0, 1, 2, 3], name="tiny")
    found = vmlab.compare(trace, samples=2)
    assert found.workload == "tiny" and found.operations == 2 and found.runs[1].accesses == 4
    found = vmlab.compare(vmlab.workload("pages", n=200))
    assert found.operations == 200


def test_samples_are_thinned_out() -> None:
    def work(m: Machine) -> Iterator[str]:
        for _ in range(1000):
            yield "nothing"

    found = vmlab.compare(work, samples=20)
    run = found.runs[0]
    assert 20 <= len(run.operations) <= 41 and run.operations[-1] == 1000
    assert all(len(values) == len(run.operations) for values in run.series.values())
