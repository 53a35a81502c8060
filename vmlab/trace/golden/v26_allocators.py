"""Replay of v26-zones-* and v26-buddy-* traces: the page allocator of 2.6.11 on a machine with nothing else."""

from __future__ import annotations

import zlib
from typing import Any, cast

from ...errors import KernelBug, KernelHang, TraceError
from ...hw.layout import PAGE_SHIFT, PAGE_SIZE
from ...machine import Machine
from ...mm.gfp import PF_MEMALLOC
from ...mm.mmzone import Zone
from ...v26.gfp import from_native
from ...v26.mmzone import SIZEOF_ZONE, PerCpuPages, PgData26, Zone26
from ...v26.page_alloc import PageAllocator26
from ...v26.page_init import ZoneSetup26
from ...v26.page_slow import TIF_MEMDIE
from ...v26.reclaim import ScriptedReclaim26
from ...v26.startup import BARE
from .common import block_order, bug_site, integer

Line = dict[str, Any]


class BareMachine(Machine):
    """A 2.6 machine as the traces boot it: no page tables and no resources in boot memory, no caches."""

    def boot_stages(self) -> tuple[str, ...]:
        """See vmlab.v26.startup."""
        return BARE


def trace_machine(mib: int, kernel_end: int, highmem_pages: int = -1, **options: Any) -> BareMachine:
    """A machine of *mib* MiB whose kernel image ends at *kernel_end* (bytes), with the traces' firmware map; not booted yet."""
    if type(mib) is not int or not 2 <= mib <= 4096:
        raise TraceError(f"a machine has 2 to 4096 MiB, not {mib!r}")
    ram = ((0, 0x9F000, 1), (1 << 20, (mib - 1) << 20, 1))
    return BareMachine(e820=ram, sanitize_e820=False, kernel_end=kernel_end, highmem_pages=highmem_pages, kernel="2.6", **options)


def zones26(machine: Machine) -> list[Zone26]:
    """The three zones."""
    return [cast(Zone26, zone) for zone in machine.pgdats[0].node_zones]


def allocator26(machine: Machine) -> PageAllocator26:
    """The machine's page allocator."""
    return cast(PageAllocator26, machine.page_allocator)


