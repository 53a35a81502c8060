"""The parts beyond the page allocator, in the order they are attached and saved.

Each is one kernel file: ``machine.<name>`` is an object of the class, and ``boot(parts={"name": YourClass})``
puts yours in its place.
"""

from __future__ import annotations

import importlib
from typing import Any

_KERNEL = {
    "page_allocator": ("page_alloc", "PageAllocator"),  # these three and vmscan have arguments of their own
    "bootmem": ("bootmem", "BootmemAllocator"),
    "zone_setup": ("page_init", "ZoneSetup"),
    "sched": ("sched", "Sched"),
    "pgtable": ("pgtable", "PageTables"),
    "mmu": ("mmu", "Mmu"),
    "slab": ("slab", "SlabAllocator"),
    "vmalloc_space": ("vmalloc", "VmallocSpace"),
    "highmem": ("highmem", "Highmem"),
    "block": ("block", "BlockLayer"),
    "swap": ("swap", "LruCache"),
    "filemap": ("filemap", "Filemap"),
    "dcache": ("dcache", "Dcache"),
    "icache": ("icache", "Icache"),
    "file_table": ("file_table", "FileTable"),
    "diskfs": ("diskfs", "DiskFs"),
    "swap_state": ("swap_state", "SwapState"),
    "page_io": ("page_io", "PageIo"),
    "swapfile": ("swapfile", "SwapFile"),
    "shmem": ("shmem", "Shmem"),
    "ipc_shm": ("ipc_shm", "IpcShm"),
    "memory": ("memory", "Memory"),
    "fault": ("fault", "Fault"),
    "mmap": ("mmap", "Mmap"),
    "mprotect": ("mprotect", "Mprotect"),
    "mremap": ("mremap", "Mremap"),
    "mlock": ("mlock", "Mlock"),
    "fork": ("fork", "Fork"),
    "oom_kill": ("oom_kill", "OomKill"),
    "reclaim": ("reclaim", "Reclaim"),  # the same slot, of a machine without processes
    "scripted": ("reclaim", "ScriptedReclaim"),
    "vmscan": ("vmscan", "Vmscan"),  # in the machine's ``reclaim`` slot
}

PARTS = tuple(name for name in _KERNEL if name not in ("vmscan", "reclaim", "scripted", "page_allocator", "bootmem", "zone_setup"))


def part_names(kernel: str = "2.4") -> tuple[str, ...]:
    """Names of the parts beyond the page allocator, in the order they are attached; 2.6 has some that 2.4 has not."""
    if kernel != "2.6":
        return PARTS
    names: dict[str, tuple[str, str]] = importlib.import_module("vmlab.v26.parts").PARTS26
    return (*PARTS, *(name for name in names if name not in _KERNEL))


def part_class(name: str, kernel: str = "2.4") -> type[Any]:
    """The class of the part called *name* in Linux 2.4 or "2.6"; where 2.6 changed nothing it is 2.4's."""
    if kernel == "2.6" or name not in _KERNEL:
        changed: dict[str, tuple[str, str]] = importlib.import_module("vmlab.v26.parts").PARTS26
        if name in changed:
            module, cls = changed[name]
            found: type[Any] = getattr(importlib.import_module(f"vmlab.v26.{module}"), cls)
            return found
    module, cls = _KERNEL[name]
    found = getattr(importlib.import_module(f".{module}", __package__), cls)
    return found
