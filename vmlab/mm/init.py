"""i386 memory initialisation: kernel page tables, zones, and handing memory over. kernel: arch/i386/mm/init.c"""

from __future__ import annotations

from array import array

from ..hw.e820 import E820_RAM
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE, pfn_down, pfn_up
from .kernel import EMPTY_ZERO_PAGE, BootConsumer, Kernel
from .page_flags import RESERVED
from .page_init import free_boot_pages
from .pgtable import _KERNPG_TABLE as KERNPG_TABLE
from .pgtable import _PAGE_GLOBAL as PAGE_GLOBAL
from .pgtable import _PAGE_PSE as PAGE_PSE
from .pgtable import PAGE_KERNEL, SWAPPER_PG_DIR
from .vm import Pgd

FIXADDR_TOP = 0xFFFFE000
FIXED_ADDRESSES = 8  # the atomic kmap slots of one CPU; the last one sets where the fixmap begins
PKMAP_BASE = 0xFE000000
LAST_PKMAP = 1024
LAST_PKMAP_PAE = 512


def _page_table(kernel: Kernel, what: str) -> int:
    """One zeroed page for a page table, from boot memory: its physical address."""
    pa = kernel.bootmem.alloc_bootmem(PAGE_SIZE, PAGE_SIZE)
    kernel.boot_log.append(BootConsumer(what, pa, PAGE_SIZE, "paging_init"))
    kernel.ram.clear_page(pa >> PAGE_SHIFT)
    return pa


def _entries(kernel: Kernel, pa: int) -> array[int]:
    """The table at physical address *pa*."""
    return kernel.ram.quads(pa >> PAGE_SHIFT) if kernel.config.pae else kernel.ram.words(pa >> PAGE_SHIFT)


def swapper_pg_dir(kernel: Kernel) -> Pgd:
    """The kernel's own page directory, in the kernel image: empty but for what PAE demands."""
    table = _entries(kernel, SWAPPER_PG_DIR << PAGE_SHIFT)
    if kernel.config.pae:
        for i in range(4):
            table[i] = 1 + (EMPTY_ZERO_PAGE << PAGE_SHIFT)  # an entry of a PAE directory may not be empty
    return Pgd(SWAPPER_PG_DIR << PAGE_SHIFT, table)


def pagetable_init(kernel: Kernel) -> None:
    """Build the kernel's page tables: low memory mapped at PAGE_OFFSET, and empty tables for fixmap and pkmap.

    With 4 MiB pages (PSE) the direct map needs no page tables, only PAE's middle directory.
    The fixmap tables are where kmap_atomic has its slots. kernel: arch/i386/mm/init.c:pagetable_init, fixrange_init, kmap_init
    """
    config = kernel.config
    pae = config.pae
    shift = 21 if pae else 22
    pmd_size = 1 << shift
    per_table = 512 if pae else 1024
    end = PAGE_OFFSET + (kernel.max_low_pfn << PAGE_SHIFT)
    pgd = swapper_pg_dir(kernel)
    if kernel.config.kernel_objects is not None:
        kernel.pgtable.init_mm.pgd = pgd
    pmds, mask = pgd.table, 1023  # without PAE the middle level is folded into the directory
    if pae:
        pa = _page_table(kernel, "kernel pmd")
        pgd.table[3] = pa + 1
        pmds, mask = _entries(kernel, pa), 511
    for vaddr in range(PAGE_OFFSET, end, pmd_size):
        slot = vaddr >> shift & mask
        if config.pse:
            pmds[slot] = (vaddr - PAGE_OFFSET) | KERNPG_TABLE | PAGE_PSE | PAGE_GLOBAL
            continue
        pa = _page_table(kernel, "kernel page table")
        table = _entries(kernel, pa)
        for k in range(min(per_table, end - vaddr >> PAGE_SHIFT)):
            table[k] = (vaddr - PAGE_OFFSET + (k << PAGE_SHIFT)) | PAGE_KERNEL
        pmds[slot] = pa | KERNPG_TABLE

    def fixrange_init(start: int, stop: int, what: str) -> None:
        for vaddr in range(start, stop, pmd_size):
            slot = vaddr >> shift & mask
            if not pmds[slot]:
                pmds[slot] = _page_table(kernel, what) | KERNPG_TABLE
                _entries(kernel, pmds[slot])

    fixmap = (FIXADDR_TOP - (FIXED_ADDRESSES - 1) * PAGE_SIZE) & -pmd_size & M32
    fixrange_init(fixmap, 1 << 32, "fixmap page table")
    if config.highmem:
        fixrange_init(PKMAP_BASE, PKMAP_BASE + PAGE_SIZE * (LAST_PKMAP_PAE if pae else LAST_PKMAP), "pkmap page table")


def bare_pagetable_init(kernel: Kernel) -> None:
    """The kernel's directory alone: where kernel objects live outside RAM, so do its page tables."""
    kernel.pgtable.init_mm.pgd = swapper_pg_dir(kernel)


def zone_sizes_init(kernel: Kernel) -> None:
    """Set up the zones. kernel: arch/i386/mm/init.c:zone_sizes_init"""
    sizes = kernel.zone_setup.zones_size(kernel.max_low_pfn, kernel.highend_pfn)
    if len(sizes) != 3 or any(not isinstance(s, int) or s < 0 for s in sizes):
        raise ValueError(f"zones_size must return three page counts [DMA, Normal, HighMem], not {sizes!r}")
    kernel.zone_setup.free_area_init_core(kernel.pgdats[0], list(sizes), 0, None)


def paging_init(kernel: Kernel) -> None:
    """Kernel page tables, then zones. kernel: arch/i386/mm/init.c:paging_init"""
    if kernel.config.kernel_objects in ("outside", "vm-only"):
        bare_pagetable_init(kernel)
    else:
        pagetable_init(kernel)
    if kernel.config.kernel_objects is not None:
        kernel.mmu.flush_tlb_all()
    zone_sizes_init(kernel)


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
    if kernel.config.kernel_objects is not None:
        kernel.mmu.flush_tlb_all()  # zap_low_mappings: the identity map of the boot is gone