def boot_allocators(line: Line, machine: BareMachine) -> Line:
    """Run the boot up to mem_init; returns the field ``boot``."""
    for stage in BARE[:3]:
        machine.boot_step(stage)
    bdata = machine.pgdats[0].bdata
    boot = {
        "mib": line["boot"]["mib"],
        "kernel_end_pfn": machine.config.kernel_end + PAGE_SIZE - 1 >> PAGE_SHIFT,
        "highmem_param": machine.config.highmem_pages,
        "max_low_pfn": machine.max_low_pfn,
        "highstart_pfn": machine.highstart_pfn,
        "highend_pfn": machine.highend_pfn,
        "bootmap_pfn": bdata.map_pa >> PAGE_SHIFT,
        "bootmap_pages": (machine.max_low_pfn // 8 + PAGE_SIZE - 1) >> PAGE_SHIFT,
        "low_free": [list(r) for r in bdata.ranges()],
    }
    machine.boot_step("mem_init")
    return boot


def pcp_state(pages: PerCpuPages) -> Line:
    """One per-CPU list as the traces print it."""
    return {"count": pages.count, "low": pages.low, "high": pages.high, "batch": pages.batch}


def zones_state(machine: Machine) -> Line:
    """The field ``zones`` of a boot line."""
    pgdat = cast(PgData26, machine.pgdats[0])
    setup = cast(ZoneSetup26, machine.zone_setup)
    return {
        "min_free_kbytes": setup.min_free_kbytes,
        "lowmem_reserve_ratio": list(setup.lowmem_reserve_ratio),
        "nr_zones": pgdat.nr_zones,
        "spanned": pgdat.node_spanned_pages,
        "present": pgdat.node_present_pages,
        "zones": [_zone(zone) for zone in zones26(machine)],
        "zonelists": [[z.zone_num for z in zonelist] for zonelist in pgdat.node_zonelists],
        "mem_map_pa": pgdat.node_mem_map_pa,
        "max_mapnr": machine.max_mapnr,
        "num_physpages": machine.num_physpages,
        "totalram_pages": machine.totalram_pages,
        "totalhigh_pages": machine.totalhigh_pages,
        "nr_kernel_pages": setup.nr_kernel_pages,
        "nr_all_pages": setup.nr_all_pages,
        "sizeof_page": machine.config.sizeof_page,
        "sizeof_zone": SIZEOF_ZONE,
    }


def _zone(zone: Zone26) -> Line:
    return {
        "zone": zone.zone_num,
        "name": zone.name,
        "size": zone.spanned_pages,
        "present": zone.present_pages,
        "start_pfn": zone.start_pfn,
        "pages_min": zone.pages_min,
        "pages_low": zone.pages_low,
        "pages_high": zone.pages_high,
        "lowmem_reserve": list(zone.lowmem_reserve),
        "free_pages": zone.free_pages,
        "wait_table_size": zone.wait_table_size,
        "wait_table_bits": zone.wait_table_bits,
        "wait_table_pa": zone.wait_table_pa or 0,
        "prev_priority": zone.prev_priority,
        "temp_priority": zone.temp_priority,
        "hot": pcp_state(zone.pcp[0]),
        "cold": pcp_state(zone.pcp[1]),
    }


def _pfns(pfns: Any) -> str:
    return ",".join(map(str, pfns))


def snap26(machine: Machine, recorded: Line) -> Line:
    """Free lists and per-CPU lists of all zones with pages, with their checksum; block lists where the trace has them."""
    with_lists = [isinstance(z, dict) and "lists" in z for z in recorded.get("zones") or []]
    zones, text = [], ""
    for i, zone in enumerate(z for z in zones26(machine) if z.size):
        hot, cold = (list(pages.list) for pages in zone.pcp)
        entry: Line = {"zone": zone.zone_num, "free": zone.free_pages, "nr": zone.nr_free(), "hot": hot, "cold": cold}
        if i < len(with_lists) and with_lists[i]:
            entry["lists"] = [area.blocks() for area in zone.free_area]
        zones.append(entry)
        prefix = f"z{zone.zone_num}"
        text += "".join(f"{prefix}o{order}:{_pfns(reversed(area.free_list))}\n" for order, area in enumerate(zone.free_area))
        text += f"{prefix}h:{_pfns(hot)}\n{prefix}c:{_pfns(cold)}\n"
    return {"zones": zones, "crc": f"{zlib.crc32(text.encode()):08x}"}


def counts26(machine: Machine) -> Line:
    """The global page counts, and what was allocated and freed."""
    allocator = allocator26(machine)
    return {
        "nr_free_pages": allocator.nr_free_pages(),
        "nr_free_buffer_pages": allocator.nr_free_buffer_pages(),
        "nr_free_pagecache_pages": allocator.nr_free_pagecache_pages(),
        "nr_free_highpages": allocator.nr_free_highpages(),
        "pgalloc": list(allocator.page_state.pgalloc),
        "pgfree": allocator.page_state.pgfree,
    }


class Allocators26Replay:
    """Keeps one machine; a ``trace`` line boots a fresh one."""

    def __init__(self, header: Line) -> None:
        self.machine: BareMachine | None = None
        self.reclaim = ScriptedReclaim26()

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            return self._boot(line)
        machine = self.machine
        if machine is None:
            raise TraceError("a trace line must come first")
        got: Line = {k: line[k] for k in _OPERANDS.get(str(op), ()) if k in line}
        got["op"] = op
        if op in ("minfree", "ratio"):
            return got | self._sysctl(machine, line)
        if op == "wmok":
            return got | {"r": self._watermark(machine, line)}
        if op == "counts":
            return got | counts26(machine)
        if op == "snap":
            return got | snap26(machine, line)
        if op == "reclaim":
            self.reclaim.queue(integer(line, "ret"), [(self._frame(machine, p), block_order(o)) for p, o in line["frees"]])
            return got
        if op == "alloc":
            got |= self._alloc(machine, line)
        elif op == "free":
            got |= self._free(machine, self._frame(machine, integer(line, "pfn")), block_order(integer(line, "order")))
        elif op == "pvfree":
            self._free_pagevec(machine, [self._frame(machine, p) for p in line["pfns"]], integer(line, "cold"))
        elif op == "clrkmo":
            cast(PgData26, machine.pgdats[0]).kswapd_max_order = 0
        else:
            raise TraceError(f"unknown operation {op!r}")
        return got | {
            "fp": [zone.free_pages for zone in zones26(machine)],
            "pc": [pages.count for zone in zones26(machine) for pages in zone.pcp],
            "kmo": cast(PgData26, machine.pgdats[0]).kswapd_max_order,
        }

    @staticmethod
    def _frame(machine: Machine, pfn: int) -> int:
        if type(pfn) is not int or not 0 <= pfn < machine.mem.frames:
            raise TraceError(f"frame {pfn} does not exist")
        return pfn

    def _alloc(self, machine: Machine, line: Line) -> Line:
        stat, reclaim, current = machine.stat, self.reclaim, machine.current
        wakes, calls, ooms, waits = stat.wake_kswapd, stat.reclaim, reclaim.ooms, reclaim.waits
        who = integer(line, "fl") if "fl" in line else 0
        current.flags = (PF_MEMALLOC if who & 1 else 0) | (TIF_MEMDIE if who & 4 else 0)
        current.rt_priority = who >> 1 & 1
        try:
            pfn = machine.page_allocator.alloc_pages(from_native(integer(line, "gfp")), block_order(integer(line, "order")))
        except KernelHang:
            return {"r": "loop"}
        except KernelBug as bug:
            return {"r": "bug", "bug": bug_site(bug)}
        finally:
            current.flags = current.rt_priority = 0
        got: Line = {"r": pfn, "wk": stat.wake_kswapd - wakes, "rc": stat.reclaim - calls}
        if reclaim.ooms != ooms:
            got["oom"] = reclaim.ooms - ooms
        if reclaim.waits != waits:
            got["cw"] = reclaim.waits - waits
        return got

    @staticmethod
    def _free(machine: Machine, pfn: int, order: int) -> Line:
        try:
            machine.page_allocator.free_pages(pfn, order)
        except KernelBug as bug:
            return {"r": "bug", "bug": bug_site(bug)}
        return {}

    @staticmethod
    def _free_pagevec(machine: Machine, pfns: list[int], cold: int) -> None:
        count = machine.mem.count
        last = []
        for pfn in pfns:
            count[pfn] -= 1
            if not count[pfn]:
                last.append(pfn)
        allocator26(machine).pagevec_free(last, 1 if cold else 0)

    @staticmethod
    def _watermark(machine: Machine, line: Line) -> int:
        zone: Zone = machine.pgdats[0].node_zones[_index(line, "zone")]
        order, mark, classzone = block_order(integer(line, "order")), integer(line, "mark"), _index(line, "cz")
        return int(allocator26(machine).zone_watermark_ok(zone, order, mark, classzone, integer(line, "harder"), integer(line, "high")))

    @staticmethod
    def _sysctl(machine: Machine, line: Line) -> Line:
        setup = cast(ZoneSetup26, machine.zone_setup)
        if line["op"] == "minfree":
            setup.set_min_free_kbytes(integer(line, "kb"))
        else:
            setup.set_lowmem_reserve_ratio([int(r) for r in line["r"]])
        return {
            "min_free_kbytes": setup.min_free_kbytes,
            "ratio": list(setup.lowmem_reserve_ratio),
            "marks": [[z.pages_min, z.pages_low, z.pages_high, *z.lowmem_reserve] for z in zones26(machine)],
        }

    def _boot(self, line: Line) -> Line:
        self.reclaim = ScriptedReclaim26()
        given = line["boot"]
        machine = trace_machine(
            integer(given, "mib"),
            integer(given, "kernel_end_pfn") << PAGE_SHIFT,
            integer(given, "highmem_param"),
            kernel_objects=None,
            reclaim=self.reclaim,
        )
        boot = boot_allocators(line, machine)
        machine.boot_step("init_per_zone_pages_min")
        self.machine = machine
        got: Line = {k: line[k] for k in ("op", "name", "seed") if k in line}
        if "machine" in line:
            config = machine.config
            got["machine"] = f"{given['mib']}M kend {boot['kernel_end_pfn']} highmem {config.highmem_pages}"
        got |= {"boot": boot, "zones": zones_state(machine), "snap": snap26(machine, line.get("snap", {}))}
        if "counts" in line:
            got["counts"] = counts26(machine)
        return got


def _index(line: Line, name: str) -> int:
    value = integer(line, name)
    if not 0 <= value < 3:
        raise TraceError(f"{name} must be a zone, 0 to 2, not {value}")
    return value


_OPERANDS = {
    "alloc": ("gfp", "order", "fl"),
    "free": ("pfn", "order"),
    "pvfree": ("cold", "pfns"),
    "reclaim": ("ret", "frees"),
    "wmok": ("zone", "order", "mark", "cz", "harder", "high"),
    "minfree": ("kb",),
    "ratio": ("r",),
}
