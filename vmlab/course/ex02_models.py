"""Chapter 2's oracles, all asked of the core, and the models of known misunderstandings. Never visible to judged code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from vmlab.errors import KernelHang
from vmlab.machine import Machine, boot
from vmlab.mm import setup
from vmlab.mm.gfp import GFP_ATOMIC, GFP_HIGHUSER, WAIT
from vmlab.mm.mmzone import ZONE_NAMES, PgData, Zone
from vmlab.mm.page_alloc import PageAllocator
from vmlab.mm.page_init import ZoneSetup

MIB = 256  # pages


# --- the truth, from the core ----------------------------------------------------------------------------------------------------


def core_zones(highmem: bool = True, ratio: Sequence[int] = (128, 128, 128)) -> ZoneSetup:
    """The kernel's own zone setup, without a machine around it."""
    part = ZoneSetup()
    part.kernel = cast(Any, SimpleNamespace(config=SimpleNamespace(highmem=highmem), zone_balance_ratio=list(ratio)))
    return part


def low_and_high(ram_mib: int, highmem_mib: int = -1) -> tuple[int, int]:
    """(max_low_pfn, highend_pfn) of a PC with *ram_mib* MiB and the boot parameter highmem=*highmem_mib* (-1: not given)."""
    config = SimpleNamespace(highmem=True, pae=True, highmem_pages=-1 if highmem_mib < 0 else highmem_mib * MIB)
    kernel = cast(Any, SimpleNamespace(config=config, max_pfn=ram_mib * MIB))
    low = setup.find_max_low_pfn(kernel)
    return low, kernel.max_pfn


def zonelists(sizes: Sequence[int]) -> list[list[int]]:
    """The 16 zonelists of a node with zones of *sizes* pages, as zone numbers."""
    pgdat = PgData(0)
    for zone, size in zip(pgdat.node_zones, sizes, strict=True):
        zone.size = size
    core_zones().build_zonelists(pgdat)
    return [[zone.zone_num for zone in one] for one in pgdat.node_zonelists]


def truth_of(data: Any, *arguments: Any) -> Any:
    """What the kernel answers to one call of a method of the code task."""
    part = core_zones(data["highmem"], data["ratio"])
    if data["method"] == "build_zonelists":
        return zonelists(*arguments)
    if data["method"] != "boot":
        return getattr(part, data["method"])(*arguments)
    sizes = part.zones_size(*arguments)
    return {
        "sizes": sizes,
        "zones": [[part.watermarks(j, n), part.wait_table_size(n)] if n else [] for j, n in enumerate(sizes)],
        "zonelists": zonelists(sizes),
    }


class _Granting(PageAllocator):
    """The kernel's allocator over zones that always have a block of the right order: only the watermarks decide."""

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        return zone.zone_num


def first_passes(zones: dict[str, dict[str, int]], gfp: int, order: int) -> tuple[list[int], list[Any], bool]:
    """(thresholds of the first pass, [zone, pass] that grants or ["none", 0], whether kswapd is woken) of one request.

    *zones* maps names to free, min, low and high in pages. Only the first two passes count.
    """

    def events(free: bool) -> list[tuple[Any, ...]]:
        heard: list[tuple[Any, ...]] = []
        machine = Machine("16M", kernel_objects=None, page_allocator=_Granting, on_event=heard.append)
        pgdat = machine.pgdats[0]
        for zone, (name, numbers) in zip(pgdat.node_zones, zones.items(), strict=True):
            assert zone.name == name
            zone.size = 1
            zone.free_pages = numbers["free"] if free else 0
            zone.pages_min, zone.pages_low, zone.pages_high = numbers["min"], numbers["low"], numbers["high"]
        machine.zone_setup.build_zonelists(pgdat)
        try:
            machine.page_allocator.alloc_pages_zonelist(gfp, order, pgdat.node_zonelists[gfp & 15])
        except KernelHang:
            pass
        return heard

    sums = [e[4] for e in events(free=False) if e[0] == "watermark" and e[1] == 1]
    real = events(free=True)
    granted = [[ZONE_NAMES[e[2]], e[1]] for e in real if e[0] == "watermark" and e[5] and e[1] < 3]
    return sums, granted[-1] if granted else ["none", 0], any(e[0] == "wake_kswapd" for e in real)


