"""What page tables do, step by step."""

from __future__ import annotations

from .events_base import spec

_PG, _MM = "include/asm-i386/pgalloc.h:", "mm/memory.c:"
SPECS = [
    spec("pgd_alloc", _PG + "pgd_alloc", "pfn", "a page directory in frame {pfn}: no user entries, the kernel's copied in"),
    spec("pgd_free", _PG + "pgd_free", "pfn", "the page directory in frame {pfn} is freed"),
    spec("pte_table", _MM + "pte_alloc", "address pfn quick", "a page table for {address:#x} in frame {pfn} (from the quicklist: {quick})"),
    spec("pte_table_free", _MM + "clear_page_tables", "address pfn", "the page table of {address:#x} (frame {pfn}) goes to the quicklist"),
    spec("pgt_cache", "arch/i386/mm/init.c:do_check_pgt_cache", "freed left", "quicklist too long: {freed} page tables freed, {left} kept"),
]
