"""What the zones picture shows, as plain data: a machine whose size, nodes and free levels one sets, and one request to it.

Every figure comes from the core: up to 4 GiB a real machine is booted, its zones are drained and filled by its own
allocator, and the request is really made and then undone. Above 4 GiB the mem_map would take hundreds of megabytes of
Python, so only the core's functions for sizes, watermarks, wait tables and zonelists run, and its `__alloc_pages` walks
zones whose free lists are not built.
"""

from __future__ import annotations

from typing import Any

from ..errors import KernelBug, KernelHang
from ..hw.e820 import E820Entry, copy_e820_map, parse_size, pc_map
from ..hw.layout import MAXMEM_PFN, PAGE_SHIFT
from ..machine import Machine
from ..mm import setup
from ..mm.gfp import GFP_KERNEL, PF_MEMALLOC
from ..mm.kernel import Config, Kernel
from ..mm.mmzone import MAX_ORDER, PgData, Zone
from ..mm.page import MemMap
from ..mm.page_alloc import PageAllocator
from ..mm.page_init import ZoneSetup
from ..mm.reclaim import Reclaim
from .zones_request import describe_request, label, page_count, stops, zonelists

MIB = 1 << 20
RAM_STEPS = [
    16,
    20,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    768,
    896,
    1024,
    1280,
    1536,
    2048,
    3072,
    4096,
    6144,
    8192,
    12288,
    16384,
    24576,
    32768,
    49152,
    65536,
]  # MiB
HIGHMEM_STEPS = [None, 0, 32, 64, 128, 256, 512, 1024]  # MiB of highmem=; None: not given
LARGEST_BOOTED = 4096  # MiB
KERNEL_PAGES = 758  # frames below the end of the kernel image, on node 0
SWAP_CLUSTER_MAX = 32  # pages a round of reclaim aims at
SINGLES = 64  # pages of each zone taken one by one, so that there is something to reclaim

LAYOUTS: dict[str, str] = {
    "one": "one node (a PC)",
    "two": "two nodes, half each",
    "uneven": "two nodes, a quarter and the rest",
    "high": "two nodes, each half high memory",
    "four": "four nodes",
}


def node_specs(layout: str, pages: int) -> list[tuple[int, int, int, int, int, int]]:
    """Nodes for Machine(nodes=…): (start_pfn, dma, normal, high, reserved, hole) in pages, *pages* in all; [] for one node."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: there are {', '.join(LAYOUTS)}")
    shares = {"one": [], "two": [2, 2], "high": [2, 2], "uneven": [1, 3], "four": [1, 1, 1, 1]}[layout]
    nodes: list[tuple[int, int, int, int, int, int]] = []
    at = 0
    for share in shares:
        size = pages * share // 4
        high = size // 2 if layout == "high" else 0
        dma = min(4096, size - high) if at == 0 else 0
        nodes.append((at, dma, size - high - dma, high, KERNEL_PAGES if at == 0 else 0, 0))
        at += size
    return nodes


class _Giver(Reclaim):
    """Reclaim that gives back, a round, up to *budget* of the single pages the picture took: from the class zone down."""

    lab: ZoneLab
    budget = 0

    def start(self, budget: int) -> None:
        """Forget what earlier requests were given."""
        self.budget = budget
        self.given: set[int] = set()

    def try_to_free_pages_zone(self, classzone: Zone, gfp_mask: int) -> int:
        freed = 0
        for zone in reversed(classzone.pgdat.node_zones[: classzone.zone_num + 1]):
            for pfn, order in reversed(self.lab.taken.get(zone.index, [])):
                if order or freed >= self.budget:
                    break
                if pfn not in self.given:
                    self.given.add(pfn)
                    self.kernel.page_allocator.free_pages(pfn, 0)
                    freed += 1
        self.dry = not freed
        return freed

    def yielded(self) -> None:
        if self.dry:
            raise KernelHang("__alloc_pages", "order ≤ 3 with __GFP_WAIT is retried until it succeeds, and nothing is left to reclaim")


class _Figures(PageAllocator):
    """The core's walk over the zones, where each zone is taken to have a block big enough."""

    def rmqueue(self, zone: Zone, order: int) -> int | None:
        if zone.free_pages < 1 << order:
            return None
        if self.on_event is not None:
            self.on_event(("alloc", zone.start_pfn, order, zone.index))
        return zone.start_pfn