@functools.lru_cache(maxsize=256)
def _measured(ram_mib: int, memfrac: str | None, highmem_pages: int) -> tuple[int, int]:
    machine = boot(f"{ram_mib}M", kernel_objects=None, memfrac=memfrac, highmem_pages=highmem_pages)
    users = atomic = 0
    try:
        while machine.alloc_pages(GFP_HIGHUSER):
            users += 1
    except KernelHang:  # the next one would have to wait for reclaim
        pass
    while machine.alloc_pages(GFP_ATOMIC):
        atomic += 1
    return users, atomic


def measured(ram_mib: int, option: dict[str, Any]) -> tuple[int, int]:
    """(user pages before one would wait, atomic pages after that) on a machine booted with *option*."""
    return _measured(ram_mib, option.get("memfrac"), option.get("highmem_pages", -1))


# --- models of misunderstandings -------------------------------------------------------------------------------------------------


def wrong_passes(
    zones: dict[str, dict[str, int]],
    gfp: int,
    order: int,
    *,
    per_zone: bool = False,
    at_least: bool = False,
    quarter: bool = True,
    dma_wins: bool = True,
    count_order: bool = True,
    mark: str = "low",
) -> tuple[list[int], list[Any], bool]:
    """The first two passes with one thing misunderstood (with the defaults: the right algorithm, which a test compares with the core)."""
    names = list(zones)
    top = 2 if gfp & 2 and not (gfp & 1 and dma_wins) else 0 if gfp & 1 else 1

    def walk(key: str, shift: int) -> tuple[list[int], str]:
        sums, winner, total = [], "none", 0
        for name in names[top::-1]:
            step = zones[name][key] >> shift
            total = step if per_zone else total + step
            threshold = total + ((1 << order) if count_order else 0)
            sums.append(threshold)
            free = zones[name]["free"]
            if winner == "none" and (free >= threshold if at_least else free > threshold):
                winner = name
        return sums, winner

    sums, winner = walk(mark, 0)
    if winner != "none":
        return sums, [winner, 1], False
    _, winner = walk("min", 0 if gfp & WAIT or not quarter else 2)
    return sums, [winner, 2] if winner != "none" else ["none", 0], True


def clamp(mark: int, least: int = 20, most: int = 255) -> int:
    """*mark* kept between *least* and *most*."""
    return max(least, min(mark, most))


def below_power(n: int) -> int:
    """The largest power of two that is at most *n* (1 for 0)."""
    return 1 << max(n.bit_length() - 1, 0)


def above_power(n: int) -> int:
    """The smallest power of two that is at least *n* (1 for 0)."""
    return 1 << max(n - 1, 0).bit_length() if n > 1 else 1


def lists_of(
    sizes: Sequence[int],
    *,
    highmem_wins: bool = False,
    keep_empty: bool = False,
    upwards: bool = False,
    alone: bool = False,
    exact: bool = False,
    count: int = 16,
) -> list[list[int]]:
    """Zonelists with one thing misunderstood (with the defaults: right)."""
    out = []
    for i in range(count):
        dma, high = (i == 1, i == 2) if exact else (bool(i & 1), bool(i & 2))
        first = (2 if high else 0 if dma else 1) if highmem_wins else (0 if dma else 2 if high else 1)
        order = list(range(first, 3)) if upwards else list(range(first, -1, -1))
        if alone:
            order = order[:1]
        out.append([j for j in order if keep_empty or sizes[j]])
    return out


def answers(method: str, model: Callable[..., Any]) -> Callable[[Any], Any]:
    """A `gives` for a Mistake of the code task: what *model*(data, *arguments) answers, when the case calls *method*."""

    def gives(data: Any) -> Any:
        if data["method"] != method:
            raise ValueError("another method")
        return [model(data, *arguments) for arguments in data["calls"]]

    return gives
