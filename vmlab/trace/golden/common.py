"""What every replay needs: dumps and checksums in the traces' own form."""

from __future__ import annotations

import json
import zlib
from typing import Any

from ...errors import KernelBug, TraceError
from ...hw.e820 import pc_map
from ...machine import Machine
from ...mm.mmzone import MAX_ORDER, Zone

# Where the traces' copy of the kernel has each BUG() that the model can reach.
_SITES = {
    ("reserve_bootmem_core", "size"): "bootmem.c:86",
    ("reserve_bootmem_core", "inverted"): "bootmem.c:93",
    ("reserve_bootmem_core", "start"): "bootmem.c:95",
    ("reserve_bootmem_core", "end"): "bootmem.c:97",
    ("free_bootmem_core", "size"): "bootmem.c:115",
    ("free_bootmem_core", "end"): "bootmem.c:117",
    ("free_bootmem_core", "free"): "bootmem.c:127",
    ("__alloc_bootmem_core", "size"): "bootmem.c:154",
    ("__alloc_bootmem_core", "align"): "bootmem.c:157",
    ("__alloc_bootmem_core", "taken"): "bootmem.c:240",
    ("free_all_bootmem_core", "retired"): "bootmem.c:252",
    ("__free_pages_ok", "locked"): "page_alloc.c:106",
    ("__free_pages_ok", "active"): "page_alloc.c:108",
    ("__free_pages_ok", "aligned"): "page_alloc.c:121",
    ("__free_pages_ok", "order"): "page_alloc.c:134",
    ("rmqueue", "range"): "page_alloc.c:217",
    ("__free_pages_bulk", "aligned"): "page_alloc.c:248",  # from here on the lines of 2.6.11
    ("__free_pages_bulk", "range"): "page_alloc.c:249",
    ("prep_zero_page", "zero"): "page_alloc.c:606",
    ("buffered_rmqueue", "range"): "page_alloc.c:647",
    ("build_zonelists", "highmem"): "page_alloc.c:617",
    ("virt_to_page", "node"): "nk.c:22",
}


def bug_site(bug: KernelBug) -> str:
    """file:line of a BUG() as the traces name it."""
    return _SITES.get((bug.function, bug.kind), f"{bug.function}: {bug.why}")


def integer(line: dict[str, Any], name: str) -> int:
    """An operand that must be a whole number. Raises TraceError otherwise."""
    value = line.get(name)
    if type(value) is not int:
        raise TraceError(f"operand {name!r} must be a whole number, not {json.dumps(value)}")
    return value


def block_order(order: int) -> int:
    """An order, which is what the kernel shifts a 32-bit word by. Raises TraceError when it cannot be."""
    if type(order) is not int or not 0 <= order < 32:
        raise TraceError(f"an order is a whole number from 0 to 31, not {json.dumps(order)}")
    return order


def free_pages(machine: Machine) -> list[int]:
    """free_pages of the first node's three zones."""
    return [zone.free_pages for zone in machine.pgdats[0].node_zones]


def need_balance(machine: Machine) -> list[int]:
    """need_balance of the first node's three zones."""
    return [zone.need_balance for zone in machine.pgdats[0].node_zones]


def lists_text(zone: Zone, prefix: str) -> str:
    """The free lists of a zone as the checksums see them."""
    return "".join(f"{prefix}o{order}:{','.join(map(str, reversed(zone.free_area[order].free_list)))}\n" for order in range(MAX_ORDER))


def snap(machine: Machine, recorded: dict[str, Any]) -> dict[str, Any]:
    """Free lists of all zones with pages, with checksums; block lists where the trace has them."""
    zones = []
    with_lists = [isinstance(z, dict) and "lists" in z for z in recorded.get("zones") or []]
    text, maps = "", b""
    for i, zone in enumerate(machine.zones):
        entry: dict[str, Any] = {"zone": zone.zone_num, "free": zone.free_pages, "nr": zone.nr_free()}
        if i < len(with_lists) and with_lists[i]:
            entry["lists"] = [area.blocks() for area in zone.free_area]
        zones.append(entry)
        text += lists_text(zone, f"z{zone.zone_num}")
        maps += b"".join(area.packed_map() for area in zone.free_area)
    return {"zones": zones, "crc": f"{zlib.crc32(text.encode()):08x}", "map_crc": f"{zlib.crc32(maps):08x}"}


def counts(machine: Machine) -> dict[str, int]:
    """The three global page counts."""
    return {
        "nr_free_pages": machine.nr_free_pages(),
        "nr_free_buffer_pages": machine.nr_free_buffer_pages(),
        "nr_free_highpages": machine.nr_free_highpages(),
    }


def zonelists(machine: Machine) -> list[list[int]]:
    """The 16 fallback orders as zone numbers."""
    return [[z.zone_num for z in zonelist] for zonelist in machine.pgdats[0].node_zonelists]


def regular_mib(e820: list[list[int]]) -> int | None:
    """MiB of RAM if the map is the regular PC one, else None."""
    mib = (e820[-1][0] + e820[-1][1]) >> 20
    try:
        return mib if [list(e) for e in pc_map(mib << 20)] == e820 else None
    except ValueError:
        return None
