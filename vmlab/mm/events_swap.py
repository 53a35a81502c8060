"""Events of swap: areas, slots, the swap cache, and its reads and writes."""

from __future__ import annotations

from .events_base import spec

_SF, _SS = "mm/swapfile.c:", "mm/swap_state.c:"

SPECS = [
    spec("swap_cluster", _SF + "scan_swap_map", "area slot", "area {area}: the next 256 slots come from an empty stretch at {slot}"),
    spec("swap_alloc", _SF + "get_swap_page", "area slot left", "slot {slot} of area {area} is taken; {left} slots are left"),
    spec("swap_dup", _SF + "swap_duplicate", "area slot count", "slot {slot} of area {area} has one user more: {count}"),
    spec("swap_free", _SF + "swap_entry_free", "area slot count", "slot {slot} of area {area} has one user less: {count}"),
    spec("swap_cache_add", _SS + "add_to_swap_cache", "pfn entry", "frame {pfn} enters the swap cache as {entry:#x}"),
    spec("swap_cache_del", _SS + "__delete_from_swap_cache", "pfn entry", "frame {pfn} leaves the swap cache; it was {entry:#x}"),
    spec("swap_cache_find", _SS + "lookup_swap_cache", "entry pfn", "swap entry {entry:#x} in the swap cache: {pfn}"),
    spec(
        "swap_io",
        "mm/page_io.c:rw_swap_page_base",
        "rw pfn entry disk block",
        "{rw} frame {pfn} ({entry:#x}): page {block} of disk {disk}",
    ),
    spec(
        "swapon",
        _SF + "sys_swapon",
        "area prio pages error",
        "swap area {area}, priority {prio}, {pages} pages: swapon returns {error_name}",
    ),
    spec("unuse_pte", _SF + "unuse_pte", "pid entry pfn", "process {pid} gets frame {pfn} back for swap entry {entry:#x}"),
    spec("swapoff", _SF + "sys_swapoff", "area error", "swap area {area}: swapoff returns {error_name}"),
]
