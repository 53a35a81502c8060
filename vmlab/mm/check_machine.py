"""Every frame accounted for: who holds a reference to it, counted from outside, against page->count."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT
from .check_areas import bad, check_address_spaces, check_chains
from .check_kernel import check_kmap, check_slabs, check_vmlist
from .check_pages import check_cache, check_lru
from .check_swap import check_shmem, check_swap, vector_frames
from .check_vfs import check_vfs
from .kernel import Kernel
from .page import BLOCK_USED
from .page_flags import RESERVED, flag_names
from .vm import VM_WRITE, MmStruct, VmArea
from .vmalloc import VM_ALLOC

__all__ = ["check_machine"]

_MAPPED, _RW = 0x81, 2


def check_machine(kernel: Kernel, held: Iterable[int] | None = None) -> None:
    """Everything beyond the buddy allocator, between two operations; *held* as ``Machine.check`` takes it."""
    check_lru(kernel)
    check_cache(kernel)
    check_address_spaces(kernel)
    check_chains(kernel)
    check_slabs(kernel)
    check_vmlist(kernel)
    check_kmap(kernel)
    if kernel.config.vfs:
        check_vfs(kernel)
    _References(kernel).check(held)


class _References:
    """References to every frame, and users of every swap entry, gathered from all who can hold one."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.refs = array("i", bytes(4 * kernel.mem.frames))
        self.users: Counter[int] = Counter()
        self.vmapped: set[int] = set()  # frames that vmap maps, which somebody else allocated

    def check(self, held: Iterable[int] | None) -> None:
        """Gather, then compare."""
        for mm in self.kernel.fork.mmlist:
            self.address_space(mm)
        self.kernel_memory()
        check_shmem(self.kernel, self.users)
        check_swap(self.kernel, self.users)
        if held is not None:
            for pfn in held:
                self.refs[pfn] += 1
        self.compare(held is None)

    def address_space(self, mm: MmStruct) -> None:
        """The page tables of *mm* and the pages they map; rss is their number."""
        kernel, refs, flags = self.kernel, self.refs, self.kernel.mem.flags
        pgtable = kernel.pgtable
        areas = mm.areas()
        at = rss = 0
        for base, pfn in self.tables(mm):
            table = pgtable.table_at(pfn)
            if not any(table):
                continue
            for slot, pte in enumerate(table):
                if not pte:
                    continue
                address = base + (slot << PAGE_SHIFT)
                while at < len(areas) and areas[at].vm_end <= address:
                    at += 1
                if at == len(areas) or areas[at].vm_start > address:
                    bad("stray entry", f"{mm!r} has the page table entry {pte:#x} at {address:#x}, which is in no area")
                if not pte & _MAPPED:
                    self.users[pte] += 1
                    continue
                frame = pte >> PAGE_SHIFT
                self.rights(areas[at], address, pte)
                if frame < len(refs) and not flags[frame] & RESERVED:
                    refs[frame] += 1
                    rss += 1
        if rss != mm.rss:
            bad("rss", f"{mm!r} has rss {mm.rss}, its page tables map {rss} pages")

    def rights(self, vma: VmArea, address: int, pte: int) -> None:
        """An entry allows no more than its area."""
        if pte & _RW and not vma.vm_flags & VM_WRITE:
            bad("rights", f"the entry {pte:#x} at {address:#x} may be written, {vma} not")

    def tables(self, mm: MmStruct) -> Iterable[tuple[int, int]]:
        """(first address, frame) of every user page table of *mm*; the directories are counted on the way."""
        kernel, refs, pgtable = self.kernel, self.refs, self.kernel.pgtable
        if not pgtable.pae:
            refs[mm.pgd.pa >> PAGE_SHIFT] += 1
        for index in range(pgtable.USER_PTRS_PER_PGD):
            entry = mm.pgd.table[index]
            if pgtable.pae:
                middle = entry >> PAGE_SHIFT
                refs[middle] += 1
                for second, pmd in enumerate(kernel.ram.quads(middle)):
                    if pmd:
                        refs[pmd >> PAGE_SHIFT] += 1
                        yield index << 30 | second << 21, pmd >> PAGE_SHIFT
            elif entry:
                refs[entry >> PAGE_SHIFT] += 1
                yield index << 22, entry >> PAGE_SHIFT

    def kernel_memory(self) -> None:
        """Frames the kernel itself uses."""
        kernel, refs, mem = self.kernel, self.refs, self.kernel.mem
        for pfn, ident in enumerate(mem.mapping):
            if ident:
                refs[pfn] += 1
        for pfn in kernel.pgtable.pte_quicklist:
            refs[pfn] += 1
        for cachep in kernel.slab.state.cache_chain if kernel.config.kernel_objects != "outside" else ():
            for slab in cachep.slabs():
                refs[slab.start - PAGE_OFFSET >> PAGE_SHIFT] += 1
        for part in kernel.parts():
            for name in part.state_names:
                if name.endswith("hash_pfn") and getattr(part, name):  # the first frame of a hash table
                    refs[getattr(part, name)] += 1
        for task in kernel.sched.tasks.values():
            if task.task_pfn:
                refs[task.task_pfn] += 1
            for pfn in task.local_pages:
                refs[pfn] += 1
        for pfn in kernel.highmem.emergency_pages:
            refs[pfn] += 1
        for info in kernel.shmem.shmem_inodes:
            for pfn, _ in vector_frames(kernel, info):
                refs[pfn] += 1
        self.vmalloc()

    def vmalloc(self) -> None:
        """Frames behind vmalloc space, and the page tables that were made for it since the boot."""
        kernel, refs, flags = self.kernel, self.refs, self.kernel.mem.flags
        space, pgtable = kernel.vmalloc_space, kernel.pgtable
        own = kernel.owners.index("vmalloc") if "vmalloc" in kernel.owners else -1
        for area in space.vmlist:
            if area.flags == VM_ALLOC:
                for pfn in space.frames(area.addr):
                    refs[pfn] += 1
                    if kernel.mem.owner[pfn] != own:
                        self.vmapped.add(pfn)
        size = pgtable.PMD_SIZE
        for address in range(space.VMALLOC_START & -size, space.VMALLOC_END, size):
            found = pgtable.pmd_lookup(kernel.init_mm, address)
            pmd = found[0][found[1]] if found is not None else 0
            if pmd and not pmd & 0x80 and not flags[pmd >> PAGE_SHIFT] & RESERVED:
                refs[pmd >> PAGE_SHIFT] += 1

    def compare(self, lenient: bool) -> None:
        """References against the count of every frame that is not free; *lenient*: what nobody holds, a caller of alloc_pages does."""
        mem = self.kernel.mem
        for pfn, (count, refs) in enumerate(zip(mem.count, self.refs, strict=True)):
            if count == refs:
                continue
            if mem.flags[pfn] & RESERVED:
                continue
            used = mem.block[pfn] & BLOCK_USED
            if not refs and count > 0 and used:
                if lenient and not mem.mapping[pfn]:
                    continue
                bad(
                    "lost frame",
                    f"frame {pfn} ({self.kernel.owners[mem.owner[pfn]] or 'no owner'}) has count {count}, but nobody holds it: it is lost",
                )
            if lenient and pfn in self.vmapped and count > refs and not mem.mapping[pfn]:
                continue
            names = "|".join(flag_names(mem.flags[pfn])) or "no flags"
            state = "allocated" if used else "not allocated"
            bad("page count", f"frame {pfn} ({state}, {names}) has count {count}, but {refs} references to it were found")
