"""Zones and watermarks: how RAM becomes zones, and which of them serves a request."""

from __future__ import annotations

from typing import Any

import traitlets

from ..hw.e820 import parse_size
from ..mm.gfp import GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER, GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_USER, gfp_name
from ..mm.page_alloc import PageAllocator
from ..mm.page_init import ZoneSetup
from .base import STATIC, View, css, esm, number
from .zones_lab import HIGHMEM_STEPS, LARGEST_BOOTED, LAYOUTS, MIB, PRESETS, RAM_STEPS, ZoneLab, facts

__all__ = ["Zones", "zones"]

MASKS = (GFP_KERNEL, GFP_USER, GFP_HIGHUSER, GFP_ATOMIC, GFP_NOFS, GFP_NOIO, GFP_DMA)
BITS = (("__GFP_DMA", 0x01), ("__GFP_HIGHMEM", 0x02), ("__GFP_WAIT", 0x10))
RECLAIM = (0, 1, 32)


def size_text(pages: int) -> str:
    """A number of pages as a size: 16 MiB, 1.5 GiB, 60 KiB."""
    size = pages * 4096
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return "0"


class Zones(View):
    """Zones of a machine to be chosen, their watermarks and zonelists, and the running-sum rule for one request.

    ``ram`` is in MiB, ``highmem`` in MiB (-1: not given), ``levels`` the free pages by zone index. The machine behind the
    picture is ``lab.machine``; above 4 GiB there is none, because only sizes and watermarks are worked out.
    """

    _esm = esm("panels") + (STATIC / "zones.js").read_text()
    _css = css("panels") + (STATIC / "zones.css").read_text()

    choices = traitlets.Dict(help="What the controls offer.").tag(sync=True)
    ram = traitlets.Int(64, help="MiB of RAM.").tag(sync=True)
    nodes = traitlets.Enum(list(LAYOUTS), "one", help="One of LAYOUTS.").tag(sync=True)
    numa = traitlets.Bool(False, help="CONFIG_NUMA: start at the local node instead of round robin.").tag(sync=True)
    highmem = traitlets.Int(-1, help="The boot parameter highmem=, MiB; -1: not given.").tag(sync=True)
    gfp = traitlets.Int(GFP_KERNEL, help="The request's gfp mask.").tag(sync=True)
    order = traitlets.Int(0, min=0, max=10, help="The request's order.").tag(sync=True)
    memalloc = traitlets.Bool(False, help="The task has PF_MEMALLOC.").tag(sync=True)
    reclaims = traitlets.Int(0, min=0, help="Pages the task can reclaim in a round.").tag(sync=True)
    levels = traitlets.Dict(help="Free pages by zone index (as text).").tag(sync=True)
    facts = traitlets.Dict(help="Zones, watermarks, zonelists.").tag(sync=True)
    request = traitlets.Dict(help="The request, pass by pass.").tag(sync=True)
    said = traitlets.Unicode(help="What the last action did.").tag(sync=True)

    def __init__(
        self,
        ram: int | str = "64M",
        *,
        nodes: str = "one",
        numa: bool = False,
        highmem: int | str | None = None,
        gfp: int = GFP_KERNEL,
        order: int = 0,
        zone_setup: type[ZoneSetup] = ZoneSetup,
        page_allocator: type[PageAllocator] = PageAllocator,
    ) -> None:
        self.lab = ZoneLab(ram, layout=nodes, numa=numa, highmem=highmem, zone_setup=zone_setup, page_allocator=page_allocator)
        self._drawing = False
        mib = parse_size(ram) // MIB
        given = -1 if highmem is None else parse_size(highmem) // MIB
        choices = {
            "ram": sorted({*RAM_STEPS, mib}),
            "nodes": list(LAYOUTS.items()),
            "highmem": sorted({given, *(-1 if n is None else n for n in HIGHMEM_STEPS)}),
            "gfp": [[mask, f"{gfp_name(mask)} ({mask:#x})"] for mask in dict.fromkeys((*MASKS, gfp))],
            "bits": [[name, bit] for name, bit in BITS],
            "presets": list(PRESETS.items()),
            "reclaim": list(RECLAIM),
        }
        super().__init__(choices=choices, ram=mib, nodes=nodes, numa=numa, highmem=given, gfp=gfp, order=order)
        self.refresh()
        self.observe(self._rebuild, ["ram", "nodes", "numa", "highmem"])
        self.observe(self._set_levels, "levels")
        self.observe(lambda _: self.refresh(), ["gfp", "order", "memalloc", "reclaims"])
        self.on_msg(self._on_message)

    # -- what the reader does -----------------------------------------------------------------

    def _rebuild(self, change: Any) -> None:
        if self._drawing:
            return
        said = ""
        if self.nodes != "one" and self.ram > LARGEST_BOOTED:
            if change["name"] == "nodes":
                said = "Machines with several nodes go up to 4 GiB here."
                self._quietly(ram=LARGEST_BOOTED)
            else:
                said = "Above 4 GiB the machine has one node here."
                self._quietly(nodes="one")
        try:
            self.lab.build(self.ram * MIB, layout=self.nodes, numa=self.numa, highmem=None if self.highmem < 0 else self.highmem * MIB)
        except ValueError as error:
            said = str(error)
        self.said = said
        self.refresh()

    def _quietly(self, **traits: Any) -> None:
        self._drawing = True
        try:
            self.set_trait(*next(iter(traits.items())))
        finally:
            self._drawing = False

    def _set_levels(self, change: Any) -> None:
        if self._drawing:
            return
        for index, pages in change["new"].items():
            if int(index) in self.lab.most:
                self.lab.set_free(int(index), int(pages))
        self.said = ""
        self.refresh()

    def _on_message(self, _: Any, message: dict[str, Any], __: Any) -> None:
        if message.get("do") == "preset":
            self.preset(message["name"])
        elif message.get("do") == "allocate":
            self.allocate(int(message.get("times", 1)))

    def preset(self, name: str) -> None:
        """Set all free levels: "boot", "low+1", "low", "min" or "none"."""
        self.lab.preset(name, self.gfp, self.order)
        self.said = f"Free levels: {PRESETS[name]}."
        self.refresh()

    def allocate(self, times: int = 1) -> None:
        """Make the request for good, *times* times over: the levels fall."""
        said = ""
        for _ in range(times):
            said = self.lab.allocate(self.gfp, self.order, memalloc=self.memalloc, reclaim=self.reclaims)
            if not said.startswith("Allocated"):
                break
        self.said = said
        self.refresh()

    # -- drawing ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Ask the core again and redraw."""
        found = facts(self.lab)
        request = self.lab.ask(self.gfp, self.order, memalloc=self.memalloc, reclaim=self.reclaims)
        self._drawing = True
        try:
            with self.hold_sync():
                self.facts = found
                self.request = request
                self.levels = {str(z["index"]): z["free"] for z in found["zones"]}
                self.text_alternative = in_words(found, request)
                self.table = in_numbers(found)
                self.serial += 1
        finally:
            self._drawing = False


