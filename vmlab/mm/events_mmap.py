"""Events of address spaces: areas that come, go, grow, split and merge; processes that begin and end."""

from __future__ import annotations

from .events_base import spec

_MMAP, _FORK = "mm/mmap.c:", "kernel/fork.c:"

SPECS = [
    spec("mmap", _MMAP + "do_mmap_pgoff", "pid start end vm_flags pgoff", "process {pid} maps {start:#x} to {end:#x}"),
    spec("munmap", _MMAP + "do_munmap", "pid start end", "process {pid} unmaps {start:#x} to {end:#x}"),
    spec("brk", _MMAP + "do_brk", "pid start end", "the heap of process {pid} grows from {start:#x} to {end:#x}"),
    spec("unmapped_area", _MMAP + "get_unmapped_area", "pid start length", "a gap of {length:#x} bytes is free at {start:#x}"),
    spec("vma_link", _MMAP + "__vma_link", "pid start end vm_flags", "area {start:#x}-{end:#x} goes into the list and the tree"),
    spec("vma_unlink", _MMAP + "do_munmap", "pid start end", "area {start:#x}-{end:#x} leaves the list and the tree"),
    spec("vma_free", _MMAP + "unmap_fixup", "pid start end", "the record of area {start:#x}-{end:#x} is freed"),
    spec("vma_merge", _MMAP + "vma_merge", "pid start end", "neighbours become one area {start:#x}-{end:#x}"),
    spec("vma_trim", _MMAP + "unmap_fixup", "pid start end", "what is left of the area is {start:#x}-{end:#x}"),
    spec("vma_split", _MMAP + "unmap_fixup", "pid at start end", "an area is split at {at:#x}; the new one is {start:#x}-{end:#x}"),
    spec("vm_flags", "mm/mprotect.c:mprotect_fixup", "pid start end vm_flags", "area {start:#x}-{end:#x} now has flags {vm_flags:#x}"),
    spec("change_protection", "mm/mprotect.c:change_protection", "pid start end prot", "PTEs of {start:#x}-{end:#x} get rights {prot:#x}"),
    spec("move_page_tables", "mm/mremap.c:move_page_tables", "pid old new length", "the entries of {old:#x} move to {new:#x}"),
    spec("expand_stack", "include/linux/mm.h:expand_stack", "pid start pages", "the stack grows down by {pages} pages to {start:#x}"),
    spec("vm_enough_memory", _MMAP + "vm_enough_memory", "pages free ok", "{pages} pages promised with {free} obtainable: {yes_no}"),
    spec("rb_rotate", "lib/rbtree.c:rb_insert_color", "way node up", "rotate {way}: {up:#x} rises above {node:#x}"),
    spec("rb_recolor", "lib/rbtree.c:rb_insert_color", "node", "{node:#x} turns red, its two children black"),
    spec("mm_alloc", _FORK + "mm_alloc", "pid", "process {pid} gets an empty address space"),
    spec("exec_mmap", "fs/exec.c:exec_mmap", "pid", "process {pid} lets go of its old address space"),
    spec("exit_mmap", _MMAP + "exit_mmap", "pid", "the address space of process {pid} is taken down"),
    spec("mmdrop", _FORK + "__mmdrop", "pid", "the address space record and page directory of process {pid} are freed"),
    spec("new_task", "fs/exec.c:exec_mmap", "pid", "process {pid} begins with an empty address space"),
    spec("fork", _FORK + "do_fork", "pid child", "process {pid} forks: its child is {child}"),
    spec("dup_mmap", _FORK + "dup_mmap", "pid child start end", "area {start:#x}-{end:#x} of process {pid} is copied for {child}"),
    spec("exit", "kernel/exit.c:do_exit", "pid", "process {pid} is gone"),
    spec("exec_segment", "fs/binfmt_elf.c:elf_map", "pid start end prot", "exec maps the segment {start:#x}-{end:#x} of the file"),
]
