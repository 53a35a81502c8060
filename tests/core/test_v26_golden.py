"""Replay of the 2.6 page allocator's traces, and proof that the replay would notice a difference."""

from __future__ import annotations

import copy
import random
import zlib
from typing import Any

import pytest

from tests.core.test_golden import altered, leaves
from tests.helpers import golden
from vmlab import TraceError
from vmlab.trace.golden import verify
from vmlab.trace.golden.v26_allocators import Allocators26Replay
from vmlab.trace.golden.v26_common import boot26, boot_line, buddy_crc, page_state, zone_counters
from vmlab.trace.golden.verify import difference, read_lines

NAMES = ["v26-zones-a", "v26-buddy-a"]
# What a line tells the replay to do; all else on it is a record of what the kernel did.
INPUTS = {
    *("op", "name", "seed", "gfp", "order", "fl", "pfn", "pfns", "cold", "ret", "frees", "kb", "zone", "mark", "cz", "harder", "high"),
    *("boot.mib", "boot.kernel_end_pfn", "boot.highmem_param"),
}


@pytest.mark.parametrize("name", NAMES)
def test_no_divergence(name: str) -> None:
    report = verify(golden(name))
    assert report.divergence is None, str(report)
    assert report.operations > 300


def is_input(line: dict[str, Any], path: tuple[Any, ...]) -> bool:
    names = [str(p) for p in path]
    return names[0] in INPUTS or ".".join(names[:2]) in INPUTS or line["op"] == "ratio" and names[0] == "r"


@pytest.mark.parametrize("name", NAMES)
def test_every_altered_value_is_reported(name: str) -> None:
    """Alter recorded values of each kind of line, and ask the comparison of that line."""
    rng = random.Random(26)
    replay = Allocators26Replay({})
    lines = read_lines(golden(name))
    next(lines)
    missed = []
    tried: dict[str, int] = {}
    for number, line in lines:
        got = replay(copy.deepcopy(line))
        assert difference(line, got) is None, f"line {number}"
        if tried.get(line["op"], 0) > 40:
            continue
        paths = [path for path in leaves(line) if not is_input(line, path)]
        for path in rng.sample(paths, min(len(paths), 12)):
            tried[line["op"]] = tried.get(line["op"], 0) + 1
            if difference(altered(line, path, rng), got) is None:
                missed.append((number, path))
    assert not missed
    assert sum(tried.values()) > 150
    assert len(tried) >= 4


def test_a_changed_operation_shows_later() -> None:
    """An operation that the real kernel did not do leads to a difference."""
    lines = read_lines(golden("v26-buddy-a"))
    next(lines)
    replay = Allocators26Replay({})
    skipped = False
    for _, line in lines:
        if not skipped and line["op"] == "free":
            skipped = True
            continue
        if difference(line, replay(line)) is not None:
            assert skipped
            return
    raise AssertionError("a free was left out and nobody noticed")


def test_boot_line_of_a_machine_with_processes() -> None:
    """As the real kernel printed it for ``boot 8 2048 0``."""
    machine = boot26(["boot", 8, 2048, 0])
    lists = [[538, 158], [536, 514, 156, 18], [516, 152, 20], [528, 520, 144, 24], [128], [544, 32], [576, 64], [640], [768], [], [1024]]
    dma = {"start_pfn": 0, "size": 2048, "free": 1670, "min": 90, "low": 112, "high": 135, "reserve": [0, 0, 0], "batch": 1}
    assert boot_line(machine) == {
        "reserved": [[0, 17], [159, 511], [513, 513]],
        "mem_map_pfn": 1,
        "sizeof_struct_page": 32,
        "zero_page_pfn": 260,
        "page_cluster": 2,
        "totalram_pages": 1676,
        "total_memory": 1913,
        "min_free_kbytes": 362,
        "zones": [dma, dict.fromkeys(dma, 0) | {"reserve": [0, 0, 0], "batch": 1}],
        "buddy": [[*lists, [512, 543, 542, 541, 540, 539], []], []],
    }
    assert zone_counters(machine)["zs"] == [[12, 12, 0, 0, 0, 0]] * 2
    assert page_state(machine)["free"] == 1676
    assert buddy_crc(machine) == zlib.crc32(
        "".join(f"0/{order}:{pfn}," for order, listed in enumerate([*lists, [512, 543, 542, 541, 540, 539]]) for pfn in listed).encode()
    )
    with pytest.raises(TraceError):
        boot26(["boot", 8])


@pytest.mark.parametrize(
    "line",
    [
        {"op": "alloc", "gfp": 0xD0, "order": 0},
        {"op": "trace"},
        {"op": "trace", "boot": {"mib": "64", "kernel_end_pfn": 1024, "highmem_param": -1}},
        {"op": "trace", "boot": {"mib": 1 << 40, "kernel_end_pfn": 1024, "highmem_param": -1}},
    ],
)
def test_a_line_that_makes_no_sense_is_refused(line: dict[str, Any]) -> None:
    with pytest.raises((TraceError, LookupError, TypeError, ValueError)):
        Allocators26Replay({})(line)


@pytest.mark.parametrize(
    "line",
    [
        {"op": "dance"},
        {"op": "free", "pfn": 1 << 30, "order": 0},
        {"op": "free", "pfn": 2000, "order": 99},
        {"op": "alloc", "gfp": None, "order": 0},
        {"op": "wmok", "zone": 3, "order": 0, "mark": 1, "cz": 0, "harder": 0, "high": 0},
        {"op": "ratio", "r": [0, 1]},
    ],
)
def test_an_operation_that_makes_no_sense_is_refused(line: dict[str, Any]) -> None:
    replay = Allocators26Replay({})
    replay({"op": "trace", "boot": {"mib": 16, "kernel_end_pfn": 1024, "highmem_param": -1}})
    with pytest.raises((TraceError, LookupError, TypeError, ValueError)):
        replay(line)
