"""Replay of zones-* traces: each line is one machine, booted step by step."""

from __future__ import annotations

from typing import Any

from ...hw.layout import PAGE_SHIFT, SIZEOF_WAIT_QUEUE_HEAD
from ...machine import Machine
from .common import counts, free_pages, integer, need_balance, regular_mib, snap, zonelists

Line = dict[str, Any]


class ZonesReplay:
    """Boots the machine of each line and reports what the line records."""

    def __init__(self, header: Line) -> None:
        pass

    def __call__(self, line: Line) -> Line:
        if line.get("op") != "machine":
            raise ValueError("every line of a zones trace is a machine")
        spec = line["machine"]
        machine = Machine(
            e820=spec["e820"],
            sanitize_e820=False,
            kernel_end=integer(spec, "kernel_end"),
            highmem_pages=integer(spec, "highmem_param"),
            pse=not integer(spec, "nopse"),
            memfrac=spec["memfrac"],
            kernel_objects=None,
        )
        bdata = machine.pgdats[0].bdata
        machine.boot_step("setup_memory_region")
        machine.boot_step("setup_memory")
        after_setup = [list(r) for r in bdata.ranges()]
        machine.boot_step("paging_init")
        zones = self._zones(machine)
        machine.boot_step("register_memory")
        ranges = [list(r) for r in bdata.ranges()]
        map_start = bdata.map_pa >> PAGE_SHIFT
        boot = {
            "kernel_end": machine.config.kernel_end,
            "highmem_param": machine.config.highmem_pages,
            "pse": int(machine.config.pse),
            "max_low_pfn": machine.max_low_pfn,
            "max_pfn": machine.max_pfn,
            "highstart_pfn": machine.highstart_pfn,
            "highend_pfn": machine.highend_pfn,
            "bootmap_pa": bdata.map_pa,
            "after_setup_memory": after_setup,
            "after_paging_init": ranges,
            "last_pos": bdata.last_pos,
            "last_offset": bdata.last_offset,
        }
        machine.boot_step("mem_init")
        got: Line = {
            "op": "machine",
            "machine": spec | {"mib": regular_mib(spec["e820"])},
            "boot": boot,
            "zones": zones,
            "meminit": {
                "low_free_ranges": ranges,
                "bootmap_pages": [map_start, map_start + ((machine.max_low_pfn // 8 + 4095) >> PAGE_SHIFT)],
                "totalram": machine.totalram_pages,
                "totalhigh": machine.totalhigh_pages,
                "fp": free_pages(machine),
                "nb": need_balance(machine),
            },
            "counts": counts(machine),
            "snap": snap(machine, line.get("snap", {})),
        }
        if "ratio" in line:
            got["ratio"] = machine.zone_balance_ratio
        return got

    @staticmethod
    def _zones(machine: Machine) -> Line:
        pgdat = machine.pgdats[0]
        zones: list[Line] = []
        for zone in pgdat.node_zones:
            entry: Line = {"zone": zone.zone_num, "name": zone.name, "size": zone.size}
            if zone.size:
                entry |= {
                    "start_mapnr": zone.zone_start_mapnr,
                    "start_paddr": zone.zone_start_paddr,
                    "pages_min": zone.pages_min,
                    "pages_low": zone.pages_low,
                    "pages_high": zone.pages_high,
                    "free_pages": zone.free_pages,
                    "need_balance": zone.need_balance,
                    "wait_table_size": zone.wait_table_size,
                    "wait_table_shift": zone.wait_table_shift,
                    "wait_table_pa": zone.wait_table_pa,
                    "map_bytes": [len(a.map) // 8 for a in zone.free_area[:9]],
                    "map_pa": [a.map_pa for a in zone.free_area[:9]],
                }
            zones.append(entry)
        return {
            "node_size": pgdat.node_size,
            "nr_zones": pgdat.nr_zones,
            "zones": zones,
            "zonelists": zonelists(machine),
            "mem_map_pa": pgdat.node_mem_map_pa,
            "sizeof_page": machine.config.sizeof_page,
            "sizeof_wait_queue_head": SIZEOF_WAIT_QUEUE_HEAD,
        }
