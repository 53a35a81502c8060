"""What must always be true of 2.6's swap: every slot's count is the number of those who use it; tmpfs and the swap cache agree."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from ..mm.check_areas import bad
from ..mm.check_swap import _chain
from ..mm.kernel import Kernel
from ..mm.shmem_swap import ENTRIES_PER_PAGE
from ..mm.swap_info import SWP_USED, SWP_WRITEOK
from ..mm.swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX
from .page_flags import SWAPCACHE
from .shmem_swap import ShmemInodeInfo26, limits
from .swap_info import SwapInfo26
from .swap_state import SwapState26
from .swapops import pte_file, pte_to_swp_entry, swp_entry, swp_offset, swp_type
from .vm import VM_HUGETLB, VmArea26

_MAPPED = 0x81  # _PAGE_PRESENT | _PAGE_PROTNONE


def check_swap(kernel: Kernel) -> None:
    """Who uses which slot, against the swap maps; extents, counters, the list of areas. Raises KernelBug."""
    users: Counter[int] = Counter()
    _page_tables(kernel, users)
    _shmem(kernel, users)
    _swap_cache(kernel, users)
    swapfile = kernel.swapfile
    free = total = 0
    left = dict(users)
    for number, p in enumerate(cast("list[SwapInfo26]", swapfile.swap_info[: swapfile.nr_swapfiles])):
        if not p.flags & SWP_USED or p.swap_map is None:
            continue
        inuse = 0
        taken = set()
        for slot, count in p.used_slots():
            taken.add(slot)
            due = left.pop(swp_entry(number, slot), 0)
            if count == SWAP_MAP_BAD:
                if due:
                    bad("swap map", f"slot {slot} of area {number} is bad, but {due} use it")
                continue
            inuse += 1
            if count != due and count < SWAP_MAP_MAX:
                bad("swap map", f"slot {slot} of area {number} has count {count}; {due} page table entries, files and cached pages use it")
        if inuse != p.inuse_pages:
            bad("inuse_pages", f"area {number} has inuse_pages {p.inuse_pages}, its map {inuse} slots in use")
        if sum(extent.nr_pages for extent in p.extent_list) < p.max:
            bad("extents", f"the extents of area {number} do not hold its {p.max} pages")
        lost = next((s for s in range(1, p.max) if s not in taken and not p.lowest_bit <= s <= p.highest_bit), None)
        if lost is not None:
            bad("swap bounds", f"slot {lost} of area {number} is free, but outside its bounds {p.lowest_bit} to {p.highest_bit}")
        if p.flags & SWP_WRITEOK == SWP_WRITEOK:
            free += p.pages - inuse
            total += p.pages
    if left:
        entry = min(left)
        bad("swap map", f"slot {swp_offset(entry)} of area {swp_type(entry)} is used {left[entry]} times, but it is free")
    if (free, total) != (swapfile.nr_swap_pages, swapfile.total_swap_pages):
        bad(
            "nr_swap_pages",
            f"{swapfile.nr_swap_pages} of {swapfile.total_swap_pages} slots are counted free, the areas have {free} of {total}",
        )
    _chain(kernel)


def _page_tables(kernel: Kernel, users: Counter[int]) -> None:
    pgtable = kernel.pgtable
    for mm in {id(task.mm): task.mm for task in kernel.sched.tasks.values() if task.mm is not None}.values():
        swapped = False
        for vma in cast("list[VmArea26]", mm.areas()):
            address = vma.vm_start
            while address < vma.vm_end and not vma.vm_flags & VM_HUGETLB:
                found = pgtable.pte_lookup(mm, address)
                limit = min(vma.vm_end, (address & -pgtable.PMD_SIZE) + pgtable.PMD_SIZE)
                if found is not None:
                    table, slot = found
                    for pte in table[slot : slot + (limit - address >> 12)]:
                        if pte and not pte & _MAPPED and not pte_file(pte):
                            users[pte_to_swp_entry(pte)] += 1
                            swapped = True
                address = limit
        if swapped and mm not in kernel.fork.mmlist:
            bad("mmlist", f"{mm!r} has pages in swap, but swapoff would not find it")


def _shmem(kernel: Kernel, users: Counter[int]) -> None:
    shmem: Any = kernel.shmem
    private = kernel.mem.column("private")
    for info in cast("list[ShmemInodeInfo26]", kernel.shmem.shmem_inodes):
        entries = [entry for entry in info.i_direct if entry]
        frames = 0
        if info.i_indirect:
            blocks: list[int] = []
            frames = 1
            for slot, address in enumerate(shmem.words(info.i_indirect)):
                if address and slot < ENTRIES_PER_PAGE // 2:
                    blocks.append(address)
                elif address:
                    frames += 1
                    blocks += [block for block in shmem.words(address) if block]
            frames += len(blocks)
            for block in blocks:
                used = [entry for entry in shmem.words(block) if entry]
                if private[shmem.frame_at(block)] != len(used):
                    bad("nr_swapped", f"frame {shmem.frame_at(block)} of {info!r} counts wrongly: it has {len(used)} swap entries")
                entries += used
        if len(entries) != info.swapped:
            bad("shmem swapped", f"{info!r}: its vector has {len(entries)} swap entries")
        if entries and info not in shmem.shmem_swaplist:
            bad("shmem swaplist", f"{info!r} has pages in swap, but swapoff would not find it")
        if info.alloced < info.swapped + info.inode.i_mapping.nrpages:
            bad("alloced", f"{info!r} was given {info.alloced} pages, but has {info.inode.i_mapping.nrpages} cached ones")
        if limits(info.inode) is not None and info.inode.i_blocks != (info.alloced + frames) * 8:
            bad("i_blocks", f"{info!r} has {info.inode.i_blocks} sectors for {info.alloced} pages and {frames} frames of its vector")
        users.update(entries)


def _swap_cache(kernel: Kernel, users: Counter[int]) -> None:
    state = kernel.swap_state
    assert isinstance(state, SwapState26)
    tree, private = state.space.page_tree, kernel.mem.column("private")
    for pfn in (p for p, word in enumerate(kernel.mem.flags) if word & SWAPCACHE):
        if tree.get(private[pfn]) != pfn:
            bad("swap cache", f"frame {pfn} says that it is in the swap cache under {private[pfn]:#x}, where it is not")
    for entry, pfn in tree.items():
        if not kernel.mem.flags[pfn] & SWAPCACHE or private[pfn] != entry:
            bad("swap cache", f"frame {pfn} is in the swap cache under {entry:#x}, but does not know it")
        users[entry] += 1
    if len(tree) != state.space.nrpages:
        bad("swap cache", f"total_swapcache_pages is {state.space.nrpages}, the tree has {len(tree)} pages")
