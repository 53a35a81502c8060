"""Replay of buddy-* traces: boot, then allocations, frees and scripted reclaim."""

from __future__ import annotations

from typing import Any

from ...errors import KernelBug, KernelHang, TraceError
from ...hw.layout import PAGE_SHIFT
from ...machine import Machine
from ...mm.gfp import PF_MEMALLOC
from ...mm.init import ram_frames
from ...mm.reclaim import ScriptedReclaim
from .common import block_order, bug_site, counts, free_pages, integer, need_balance, regular_mib, snap, zonelists

Line = dict[str, Any]


class BuddyReplay:
    """Keeps one machine; a ``trace`` line boots a fresh one."""

    def __init__(self, header: Line) -> None:
        self.machine: Machine | None = None
        self.reclaim = ScriptedReclaim()

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            return self._boot(line)
        machine = self.machine
        if machine is None:
            raise TraceError("a trace line must come first")
        got: Line = {k: line[k] for k in ("op", "gfp", "order", "memalloc", "pfn", "ret", "frees") if k in line}
        if op == "alloc":
            got |= self._alloc(machine, line)
        elif op == "free":
            pfn = self._frame(machine, integer(line, "pfn"))
            try:
                machine.page_allocator.free_pages(pfn, block_order(integer(line, "order")))
            except KernelBug as bug:
                got |= {"r": "bug", "bug": bug_site(bug)}
        elif op == "reclaim":
            self.reclaim.queue(integer(line, "ret"), [(self._frame(machine, p), block_order(o)) for p, o in line["frees"]])
            return got
        elif op == "clrnb":
            machine.clear_need_balance()
        elif op == "counts":
            return got | counts(machine)
        elif op == "snap":
            return got | snap(machine, line)
        else:
            raise TraceError(f"unknown operation {op!r}")
        return got | {"fp": free_pages(machine), "nb": need_balance(machine)}

    @staticmethod
    def _frame(machine: Machine, pfn: int) -> int:
        if type(pfn) is not int or not 0 <= pfn < machine.mem.frames:
            raise TraceError(f"frame {pfn} does not exist")
        return pfn

    def _alloc(self, machine: Machine, line: Line) -> Line:
        stat = machine.stat
        wakes, calls = stat.wake_kswapd, stat.reclaim
        machine.current.flags = PF_MEMALLOC if line.get("memalloc") else 0
        try:
            pfn = machine.page_allocator.alloc_pages(integer(line, "gfp"), block_order(integer(line, "order")))
        except KernelHang:
            return {"r": "loop"}
        except KernelBug as bug:
            return {"r": "bug", "bug": bug_site(bug)}
        finally:
            machine.current.flags = 0
        return {"r": pfn, "wk": stat.wake_kswapd - wakes, "rc": stat.reclaim - calls}

    def _boot(self, line: Line) -> Line:
        self.reclaim = ScriptedReclaim()
        machine = Machine(
            e820=line["e820"],
            sanitize_e820=False,
            kernel_end=integer(line, "kernel_end"),
            highmem_pages=integer(line, "highmem_param"),
            reclaim=self.reclaim,
        )
        for stage in ("setup_memory_region", "setup_memory", "paging_init", "register_memory"):
            machine.boot_step(stage)
        bdata = machine.pgdats[0].bdata
        map_start = bdata.map_pa >> PAGE_SHIFT
        frees = [[a, b, 1] for a, b in bdata.ranges()] + [[map_start, map_start + ((machine.max_low_pfn // 8 + 4095) >> PAGE_SHIFT), 1]]
        frees += [[b - 1, a - 1, -1] for a, b in reversed(ram_frames(machine, machine.highstart_pfn, machine.highend_pfn))]
        machine.boot_step("mem_init")
        self.machine = machine
        return {
            **{k: line[k] for k in ("op", "name", "seed", "e820", "kernel_end", "highmem_param") if k in line},
            "mib": regular_mib(line["e820"]),
            "zones": [
                {
                    "zone": z.zone_num,
                    "size": z.size,
                    "start_mapnr": z.zone_start_mapnr,
                    "pages_min": z.pages_min,
                    "pages_low": z.pages_low,
                    "pages_high": z.pages_high,
                }
                for z in machine.zones
            ],
            "zonelists": zonelists(machine),
            "boot_frees": frees,
            "fp": free_pages(machine),
            "snap": snap(machine, line.get("snap", {})),
        }
