"""Events of vmalloc space."""

from __future__ import annotations

from .events_base import spec

_VM = "mm/vmalloc.c:"

SPECS = [
    spec("vm_area", _VM + "get_vm_area", "addr size", "{size} bytes of addresses from {addr:#x} on are reserved, the last page as a guard"),
    spec("vmalloc_page", _VM + "alloc_area_pte", "addr pfn", "frame {pfn} is mapped at {addr:#x}"),
    spec("vfree", _VM + "vfree", "addr size", "the area of {size} bytes at {addr:#x} is freed"),
]
