"""What page faults, page-table ranges, user copies and the TLB do, step by step."""

from __future__ import annotations

from .events_base import spec

_MM, _FA, _PG = "mm/memory.c:", "arch/i386/mm/fault.c:", "include/asm-i386/pgalloc.h:"
SPECS = [
    spec("access", "none", "pid address write frame", "task {pid} {access}s {address:#x} in frame {frame}"),
    spec(
        "page_fault",
        _FA + "do_page_fault",
        "pid address error_code",
        "page fault of task {pid} at {address:#x}: {fault_name} (error code {error_code})",
    ),
    spec("fault_done", _FA + "do_page_fault", "pid address kind", "the fault at {address:#x} is dealt with: {kind_name}"),
    spec("stack_grows", _FA + "do_page_fault", "address start", "the stack grows down to {start:#x} for {address:#x}"),
    spec("bad_area", _FA + "do_page_fault", "pid address reason", "task {pid} may not touch {address:#x}: {reason}"),
    spec(
        "fixup",
        "arch/i386/mm/extable.c:search_exception_table",
        "address insn fixup",
        "{insn:#x} faulted on {address:#x}: on at {fixup:#x}",
    ),
    spec("vmalloc_fault", _FA + "do_page_fault", "address pmd", "the kernel's entry {pmd:#x} for {address:#x} is copied in"),
    spec("mm_fault", _MM + "handle_mm_fault", "address write", "bring in the page at {address:#x} for a {access}"),
    spec("set_pte", "include/asm-i386/pgtable-2level.h:set_pte", "address pte", "the entry of {address:#x} becomes {pte:#x}"),
    spec("zero_page", _MM + "do_anonymous_page", "address pfn", "a read of new memory at {address:#x} gets the zero page, frame {pfn}"),
    spec("anonymous_page", _MM + "do_anonymous_page", "address pfn", "new memory at {address:#x}: frame {pfn}, zeroed"),
    spec("no_page", _MM + "do_no_page", "address pfn", "frame {pfn} is mapped at {address:#x}"),
    spec(
        "early_cow",
        _MM + "do_no_page",
        "address old new",
        "a write to a private page at {address:#x}: frame {old} is copied to {new} at once",
    ),
    spec("cow_reuse", _MM + "do_wp_page", "address pfn", "nobody else uses frame {pfn}: it becomes writable at {address:#x}"),
    spec("cow_copy", _MM + "do_wp_page", "address old new", "copy on write at {address:#x}: frame {old} is copied to {new}"),
    spec("swapin_readahead", _MM + "swapin_readahead", "entry first count", "read {count} slots from {first} on, around entry {entry:#x}"),
    spec(
        "swap_in", _MM + "do_swap_page", "address entry pfn kind", "the page of {address:#x} is back from entry {entry:#x}, in frame {pfn}"
    ),
    spec("copy_pte", _MM + "copy_page_range", "address pfn pte", "the child shares frame {pfn} at {address:#x}, entry {pte:#x}"),
    spec("copy_swap_pte", _MM + "copy_page_range", "address pte", "the child shares the swap slot of {address:#x}, entry {pte:#x}"),
    spec("zap_pte", _MM + "zap_pte_range", "address pte", "{address:#x} is unmapped, its entry was {pte:#x}"),
    spec("zap", _MM + "zap_page_range", "start end freed", "{start:#x}-{end:#x} is unmapped: {freed} pages less"),
    spec("vmtruncate", _MM + "vmtruncate", "inode old new", "inode {inode} changes from {old} to {new} bytes"),
    spec("user_page", _MM + "get_user_pages", "address pfn", "user page {address:#x} is in frame {pfn}"),
    spec(
        "user_copy",
        "arch/i386/lib/usercopy.c:__generic_copy_to_user",
        "name address size left",
        "{name}: {size} bytes at {address:#x}, {left} of them not copied",
    ),
    spec("tlb_hit", "none", "address frame", "the TLB knows {address:#x}: frame {frame}"),
    spec("tlb_miss", "none", "address", "the TLB does not know {address:#x}: the tables are walked"),
    spec(
        "switch_mm",
        "include/asm-i386/mmu_context.h:switch_mm",
        "pid flushed",
        "the directory of task {pid} is loaded, {flushed} TLB entries gone",
    ),
    spec("flush_tlb_page", _PG + "flush_tlb_page", "address", "TLB: forget {address:#x}"),
    spec("flush_tlb_range", _PG + "flush_tlb_range", "start end flushed", "TLB: forget {start:#x}-{end:#x} ({flushed} entries gone)"),
    spec("flush_tlb_mm", _PG + "flush_tlb_mm", "flushed", "TLB: forget this address space ({flushed} entries gone)"),
    spec("flush_tlb_all", _PG + "flush_tlb_all", "flushed", "TLB: forget everything ({flushed} entries gone)"),
]
