"""Invariants of the kernel's own memory: slabs, vmalloc space, kmap slots, the quicklist."""

from __future__ import annotations

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .check_areas import bad
from .init import PKMAP_BASE
from .kernel import Kernel
from .page_flags import PG_slab
from .pgtable import pte_present
from .slab_cache import BUFCTL_END, KmemCache
from .vmalloc import VM_ALLOC

__all__ = ["check_kmap", "check_slabs", "check_vmlist"]


def check_slabs(kernel: Kernel) -> None:
    """Every slab is on the list its objects in use say, its free chain is complete, and its pages know it."""
    state = kernel.slab.state
    if kernel.config.kernel_objects == "outside":
        return
    pages = 0
    for cachep in state.cache_chain:
        for kind, slabs in cachep.lists():
            for slab in slabs:
                right = "full" if slab.inuse == cachep.num else "partial" if slab.inuse else "free"
                if kind != right:
                    bad("slab list", f"a slab of {cachep.name} with {slab.inuse} of {cachep.num} objects in use is on the {kind} list")
                free = len(slab.free_objects())
                if free != cachep.num - slab.inuse or (slab.free == BUFCTL_END) == bool(free):
                    bad("slab chain", f"{slab!r} of {cachep.name} has {free} objects on its free chain; {cachep.num} make a slab")
                if state.slab_at.get(slab.address) is not slab:
                    bad("slab", f"{slab!r} of {cachep.name} is not what is known at {slab.address:#x}")
                first = slab.start - PAGE_OFFSET >> PAGE_SHIFT
                for pfn in range(first, first + (1 << cachep.gfporder)):
                    _slab_page(kernel, pfn, cachep, slab.address)
                pages += 1 << cachep.gfporder
    marked = sum(1 for word in kernel.mem.flags if word >> PG_slab & 1)
    if marked != pages:
        bad("slab page", f"{marked} pages have PG_slab, the slabs have {pages}")
    _objects(kernel)


def _slab_page(kernel: Kernel, pfn: int, cachep: KmemCache, address: int) -> None:
    mem = kernel.mem
    if not mem.flags[pfn] >> PG_slab & 1:
        bad("slab page", f"frame {pfn} belongs to a slab of {cachep.name}, but has no PG_slab")
    if mem.list.next[pfn] != cachep.address or mem.list.prev[pfn] != address:
        bad("slab page", f"frame {pfn} belongs to a slab of {cachep.name}, but its page->list names another")


def _in_use(cachep: KmemCache) -> int:
    return cachep.active_objs - sum(cc.avail for cc in cachep.cpudata if cc is not None)


def _objects(kernel: Kernel) -> None:
    """As many area, address space and task objects are in use as there are areas, address spaces and tasks."""
    slab, fork = kernel.slab, kernel.fork
    if kernel.config.kernel_objects != "ram":
        return
    areas = sum(mm.map_count for mm in fork.mmlist)
    tasks = sum(len(task.objects) for task in kernel.sched.tasks.values())
    found: tuple[tuple[str, int, int], ...] = (
        ("vm_area_struct", _in_use(slab.vm_area_cachep), areas),
        ("mm_struct", _in_use(slab.mm_cachep), len(fork.mmlist)),
        ("objects of processes", sum(_in_use(c) for c in (slab.files_cachep, slab.fs_cachep, slab.sigact_cachep)), tasks),
    )
    if kernel.config.vfs:
        named = slab.state.named
        found += (
            ("dentry_cache", _in_use(named["dentry_cache"]), kernel.dcache.nr_dentry),
            ("inode_cache", _in_use(named["inode_cache"]), kernel.icache.nr_inodes),
            ("filp", _in_use(named["filp"]), kernel.file_table.nr_files),
            ("names_cache", _in_use(named["names_cache"]), 0),
        )
    for name, have, due in found:
        if have != due:
            bad("objects", f"{have} {name} are allocated, {due} are in use")


def check_vmlist(kernel: Kernel) -> None:
    """Areas of vmalloc space by address, none overlapping, each with frames behind it and an empty page at its end."""
    space, init_mm = kernel.vmalloc_space, kernel.init_mm
    end = space.VMALLOC_START
    for area in space.vmlist:
        if area.addr < end:
            bad("vmlist", f"{area!r} begins below {end:#x}, where the area before it (and its guard page) ends")
        end = area.addr + area.size
        if end > space.VMALLOC_END + PAGE_SIZE and len(space.vmlist) > 1:
            bad("vmlist", f"{area!r} ends above VMALLOC_END {space.VMALLOC_END:#x}")
        for at in range(area.addr, end, PAGE_SIZE):
            found = kernel.pgtable.pte_lookup(init_mm, at & 0xFFFFFFFF)
            mapped = found is not None and pte_present(found[0][found[1]])
            if mapped and at == end - PAGE_SIZE:
                bad("guard page", f"the guard page of {area!r} is mapped")
            if not mapped and at != end - PAGE_SIZE and area.flags == VM_ALLOC:
                bad("vmlist", f"{area!r} has no frame behind {at:#x}")


def check_kmap(kernel: Kernel) -> None:
    """Every pkmap slot with a count maps a frame that knows it, every other is empty."""
    highmem = kernel.highmem
    if not kernel.highend_pfn or not len(highmem.pkmap_count) or not any(highmem.pkmap_count) and not highmem.virtual:
        return
    table = highmem.pkmap_page_table
    used = 0
    for slot, count in enumerate(highmem.pkmap_count):
        pfn = table[slot] >> PAGE_SHIFT
        if bool(count) != bool(table[slot]):
            bad("kmap", f"pkmap slot {slot} has count {count}, its entry is {table[slot]:#x}")
        if count:
            used += 1
            if highmem.virtual.get(pfn) != PKMAP_BASE + (slot << PAGE_SHIFT):
                bad("kmap", f"pkmap slot {slot} maps frame {pfn}, which does not know it")
    if used != len(highmem.virtual):
        bad("kmap", f"{len(highmem.virtual)} frames have a pkmap address, but {used} slots are used")
