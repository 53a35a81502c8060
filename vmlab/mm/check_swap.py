"""Invariants of swap: every slot's count is the number of those who use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .check_areas import bad
from .fs import SWAPPER_SPACE_ID
from .kernel import Kernel
from .shmem_swap import ENTRIES_PER_PAGE, SHMEM_NR_DIRECT, ShmemInodeInfo
from .swap_info import SWP_USED, SWP_WRITEOK
from .swap_map import SWAP_MAP_BAD, SWAP_MAP_MAX

__all__ = ["check_shmem", "check_swap", "vector_frames"]


def vector_frames(kernel: Kernel, info: ShmemInodeInfo) -> Iterator[tuple[int, bool]]:
    """(frame, whether it holds swap entries rather than slots) of a file's swap vector."""
    shmem = kernel.shmem
    if not info.i_indirect:
        return
    yield (info.i_indirect - 0xC0000000) >> 12, False
    table = shmem.words(info.i_indirect)
    for slot, block in enumerate(table):
        if not block:
            continue
        if slot < ENTRIES_PER_PAGE // 2:
            yield (block - 0xC0000000) >> 12, True
        else:
            yield (block - 0xC0000000) >> 12, False
            for entries in shmem.words(block):
                if entries:
                    yield (entries - 0xC0000000) >> 12, True


def check_shmem(kernel: Kernel, users: Counter[int]) -> None:
    """Pages in swap and blocks of every file of tmpfs are counted; *users* learns who uses which swap entry."""
    for info in kernel.shmem.shmem_inodes:
        vectors = list(info.i_direct)
        frames = 0
        for pfn, entries in vector_frames(kernel, info):
            frames += 1
            if entries:
                vectors += kernel.ram.words(pfn)
        swapped = [entry for entry in vectors if entry]
        if len(swapped) != info.swapped:
            bad("shmem swapped", f"{info!r}: its vector has {len(swapped)} swap entries")
        users.update(swapped)
        blocks = (info.inode.i_mapping.nrpages + len(swapped) + frames) * 8
        if info.inode.i_blocks != blocks:
            bad("i_blocks", f"{info.inode!r} has {info.inode.i_blocks} sectors; its pages, swapped pages and vector make {blocks}")
        if any(info.i_direct[min(info.next_index, SHMEM_NR_DIRECT) :]):
            bad("shmem swapped", f"{info!r} has a swap entry past its next_index")


def check_swap(kernel: Kernel, users: Counter[int]) -> None:
    """Swap maps against *users*, who holds which entry (page tables, tmpfs; the swap cache is added here); counters, bounds, the list."""
    swapfile, mem = kernel.swapfile, kernel.mem
    for pfn, ident in enumerate(mem.mapping):
        if ident == SWAPPER_SPACE_ID:
            users[mem.index[pfn]] += 1
    left = dict(users)
    free = total = 0
    for number, p in enumerate(swapfile.swap_info[: swapfile.nr_swapfiles]):
        if not p.flags & SWP_USED or p.swap_map is None:
            continue
        counts = p.used_slots()
        for slot, count in counts:
            due = left.pop(number << 1 | slot << 8, 0)
            if count == SWAP_MAP_BAD:
                if due:
                    bad("swap map", f"slot {slot} of area {number} is bad, but {due} use it")
            elif count != due and count < SWAP_MAP_MAX:
                bad("swap map", f"slot {slot} of area {number} has count {count}; {due} page table entries, files and cached pages use it")
        taken = {slot for slot, _ in counts}
        if p.flags & SWP_WRITEOK == SWP_WRITEOK:
            free += p.max - len(counts)
            total += p.pages
        lost = next((s for s in range(1, p.max) if s not in taken and not p.lowest_bit <= s <= p.highest_bit), None)
        if lost is not None:
            bad("swap bounds", f"slot {lost} of area {number} is free, but outside its bounds {p.lowest_bit} to {p.highest_bit}")
    if left:
        entry = min(left)
        bad(
            "swap map",
            f"swap entry {entry:#x} (area {entry >> 1 & 63}, slot {entry >> 8}) is used {left[entry]} times, but the slot is free",
        )
    if free != swapfile.nr_swap_pages:
        bad("nr_swap_pages", f"nr_swap_pages is {swapfile.nr_swap_pages}, the swap maps have {free} free slots")
    if total != swapfile.total_swap_pages:
        bad("total_swap_pages", f"total_swap_pages is {swapfile.total_swap_pages}, the areas have {total} slots")
    _chain(kernel)


def _chain(kernel: Kernel) -> None:
    """The list of areas holds those one can write to, by falling priority."""
    swapfile = kernel.swapfile
    areas = {n for n, p in enumerate(swapfile.swap_info[: swapfile.nr_swapfiles]) if p.flags & SWP_WRITEOK == SWP_WRITEOK}
    at, before, found = swapfile.swap_list.head, None, set()
    while at >= 0:
        p = swapfile.swap_info[at]
        if at in found or at not in areas or (before is not None and before < p.prio):
            bad("swap list", f"area {at} of priority {p.prio} is in the wrong place on the list of swap areas")
        found.add(at)
        before, at = p.prio, p.next
    if found != areas:
        bad("swap list", f"swap areas {sorted(areas - found)} are in use, but not on the list")
