"""The core's own allocator on a bench: one small zone, for making questions of chapter 6 and judging the answers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from vmlab.course.kit.buddy import make_zone
from vmlab.mm.events import Event
from vmlab.mm.gfp import PF_MEMALLOC
from vmlab.mm.kernel import Config, Kernel
from vmlab.mm.mmzone import MAX_NR_ZONES, MAX_ORDER, FreeArea, PgData, Zone
from vmlab.mm.page import BLOCK_FREE, BLOCK_USED, MemMap
from vmlab.mm.page_alloc import PageAllocator
from vmlab.mm.page_init import ZoneSetup
from vmlab.mm.reclaim import Reclaim

State = dict[str, Any]  # start, size, free_pages, lists {order: blocks head first}, bits {order: pairs whose bit is 1}


def _kernel(zones: Sequence[Zone], frames: int, allocator: PageAllocator) -> Kernel:
    """As much of a kernel as one allocator needs."""
    kernel = Kernel(Config(()))
    kernel.mem = MemMap(frames)
    kernel.zone_table = {z.index: z for z in zones}
    kernel.reclaim = Reclaim()
    allocator.attach(kernel)
    return kernel


class Bench:
    """One zone of `size` pages from frame `start` on, worked on by the core. Nothing is free at first."""

    def __init__(self, start: int, size: int) -> None:
        self.zone = zone = PgData().node_zones[1]
        zone.size, zone.realsize, zone.start_pfn, zone.end_pfn = size, size, start, start + size
        for order in range(MAX_ORDER - 1):
            zone.free_area[order].map = bytearray((size - 1 >> order + 1) + 1)
        self.allocator = PageAllocator()
        self.kernel = _kernel([zone], start + size, self.allocator)
        flags = self.kernel.mem.flags
        for frame in range(start, start + size):
            flags[frame] = zone.page_bits
        self.events: list[Event] = []

    @classmethod
    def of(cls, state: State) -> Bench:
        """A bench in a given state."""
        bench = cls(state["start"], state["size"])
        bench.zone.free_pages = state["free_pages"]
        for order, blocks in state["lists"].items():
            area = bench.zone.free_area[int(order)]
            area.free_list.update(dict.fromkeys(reversed(blocks)))
            for pfn in blocks:
                bench.kernel.mem.block[pfn] = BLOCK_FREE | int(order)
        for order, pairs in state["bits"].items():
            for pair in pairs:
                bench.zone.free_area[int(order)].map[pair] = 1
        return bench

    def state(self) -> State:
        """The zone as plain data."""
        zone = self.zone
        lists = {o: area.blocks() for o, area in enumerate(zone.free_area) if area.free_list}
        return {"start": zone.start_pfn, "size": zone.size, "free_pages": zone.free_pages, "lists": lists, "bits": _bits(zone.free_area)}

    def take(self, order: int) -> int | None:
        """rmqueue; the core's events since the last call are in `events`."""
        self._listen()
        return self.allocator.rmqueue(self.zone, order)

    def give(self, pfn: int, order: int) -> None:
        """free_pages_ok."""
        self._listen()
        self.allocator.free_pages_ok(pfn, order)

    def split(self, pfn: int, low: int, high: int) -> int:
        """expand, on a block that is on no list."""
        self._listen()
        return self.allocator.expand(self.zone, pfn, pfn - self.zone.start_pfn, low, high, self.zone.free_area[high])

    def _listen(self) -> None:
        self.events = []
        self.allocator.on_event = self.events.append

    def told(self, name: str) -> list[Event]:
        """The events of one name among the last operation's."""
        return [e for e in self.events if e[0] == name]

    def live(self) -> list[tuple[int, int]]:
        """Blocks that are allocated: (first frame, order)."""
        block = self.kernel.mem.block
        frames = range(self.zone.start_pfn, self.zone.end_pfn)
        return [(pfn, block[pfn] & 15) for pfn in frames if block[pfn] & BLOCK_USED]


def _bits(areas: Iterable[FreeArea]) -> dict[int, list[int]]:
    return {o: [i for i, bit in enumerate(area.map) if bit] for o, area in enumerate(areas) if area.map and 1 in area.map}


def churned(rng: random.Random, start: int, size: int, *, steps: int, largest: int = 3, share: float = 0.6) -> Bench:
    """A zone in which things have happened: booted page by page, then `steps` random allocations and frees, about `share` in use."""
    bench = Bench(start, size)
    for frame in range(start, start + size):
        bench.give(frame, 0)
    live: list[tuple[int, int]] = []
    for _ in range(steps):
        used = size - bench.zone.free_pages
        if live and rng.random() < (0.7 if used > share * size else 0.25):
            bench.give(*live.pop(rng.randrange(len(live))))
        else:
            order = min(rng.randrange(largest + 1), rng.randrange(largest + 1))
            pfn = bench.take(order)
            if pfn is not None:
                live.append((pfn, order))
    return bench


# --- what the core does, and what a student's decisions amount to ------------------------------------------------------------------


