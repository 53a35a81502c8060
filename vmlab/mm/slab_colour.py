"""What colouring is worth: conflict misses of a coloured cache and of the same one without colours.

Slabs start on page boundaries, and so does every set of a cache whose ways are as large as a page. Without
colouring, object 0 of every slab falls on the same set, object 1 on the same other one, and so on: who walks
over one object of each slab uses a handful of sets and leaves the rest idle. kernel: mm/slab.c:kmem_cache_grow
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..hw.cache import L1Cache
from ..hw.layout import PAGE_OFFSET
from .gfp import GFP_KERNEL
from .slab import SlabAllocator
from .slab_cache import KmemCache


class ColourReport(NamedTuple):
    """Accesses to objects of one cache, after a first round that fills the L1 cache."""

    cache: str
    colours: int  # different offsets its slabs begin at
    sets: int  # sets of the L1 cache that the objects touch
    accesses: int
    conflict: int  # misses that a cache of the same size without sets would not have had
    capacity: int  # misses that any cache of that size would have had

    @property
    def conflict_ratio(self) -> float:
        """Conflict misses per access, 0 to 1."""
        return self.conflict / self.accesses if self.accesses else 0.0


def walk(cachep: KmemCache, objects: Sequence[int], size: int, rounds: int = 4, l1: L1Cache | None = None) -> ColourReport:
    """Touch the first *size* bytes of each of *objects* (kernel addresses), *rounds* times after a first one that is not counted.

    *l1*: the cache to go through, a Pentium III's by default.
    """
    l1 = l1 or L1Cache()
    lines = [line for objp in objects for line in range((objp - PAGE_OFFSET) & -l1.line, objp - PAGE_OFFSET + size, l1.line)]
    for address in lines:
        l1.access(address)
    l1.reset_counters()
    for _ in range(rounds):
        for address in lines:
            l1.access(address)
    offsets = {slab.colouroff for slab in cachep.slabs()}
    return ColourReport(cachep.name, len(offsets), len({l1.set_of(a) for a in lines}), rounds * len(lines), l1.conflict, l1.capacity)


def compare_colouring(
    slab: SlabAllocator, size: int, slabs: int, *, flags: int = 0, touch: int = 32, rounds: int = 4, number: int = 0
) -> tuple[ColourReport, ColourReport]:
    """Two caches of objects of *size* bytes, the second without colours: walk over object *number* of *slabs* slabs each.

    *touch*: bytes used of each object. The caches are destroyed again. Raises ValueError when a slab has no
    object *number*, MemoryError when the machine is too small. Returns (coloured, plain).
    """
    reports = []
    for name in ("coloured", "plain"):
        cachep = slab.kmem_cache_create(f"{name}-{size}", size, 0, flags)
        if cachep is None:
            raise MemoryError("no memory for another cache")
        if name == "plain":
            cachep.colour = 0
        if not 0 <= number < cachep.num:
            raise ValueError(f"number={number}: a slab has objects 0 to {cachep.num - 1}")
        objects = [slab.kmem_cache_alloc(cachep, GFP_KERNEL) for _ in range(slabs * cachep.num)]
        if not all(objects):
            raise MemoryError(f"no memory for {slabs} slabs")
        by_age = sorted(cachep.slabs(), key=lambda s: s.seq)
        reports.append(walk(cachep, [s.s_mem + number * cachep.objsize for s in by_age], touch, rounds))
        for objp in objects:
            slab.kmem_cache_free(cachep, objp)
        slab.kmem_cache_destroy(cachep)
    return reports[0], reports[1]