class _FiguresKernel(Kernel):
    """Zones without pages: what setup_memory and free_area_init_core work out, and nothing of what they build."""

    def __init__(self, e820: list[E820Entry], highmem_pages: int, zone_setup: type[ZoneSetup], reclaim: Reclaim) -> None:
        super().__init__(Config(tuple(e820), highmem_pages=highmem_pages, pae=True))
        self.mem = MemMap(0)
        self.page_allocator = _Figures()
        self.zone_setup = zone_setup()
        self.reclaim = reclaim
        for part in (self.page_allocator, self.zone_setup, self.reclaim):
            part.attach(self)
        self.e820 = copy_e820_map(e820) or e820
        self.max_pfn = setup.find_max_pfn(self.e820)
        self.max_low_pfn = setup.find_max_low_pfn(self)
        self.highend_pfn = self.max_pfn
        pgdat = PgData(0)
        self.pgdats = self.pgdat_list = self.ready_nodes = [pgdat]
        start = 0
        for zone, size in zip(pgdat.node_zones, self.zone_setup.zones_size(self.max_low_pfn, self.highend_pfn), strict=True):
            zone.size = zone.realsize = zone.free_pages = size
            self.zone_table[zone.index] = zone
            if size:
                zone.start_pfn, zone.end_pfn = start, start + size
                zone.pages_min, zone.pages_low, zone.pages_high = self.zone_setup.watermarks(zone.zone_num, size)
                zone.wait_table_size = self.zone_setup.wait_table_size(size)
                zone.wait_table_shift = 32 - (zone.wait_table_size.bit_length() - 1)
            start += size
        self.zone_setup.build_zonelists(pgdat)

    def parts(self) -> list[Any]:
        return [self.page_allocator, self.zone_setup, self.reclaim]


PRESETS: dict[str, str] = {
    "boot": "as after boot",
    "low+1": "one page above low",
    "low": "exactly low",
    "min": "exactly min",
    "none": "nothing free",
}


