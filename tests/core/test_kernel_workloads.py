"""What docs/kernels.md claims about 2.4 and 2.6 on five workloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import vmlab
from vmlab import KernelComparison, Machine
from vmlab.trace.kernel_workloads import KERNEL_WORKLOADS


def totals(found: KernelComparison) -> tuple[dict[str, float], dict[str, float]]:
    return found.runs[0].totals, found.runs[1].totals


def test_loader_areas_merge() -> None:
    old, new = totals(vmlab.compare("loader"))
    assert (old["areas"], new["areas"]) == (257, 2)
    assert old["file reads"] == new["file reads"] == 1024
    assert old["major faults"] == 256 and new["major faults"] == 63


def test_burst_fewer_requests_are_refused() -> None:
    old, new = totals(vmlab.compare("burst"))
    assert 0 < new["failed requests"] < 0.7 * old["failed requests"]


def test_dma_only_pages_of_the_zone_are_scanned() -> None:
    old, new = totals(vmlab.compare("dma"))
    assert new["pages scanned"] < old["pages scanned"] / 50
    assert new["pages reclaimed"] > 500 and old["pages reclaimed"] > 500
    assert new["swapped out"] < 0.7 * old["swapped out"]
    assert new["seconds"] < old["seconds"] / 3


def test_sweep_26_has_more_major_faults_with_less_work() -> None:
    old, new = totals(vmlab.compare("sweep"))
    assert new["major faults"] > 1.15 * old["major faults"]
    assert abs(new["swapped in"] - old["swapped in"]) < 0.05 * old["swapped in"]
    assert new["scan efficiency"] > 1.7 * old["scan efficiency"]
    old, new = totals(vmlab.compare("sweep", ram="16M"))  # one zone: slots do not mix
    assert new["major faults"] < 1.03 * old["major faults"]


def test_backup_26_swaps_a_waiting_program_out_unless_swappiness_is_lower() -> None:
    def calm(m: Machine) -> Iterator[Any]:
        if m.config.kernel == "2.6":
            m.reclaim.vm_swappiness = 40  # type: ignore[attr-defined]
        yield from KERNEL_WORKLOADS["backup"].run(m)

    old, new = totals(vmlab.compare("backup"))
    assert old["swapped out"] == 0 and new["swapped out"] > 300
    _, calmer = totals(vmlab.compare(calm, ram="32M", swap="64M"))
    assert calmer["swapped out"] == 0
