"""i386 constants: every tunable number of the address layout on one page.

virtual   0x00000000 ........ 0xC0000000 ................ 0xF8000000 ..... 0xFE000000 ... 0xFFFFFFFF
          user (3 GiB)        direct map of low memory    vmalloc          pkmap, fixmap
physical                      0 ......................... 896 MiB | above: high memory
"""

from __future__ import annotations

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT  # bytes
M32 = 0xFFFFFFFF  # unsigned long is 32 bits on i386

PAGE_OFFSET = 0xC0000000
VMALLOC_RESERVE = 128 << 20  # bytes
MAXMEM = (-PAGE_OFFSET & M32) - VMALLOC_RESERVE  # 896 MiB
MAXMEM_PFN = MAXMEM >> PAGE_SHIFT
MAX_NONPAE_PFN = 1 << 20  # 4 GiB
MAX_PAE_PFN = 1 << 24  # 64 GiB
MAX_DMA_ADDRESS = 16 << 20  # bytes, physical
HIGH_MEMORY = 1 << 20  # where the kernel image starts

SMP_CACHE_BYTES = 32  # L1_CACHE_BYTES of a Pentium III
SIZEOF_LONG = 4
SIZEOF_WAIT_QUEUE_HEAD = 8
SIZEOF_RESOURCE = 28
SIZEOF_PAGE = 48  # struct page with highmem; 44 without


def long_align(size: int) -> int:
    """Round *size* (bytes) up to a whole number of longs. kernel: mm/page_alloc.c:LONG_ALIGN"""
    return (size + SIZEOF_LONG - 1) & ~(SIZEOF_LONG - 1)


def pfn_up(address: int) -> int:
    """First whole frame at or above *address* (bytes). kernel: arch/i386/kernel/setup.c:PFN_UP"""
    return (address + PAGE_SIZE - 1) >> PAGE_SHIFT


def pfn_down(address: int) -> int:
    """Frame that holds *address* (bytes). kernel: arch/i386/kernel/setup.c:PFN_DOWN"""
    return address >> PAGE_SHIFT