class ZoneLab:
    """A machine whose knobs one turns. After each ``build`` the free levels are as after boot."""

    def __init__(
        self,
        ram: int | str = "64M",
        *,
        layout: str = "one",
        numa: bool = False,
        highmem: int | str | None = None,
        zone_setup: type[ZoneSetup] = ZoneSetup,
        page_allocator: type[PageAllocator] = PageAllocator,
    ) -> None:
        self._zone_setup, self._page_allocator = zone_setup, page_allocator
        self.taken: dict[int, list[tuple[int, int]]] = {}  # zone index → (frame, order) the picture holds, oldest first
        self.most: dict[int, int] = {}  # zone index → free pages after boot
        self.build(ram, layout=layout, numa=numa, highmem=highmem)

    def build(self, ram: int | str, *, layout: str = "one", numa: bool = False, highmem: int | str | None = None) -> None:
        """Boot another machine. Raises ValueError for sizes and layouts that cannot be."""
        size = parse_size(ram)
        pages = size >> PAGE_SHIFT
        if not 16 * MIB <= size <= RAM_STEPS[-1] * MIB:
            raise ValueError(f"ram={ram!r}: 16 MiB to 64 GiB")
        nodes = node_specs(layout, pages)
        self.booted = size <= LARGEST_BOOTED * MIB
        if nodes and not self.booted:
            raise ValueError("machines with several nodes go up to 4 GiB here")
        highmem_pages = -1 if highmem is None else parse_size(highmem) >> PAGE_SHIFT
        self.reclaim = _Giver()
        self.reclaim.lab = self
        self.reclaim.start(0)
        self.kernel: Kernel
        if self.booted:
            machine = Machine(
                size,
                nodes=nodes,
                numa=numa,
                highmem_pages=highmem_pages,
                zone_setup=self._zone_setup,
                page_allocator=self._page_allocator,
                reclaim=self.reclaim,
            )
            self.kernel = machine.power_on()
        else:
            self.kernel = _FiguresKernel(pc_map(size), highmem_pages, self._zone_setup, self.reclaim)
        self.ram, self.layout, self.numa = size, layout, numa
        self.highmem = highmem
        self.taken = {z.index: [] for z in self.kernel.zones}
        self.most = {z.index: z.free_pages for z in self.kernel.zones}

    @property
    def machine(self) -> Machine | None:
        """The booted machine; None above 4 GiB, where only figures are worked out."""
        return self.kernel if isinstance(self.kernel, Machine) else None

    # -- free levels --------------------------------------------------------------------------

    def set_free(self, index: int, pages: int) -> None:
        """Bring zone *index* to *pages* free pages, by taking blocks from it or giving them back."""
        zone = self.kernel.zone_table[index]
        pages = min(max(pages, 0), self.most[index])
        if not self.booted:
            zone.free_pages = pages
            return
        allocator, taken = self.kernel.page_allocator, self.taken[index]
        while zone.free_pages < pages and taken:
            allocator.free_pages(*taken.pop())
        while zone.free_pages > pages:
            need = zone.free_pages - pages
            order = 0
            if need > SINGLES:  # whole small blocks first: what stays is in large blocks
                fits = [o for o in range(MAX_ORDER) if zone.free_area[o].free_list and 1 << o <= need - SINGLES]
                order = fits[0] if fits else 0
            pfn = allocator.rmqueue(zone, order)
            if pfn is None:
                break
            taken.append((pfn, order))

    def limits(self, gfp_mask: int, order: int, pass_no: int) -> dict[int, int]:
        """What pass *pass_no* compares each zone's free pages with, by zone index: asked of the allocator with nothing free."""
        before = {z.index: z.free_pages for z in self.kernel.zones}
        found: dict[int, int] = {}
        for pgdat in self.kernel.pgdats:
            for zone in self.kernel.zones:
                zone.free_pages = 0  # only the number: no pass succeeds, so no list is touched
            try:
                for event in self._listen(gfp_mask, order, pgdat)[0]:
                    if event[0] == "watermark" and event[1] == pass_no:
                        found[event[2]] = event[4]
            finally:
                for zone in self.kernel.zones:
                    zone.free_pages = before[zone.index]
        return found

    def preset(self, name: str, gfp_mask: int, order: int) -> None:
        """Set levels: ``boot`` as after boot, ``low`` and ``min`` exactly at the limits of pass 1 and 2, ``low+1`` one more."""
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
        levels = dict(self.most)
        if name == "none":
            levels = dict.fromkeys(levels, 0)
        elif name != "boot":
            levels |= {i: n + name.endswith("+1") for i, n in self.limits(gfp_mask, order, 2 if name.startswith("min") else 1).items()}
        for index, pages in levels.items():
            self.set_free(index, pages)

    # -- one request --------------------------------------------------------------------------

    def _listen(self, gfp_mask: int, order: int, pgdat: PgData | None = None) -> tuple[list[tuple[Any, ...]], int | None, str, str]:
        """Make the request and undo it: (events, frame or None, "hang" or "bug" or "", why)."""
        kernel = self.kernel
        events: list[tuple[Any, ...]] = []
        machine = self.machine
        state = machine.snapshot() if machine is not None and pgdat is None else None
        balance = [(z, z.need_balance, z.free_pages) for z in kernel.zones]
        kernel.on_event = events.append
        pfn: int | None = None
        kind = why = ""
        try:
            if pgdat is None:
                pfn = kernel.page_allocator.alloc_pages(gfp_mask, order)
            else:
                pfn = kernel.page_allocator.alloc_pages_zonelist(gfp_mask, order, pgdat.node_zonelists[gfp_mask & 15])
        except KernelHang as stop:
            kind, why = "hang", stop.why
        except KernelBug as stop:
            kind, why = "bug", str(stop)
        finally:
            kernel.on_event = None
            if state is not None and machine is not None:
                machine.restore(state)
            else:
                for zone, need, free in balance:
                    zone.need_balance, zone.free_pages = need, free
        return events, pfn, kind, why

    def ask(self, gfp_mask: int = GFP_KERNEL, order: int = 0, *, memalloc: bool = False, reclaim: int = 0) -> dict[str, Any]:
        """What happens to one request, pass by pass, as plain data; nothing stays allocated.

        *memalloc*: the task has PF_MEMALLOC. *reclaim*: pages the task can free when it must.
        """
        task = self.kernel.current
        task.flags = PF_MEMALLOC if memalloc else 0
        self.reclaim.start(reclaim)
        try:
            events, pfn, kind, why = self._listen(gfp_mask, order)
            return describe_request(self.kernel, gfp_mask, order, events, pfn, kind, why)
        finally:
            task.flags = 0
            self.reclaim.start(0)

    def allocate(self, gfp_mask: int, order: int, *, memalloc: bool = False, reclaim: int = 0) -> str:
        """Make the request for good; returns what happened, in a sentence."""
        machine = self.machine
        if machine is None:
            return "Above 4 GiB the free lists are not built, so nothing can be allocated for good."
        task = self.kernel.current
        task.flags = PF_MEMALLOC if memalloc else 0
        self.reclaim.start(reclaim)
        try:
            page = machine.alloc_pages(gfp_mask, order, owner="by hand")
        except (KernelHang, KernelBug) as stop:
            return str(stop)
        finally:
            task.flags = 0
            given = self.reclaim.given
            for index, blocks in self.taken.items():
                self.taken[index] = [b for b in blocks if b[0] not in given]
            self.reclaim.start(0)
        if page is None:
            return "The request failed: NULL."
        zone = page.zone
        assert zone is not None
        self.taken[zone.index].append((page.pfn, order))
        where = f"{label(self.kernel, zone)}, at frame {page.pfn}"
        return f"Allocated {page_count(1 << order)} from {where}; {zone.free_pages} pages are left there."


