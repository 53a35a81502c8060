"""The boot line of process traces: the machine it describes, and everything the line tells about the boot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import TraceError
from ...hw.layout import PAGE_SHIFT, PAGE_SIZE
from ...machine import Machine
from ...mm.page_flags import PG_reserved

if TYPE_CHECKING:
    from ...mm.mmzone import Zone
    from .process_state import StateDump

Line = dict[str, Any]

_LARGE = 0x80  # _PAGE_PSE: the entry maps memory itself
_BOOTMEM_STAGES = ("setup_memory", "paging_init", "register_memory")
_BUDDY_STAGES = {  # stage: what the traces call it, in their order
    "kmem_cache_sizes_init": "kmem_cache_sizes_init",
    "pgtable_cache_init": "pgtable_cache_init",
    "proc_caches_init": "proc_caches_init",
    "buffer_init": "buffer_head_cache",
    "page_cache_init": "page_cache_init",
    "init_emergency_pool": "init_emergency_pool",
}


class Build:
    """How the kernel of a trace was built, from its header."""

    def __init__(self, header: Line) -> None:
        config = header.get("config", "")
        self.whole = "config" in header  # everything in RAM, three zones
        self.highmem = "CONFIG_HIGHMEM" in config
        self.pae = "CONFIG_X86_PAE" in config
        self.sizeof_page = 48 if "sizeof(struct page) 48" in config else 44
        if self.whole:
            self.kernel_objects = "ram"
        else:
            self.kernel_objects = "vm-only" if "slab" in header else "outside"


def make_machine(build: Build, mib: int, kernel_end_kib: int, io_mode: int, highmem_mib: int = -1) -> Machine:
    """A machine that is off. Raises TraceError for one that cannot exist."""
    if not 1 < mib <= 1 << 16 or io_mode not in (0, 1):
        raise TraceError(f"no machine has {mib} MiB and I/O mode {io_mode}")
    try:
        return Machine(
            e820=[[0, 0x9F000, 1], [1 << 20, mib - 1 << 20, 1]],
            kernel_end=kernel_end_kib << 10,
            highmem_pages=-1 if highmem_mib < 0 else highmem_mib << 20 >> PAGE_SHIFT,
            highmem=build.highmem,
            pae=build.pae,
            sizeof_page=build.sizeof_page,
            kernel_objects=build.kernel_objects,
            io_mode=io_mode,
            vfs=False,
        )
    except ValueError as error:
        raise TraceError(str(error)) from None


class BootLine:
    """Switches the machine on and notes what the line tells about the stages."""

    def __init__(self, build: Build, machine: Machine) -> None:
        self.build = build
        self.machine = machine
        self.notes: Line = {}
        for stage in machine._stages_left():
            machine.boot_step(stage)
            if build.whole and stage in _BOOTMEM_STAGES:
                bdata = machine.pgdats[0].bdata
                self.notes[f"bootmem_free_after_{stage}"] = [[a, b - 1] for a, b in bdata.ranges()]
                self.notes[f"bootmem_last_after_{stage}"] = [bdata.last_pos, bdata.last_offset]

    def fields(self, dump: StateDump) -> Line:
        """Everything but the operation itself."""
        machine = self.machine
        got: Line = {}
        if self.build.whole:
            got |= {
                "max_low_pfn": machine.max_low_pfn,
                "highstart_pfn": machine.highstart_pfn if self.build.highmem else 0,
                "highend_pfn": machine.highend_pfn if self.build.highmem else 0,
                "bootmem_bitmap": self._consumer("bootmem bitmap"),
                **self.notes,
                "consumers": self._consumers(),
                **dump.slab(full=True),
                "caches": self._caches(),
                "slab_break_gfp_order": machine.slab.state.slab_break_gfp_order,
                "offslab_limit": machine.slab.state.offslab_limit,
            }
        return got | {
            "reserved": self._reserved(),
            "mem_map_pfn": (machine.pgdats[0].node_mem_map_pa or 0) >> PAGE_SHIFT,
            "sizeof_struct_page": machine.config.sizeof_page,
            "zero_page_pfn": machine.empty_zero_page,
            "page_hash_bits": machine.filemap.page_hash_bits,
            "page_hash_pfn": machine.filemap.page_hash_pfn,
            "page_cluster": machine.swap.page_cluster,
            "zones": [self._zone(zone) for zone in dump.zones],
            "buddy": dump.buddy(),
            "c": dump.counters(),
        }

    @staticmethod
    def _zone(zone: Zone) -> Line:
        if not zone.size:
            return {"start_pfn": 0, "size": 0, "free": 0, "min": 0, "low": 0, "high": 0}
        return {
            "start_pfn": zone.start_pfn,
            "size": zone.size,
            "free": zone.free_pages,
            "min": zone.pages_min,
            "low": zone.pages_low,
            "high": zone.pages_high,
        }

    def _reserved(self) -> list[list[int]]:
        bit = 1 << PG_reserved
        flags = self.machine.mem.flags
        return _runs([pfn for pfn, word in enumerate(flags) if word & bit])

    def _consumer(self, name: str) -> Line:
        for entry in self.machine.boot_log:
            if entry.name == name:
                return {"pa": entry.start_pa, "size": entry.size}
        raise LookupError(name)

    def _consumers(self) -> list[Line]:
        machine = self.machine
        got: list[Line] = [{"name": "kernel_image", "via": "bootmem", **self._consumer("kernel image")}]
        pgd = machine.pgtable.init_mm.pgd
        entries, first, what = list(pgd.table), 0, "page_table_pgd"
        if self.build.pae:
            pa = entries[3] & -PAGE_SIZE
            got.append({"name": "kernel_pmd_page", "via": "bootmem", "pa": pa, "size": PAGE_SIZE})
            entries, first, what = list(machine.pgtable.table_at(pa >> PAGE_SHIFT)), 3 << 9, "page_table_pmd"
        for i, entry in enumerate(entries):
            if entry and not entry & _LARGE:
                got.append({"name": f"{what}{first + i}", "via": "bootmem", "pa": entry & -PAGE_SIZE, "size": PAGE_SIZE})
        size = self._consumer("mem_map")["size"]
        got.append({"name": "mem_map", "via": "bootmem", "pa": machine.pgdats[0].node_mem_map_pa, "size": size})
        for zone in machine.zones:
            number = zone.zone_num
            wait = {"name": f"wait_table_zone{number}", "via": "bootmem", **self._consumer(f"wait table {zone.name}")}
            got.append(wait)
            for order in range(9):
                bitmap = self._consumer(f"buddy bitmap {zone.name} order {order}")
                got.append({"name": f"buddy_bitmap_zone{number}_order{order}", "via": "bootmem", **bitmap})
        for stage, name in _BUDDY_STAGES.items():
            absent = {"pgtable_cache_init": not self.build.pae, "buffer_init": not self.build.highmem}
            if absent.get(stage) or (stage == "init_emergency_pool" and not machine.totalhigh_pages):
                continue
            frames: list[int] = []
            for entry in machine.boot_log:
                if entry.stage == stage:
                    frames += range(entry.start_pa >> PAGE_SHIFT, entry.start_pa + entry.size >> PAGE_SHIFT)
            got.append({"name": name, "via": "buddy", "frames": _runs(sorted(frames))})
        return got

    def _caches(self) -> list[Line]:
        return [
            {
                "name": cache.name,
                "objsize": cache.objsize,
                "num": cache.num,
                "gfporder": cache.gfporder,
                "colour": cache.colour,
                "colour_off": cache.colour_off,
                "colour_next": cache.colour_next,
                "off_slab": int(cache.off_slab),
                "slabp_cache": None if cache.slabp_cache is None else cache.slabp_cache.name,
            }
            for cache in self.machine.slab.state.cache_chain
        ]


def _runs(frames: list[int]) -> list[list[int]]:
    """Ascending frames as inclusive ranges."""
    runs: list[list[int]] = []
    for pfn in frames:
        if runs and runs[-1][1] == pfn - 1:
            runs[-1][1] = pfn
        else:
            runs.append([pfn, pfn])
    return runs
