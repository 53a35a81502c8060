"""Who holds a frame, in words: worked out from page tables, lists and slabs, as nobody writes it down.

The kernel keeps no such note either: a page knows its mapping, its list and its flags, and the rest follows.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT
from .fs import SWAPPER_SPACE_ID
from .page_flags import PG_lru, PG_slab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fs import Inode
    from .kernel import Kernel
    from .vm import MmStruct

__all__ = ["KINDS", "holder", "kind_of", "mapped_by", "owner_column", "owner_names", "taken"]

KINDS = ("anonymous", "page cache", "shared memory", "swap cache")  # what a frame on the page lists can be

_KERNEL = ("bounce pool", "slab", "swap vector")  # labels of frames that nothing else tells from a caller's own


def kind_of(kernel: Kernel, pfn: int) -> str:
    """What an allocated frame on the page lists is, one of KINDS; "" for any other frame."""
    if not kernel.more_parts:
        return ""
    ident = kernel.mem.mapping[pfn]
    if not ident or ident >> 31:  # 2.6 gives an anonymous page its anon_vma there
        return "anonymous" if ident or kernel.mem.flags[pfn] >> PG_lru & 1 else ""
    if ident == SWAPPER_SPACE_ID:
        return "swap cache"
    mapping = kernel.mappings.get(ident)
    shared = mapping is not None and mapping.a_ops is kernel.shmem.aops
    return "shared memory" if shared else "page cache"


def owner_names(kernel: Kernel) -> list[str]:
    """What the numbers of :func:`owner_column` mean: the labels of ``kernel.owners``, then KINDS."""
    return [*kernel.owners, *KINDS] if kernel.more_parts else list(kernel.owners)


def owner_column(kernel: Kernel) -> bytearray:
    """One byte a frame, for pictures: its label's number, or the number of its kind; see :func:`owner_names`."""
    mem, column = kernel.mem, kernel.mem.owner[:]
    if not kernel.more_parts:
        return column
    first, mapping = len(kernel.owners), mem.mapping
    marked = map((1 << PG_lru).__and__, mem.flags) if kernel.config.kernel == "2.4" else mapping
    kinds: dict[int, int] = {}  # by address_space: all its pages are of one kind
    for pfn in compress(range(mem.frames), marked):
        if not column[pfn]:
            ident = mapping[pfn]
            if ident not in kinds:
                kinds[ident] = first + KINDS.index(kind_of(kernel, pfn))
            column[pfn] = kinds[ident]
    return column


def holder(kernel: Kernel, pfn: int) -> str:
    """Who holds the frame *pfn*, which heads a block or stands alone; "" when nothing is known of it."""
    mem = kernel.mem
    label = kernel.owners[mem.owner[pfn]]
    if not kernel.more_parts or not mem.count[pfn] and not label:
        return label
    if mem.flags[pfn] >> PG_slab & 1 and kernel.config.kernel == "2.4":
        cachep = kernel.slab.state.cache_at.get(mem.list.next[pfn])
        return f"slab {cachep.name}" if cachep is not None else "slab"
    kind = kind_of(kernel, pfn)
    if kind and not label:
        return _cached(kernel, pfn, kind)
    if label == "page table":
        return _table(kernel, pfn)
    if label == "page directory":
        return next((f"page directory of {mm.pid}" for mm in _spaces(kernel) if pfn in _directories(kernel, mm)), label)
    if label == "task":
        return next((f"task_struct of {t.pid}" for t in kernel.sched.tasks.values() if t.task_pfn == pfn), label)
    return _vmalloc(kernel, pfn) if label == "vmalloc" else label


def taken(kernel: Kernel, pfn: int) -> str:
    """Who would be harmed if a caller of alloc_pages gave the block at *pfn* back: "" when it is the caller's own."""
    label, found = kernel.owners[kernel.mem.owner[pfn]], holder(kernel, pfn)
    return found if found != label or label in _KERNEL or label.endswith("hash table") else ""


def _cached(kernel: Kernel, pfn: int, kind: str) -> str:
    if kind == "anonymous":
        return kind
    index = kernel.mem.index[pfn]
    if kind == "swap cache":
        return f"swap cache {index:#x}"
    mapping = kernel.mappings.get(kernel.mem.mapping[pfn])
    inode: Inode | None = mapping.host if mapping is not None else None
    name = "file" if inode is None else inode.name or f"{'tmpfs' if kind == 'shared memory' else 'inode'} {inode.i_ino}"
    return f"{name} page {index}"


def _spaces(kernel: Kernel) -> list[MmStruct]:
    """Every process's address space once, oldest first; the kernel's own list (mmlist) has in 2.6 only those with something in swap."""
    return list({id(task.mm): task.mm for task in kernel.sched.tasks.values() if task.mm is not None}.values())


def _directories(kernel: Kernel, mm: MmStruct) -> list[int]:
    """Frames of the page directory: one, or with PAE the user's three middle ones."""
    pgtable = kernel.pgtable
    if not pgtable.pae:
        return [mm.pgd.pa >> PAGE_SHIFT]
    return [mm.pgd.table[i] >> PAGE_SHIFT for i in range(pgtable.USER_PTRS_PER_PGD)]


def _tables(kernel: Kernel, mm: MmStruct) -> Iterator[tuple[int, int]]:
    """(first address, frame) of each user page table."""
    pgtable = kernel.pgtable
    for index in range(pgtable.USER_PTRS_PER_PGD):
        entry = mm.pgd.table[index]
        if not pgtable.pae:
            if entry & 1:
                yield index << pgtable.PGDIR_SHIFT, entry >> PAGE_SHIFT
            continue
        for slot, pmd in enumerate(kernel.ram.quads(entry >> PAGE_SHIFT)):
            if pmd & 1:
                yield index << pgtable.PGDIR_SHIFT | slot * pgtable.PMD_SIZE, pmd >> PAGE_SHIFT


def _table(kernel: Kernel, pfn: int) -> str:
    if pfn in kernel.pgtable.pte_quicklist:
        return "page table on the quicklist"
    for mm in _spaces(kernel):
        for address, frame in _tables(kernel, mm):
            if frame == pfn:
                return f"page table of {mm.pid} for {address:#010x}"
        if kernel.pgtable.pae and pfn in _directories(kernel, mm):
            return f"page directory of {mm.pid}"
    size, space = kernel.pgtable.PMD_SIZE, kernel.vmalloc_space
    for address in range(space.VMALLOC_START & -size, space.VMALLOC_END, size):
        found = kernel.pgtable.pmd_lookup(kernel.init_mm, address)
        if found is not None and found[0][found[1]] >> PAGE_SHIFT == pfn:
            return f"page table of the kernel for {address:#010x}"
    return "page table"


def _vmalloc(kernel: Kernel, pfn: int) -> str:
    space = kernel.vmalloc_space
    for area in space.vmlist:
        if pfn in space.frames(area.addr):
            return f"vmalloc {area.addr:#010x}"
    return "vmalloc"


def mapped_by(kernel: Kernel, pfn: int) -> list[tuple[int, int]]:
    """(process, address) of every page table entry that maps the frame: all page tables are searched, as 2.4 would have to."""
    if not kernel.more_parts:
        return []
    pgtable, found = kernel.pgtable, []
    for mm in _spaces(kernel):
        for base, frame in _tables(kernel, mm):
            for slot, pte in enumerate(pgtable.table_at(frame)):
                if pte >> PAGE_SHIFT == pfn and pte & 0x81:
                    found.append((mm.pid, base + (slot << PAGE_SHIFT)))
    return found

