"""The whole state of a kernel as plain data: to copy it, to go back to it, to save it.

``capture`` gives columns as bytes and everything else as JSON-able values; ``restore`` puts it
back *in place*, so that views and parts that hold a column or a zone keep holding the right one.
"""

from __future__ import annotations

import copy
from array import array
from typing import Any, NamedTuple

from .kernel import BootConsumer, Kernel
from .lists import ListColumns
from .mmzone import PgData, Zone
from .objects import capture_objects, restore_objects
from .page import MemMap

COLUMNS = ("flags", "count", "index", "block", "owner")
_ZONE = (
    "size",
    "realsize",
    "start_pfn",
    "end_pfn",
    "zone_start_mapnr",
    "free_pages",
    "pages_min",
    "pages_low",
    "pages_high",
    "need_balance",
    "wait_table_size",
    "wait_table_shift",
    "wait_table_pa",
)
_NODE = ("node_id", "nr_zones", "node_size", "node_start_pfn", "node_mem_map_pa", "node_start_mapnr", "valid_addr_bitmap_pa")
_BDATA = ("node_boot_start", "node_low_pfn", "map_pa", "last_offset", "last_pos")
_GLOBAL = (
    "boot_stage",
    "max_pfn",
    "max_low_pfn",
    "min_low_pfn",
    "highstart_pfn",
    "highend_pfn",
    "totalram_pages",
    "totalhigh_pages",
    "num_physpages",
    "reservedpages",
    "numa_node_id",
    "zone_balance_ratio",
)
_TASK = ("pid", "comm", "flags", "local_pages", "nr_local_pages", "allocation_order")