def in_words(found: dict[str, Any], request: dict[str, Any]) -> str:
    """The picture in sentences."""
    zones = "; ".join(
        f"{z['label']}: frames {number(z['start'])} to {number(z['end'] - 1)}, {size_text(z['size'])}, "
        f"watermarks {z['min']}, {z['low']} and {z['high']}, "
        f"{number(z['free'])} pages free"
        for z in found["zones"]
    )
    ram = size_text(found["ram"] // 4096)
    head = (
        f"A machine with {ram} of RAM"
        + (f" in {found['nodes']} nodes" if found["nodes"] > 1 else "")
        + (", with PAE" if found["pae"] else "")
    )
    built = "" if found["booted"] else " Only sizes and watermarks are worked out, so each zone counts as free until its level is set."
    labels = {z["index"]: z["label"] for z in found["zones"]}
    steps = [
        f"pass {p['no']}, {labels[c['zone']]}: {number(c['free'])} free, must be more than {number(c['min'])}, "
        + ("yes" + ("" if c["found"] else " but no block of this order") if c["ok"] else "no")
        for attempt in request["attempts"]
        for p in attempt["passes"]
        for c in p["cells"]
    ]
    asked = f"A request for order {request['order']} with {request['gfp_name']}"
    return f"{head}. {zones}.{built} {asked}: {'; '.join(steps) or 'no zone is looked at'}. {request['result']['text']}"


def in_numbers(found: dict[str, Any]) -> dict[str, Any]:
    """The zones as a data table."""
    head = ["zone", "first frame", "last frame", "pages", "size", "free", "min", "low", "high", "wait queues", "shift"]
    rows = [
        [
            z["label"],
            z["start"],
            z["end"] - 1,
            z["size"],
            size_text(z["size"]),
            z["free"],
            z["min"],
            z["low"],
            z["high"],
            z["wait"],
            z["shift"],
        ]
        for z in found["zones"]
    ]
    return {"caption": "Zones; counts in pages of 4 KiB", "head": head, "rows": rows}


def zones(
    ram: int | str = "64M",
    *,
    nodes: str = "one",
    numa: bool = False,
    highmem: int | str | None = None,
    gfp: int = GFP_KERNEL,
    order: int = 0,
    zone_setup: type[ZoneSetup] = ZoneSetup,
    page_allocator: type[PageAllocator] = PageAllocator,
) -> Zones:
    """Picture of zones, watermarks and zonelists for any RAM size, and of one request's way through them.

    ram: 16 MiB to 64 GiB. nodes: "one", "two", "uneven", "high" or "four". numa: CONFIG_NUMA.
    highmem: the boot parameter highmem=. gfp, order: the request. zone_setup, page_allocator: your own classes.
    """
    return Zones(ram, nodes=nodes, numa=numa, highmem=highmem, gfp=gfp, order=order, zone_setup=zone_setup, page_allocator=page_allocator)
