"""Slab caches as people use them: make one, take objects from it, give them back, look inside.

>>> c = m.kmem_cache_create("inode_cache", 480)
>>> a = c.alloc()
>>> c.free(a)
>>> print(m.slabinfo())
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from .kernel_memory import KernelMemory
from .mm.gfp import GFP_KERNEL
from .mm.slab_cache import Constructor, KmemCache, Slab, function_name, named_function
from .mm.slab_smp import SmpSlabAllocator
from .process import Address
from .system import op

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["Cache", "Caches"]

P = ParamSpec("P")
R = TypeVar("R")


class Cache:
    """One cache of a machine, found by its name: it stays the right one when the machine goes back in time."""

    __slots__ = ("machine", "name")

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name

    @property
    def descriptor(self) -> KmemCache:
        """Its kmem_cache_t. Raises ValueError after the cache was destroyed."""
        return self.machine.slab.cache(self.name)

    @property
    def slabs(self) -> list[Slab]:
        """Its slabs: full, partial, free, each list from its head."""
        return list(self.descriptor.slabs())

    @property
    def objects_in_use(self) -> int:
        """Objects handed out (those in per-CPU arrays count)."""
        return self.descriptor.active_objs

    def alloc(self, flags: int = GFP_KERNEL) -> int:
        """An object: its kernel address, 0 without memory. kernel: mm/slab.c:kmem_cache_alloc"""
        return self.machine.kmem_cache_alloc(self.name, flags)

    def free(self, address: int) -> None:
        """Give an object back. kernel: mm/slab.c:kmem_cache_free"""
        self.machine.kmem_cache_free(self.name, address)

    def shrink(self) -> int:
        """Give its free slabs back; returns pages. kernel: mm/slab.c:kmem_cache_shrink"""
        return self.machine.kmem_cache_shrink(self.name)

    def destroy(self) -> int:
        """Destroy it; 1 when objects are in use. kernel: mm/slab.c:kmem_cache_destroy"""
        return self.machine.kmem_cache_destroy(self.name)

    def __repr__(self) -> str:
        try:
            return repr(self.descriptor).replace("<KmemCache", "<Cache", 1)
        except ValueError:
            return f"<Cache {self.name}, destroyed>"


def by_name(method: Callable[Concatenate[Any, str, P], R]) -> Callable[Concatenate[Any, str | Cache, P], R]:
    """Let an operation on a cache take the cache's name or a :class:`Cache`; the name is what is recorded."""

    @functools.wraps(method)
    def named(self: Any, /, cache: str | Cache, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self, cache if isinstance(cache, str) else cache.name, *args, **kwargs)

    return cast("Callable[Concatenate[Any, str | Cache, P], R]", named)


class Caches(KernelMemory):
    """The part of a machine that deals in kernel objects. Caches are given by name, or as what kmem_cache_create returned."""

    def cache(self, name: str) -> Cache:
        """The cache called *name*. Raises ValueError when there is none."""
        self.slab.cache(name)
        return Cache(cast("Machine", self), name)

    def caches(self) -> list[Cache]:
        """Every cache, in the order of the kernel's chain."""
        return [Cache(cast("Machine", self), cachep.name) for cachep in self.slab.caches()]

    def kmem_cache_create(
        self,
        name: str,
        size: int,
        offset: int = 0,
        flags: int = 0,
        ctor: Constructor | str | None = None,
        dtor: Constructor | str | None = None,
    ) -> Cache | None:
        """Make a cache of objects of *size* bytes; None without memory.

        *flags*: SLAB_ constants of vmlab.mm.slab_cache. *ctor* and *dtor* are called with (address, cache, flags);
        a recording keeps their names. Raises KernelBug where the kernel refuses. kernel: mm/slab.c:kmem_cache_create
        """
        made = self.create_cache(name, size, offset, flags, _function_name(ctor), _function_name(dtor))
        return Cache(cast("Machine", self), name) if made else None

    @op
    def create_cache(self, name: str, size: int, offset: int, flags: int, ctor: str | None, dtor: str | None) -> bool:
        """kmem_cache_create as it is recorded: with the names of the functions. Returns whether there was memory."""
        cachep = self.slab.kmem_cache_create(name, size, offset, flags, named_function(ctor), named_function(dtor))
        if cachep is not None and cachep.outside:
            raise ValueError("this machine keeps kernel objects outside its memory; boot it with kernel_objects='ram'")
        return cachep is not None

    @by_name
    @op
    def kmem_cache_alloc(self, cache: str, flags: int = GFP_KERNEL) -> int:
        """An object of *cache*: its kernel address, 0 without memory. kernel: mm/slab.c:kmem_cache_alloc"""
        return Address(self.slab.kmem_cache_alloc(self.slab.cache(cache), flags))

    @by_name
    @op
    def kmem_cache_free(self, cache: str, address: int) -> None:
        """Give an object of *cache* back. kernel: mm/slab.c:kmem_cache_free

        Raises ValueError for what is no object of it in use, and KernelBug, as :meth:`kfree`.
        """
        self._refuse_bad_free(address, cache)
        self.slab.kmem_cache_free(self.slab.cache(cache), address)

    @by_name
    @op
    def kmem_cache_shrink(self, cache: str) -> int:
        """Give the free slabs of *cache* back; returns pages. kernel: mm/slab.c:kmem_cache_shrink"""
        return self.slab.kmem_cache_shrink(self.slab.cache(cache))

    @by_name
    @op
    def kmem_cache_destroy(self, cache: str) -> int:
        """Destroy a cache. Returns 0, or 1 when objects are in use: it stays then. kernel: mm/slab.c:kmem_cache_destroy"""
        return self.slab.kmem_cache_destroy(self.slab.cache(cache))

    @op
    def kmem_cache_reap(self, gfp_mask: int = GFP_KERNEL) -> int:
        """Take memory from the next caches, as page reclaim does; returns pages. kernel: mm/slab.c:kmem_cache_reap"""
        return self.slab.kmem_cache_reap(gfp_mask)

    @op
    def slabinfo_write(self, text: str) -> int:
        """Write "name limit batchcount" to /proc/slabinfo. Returns the length, or -EINVAL, -ENOMEM. kernel: mm/slab.c:slabinfo_write"""
        return self._several().slabinfo_write(text)

    @op
    def set_cpu(self, cpu: int) -> None:
        """Let processor *cpu* run what follows. Raises ValueError where there is only one."""
        self._several().set_cpu(cpu)

    def _several(self) -> SmpSlabAllocator:
        if not isinstance(self.slab, SmpSlabAllocator):
            raise ValueError("this machine has one processor; boot it with parts={'slab': vmlab.mm.slab_smp.SmpSlabAllocator}")
        return self.slab


def _function_name(function: Constructor | str | None) -> str | None:
    return function if isinstance(function, str) else function_name(function)
