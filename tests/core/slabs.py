"""Slab allocators for tests: on a machine with nothing below them but the page allocator."""

from __future__ import annotations

from vmlab import Machine
from vmlab.mm.slab import SlabAllocator
from vmlab.mm.slab_cache import KmemCache

BOOTED = Machine(ram="64M", kernel_objects=None).power_on().snapshot()


def start(slab: SlabAllocator | None = None, objects: str | None = None) -> SlabAllocator:
    """A slab allocator on a machine without processes, ready to use."""
    machine = Machine(ram="64M", kernel_objects=None)
    machine.restore(BOOTED)
    if objects is not None:
        machine.config = machine.config._replace(kernel_objects=objects)
    slab = slab or SlabAllocator()
    slab.attach(machine)
    slab.kmem_cache_init()
    slab.kmem_cache_sizes_init()
    slab.kmem_cpucache_init()
    return slab


def create(slab: SlabAllocator, name: str, size: int, offset: int = 0, flags: int = 0) -> KmemCache:
    cachep = slab.kmem_cache_create(name, size, offset, flags)
    assert cachep is not None
    return cachep


def lengths(cachep: KmemCache) -> tuple[int, int, int]:
    return len(cachep.slabs_full), len(cachep.slabs_partial), len(cachep.slabs_free)


def fill(slab: SlabAllocator, cachep: KmemCache, slabs: int) -> list[list[int]]:
    """Objects of *slabs* full slabs, slab by slab."""
    return [[slab.kmem_cache_alloc(cachep) for _ in range(cachep.num)] for _ in range(slabs)]