def truth(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The core's outcome of each of `data["ops"]`, in the form `claims` gives."""
    bench = Bench.of(data["zone"])
    out: list[dict[str, Any]] = []
    for op, *arguments in data["ops"]:
        returned: int | None = None
        if op == "rmqueue":
            returned = bench.take(*arguments)
        elif op == "expand":
            returned = bench.split(*arguments)
        else:
            bench.give(*arguments)
        state = bench.state()
        counts = {returned: 1} if op == "rmqueue" and returned is not None else {}
        out.append({"returned": returned, "lists": state["lists"], "bits": state["bits"], "free_pages": state["free_pages"],
                    "counts": counts, "bug": None})
    return out


_replayed: list[tuple[Any, Any, list[dict[str, Any]] | None]] = []  # the last answer: many detectors look at the same one


def claims(data: dict[str, Any], got: Any) -> list[dict[str, Any]] | None:
    """What a student's decisions amount to: each operation's outcome after *our* replay of the changes it says it made.

    None when `got` has not the form a driver of the kit gives.
    """
    if not (_replayed and _replayed[0][0] is data and _replayed[0][1] is got):
        _replayed[:] = [(data, got, _replay(data, got))]
    return _replayed[0][2]


def _replay(data: dict[str, Any], got: Any) -> list[dict[str, Any]] | None:
    if not isinstance(got, list) or len(got) > len(data["ops"]):
        return None
    zone = make_zone(data["zone"])
    out: list[dict[str, Any]] = []
    for (op, *_), step in zip(data["ops"], got, strict=False):
        if not isinstance(step, dict) or not isinstance(step.get("did"), list) or len(step["did"]) > 5000:
            return None
        counts: dict[int, Any] = {}
        for change in step["did"]:
            if not (isinstance(change, list) and len(change) == 3 and all(type(x) is int for x in change[1:])):
                return None
            what, order, number = change
            if what == "set_page_count":
                counts[number] = order
                continue
            if not 0 <= order < MAX_ORDER:
                return None
            area = zone.free_area[order]
            if what == "toggle_pair" and 0 <= number < len(area.map):
                area.map[number] ^= 1
            elif what == "list_del" and number in area.blocks:
                area.blocks.remove(number)
            elif what in ("list_add", "list_add_tail") and number not in area.blocks:
                area.blocks.insert(0 if what == "list_add" else len(area.blocks), number)
            else:
                return None
        lists = {o: list(area.blocks) for o, area in enumerate(zone.free_area) if area.blocks}
        bits = {o: [i for i, bit in enumerate(area.map) if bit] for o, area in enumerate(zone.free_area) if 1 in area.map}
        bug = step.get("bug")
        returned = None if op == "free_pages_ok" else step.get("returned")  # a method that gives back nothing may return anything
        out.append({"returned": returned, "lists": lists, "bits": bits, "free_pages": step.get("free_pages"), "counts": counts,
                    "bug": bug if isinstance(bug, list) and len(bug) == 2 else None})
    return out


# --- watermarks --------------------------------------------------------------------------------------------------------------------


class _Willing(PageAllocator):
    """Serves from the first zone it is let into, so that only the watermarks decide."""

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        return zone.index


class Three:
    """DMA, Normal and HighMem of given `sizes` (pages; 0: no such zone) with `free` pages free in each."""

    def __init__(self, sizes: Sequence[int], free: Sequence[int]) -> None:
        pgdat = PgData()
        self.allocator = _Willing()
        self.kernel = _kernel(pgdat.node_zones, 0, self.allocator)
        setup = ZoneSetup()
        setup.attach(self.kernel)
        for j in range(MAX_NR_ZONES):
            zone = pgdat.node_zones[j]
            zone.size = zone.realsize = sizes[j]
            zone.free_pages = free[j]
            zone.pages_min, zone.pages_low, zone.pages_high = setup.watermarks(j, sizes[j])
        setup.build_zonelists(pgdat)
        self.zones = pgdat.node_zones
        self.pgdat = pgdat

    def ask(self, gfp_mask: int, order: int) -> dict[str, Any]:
        """Let the core decide one request: the zone that serves it, in which pass ("none", 0: neither), and the bars of both passes."""
        out: dict[str, Any] = {"zone": "none", "pass": 0}
        for poor in (False, True):  # once as it is; once with nothing free, to hear every bar of both passes
            events: list[Event] = []
            if poor:
                for zone in self.zones:
                    zone.free_pages = 0
            self.kernel.current.flags = PF_MEMALLOC
            self.allocator.on_event = events.append
            index = self.allocator.alloc_pages_zonelist(gfp_mask, order, self.pgdat.node_zonelists[gfp_mask & 0xF])
            marks = [e for e in events if e[0] == "watermark"]
            if poor:
                out["first"] = [e[4] for e in marks if e[1] == 1]
                out["second"] = [e[4] for e in marks if e[1] == 2]
            elif index is not None and marks[-1][5]:
                out["zone"], out["pass"] = self.zones[index].name, marks[-1][1]
        return out
