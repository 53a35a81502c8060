"""The stages of 2.6's boot, in the kernel's order. kernel: init/main.c:start_kernel, do_initcalls"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, cast

from ..mm import init
from ..mm.lists import NIL
from ..mm.page_flags import RESERVED
from .page_init import ZoneSetup26, free_high_pages

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.startup import Startup

_MEMORY = ("setup_memory_region", "setup_memory", "paging_init", "register_memory", "mem_init")
BARE = ("setup_memory_region", "setup_memory", "zone_sizes_init", "mem_init", "init_per_zone_pages_min")
_CACHES = (
    "kmem_cache_init",
    "kmem_cache_sizes_init",
    "pgtable_cache_init",
    "prio_tree_init",
    "anon_vma_init",
    "fork_init",
    "proc_caches_init",
)
_REST = ("radix_tree_init", "page_cache_init", "page_writeback_init", "init_per_zone_pages_min", "swap_setup", "kswapd_init", "shmem_init")
STAGES26: dict[str | None, tuple[str, ...]] = {
    None: (*_MEMORY, "init_per_zone_pages_min"),
    "ram": (*_MEMORY, *_CACHES, "buffer_init", *_REST, "init_emergency_pool"),
    "vm-only": (*_MEMORY[:3], "mem_init", *_CACHES, *_REST),
    "outside": (*_MEMORY[:3], "mem_init", *_CACHES, *_REST),
}
# Stages that a part may have: (part, method of that name).
_OF_PARTS = {
    "prio_tree_init": "mmap",
    "anon_vma_init": "memory",
    "radix_tree_init": "filemap",
    "page_writeback_init": "page_writeback",
    "kswapd_init": "reclaim",
    "shmem_init": "shmem",
}
NODE_STAGES = ("boot_nodes", "init_per_zone_pages_min")
READY26 = frozenset(("mem_init", "boot_nodes", "init_per_zone_pages_min", *_CACHES, "buffer_init", *_REST, "init_emergency_pool"))


def mem_init(kernel: Kernel) -> None:
    """In 2.6 high memory is freed from the bottom up, because blocks are now split from below; before that from the top down.

    Retire the boot allocator into the buddy lists, then free high memory.
    kernel: arch/i386/mm/init.c:mem_init
    """
    kernel.num_physpages = kernel.highend_pfn if kernel.config.highmem else kernel.max_low_pfn
    kernel.totalram_pages += kernel.bootmem.free_all_bootmem_core(kernel.pgdats[0])
    flags = kernel.mem.flags
    kernel.reservedpages = sum(
        1 for start, end in init.ram_frames(kernel, 0, kernel.max_low_pfn) for word in flags[start:end] if word & RESERVED
    )
    for start, end in init.ram_frames(kernel, kernel.highstart_pfn, kernel.highend_pfn):
        kernel.totalhigh_pages += free_high_pages(kernel, start, end)
    kernel.totalram_pages += kernel.totalhigh_pages
    if kernel.config.kernel_objects is not None:
        kernel.mmu.flush_tlb_all()


def boot_nodes(kernel: Kernel) -> None:
    """In 2.6 all nodes stand before any hands its memory over, because zonelists run through them all; before that the lists were apart.

    kernel: arch/i386/mm/discontig.c:zone_sizes_init, set_highmem_pages_init
    """
    for nid in kernel.config.node_init_order:
        cast("Startup", kernel).init_node(nid)
    kernel.pgdat_list.sort(key=lambda pgdat: pgdat.nid)
    cast(ZoneSetup26, kernel.zone_setup).build_all_zonelists()
    for pgdat in kernel.pgdat_list:
        kernel.totalram_pages += kernel.bootmem.free_all_bootmem_core(pgdat)
    for pgdat in kernel.pgdat_list:
        high = pgdat.node_zones[2]
        kernel.totalhigh_pages += free_high_pages(kernel, high.start_pfn, high.end_pfn)
    kernel.totalram_pages += kernel.totalhigh_pages


def page_cache_init(kernel: Kernel) -> None:
    """In 2.6 the page cache takes no memory at boot, because each file has a radix tree of its pages; before that one hash served all.

    The model finds its pages by a table still, which lies outside the machine.
    """
    filemap = kernel.filemap
    if not getattr(filemap, "radix_tree_init", None):
        filemap.page_hash_bits = 12
        filemap.page_hash_table = array("I", [NIL]) * (1 << filemap.page_hash_bits)
    kernel.swap_state.init()


def run_stage(kernel: Kernel, stage: str) -> bool:
    """Do *stage* if it is one that 2.6 has, or does differently. Returns whether it was."""
    if stage == "mem_init":
        mem_init(kernel)
    elif stage == "boot_nodes":
        boot_nodes(kernel)
    elif stage == "zone_sizes_init":
        init.zone_sizes_init(kernel)
    elif stage == "init_per_zone_pages_min":
        cast(ZoneSetup26, kernel.zone_setup).init_per_zone_pages_min()
    elif stage == "page_cache_init":
        page_cache_init(kernel)
    elif stage in _OF_PARTS:
        method = getattr(getattr(kernel, _OF_PARTS[stage]), stage, None)
        if method is not None:
            method()
    else:
        return False
    return True
