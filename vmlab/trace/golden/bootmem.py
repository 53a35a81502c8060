"""Replay of bootmem-* traces: the boot allocator's operations, one by one."""

from __future__ import annotations

import zlib
from typing import Any

from ...errors import KernelBug, KernelHang, TraceError
from ...machine import Machine
from ...mm.mmzone import pack_bits
from ...mm.page import MemMap
from .common import bug_site, free_pages, integer, need_balance, snap

Line = dict[str, Any]


class BootmemReplay:
    """Keeps one machine with a bare boot allocator; a ``trace`` line starts a fresh one."""

    def __init__(self, header: Line) -> None:
        self.machine: Machine | None = None
        self.announced: Line = {}  # the frames a trace line says the allocator will cover

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            self.machine = None
            self.announced = {k: integer(line, k) for k in ("start", "end") if k in line}
            return dict(line)
        if op == "bm_init":
            return self._init(line)
        if self.machine is None:
            raise TraceError("bm_init must come first")
        machine = self.machine
        bdata = machine.pgdats[0].bdata
        bootmem = machine.bootmem
        inputs = ("op", "addr", "size", "align", "goal", "sizes")
        got: Line = {k: line[k] for k in inputs if k in line}
        try:
            if op == "bm_free":
                bootmem.free_bootmem_core(bdata, integer(line, "addr"), integer(line, "size"))
            elif op == "bm_reserve":
                got["twice"] = bootmem.reserve_bootmem_core(bdata, integer(line, "addr"), integer(line, "size"))
            elif op == "bm_alloc":
                got["r"] = bootmem.alloc_bootmem_core(bdata, integer(line, "size"), integer(line, "align"), integer(line, "goal"))
            elif op == "bm_ranges":
                got["free_ranges"] = [list(r) for r in bdata.ranges()]
                return got
            elif op == "bm_zinit":
                if len(line["sizes"]) != 3 or not all(type(s) is int and 0 <= s <= 1 << 20 for s in line["sizes"]):
                    raise TraceError("sizes must be three page counts of at most 4 GiB")
                self._grow(machine, sum(line["sizes"]))
                machine.zone_setup.free_area_init_core(machine.pgdats[0], list(line["sizes"]), 0, None)
            elif op == "bm_freeall":
                got["r"] = bootmem.free_all_bootmem_core(machine.pgdats[0])
                return got | self._zones_now()
            elif op == "snap":
                return got | snap(machine, line)
            else:
                raise TraceError(f"unknown operation {op!r}")
        except KernelBug as bug:
            return got | {"r": "bug", "bug": bug_site(bug)} | self._zones_now()
        except KernelHang:
            return got | {"r": "hang"} | self._zones_now()
        return got | self._state()

    def _init(self, line: Line) -> Line:
        mapstart, start, end = (integer(line, k) for k in ("mapstart", "start", "end"))
        if not 0 <= start < end <= 1 << 20:
            raise TraceError(f"bm_init from frame {start} to {end}")
        self.machine = machine = Machine(e820=[(0, end << 12, 1)])
        got: Line = {"op": "bm_init", "mapstart": mapstart, "start": start, "end": end} | self.announced
        got["r"] = machine.bootmem.init_bootmem_core(machine.pgdats[0], mapstart, start, end)
        return got | self._state()

    @staticmethod
    def _grow(machine: Machine, frames: int) -> None:
        """Zones may be made larger than the boot bitmap is."""
        if frames > machine.mem.frames:
            machine.mem = MemMap(frames)
            for part in machine.parts():
                part.attach(machine)

    def _zones_now(self) -> Line:
        assert self.machine is not None
        return {"fp": free_pages(self.machine), "nb": need_balance(self.machine)}

    def _state(self) -> Line:
        assert self.machine is not None
        bdata = self.machine.pgdats[0].bdata
        assert bdata.map is not None
        return {
            "last_pos": bdata.last_pos,
            "last_offset": bdata.last_offset,
            "free": bdata.map.count(0),
            "crc": f"{zlib.crc32(pack_bits(bdata.map)):08x}",
        }
