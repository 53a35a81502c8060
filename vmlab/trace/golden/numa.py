"""Replay of numa-* traces: several nodes, their boot, allocation across them, scripted reclaim."""

from __future__ import annotations

import zlib
from typing import Any

from ...errors import KernelBug, KernelHang, TraceError
from ...machine import Machine
from ...mm import numa
from ...mm.gfp import PF_MEMALLOC
from ...mm.mmzone import PgData
from ...mm.page_init import free_boot_pages
from ...mm.reclaim import ScriptedReclaim
from .common import block_order, bug_site, counts, lists_text

Line = dict[str, Any]


class NumaReplay:
    """One machine for the whole file, described by the header."""

    def __init__(self, header: Line) -> None:
        self.reclaim = ScriptedReclaim()
        self.machine = Machine(
            nodes=header["nodes"],
            node_init_order=header["node_init_order"],
            numa="+ CONFIG_NUMA" in header["build"],
            highmem=False,
            reclaim=self.reclaim,
        )

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if not isinstance(op, list) or not op or not isinstance(op[0], str) or any(type(x) is not int for x in op[1:]):
            raise TraceError("an operation of a numa trace is a name and whole numbers")
        name, args = op[0], op[1:]
        handler = getattr(self, f"_op_{name}", None)
        if handler is None:
            raise TraceError(f"unknown operation {name!r}")
        try:
            got: Line = handler(line, *args)
        except KernelBug as bug:
            got = {"bug": 1, "bug_at": bug_site(bug)} | self._counters()
        return {"op": op} | got

    # -- boot ---------------------------------------------------------------------------------

    def _op_node(self, line: Line, nid: int, *spec: int) -> Line:
        if self.machine.config.nodes[nid] != tuple(spec):
            raise TraceError(f"node {nid} is {list(spec)} here, but the header says {list(self.machine.config.nodes[nid])}")
        self.machine.init_node(nid)
        pgdat = self.machine.pgdats[nid]
        bdata = pgdat.bdata
        assert bdata.map is not None
        return {
            "bootmap_bytes": len(bdata.map) // 8,
            "node_mem_map_pa": pgdat.node_mem_map_pa,
            "node_start_mapnr": pgdat.node_start_mapnr,
            "valid_addr_bitmap_pa": pgdat.valid_addr_bitmap_pa,
            "bootmem_last": [bdata.last_pos, bdata.last_offset],
        }

    def _op_freeall(self, line: Line, nid: int) -> Line:
        pgdat = self.machine.pgdats[nid]
        freed = self.machine.bootmem.free_all_bootmem_core(pgdat)
        high = pgdat.node_zones[2]
        if high.size:
            free_boot_pages(self.machine, high.start_pfn, high.end_pfn, descending=True, highmem=True)
        self.machine.boot_stage = "boot_nodes"
        return {"freed": freed} | self._counters()

    def _op_zonelists(self, line: Line) -> Line:
        nodes = []
        for pgdat in self._ready():
            zones = [
                {
                    "size": z.size,
                    "free": z.free_pages,
                    "min": z.pages_min,
                    "low": z.pages_low,
                    "high": z.pages_high,
                    "start_pa": z.zone_start_paddr,
                }
                for z in pgdat.node_zones
            ]
            lists = [[f"{z.pgdat.node_id}{z.name}" for z in zonelist] for zonelist in pgdat.node_zonelists]
            nodes.append({"nr_zones": pgdat.nr_zones, "size": pgdat.node_size, "zones": zones, "zonelists": lists})
        return {
            "pgdat_list": [p.nid for p in self.machine.pgdat_list],
            "nodes": nodes,
            "buddy": self._buddy(),
            "bcrc": self._crc(),
        } | counts(self.machine)

    # -- running ------------------------------------------------------------------------------

    def _op_alloc(self, line: Line, gfp: int, order: int, memalloc: int = 0) -> Line:
        return self._alloc(None, gfp, order, memalloc)

    def _op_alloc_node(self, line: Line, nid: int, gfp: int, order: int, memalloc: int = 0) -> Line:
        return self._alloc(nid, gfp, order, memalloc)

    def _alloc(self, nid: int | None, gfp: int, order: int, memalloc: int) -> Line:
        machine = self.machine
        order = block_order(order)
        stat = machine.stat
        wakes, yields = stat.wake_kswapd, stat.yield_
        self.reclaim.calls.clear()
        machine.current.flags = PF_MEMALLOC if memalloc else 0
        hang = False
        pfn: int | None = None
        try:
            pfn = machine.page_allocator.alloc_pages(gfp, order) if nid is None else numa.alloc_pages_node(machine, nid, gfp, order)
        except KernelHang:
            hang = True
        finally:
            machine.current.flags = 0
        calls = [[self._node_of(i // 3), i % 3] for i in self.reclaim.calls]
        if hang:
            return {"rc": calls, "loop": 1} | self._counters()
        place = None
        if pfn is not None:
            zone = machine.page(pfn).zone
            assert zone is not None
            place = [zone.pgdat.node_id, pfn]
        return {"rc": calls, "r": place, "wk": stat.wake_kswapd - wakes, "yl": stat.yield_ - yields} | self._counters()

    def _op_free(self, line: Line, nid: int, pfn: int, order: int) -> Line:
        self._free(nid, pfn, order)
        return self._counters()

    def _free(self, nid: int, pfn: int, order: int) -> None:
        if self._on_node(nid, pfn):
            self.machine.page_allocator.free_pages(pfn, block_order(order))

    def _on_node(self, nid: int, pfn: int) -> bool:
        """Whether node *nid* has the frame. A frame of a node whose set-up failed is recorded under node 0 (its node_id was
        never set); freeing it there touched zeroed bytes past node 0's mem_map and changed nothing."""
        if not 0 <= nid < len(self.machine.pgdats):
            raise TraceError(f"there is no node {nid}")
        pgdat = self.machine.pgdats[nid]
        return pgdat.node_start_pfn <= pfn < pgdat.node_start_pfn + pgdat.node_size

    def _op_reclaim(self, line: Line, ret: int, *blocks: int) -> Line:
        if len(blocks) % 3:
            raise TraceError("reclaim takes a number and triples (node, frame, order)")
        triples = [blocks[i : i + 3] for i in range(0, len(blocks), 3)]
        self.reclaim.queue(ret, [(pfn, block_order(order)) for nid, pfn, order in triples if self._on_node(nid, pfn)])
        return {}

    def _op_cpu(self, line: Line, nid: int) -> Line:
        self.machine.numa_node_id = nid
        return {}

    def _op_snap(self, line: Line, full: int) -> Line:
        got: Line = {"bcrc": self._crc()} | counts(self.machine) | self._counters()
        if full:
            got["buddy"] = self._buddy()
        return got

    # -- dumps --------------------------------------------------------------------------------

    def _ready(self) -> list[PgData]:
        return sorted(self.machine.ready_nodes, key=lambda p: p.nid)

    def _node_of(self, nid: int) -> int:
        return self.machine.pgdats[nid].node_id

    def _counters(self) -> Line:
        zones = [z for p in self._ready() for z in p.node_zones]
        return {"fp": [z.free_pages for z in zones], "nb": [z.need_balance for z in zones]}

    def _buddy(self) -> list[list[list[list[int]]]]:
        return [[[a.blocks() for a in z.free_area] if z.size else [] for z in p.node_zones] for p in self._ready()]

    def _crc(self) -> int:
        text = "".join(lists_text(z, f"n{p.nid}z{z.zone_num}") for p in self._ready() for z in p.node_zones if z.size)
        return zlib.crc32(text.encode())
