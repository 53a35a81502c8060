"""Replay of vmalloc-* traces: vmalloc on the slab and page allocators, without processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from ...errors import TraceError
from ...hw.e820 import pc_map
from ...hw.layout import M32, PAGE_SHIFT
from ...machine import Machine
from ...mm.init import PKMAP_BASE
from ...mm.reclaim import ScriptedReclaim
from ...mm.vmalloc import SIZEOF_VM_STRUCT
from .common import free_pages, integer, need_balance, snap, zonelists

Line = dict[str, Any]

STAGES = ("setup_memory_region", "setup_memory", "paging_init", "register_memory", "kmem_cache_init", "mem_init", "kmem_cache_sizes_init")
MAX_SHOWN = 16  # frames of an area that a line lists
_INPUTS = ("op", "size", "gfp", "addr")


class VmallocReplay:
    """Keeps one machine; a ``trace`` line boots a fresh one, up to kmem_cache_sizes_init."""

    def __init__(self, header: Line) -> None:
        self.machine: Machine | None = None

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            return self._boot(line)
        if self.machine is None:
            raise TraceError("a trace line must come first")
        handler: Callable[[Machine, Line], Line] | None = getattr(self, f"_op_{op}", None) if isinstance(op, str) else None
        if handler is None:
            raise TraceError(f"unknown operation {op!r}")
        got: Line = {k: line[k] for k in _INPUTS if k in line} | handler(self.machine, line)
        return got if op == "snap" else got | self._state(self.machine)

    def _op_vmalloc(self, machine: Machine, line: Line) -> Line:
        space = machine.vmalloc_space
        addr = space.vmalloc_pages(_word(line, "size"), _word(line, "gfp"))
        if not addr:
            return {"r": None}
        frames = space.frames(addr)
        got: Line = {"r": addr, "pfns_crc": _crc("".join(f"{pfn}," for pfn in frames))}
        return got | {"pfns": frames} if len(frames) <= MAX_SHOWN else got

    def _op_vfree(self, machine: Machine, line: Line) -> Line:
        said = len(machine.console)
        machine.vmalloc_space.vfree(_word(line, "addr"))
        return {"msgs": len(machine.console) - said}

    def _op_get_vm_area(self, machine: Machine, line: Line) -> Line:
        area = machine.vmalloc_space.get_vm_area(_word(line, "size"))
        return {"r": None} if area is None else {"r": area.addr, "area_size": area.size}

    def _op_vmsnap(self, machine: Machine, line: Line) -> Line:
        space = machine.vmalloc_space
        tables = []
        for address in range(space.VMALLOC_START, PKMAP_BASE, machine.pgtable.PMD_SIZE):
            found = machine.pgtable.pmd_lookup(machine.init_mm, address)
            if found is not None and found[0][found[1]]:
                tables.append([address, found[0][found[1]] >> PAGE_SHIFT])
        return {"vmlist": [[area.addr, area.size, area.flags] for area in space.vmlist], "pte_pages": tables}

    def _op_snap(self, machine: Machine, line: Line) -> Line:
        return snap(machine, line)

    @staticmethod
    def _state(machine: Machine) -> Line:
        areas = machine.vmalloc_space.vmlist
        return {
            "areas": len(areas),
            "area_pages": sum(area.size >> PAGE_SHIFT for area in areas),
            "crc": _crc("".join(f"{area.addr:x}+{area.size:x}," for area in areas)),
            "fp": free_pages(machine),
            "nb": need_balance(machine),
        }

    def _boot(self, line: Line) -> Line:
        ram = pc_map(integer(line, "mib") << 20)
        machine = Machine(e820=ram, sanitize_e820=False, kernel_objects="ram", vfs=False, reclaim=ScriptedReclaim)
        frees: list[list[int]] = []
        for stage in STAGES:
            if stage == "mem_init":
                bdata = machine.pgdats[0].bdata
                map_start = bdata.map_pa >> PAGE_SHIFT
                frees = [[a, b, 1] for a, b in bdata.ranges()]
                frees.append([map_start, map_start + ((machine.max_low_pfn // 8 + 4095) >> PAGE_SHIFT), 1])
                if machine.highend_pfn > machine.highstart_pfn:
                    frees.append([machine.highend_pfn - 1, machine.highstart_pfn - 1, -1])
            machine.boot_step(stage)
        self.machine = machine
        space = machine.vmalloc_space
        return {
            **{k: line[k] for k in ("op", "name", "mib", "seed") if k in line},
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
            "free_after_kmem_init": machine.nr_free_pages(),
            "info": {
                "vmalloc_start": space.VMALLOC_START,
                "vmalloc_end": space.VMALLOC_END,
                "high_memory": space.high_memory,
                "num_physpages": machine.num_physpages,
                "sizeof_vm_struct": SIZEOF_VM_STRUCT,
            },
        }


def _word(line: Line, name: str) -> int:
    """An operand of 32 bits."""
    value = integer(line, name)
    if not 0 <= value <= M32:
        raise TraceError(f"operand {name!r} must fit 32 bits, not {value}")
    return value


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
