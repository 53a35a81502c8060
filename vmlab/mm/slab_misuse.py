"""What a caller of the slab allocator did wrong, found from the outside: the plain kernel believes all it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_OFFSET, PAGE_SHIFT
from .page_flags import PG_slab
from .slab_cache import BUFCTL_END

if TYPE_CHECKING:
    from .slab import SlabAllocator

__all__ = ["why_not_free"]


def why_not_free(allocator: SlabAllocator, address: int, cache: str | None = None) -> str | None:
    """Why the object at kernel *address* cannot be freed (into *cache*): a sentence; None when it can, or the kernel itself will say.

    An allocator with slab debugging says it for every object, so nothing is looked at then.
    """
    kernel, state = allocator.kernel, allocator.state
    if allocator.DEBUG or state.outside or kernel.config.kernel != "2.4":
        return None
    pfn = address - PAGE_OFFSET >> PAGE_SHIFT
    if not 0 <= pfn < kernel.mem.frames or not kernel.mem.flags[pfn] >> PG_slab & 1:
        return None
    cachep, slab = state.cache_at.get(kernel.mem.list.next[pfn]), state.slab_at.get(kernel.mem.list.prev[pfn])
    if cachep is None or slab is None or cachep.outside:
        return None
    if cache is not None and cachep.name != cache:
        return f"{address:#x} is an object of {cachep.name}, not of {cache}: the kernel would damage both"
    number, rest = divmod(address - slab.s_mem, cachep.objsize)
    if rest or not 0 <= number < cachep.num:
        where = f"there is one every {cachep.objsize} bytes from {slab.s_mem:#x} on"
        return f"{address:#x} is not the start of an object of {cachep.name} ({where})"
    free = slab.free
    while free != BUFCTL_END:
        if free == number:
            return f"{address:#x} is free already: freed again, {cachep.name} would hand it out twice"
        free = slab.bufctl[free]
    for parked in cachep.cpudata or ():
        if parked is not None and address in parked.entries:
            return f"{address:#x} is free already: a processor keeps it at hand for {cachep.name}"
    return None
