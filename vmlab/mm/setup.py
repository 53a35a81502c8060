"""Finding memory: from the firmware's map to the boot allocator. kernel: arch/i386/kernel/setup.c"""

from __future__ import annotations

from ..hw.e820 import E820_RAM, E820MAX, E820Entry, copy_e820_map, sanitize_e820_map
from ..hw.layout import (
    HIGH_MEMORY,
    M32,
    MAX_NONPAE_PFN,
    MAXMEM_PFN,
    PAGE_SHIFT,
    PAGE_SIZE,
    SIZEOF_RESOURCE,
    SMP_CACHE_BYTES,
    pfn_down,
    pfn_up,
)
from .kernel import BootConsumer, Kernel


def setup_memory_region(kernel: Kernel) -> None:
    """Take over the firmware's map, cleaned of overlaps and of RAM in the BIOS hole.

    Raises ValueError when the map has fewer than two ranges: the kernel would fall back on other
    BIOS calls that this machine does not have. kernel: arch/i386/kernel/setup.c:setup_memory_region
    """
    bios = list(kernel.config.e820)
    if not kernel.config.sanitize_e820:
        kernel.e820 = bios[:E820MAX]
        return
    sanitized = sanitize_e820_map(bios)
    copied = copy_e820_map(bios if sanitized is None else sanitized)
    if copied is None:
        raise ValueError("an e820 map needs at least two ranges that do not wrap around; the kernel ignores anything less")
    kernel.e820 = copied


def find_max_pfn(e820: list[E820Entry]) -> int:
    """One past the last frame of RAM. kernel: arch/i386/kernel/setup.c:find_max_pfn"""
    max_pfn = 0
    for addr, size, kind in e820:
        if kind != E820_RAM:
            continue
        start, end = pfn_up(addr), pfn_down(addr + size)
        if start < end and end > max_pfn:
            max_pfn = end
    return max_pfn


def find_max_low_pfn(kernel: Kernel) -> int:
    """Where low memory ends: at most 896 MiB, less with highmem=. May lower ``max_pfn``.

    kernel: arch/i386/kernel/setup.c:find_max_low_pfn
    """
    config = kernel.config
    highmem_pages = config.highmem_pages
    if kernel.max_pfn > MAXMEM_PFN:
        if highmem_pages == -1:
            highmem_pages = kernel.max_pfn - MAXMEM_PFN
        if highmem_pages + MAXMEM_PFN < kernel.max_pfn:
            kernel.max_pfn = MAXMEM_PFN + highmem_pages
        if highmem_pages + MAXMEM_PFN > kernel.max_pfn:
            highmem_pages = 0
        if config.highmem and not config.pae and kernel.max_pfn > MAX_NONPAE_PFN:
            kernel.max_pfn = MAX_NONPAE_PFN
        return MAXMEM_PFN
    if highmem_pages == -1 or not config.highmem or highmem_pages >= kernel.max_pfn:
        highmem_pages = 0
    if highmem_pages and kernel.max_pfn - highmem_pages < 64 << 20 >> PAGE_SHIFT:
        highmem_pages = 0
    return kernel.max_pfn - highmem_pages


def register_bootmem_low_pages(kernel: Kernel) -> None:
    """Tell the boot allocator which low pages are RAM. kernel: arch/i386/kernel/setup.c:register_bootmem_low_pages"""
    for addr, size, kind in kernel.e820:
        if kind != E820_RAM:
            continue
        curr_pfn = pfn_up(addr)
        if curr_pfn >= kernel.max_low_pfn:
            continue
        last_pfn = min(pfn_down(addr + size), kernel.max_low_pfn)
        if last_pfn > curr_pfn:
            kernel.bootmem.free_bootmem_core(kernel.pgdats[0].bdata, curr_pfn << PAGE_SHIFT, last_pfn - curr_pfn << PAGE_SHIFT)


def setup_memory(kernel: Kernel) -> None:
    """Measure memory and start the boot allocator; reserve the kernel image, the bitmap and frame 0.

    kernel: arch/i386/kernel/setup.c:setup_memory
    """
    config = kernel.config
    bdata = kernel.pgdats[0].bdata
    start_pfn = pfn_up(config.kernel_end)
    kernel.max_pfn = find_max_pfn(kernel.e820)
    kernel.max_low_pfn = find_max_low_pfn(kernel)
    kernel.min_low_pfn = start_pfn
    kernel.highstart_pfn = kernel.highend_pfn = kernel.max_pfn
    if kernel.max_pfn > kernel.max_low_pfn:
        kernel.highstart_pfn = kernel.max_low_pfn
    if not config.highmem:
        kernel.highstart_pfn = kernel.highend_pfn = kernel.max_low_pfn
    bootmap_size = kernel.bootmem.init_bootmem_core(kernel.pgdats[0], start_pfn, 0, kernel.max_low_pfn)
    register_bootmem_low_pages(kernel)
    reserved = (start_pfn << PAGE_SHIFT) + bootmap_size + PAGE_SIZE - 1 - HIGH_MEMORY
    kernel.bootmem.reserve_bootmem_core(bdata, HIGH_MEMORY, reserved & M32)
    kernel.bootmem.reserve_bootmem_core(bdata, 0, PAGE_SIZE)
    log = kernel.boot_log
    log.append(BootConsumer("BIOS data page", 0, PAGE_SIZE, "setup_memory"))
    log.append(BootConsumer("kernel image", HIGH_MEMORY, (start_pfn << PAGE_SHIFT) - HIGH_MEMORY, "setup_memory"))
    log.append(BootConsumer("bootmem bitmap", start_pfn << PAGE_SHIFT, bootmap_size, "setup_memory"))


def register_memory(kernel: Kernel) -> None:
    """Make a struct resource for each range of the map below 4 GiB. kernel: arch/i386/kernel/setup.c:register_memory"""
    for entry in kernel.e820:
        if entry.end <= 1 << 32:
            pa = kernel.bootmem.alloc_bootmem(SIZEOF_RESOURCE, SMP_CACHE_BYTES)
            kernel.boot_log.append(BootConsumer("struct resource", pa, SIZEOF_RESOURCE, "register_memory"))
