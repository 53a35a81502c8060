"""Exercise 2's code task: zones of the student's own, compared call by call with the kernel's."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from vmlab.course import ex02_models as models
from vmlab.course.ex02_models import answers, clamp
from vmlab.course.exercise import Case, Criterion, Drive, Mistake, Task, Verdict, code
from vmlab.course.plain import normal, same


def _case(
    method: str, calls: Sequence[Sequence[Any]], says: str, criterion: str, highmem: bool = True, ratio: Sequence[int] = (128,) * 3
) -> Case:
    data = {"method": method, "calls": [list(c) for c in calls], "highmem": highmem, "ratio": list(ratio)}
    return Case(normal(data), says, (criterion,))


MACHINES = [[4096, 4096], [16384, 16384], [229376, 262144]]


def zone_public(r: random.Random) -> list[Case]:
    return [
        _case("zones_size", MACHINES, "zones_size on 16 MiB, 64 MiB and 1 GiB", "sizes"),
        _case("zones_size", [[229376, 262144]], "zones_size of a kernel built without high memory", "sizes", highmem=False),
        _case(
            "watermarks",
            [[0, 4096], [1, 12288], [2, 1000], [1, 225280]],
            "watermarks of a DMA, a Normal, a tiny and a huge zone",
            "watermarks",
        ),
        _case("watermarks", [[0, 4096], [1, 4096], [2, 4096]], "watermarks with memfrac=32,64,96", "watermarks", ratio=(32, 64, 96)),
        _case("wait_table_size", [[200], [4096], [12288], [225280]], "wait tables of zones of 200, 4096, 12288 and 225280 pages", "wait"),
        _case("build_zonelists", [[[4096, 12288, 0]], [[4096, 225280, 32768]]], "zonelists without and with high memory", "zonelists"),
        _case("boot", [[24576, 24576]], "the whole boot of 96 MiB", "boot"),
    ]


def zone_hidden(r: random.Random) -> list[Case]:
    ratios = r.sample(range(16, 900), 3)
    low = r.randrange(16384, 229376)
    edge = 1 << r.randrange(2, 12)
    return [
        _case(
            "zones_size",
            [[r.randrange(300, 4096)] * 2, [4097, 4097], [low, low + r.randrange(1, 9999)], [229376, r.randrange(229377, 1 << 24)]],
            "zones_size on machines of all sizes, with and without high memory",
            "sizes",
        ),
        _case(
            "zones_size",
            [[low, low], [229376, 229376 + r.randrange(1, 99999)]],
            "zones_size without CONFIG_HIGHMEM",
            "sizes",
            highmem=False,
        ),
        _case(
            "watermarks",
            [[r.randrange(3), n] for n in (1, 2559, 2560, 32639, 32640, r.randrange(3000, 32000), r.randrange(40000, 1 << 24))],
            "watermarks at and around the limits",
            "watermarks",
        ),
        _case(
            "watermarks", [[j, r.randrange(2000, 60000)] for j in (0, 1, 2)], "watermarks with another memfrac=", "watermarks", ratio=ratios
        ),
        _case(
            "wait_table_size",
            [
                [n]
                for n in (
                    1,
                    255,
                    511,
                    512,
                    256 * edge - 1,
                    256 * edge,
                    256 * edge + 256,
                    r.randrange(600, 1 << 20),
                    r.randrange(3 << 20, 1 << 24),
                )
            ],
            "wait tables of zones from 1 page to 64 GiB",
            "wait",
        ),
        _case(
            "build_zonelists",
            [
                [s]
                for s in (
                    [r.randrange(500, 4096), 0, 0],
                    [0, r.randrange(9999, 99999), 0],
                    [4096, 9999, r.randrange(1, 9)],
                    [0, 4096, 512],
                    [4096, 0, 777],
                )
            ],
            "zonelists of nodes with empty zones",
            "zonelists",
        ),
        _case(
            "boot",
            [[n, n] for n in (r.randrange(3000, 4000), r.randrange(5000, 60000))]
            + [[229376, r.randrange(240000, 1 << 24)], [low, low + r.randrange(300, 30000)]],
            "whole boots of machines of all sizes",
            "boot",
            ratio=ratios,
        ),
    ]


def judge_zones(task: Task, case: Case, got: Any) -> Verdict:
    """Compare each call's answer with the core's; says which call differs first and notes wrong types."""
    calls = case.data["calls"]
    expected = [normal(models.truth_of(case.data, *arguments)) for arguments in calls]
    have = got if isinstance(got, list) else [got]
    for arguments, want, mine in zip(calls, expected, have, strict=False):
        if want != mine or isinstance(mine, bool):
            note = ""
            if mine is None:
                note = f"{case.data['method']} returned nothing: a return is missing."
            elif any(isinstance(x, float) and x != int(x) for x in _leaves(mine)):
                note = "A number of pages is whole: divide with //."
            elif case.data["method"] == "build_zonelists" and isinstance(mine, list) and len(mine) != 16:
                note = f"There must be 16 zonelists, one for each value of gfp & 15; {len(mine)} came back."
            elif case.data["method"] == "build_zonelists" and any(isinstance(x, str) for x in _leaves(mine)):
                note = "A zonelist holds zone numbers: 0 for DMA, 1 for Normal, 2 for HighMem."
            elif any(isinstance(x, (int, float)) and x < 0 for x in _leaves(mine)):
                note = "A zone cannot have a negative size: a machine with less than 16 MiB has all its low memory in DMA."
            shown = ", ".join(map(str, arguments))
            return Verdict(same(want, mine), want, mine, note, f"{case.data['method']}({shown})")
    return Verdict(len(have) == len(expected), expected, got)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for v in value.values() for x in _leaves(v)]
    if isinstance(value, list):
        return [x for v in value for x in _leaves(v)]
    return [value]


def _wrong(name: str, method: str, says: str, model: Callable[..., Any]) -> Mistake:
    return Mistake(name, says, gives=answers(method, model))


def _ratio(d: Any, j: int, n: int) -> int:
    return int(n // d["ratio"][j])


def _doubling(pages: int, *, ceil: bool = False, strict: bool = True, most: int = 4096) -> int:
    queues, size = -(-pages // 256) if ceil else pages // 256, 1
    while size < queues or (not strict and size == queues):
        size <<= 1
    return min(size, most)


ZONES = code(
    "zones",
    "Zones of your own",
    ask=Drive("zones:drive", "MyZones"),
    criteria=[
        Criterion("sizes", 2, "zones_size: the pages of each zone"),
        Criterion("watermarks", 2, "watermarks of a zone"),
        Criterion("wait", 2, "wait_table_size: the wait queues of a zone"),
        Criterion("zonelists", 2, "build_zonelists: the 16 fallback lists"),
        Criterion("boot", 1, "whole boots, all four methods together"),
    ],
    public=zone_public,
    hidden=zone_hidden,
    judge=judge_zones,
    seconds=3,
    mistakes=[
        _wrong(
            "normal-from-zero",
            "zones_size",
            "Normal begins at 16 MiB: take DMA's pages off its size.",
            lambda d, low, end: [min(low, 4096), low if low > 4096 else 0, end - low if d["highmem"] and low >= 4096 else 0],
        ),
        _wrong(
            "small-machine",
            "zones_size",
            "A machine with less than 16 MiB has no Normal zone, and DMA only has what is there.",
            lambda d, low, end: [4096, low - 4096, end - low if d["highmem"] else 0],
        ),
        _wrong(
            "small-machine-clipped",
            "zones_size",
            "On a machine with less than 16 MiB, DMA is as large as memory, not 4096 pages.",
            lambda d, low, end: [4096, max(low - 4096, 0), end - low if d["highmem"] else 0],
        ),
        _wrong(
            "config-ignored",
            "zones_size",
            "A kernel built without high memory has no HighMem zone, whatever the RAM: look at self.highmem.",
            lambda d, low, end: [low, 0, 0] if low < 4096 else [4096, low - 4096, end - low],
        ),
        _wrong(
            "high-from-zero",
            "zones_size",
            "HighMem holds the frames from max_low_pfn to highend_pfn: subtract.",
            lambda d, low, end: [low, 0, 0] if low < 4096 else [4096, low - 4096, end if d["highmem"] else 0],
        ),
        _wrong(
            "fixed-896",
            "zones_size",
            "Low memory does not always end at 896 MiB: use max_low_pfn.",
            lambda d, low, end: [min(end, 4096), max(min(end, 229376) - 4096, 0), max(end - 229376, 0) if d["highmem"] else 0],
        ),
        _wrong(
            "no-clamp",
            "watermarks",
            "pages_min is limited: at least 20 and at most 255 pages.",
            lambda d, j, n: [k * _ratio(d, j, n) for k in (1, 2, 3)],
        ),
        _wrong(
            "no-floor",
            "watermarks",
            "A small zone keeps at least 20 pages.",
            lambda d, j, n: [k * min(_ratio(d, j, n), 255) for k in (1, 2, 3)],
        ),
        _wrong(
            "no-ceiling",
            "watermarks",
            "pages_min is at most 255 pages, however large the zone.",
            lambda d, j, n: [k * max(_ratio(d, j, n), 20) for k in (1, 2, 3)],
        ),
        _wrong(
            "late-clamp",
            "watermarks",
            "Limit pages_min only; pages_low and pages_high are twice and three times the limited value.",
            lambda d, j, n: [clamp(k * _ratio(d, j, n)) for k in (1, 2, 3)],
        ),
        _wrong(
            "always-128",
            "watermarks",
            "The divisor is not always 128: memfrac= changes it, so use self.ratio.",
            lambda d, j, n: [k * clamp(n // 128) for k in (1, 2, 3)],
        ),
        _wrong(
            "first-ratio",
            "watermarks",
            "Each zone has its own divisor: self.ratio[zone_num].",
            lambda d, j, n: [k * clamp(_ratio(d, 0, n)) for k in (1, 2, 3)],
        ),
        _wrong(
            "quadruple",
            "watermarks",
            "pages_high is three times pages_min.",
            lambda d, j, n: [k * clamp(_ratio(d, j, n)) for k in (1, 2, 4)],
        ),
        _wrong(
            "rounded",
            "watermarks",
            "Whole pages, rounded down: // and not round().",
            lambda d, j, n: [k * clamp(round(n / d["ratio"][j])) for k in (1, 2, 3)],
        ),
        _wrong(
            "no-power",
            "wait_table_size",
            "The hash shifts, so the number of queues must be a power of two.",
            lambda d, n: min(max(n // 256, 1), 4096),
        ),
        _wrong(
            "power-below",
            "wait_table_size",
            "Round pages // 256 up to a power of two, not down.",
            lambda d, n: min(models.below_power(n // 256), 4096),
        ),
        _wrong(
            "power-next",
            "wait_table_size",
            "A quotient that is a power of two already stays as it is: < and not <=.",
            lambda d, n: _doubling(n, strict=False),
        ),
        _wrong(
            "queues-up",
            "wait_table_size",
            "The kernel rounds pages // 256 down first, and only then up to a power of two.",
            lambda d, n: _doubling(n, ceil=True),
        ),
        _wrong("no-cap", "wait_table_size", "More than 4096 queues are never made.", lambda d, n: _doubling(n, most=1 << 62)),
        _wrong("no-divide", "wait_table_size", "One queue serves 256 pages.", lambda d, n: min(models.above_power(n), 4096)),
        _wrong(
            "highmem-wins",
            "build_zonelists",
            "__GFP_DMA beats __GFP_HIGHMEM: test it last, so that it has the last word.",
            lambda d, s: models.lists_of(s, highmem_wins=True),
        ),
        _wrong(
            "empty-kept",
            "build_zonelists",
            "A zone without pages is left out of every list.",
            lambda d, s: models.lists_of(s, keep_empty=True),
        ),
        _wrong(
            "upwards",
            "build_zonelists",
            "Fallback goes down, to memory that more hardware can use, never up.",
            lambda d, s: models.lists_of(s, upwards=True),
        ),
        _wrong(
            "no-fallback",
            "build_zonelists",
            "After the zone that was asked for come the zones below it.",
            lambda d, s: models.lists_of(s, alone=True),
        ),
        _wrong(
            "first-present-only",
            "build_zonelists",
            "After the first zone that has pages come the zones below it.",
            lambda d, s: [one[:1] for one in models.lists_of(s)],
        ),
        _wrong(
            "equal-not-bit",
            "build_zonelists",
            "Test the two bits of the index, not the whole index: bits 2 and 3 do not matter.",
            lambda d, s: models.lists_of(s, exact=True),
        ),
        _wrong(
            "ascending",
            "build_zonelists",
            "The zone that was asked for comes first, then those below.",
            lambda d, s: [one[::-1] for one in models.lists_of(s)],
        ),
        _wrong(
            "four",
            "build_zonelists",
            "There are 16 zonelists, one for each value of gfp & 15, although bits 2 and 3 mean nothing.",
            lambda d, s: models.lists_of(s, count=4),
        ),
        Mistake(
            "float", "A number of pages is whole: divide with //.", detect=lambda d, got: any(isinstance(x, float) for x in _leaves(got))
        ),
    ],
    hint="Compare with a real boot: the next cell boots the machine with your class and shows its zones.",
)
