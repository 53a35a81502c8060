"""i386 memory initialisation: kernel page tables, zones, and handing memory over. kernel: arch/i386/mm/init.c"""

from __future__ import annotations

from ..hw.e820 import E820_RAM
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE, pfn_down, pfn_up
from .kernel import BootConsumer, Kernel
from .page_flags import RESERVED
from .page_init import free_boot_pages

FIXADDR_TOP = 0xFFFFE000
FIXED_ADDRESSES = 8  # the atomic kmap slots of one CPU; the last one sets where the fixmap begins
PKMAP_BASE = 0xFE000000
LAST_PKMAP = 1024
LAST_PKMAP_PAE = 512


def _page_table(kernel: Kernel, what: str) -> int:
    """One zeroed page for a page table, from boot memory."""
    pa = kernel.bootmem.alloc_bootmem(PAGE_SIZE, PAGE_SIZE)
    kernel.boot_log.append(BootConsumer(what, pa, PAGE_SIZE, "paging_init"))
    return pa


def pagetable_init(kernel: Kernel) -> None:
    """Allocate what the kernel's page tables need (their contents are chapter 3's).

    With 4 MiB pages (PSE) the direct map needs no page tables, only PAE's middle directories.
    kernel: arch/i386/mm/init.c:pagetable_init, fixrange_init
    """
    config = kernel.config
    pmd_size = 2 << 20 if config.pae else 4 << 20
    end = PAGE_OFFSET + (kernel.max_low_pfn << PAGE_SHIFT)
    have_pmd: set[int] = set()
    for pgd_base in range(PAGE_OFFSET, min(end, 1 << 32), 1 << 30) if config.pae else ():
        _page_table(kernel, "kernel pmd")
        have_pmd.add(pgd_base >> 30)
    if not config.pse:
        for _ in range(PAGE_OFFSET, end, pmd_size):
            _page_table(kernel, "kernel page table")
    have_pte: set[int] = set()

    def fixrange_init(start: int, stop: int, what: str) -> None:
        vaddr = start
        while vaddr < stop:
            if config.pae and vaddr >> 30 not in have_pmd:
                _page_table(kernel, "kernel pmd")
                have_pmd.add(vaddr >> 30)
            if vaddr // pmd_size not in have_pte:
                _page_table(kernel, what)
                have_pte.add(vaddr // pmd_size)
            vaddr += pmd_size

    fixmap = (FIXADDR_TOP - (FIXED_ADDRESSES - 1) * PAGE_SIZE) & ~(pmd_size - 1) & M32
    fixrange_init(fixmap, 1 << 32, "fixmap page table")
    if config.highmem:
        fixrange_init(PKMAP_BASE, PKMAP_BASE + PAGE_SIZE * (LAST_PKMAP_PAE if config.pae else LAST_PKMAP), "pkmap page table")


def paging_init(kernel: Kernel) -> None:
    """Kernel page tables, then zones. kernel: arch/i386/mm/init.c:paging_init, zone_sizes_init"""
    pagetable_init(kernel)
    sizes = kernel.zone_setup.zones_size(kernel.max_low_pfn, kernel.highend_pfn)
    if len(sizes) != 3 or any(not isinstance(s, int) or s < 0 for s in sizes):
        raise ValueError(f"zones_size must return three page counts [DMA, Normal, HighMem], not {sizes!r}")
    kernel.zone_setup.free_area_init_core(kernel.pgdats[0], list(sizes), 0, None)


def ram_frames(kernel: Kernel, start: int, end: int) -> list[tuple[int, int]]:
    """Parts of frames [start, end) that the map calls RAM, sorted and disjoint. kernel: arch/i386/mm/init.c:page_is_ram"""
    spans = sorted((max(pfn_up(e.addr), start), min(pfn_down(e.end), end)) for e in kernel.e820 if e.type == E820_RAM)
    merged: list[tuple[int, int]] = []
    for a, b in spans:
        if a >= b:
            continue
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def mem_init(kernel: Kernel) -> None:
    """Retire the boot allocator into the buddy lists, then free high memory from the top down.

    kernel: arch/i386/mm/init.c:mem_init, free_pages_init
    """
    kernel.num_physpages = kernel.highend_pfn if kernel.config.highmem else kernel.max_low_pfn
    kernel.totalram_pages += kernel.bootmem.free_all_bootmem_core(kernel.pgdats[0])
    flags = kernel.mem.flags
    kernel.reservedpages = sum(
        1 for start, end in ram_frames(kernel, 0, kernel.max_low_pfn) for word in flags[start:end] if word & RESERVED
    )
    for start, end in reversed(ram_frames(kernel, kernel.highstart_pfn, kernel.highend_pfn)):
        kernel.totalhigh_pages += free_boot_pages(kernel, start, end, descending=True, highmem=True)
    kernel.totalram_pages += kernel.totalhigh_pages