class State(NamedTuple):
    """``blobs``: name → bytes (columns, free lists, bitmaps); ``plain``: everything else, JSON-able."""

    blobs: dict[str, bytes]
    plain: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes held by the blobs."""
        return sum(len(b) for b in self.blobs.values())


def capture(kernel: Kernel, *, columns: bool = True) -> State:
    """Everything that decides what *kernel* does next; without the page columns if so asked."""
    blobs: dict[str, bytes] = {}
    if columns:
        for name in COLUMNS:
            blobs[name] = bytes(memoryview(getattr(kernel.mem, name)).cast("B"))
        blobs.update(extra_columns(kernel.mem))
    for pfn, contents in kernel.ram.contents.items():
        blobs[f"frame{pfn}" if contents.itemsize == 4 else f"table{pfn}"] = contents.tobytes()
    whole = kernel.config.kernel_objects is not None
    if whole:
        blobs["objects"] = capture_objects(kernel)
        for number, disk in kernel.block.disks.items():
            blobs.update((f"disk{number}.{n}", page) for n, page in disk.pages.items())
    nodes = []
    for pgdat in kernel.pgdats:
        zones = []
        for zone in pgdat.node_zones:
            zones.append([getattr(zone, name) for name in _ZONE] + [[area.map_pa for area in zone.free_area]])
            if not zone.size:
                continue
            for order, area in enumerate(zone.free_area):
                blobs[f"list{zone.index}.{order}"] = array("I", area.free_list).tobytes()
                blobs[f"map{zone.index}.{order}"] = bytes(area.map)
        bdata = pgdat.bdata
        if bdata.map is not None:
            blobs[f"bootmem{pgdat.nid}"] = bytes(bdata.map)
        nodes.append(
            {
                "id": pgdat.nid,
                "zones": zones,
                "fields": [getattr(pgdat, name) for name in _NODE],
                "bdata": [getattr(bdata, name) for name in _BDATA],
                "zonelists": [[z.index for z in zonelist] for zonelist in pgdat.node_zonelists],
            }
        )
    plain = {
        "frames": kernel.mem.frames,
        "nodes": nodes,
        "pgdat_list": [p.nid for p in kernel.pgdat_list],
        "ready_nodes": [p.nid for p in kernel.ready_nodes],
        "next_pgdat": kernel.next_pgdat.nid if kernel.next_pgdat else None,
        "zone_table": list(kernel.zone_table),
        "global": [copy.copy(getattr(kernel, name)) for name in _GLOBAL],
        "task": [copy.copy(getattr(kernel.current, name)) for name in _TASK] if not whole else [],
        "stat": [getattr(kernel.stat, name) for name in kernel.stat.__slots__],
        "owners": list(kernel.owners),
        "boot_log": [list(c) for c in kernel.boot_log],
        "e820": [list(e) for e in kernel.e820],
        "fixtures": {} if whole else _fixtures(kernel),
        "parts": [{name: copy.deepcopy(getattr(part, name)) for name in part.state_names} for part in kernel.parts() if not whole],
    }
    return State(blobs, plain)


def restore(kernel: Kernel, state: State) -> None:
    """Put *kernel* back into *state*; its listener stays.

    Raises ValueError when the state is of a machine with another number of frames.
    """
    blobs, plain = state
    mem = kernel.mem
    if mem.frames != plain["frames"]:
        raise ValueError(f"that state is of a machine with {plain['frames']} frames; this one has {mem.frames}")
    for name in COLUMNS:
        if name in blobs:
            memoryview(getattr(mem, name)).cast("B")[:] = blobs[name]  # in place, whatever the item size
    _restore_extra_columns(mem, blobs)
    kernel.ram.contents.clear()
    kernel.ram.contents.update((int(name[5:]), array("I", blob)) for name, blob in blobs.items() if name.startswith("frame"))
    kernel.ram.contents.update((int(name[5:]), array("Q", blob)) for name, blob in blobs.items() if name.startswith("table"))
    by_id = {p.nid: p for p in kernel.pgdats}
    kernel.pgdats[:] = [by_id.get(node["id"]) or kernel.pgdat_class(node["id"]) for node in plain["nodes"]]
    zones = {z.index: z for p in kernel.pgdats for z in p.node_zones}
    for pgdat, node in zip(kernel.pgdats, plain["nodes"], strict=True):
        _set(pgdat, _NODE, node["fields"])
        for zone, fields in zip(pgdat.node_zones, node["zones"], strict=True):
            _set(zone, _ZONE, fields)
            for order, area in enumerate(zone.free_area):
                area.map_pa = fields[-1][order]
                area.free_list.clear()
                area.free_list.update(dict.fromkeys(array("I", blobs.get(f"list{zone.index}.{order}", b""))))
                area.map[:] = blobs.get(f"map{zone.index}.{order}", b"")
        _set(pgdat.bdata, _BDATA, node["bdata"])
        saved = blobs.get(f"bootmem{pgdat.nid}")
        pgdat.bdata.map = None if saved is None else bytearray(saved)
        pgdat.node_zonelists = [[zones[i] for i in zonelist] for zonelist in node["zonelists"]]
    nodes = {p.nid: p for p in kernel.pgdats}
    kernel.pgdat_list[:] = [nodes[i] for i in plain["pgdat_list"]]
    kernel.ready_nodes[:] = [nodes[i] for i in plain["ready_nodes"]]
    kernel.next_pgdat = None if plain["next_pgdat"] is None else nodes[plain["next_pgdat"]]
    kernel.zone_table.clear()
    kernel.zone_table.update((i, zones[i]) for i in plain["zone_table"])
    _set(kernel, _GLOBAL, [copy.copy(v) for v in plain["global"]])
    if plain["task"]:
        _set(kernel.current, _TASK, [copy.copy(v) for v in plain["task"]])
    _set(kernel.stat, kernel.stat.__slots__, plain["stat"])
    kernel.owners[:] = plain["owners"]
    kernel.boot_log[:] = [BootConsumer(*c) for c in plain["boot_log"]]
    kernel.e820[:] = [type_e820(e) for e in plain["e820"]]
    if "objects" in blobs:
        restore_objects(kernel, blobs["objects"])
        for name, page in blobs.items():
            if name.startswith("disk"):
                number, _, n = name[4:].partition(".")
                kernel.block.disks[int(number)].pages[int(n)] = page
        return
    places = _places(kernel)
    for name, attributes in plain.get("fixtures", {}).items():
        for key, value in attributes.items():
            setattr(places[name], key, copy.deepcopy(value))
    for part, saved_part in zip(kernel.parts(), plain["parts"], strict=True):
        for name, value in saved_part.items():
            setattr(part, name, copy.deepcopy(value))


def _places(kernel: Kernel) -> dict[str, PgData | Zone]:
    """Nodes and zones by name."""
    found: dict[str, PgData | Zone] = {f"node{p.nid}": p for p in kernel.pgdats}
    found.update((f"zone{z.index}", z) for p in kernel.pgdats for z in p.node_zones)
    return found


def _fixtures(kernel: Kernel) -> dict[str, dict[str, Any]]:
    """What another kernel's nodes and zones have beyond 2.4's: JSON-able values."""
    return {
        name: {key: copy.deepcopy(getattr(place, key)) for key in place.more_state}
        for name, place in _places(kernel).items()
        if place.more_state
    }


def extra_columns(mem: MemMap) -> dict[str, bytes]:
    """The columns that only a whole machine has, where they exist."""
    blobs = {}
    for name, extra in mem._extra.items():
        blobs[f"column.{extra.typecode}.{name}"] = extra.tobytes()
    for name in ("_mapping", "_next_hash"):
        column = getattr(mem, name)
        if column is not None:
            blobs[name] = column.tobytes()
    for name in ("_list", "_lru"):
        links: ListColumns | None = getattr(mem, name)
        if links is not None:
            blobs[f"{name}.next"] = links.next.tobytes()
            blobs[f"{name}.prev"] = links.prev.tobytes()
            blobs[f"{name}.free"] = array("I", links.free_heads).tobytes()
    return blobs


def _restore_extra_columns(mem: MemMap, blobs: dict[str, bytes]) -> None:
    """Put those columns back in place: parts hold on to the arrays."""
    for key, blob in blobs.items():
        if key.startswith("column."):
            _, typecode, name = key.split(".", 2)
            mem.column(name, typecode)[:] = array(typecode, blob)
    for name, column in (("_mapping", "mapping"), ("_next_hash", "next_hash")):
        if name in blobs:
            getattr(mem, column)[:] = array("I", blobs[name])
    for name, links in (("_list", "list"), ("_lru", "lru")):
        if f"{name}.next" in blobs:
            columns: ListColumns = getattr(mem, links)
            columns.next[:] = array("I", blobs[f"{name}.next"])
            columns.prev[:] = array("I", blobs[f"{name}.prev"])
            columns.free_heads[:] = array("I", blobs[f"{name}.free"])


def type_e820(fields: list[int]) -> Any:
    """An E820Entry from its three numbers."""
    from ..hw.e820 import E820Entry

    return E820Entry(*fields)


def _set(target: Any, names: tuple[str, ...], values: list[Any]) -> None:
    for name, value in zip(names, values, strict=False):
        setattr(target, name, value)
