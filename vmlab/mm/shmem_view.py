"""A shared file in words: where each of its pages is, and the tree of its swap vector.

print(shmem_view.pages(machine, file.inode))
print(shmem_view.vector(machine, file.inode))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .fs import SWAPPER_SPACE_ID
from .page_flags import PG_dirty
from .shmem_swap import ENTRIES_PER_PAGE, ENTRIES_PER_PAGEPAGE, SHMEM_NR_DIRECT, shmem_i
from .swap_info import swp_offset, swp_type

if TYPE_CHECKING:
    from .fs import Inode
    from .kernel import Kernel

_HALF = ENTRIES_PER_PAGE // 2


def slots_of(index: int) -> tuple[int, ...]:
    """The way to the swap entry of page *index*: (0, entry), (1, slot, entry) or (2, slot, slot, entry).

    The first number says how many frames of slots lie on the way. kernel: mm/shmem.c:shmem_swp_entry
    """
    if index < SHMEM_NR_DIRECT:
        return 0, index
    block, entry = divmod(index - SHMEM_NR_DIRECT, ENTRIES_PER_PAGE)
    if block < _HALF:
        return 1, block, entry
    slot, inner = divmod(block - _HALF, ENTRIES_PER_PAGE)
    return 2, _HALF + slot, inner, entry


def where(kernel: Kernel, inode: Inode, index: int) -> str:
    """Where page *index* is: in a frame of the page cache, in swap (or on its way there and back), or nowhere."""
    pfn = kernel.filemap.find_page_nolock(inode.i_mapping, index)
    if pfn is not None:
        return f"frame {pfn}{', dirty' if kernel.mem.flags[pfn] >> PG_dirty & 1 else ''}"
    found = kernel.shmem.shmem_swp_entry(shmem_i(inode), index, None)
    entry = found[0][found[1]] if found else 0
    if not entry:
        return "a hole" if index << PAGE_SHIFT < inode.i_size else "beyond the end"
    text = f"swap area {swp_type(entry)}, slot {swp_offset(entry)}"
    pfn = kernel.filemap.find_page_nolock(kernel.mappings[SWAPPER_SPACE_ID], entry)
    return text if pfn is None else f"{text}, and frame {pfn} of the swap cache"


def pages(kernel: Kernel, inode: Inode) -> str:
    """Every page of the file that is somewhere, one line each: its index, where it is, and the way to its swap entry."""
    cached = {kernel.mem.index[pfn] for pfn in kernel.filemap.cached_pages(inode.i_mapping)}
    known = sorted(cached | {index for index, _ in entries(kernel, inode)})
    ways = ("i_direct[{}]", "i_indirect[{}] -> [{}]", "i_indirect[{}] -> [{}] -> [{}]")
    lines = []
    for index in known:
        depth, *slots = slots_of(index)
        lines.append(f"page {index:>9}  {where(kernel, inode, index):<44}  {ways[depth].format(*slots)}")
    return "\n".join(lines)


def entries(kernel: Kernel, inode: Inode) -> list[tuple[int, int]]:
    """All (page index, swap entry) of the file that are not empty, by index."""
    info = shmem_i(inode)
    found = [(index, entry) for index, entry in enumerate(info.i_direct) if entry]
    for first, address in _blocks(kernel, inode):
        found += [(first + slot, entry) for slot, entry in enumerate(kernel.shmem.words(address)) if entry]
    return found


def _blocks(kernel: Kernel, inode: Inode) -> list[tuple[int, int]]:
    """The frames of entries: (index of the first page, kernel address), by index."""
    info = shmem_i(inode)
    if not info.i_indirect:
        return []
    words = kernel.shmem.words
    top = words(info.i_indirect)
    blocks = [(SHMEM_NR_DIRECT + slot * ENTRIES_PER_PAGE, top[slot]) for slot in range(_HALF) if top[slot]]
    for slot in range(_HALF, ENTRIES_PER_PAGE):
        if top[slot]:
            first = SHMEM_NR_DIRECT + _HALF * ENTRIES_PER_PAGE + (slot - _HALF) * ENTRIES_PER_PAGEPAGE
            blocks += [(first + inner * ENTRIES_PER_PAGE, address) for inner, address in enumerate(words(top[slot])) if address]
    return blocks


def vector(kernel: Kernel, inode: Inode) -> str:
    """The tree of the swap vector: which frames it takes, which pages each is for, and how many of those are in swap."""
    info = shmem_i(inode)
    direct = sum(1 for entry in info.i_direct if entry)
    lines = [
        f"{inode!r}: {info.swapped} pages in swap, {inode.i_mapping.nrpages} cached, next_index {info.next_index}",
        f"i_direct      pages 0 to {SHMEM_NR_DIRECT - 1}: {direct} in swap",
    ]
    if not info.i_indirect:
        return "\n".join([*lines, "i_indirect    none"])
    lines.append(f"i_indirect -> frame {_frame(info.i_indirect)}")
    top = kernel.shmem.words(info.i_indirect)
    seen = -1
    for first, address in _blocks(kernel, inode):
        depth, slot, *rest = slots_of(first)
        if depth == 2 and slot != seen:
            lines.append(f"    [{slot}] -> frame {_frame(top[slot])} of slots")
            seen = slot
        used = sum(1 for entry in kernel.shmem.words(address) if entry)
        at = f"        [{rest[0]}]" if depth == 2 else f"    [{slot}]"
        lines.append(f"{at} -> frame {_frame(address)}: pages {first} to {first + ENTRIES_PER_PAGE - 1}, {used} in swap")
    return "\n".join(lines)


def _frame(address: int) -> int:
    return (address - PAGE_OFFSET) // PAGE_SIZE