def facts(lab: ZoneLab) -> dict[str, Any]:
    """The zones and zonelists of the lab's machine, as plain data."""
    kernel = lab.kernel
    zones = [
        {
            "index": z.index,
            "name": z.name,
            "node": z.pgdat.nid,
            "label": label(kernel, z),
            "start": z.start_pfn,
            "end": z.end_pfn,
            "size": z.size,
            "real": z.realsize,
            "free": z.free_pages,
            "most": lab.most[z.index],
            "min": z.pages_min,
            "low": z.pages_low,
            "high": z.pages_high,
            "wait": z.wait_table_size,
            "shift": z.wait_table_shift,
            "stops": stops(z, lab.most[z.index]),
        }
        for z in kernel.zones
    ]
    total = sum(z.size for z in kernel.zones)
    mem_map = sum(c.size for c in kernel.boot_log if c.name == "mem_map") or (total + 1) * kernel.config.sizeof_page
    return {
        "ram": lab.ram,
        "pae": lab.ram > LARGEST_BOOTED * MIB,
        "booted": lab.booted,
        "frames": max(z.end_pfn for z in kernel.zones),
        "nodes": len(kernel.pgdats),
        "zones": zones,
        "zonelists": zonelists(kernel),
        "mem_map": mem_map,
        "low_limit": MAXMEM_PFN if len(kernel.pgdats) == 1 else None,
    }
