"""What the slab allocator is made of: caches, slabs, and how objects are laid out in a slab.

A *cache* (``kmem_cache_t``) holds objects of one size. It takes its memory in *slabs* of
2^gfporder pages; a slab is on one of the cache's three lists:

    slabs_full      every object is in use
    slabs_partial   some are: the next object comes from the first of these
    slabs_free      none is: only such a slab can be given back

    on-slab                                       off-slab
    +--------+--------+---------+-----+-------+   +--------+-----+-----+-------+    slab_t + bufctl are an
    | colour | slab_t | bufctl  | obj |  ...  |   | colour | obj | obj |  ...  |    object of size-32, -64 ...
    +--------+--------+---------+-----+-------+   +--------+-----+-----+-------+
    |<-------- colouroff ------>|s_mem            |<------>|s_mem

``bufctl[i]`` is the number of the free object after object i; ``free`` is the first one. kernel: mm/slab.c
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..hw.layout import PAGE_SIZE
from .gfp import GFP_ATOMIC, GFP_DMA, GFP_KERNEL, GFP_NFS, GFP_NOFS, GFP_NOHIGHIO, GFP_NOIO, GFP_USER

L1_CACHE_BYTES = 32  # Pentium III
BYTES_PER_WORD = 4
SIZEOF_SLAB_T = 24  # list 8, colouroff 4, s_mem 4, inuse 4, free 4
SIZEOF_BUFCTL = 4
CACHE_NAMELEN = 20  # bytes, one of them the terminating zero

REAP_SCANLEN = 10  # caches kmem_cache_reap looks at
REAP_PERFECT = 10  # pages that are enough to look no further
MAX_OBJ_ORDER = 5  # an object has at most 2^5 pages
MAX_GFP_ORDER = 5  # so has a slab
BREAK_GFP_ORDER_LO = 1  # slabs are not made larger than this to waste less ...
BREAK_GFP_ORDER_HI = 2  # ... with more than 32 MiB of memory
BUFCTL_END = 0xFFFFFFFF
SLAB_LIMIT = 0xFFFFFFFE

# How much an allocation may do (kmem_cache_alloc, kmalloc): the GFP flags by other names.
SLAB_NOFS, SLAB_NOIO, SLAB_NOHIGHIO = GFP_NOFS, GFP_NOIO, GFP_NOHIGHIO
SLAB_ATOMIC, SLAB_USER, SLAB_KERNEL, SLAB_NFS, SLAB_DMA = GFP_ATOMIC, GFP_USER, GFP_KERNEL, GFP_NFS, GFP_DMA
SLAB_LEVEL_MASK = 0x1F0
SLAB_NO_GROW = 0x1000

# What a cache is like (kmem_cache_create).
SLAB_DEBUG_FREE = 0x0100
SLAB_DEBUG_INITIAL = 0x0200  # call the constructor on every free, to verify
SLAB_RED_ZONE = 0x0400  # a known word before and after each object
SLAB_POISON = 0x0800  # a known pattern in free objects
SLAB_NO_REAP = 0x1000  # kmem_cache_reap leaves it alone
SLAB_HWCACHE_ALIGN = 0x2000  # objects start on cache lines
SLAB_CACHE_DMA = 0x4000  # memory below 16 MiB
SLAB_MUST_HWCACHE_ALIGN = 0x8000  # align even when debugging
CREATE_MASK = SLAB_HWCACHE_ALIGN | SLAB_NO_REAP | SLAB_CACHE_DMA | SLAB_MUST_HWCACHE_ALIGN
CFLGS_OFF_SLAB = 0x10000  # slab_t and bufctl live in another cache
CFLGS_OPTIMIZE = 0x20000  # one page, slab_t inside
DFLGS_GROWN = 1  # has grown since kmem_cache_reap last came by

# What a constructor is told.
SLAB_CTOR_CONSTRUCTOR = 1
SLAB_CTOR_ATOMIC = 2
SLAB_CTOR_VERIFY = 4

FLAG_NAMES = {
    SLAB_DEBUG_INITIAL: "SLAB_DEBUG_INITIAL",
    SLAB_RED_ZONE: "SLAB_RED_ZONE",
    SLAB_POISON: "SLAB_POISON",
    SLAB_NO_REAP: "SLAB_NO_REAP",
    SLAB_HWCACHE_ALIGN: "SLAB_HWCACHE_ALIGN",
    SLAB_CACHE_DMA: "SLAB_CACHE_DMA",
    SLAB_MUST_HWCACHE_ALIGN: "SLAB_MUST_HWCACHE_ALIGN",
    CFLGS_OFF_SLAB: "CFLGS_OFF_SLAB",
    CFLGS_OPTIMIZE: "CFLGS_OPTIMIZE",
}


def l1_cache_align(size: int) -> int:
    """Round *size* (bytes) up to whole cache lines. kernel: include/linux/cache.h:L1_CACHE_ALIGN"""
    return (size + L1_CACHE_BYTES - 1) & -L1_CACHE_BYTES


class Estimate(NamedTuple):
    """What fits into a slab: *num* objects, *left_over* bytes nobody uses."""

    num: int
    left_over: int


def kmem_cache_estimate(gfporder: int, size: int, flags: int) -> Estimate:
    """How many objects of *size* bytes fit into 2^*gfporder* pages, and what is left over.

    On-slab, the slab_t and one bufctl per object come out of the same pages.
    kernel: mm/slab.c:kmem_cache_estimate
    """
    room = PAGE_SIZE << gfporder
    base, extra = (0, 0) if flags & CFLGS_OFF_SLAB else (SIZEOF_SLAB_T, SIZEOF_BUFCTL)
    num = 0
    while num * size + l1_cache_align(base + num * extra) <= room:
        num += 1
    num = min(max(num - 1, 0), SLAB_LIMIT)
    return Estimate(num, room - num * size - l1_cache_align(base + num * extra))


class Slab:
    """``slab_t``: one slab, 2^gfporder contiguous pages with objects in them. kernel: mm/slab.c:slab_t, kmem_bufctl_t"""

    __slots__ = ("address", "bufctl", "colouroff", "free", "inuse", "next", "prev", "s_mem", "seq")

    next: Slab
    prev: Slab

    def __init__(self, address: int, colouroff: int, s_mem: int, seq: int) -> None:
        self.address = address  # kernel address of the slab_t
        self.colouroff = colouroff  # bytes from the first page's start to s_mem
        self.s_mem = s_mem  # kernel address of object 0
        self.seq = seq  # how many slabs the cache had made before; the kernel does not keep this
        self.inuse = 0  # objects handed out
        self.free = 0  # first free object, BUFCTL_END when there is none
        self.bufctl: list[int] = []

    def del_(self) -> None:
        """Leave the list. kernel: include/linux/list.h:list_del"""
        before, after = self.prev, self.next
        before.next = after
        after.prev = before

    @property
    def start(self) -> int:
        """Kernel address of the first page."""
        return self.s_mem - self.colouroff

    def free_objects(self) -> list[int]:
        """Numbers of the free objects, in the order in which they will be handed out.

        Stops where the chain comes back to an object it has passed: a double free makes such a ring.
        """
        chain: list[int] = []
        seen = set()
        i = self.free
        while i != BUFCTL_END and i not in seen and i < len(self.bufctl):
            chain.append(i)
            seen.add(i)
            i = self.bufctl[i]
        return chain

    def __getstate__(self) -> list[Any]:
        return [self.address, self.colouroff, self.s_mem, self.seq, self.inuse, self.free, self.bufctl]

    def __setstate__(self, state: list[Any]) -> None:
        self.address, self.colouroff, self.s_mem, self.seq, self.inuse, self.free, self.bufctl = state

    def __repr__(self) -> str:
        return f"<Slab {self.start:#x}, {self.inuse} of {len(self.bufctl)} objects in use>"


class SlabList(Slab):
    """A list of slabs: its ``next`` is the first, its ``prev`` the last. kernel: include/linux/list.h"""

    __slots__ = ()

    def __init__(self) -> None:
        self.next = self.prev = self

    def add(self, slab: Slab) -> None:
        """Put *slab* at the front. kernel: include/linux/list.h:list_add"""
        first = self.next
        self.next = first.prev = slab
        slab.prev = self
        slab.next = first

    def add_tail(self, slab: Slab) -> None:
        """Put *slab* at the end. kernel: include/linux/list.h:list_add_tail"""
        last = self.prev
        self.prev = last.next = slab
        slab.prev = last
        slab.next = self

    def __iter__(self) -> Iterator[Slab]:
        slab = self.next
        while slab is not self:
            yield slab
            slab = slab.next

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return self.next is not self

    def __getstate__(self) -> list[Any]:
        return [None, *self]  # an empty state would not be handed to __setstate__

    def __setstate__(self, state: list[Any]) -> None:
        self.next = self.prev = self
        for slab in state[1:]:
            self.add_tail(slab)

    def __repr__(self) -> str:
        return f"<SlabList of {len(self)}>"


class CpuCache:
    """``cpucache_t``: the objects one CPU keeps at hand. kernel: mm/slab.c:cpucache_t, cc_entry"""

    __slots__ = ("address", "entries", "limit")

    def __init__(self, address: int, limit: int) -> None:
        self.address = address  # of its memory: 8 + 4 * limit bytes from kmalloc
        self.limit = limit
        self.entries: list[int] = []  # object addresses; the last one is handed out first

    @property
    def avail(self) -> int:
        """Objects in it."""
        return len(self.entries)


class CacheStats:
    """Counters of a cache in a kernel built with CONFIG_DEBUG_SLAB. kernel: mm/slab.c:kmem_cache_s, STATS_INC_ALLOCED"""

    __slots__ = ("allochit", "allocmiss", "errors", "freehit", "freemiss", "grown", "high_mark", "num_active", "num_allocations", "reaped")

    def __init__(self) -> None:
        self.num_active = self.num_allocations = self.high_mark = 0  # objects
        self.grown = self.reaped = self.errors = 0  # slabs, slabs, errors
        self.allochit = self.allocmiss = self.freehit = self.freemiss = 0  # per-CPU arrays


Constructor = Callable[[int, "KmemCache", int], None]  # (object address, cache, SLAB_CTOR_ flags)

# Constructors and destructors by name: a saved machine holds the name only, since data must not be able to run code.
_FUNCTIONS: dict[str, Constructor] = {}


def function_name(function: Constructor | None) -> str | None:
    """The name under which a copy of the machine will find *function* again; None for None."""
    if function is None:
        return None
    stem = name = f"{function.__module__}.{getattr(function, '__qualname__', 'function')}"
    count = 1
    while name in _FUNCTIONS and _FUNCTIONS[name] != function:
        count += 1
        name = f"{stem}#{count}"
    _FUNCTIONS[name] = function
    return name


def named_function(name: str | None) -> Constructor | None:
    """The function that :func:`function_name` gave *name*. Raises LookupError when this program has none of that name."""
    if name is None:
        return None
    if name not in _FUNCTIONS:
        raise LookupError(f"a cache has the constructor or destructor {name}, which is not known here: create a cache with it first")
    return _FUNCTIONS[name]


class KmemCache:
    """``kmem_cache_t``: a cache of objects of one size. Sizes and offsets are in bytes. kernel: mm/slab.c:kmem_cache_s"""

    def __init__(self, name: str, address: int) -> None:
        self.name = name
        self.address = address  # kernel address of the kmem_cache_t
        self.slabs_full = SlabList()
        self.slabs_partial = SlabList()
        self.slabs_free = SlabList()
        self.objsize = 0
        self.flags = 0
        self.num = 0  # objects in a slab
        self.gfporder = 0
        self.gfpflags = 0
        self.colour = 0  # how many offsets there are to choose from
        self.colour_off = 0  # bytes between two of them
        self.colour_next = 0
        self.slabp_cache: KmemCache | None = None  # where slab_t and bufctl are when they are off-slab
        self.growing = 0
        self.dflags = 0
        self.ctor: Constructor | None = None
        self.dtor: Constructor | None = None
        self.failures = 0
        self.batchcount = 0  # objects moved at a time between a CPU's array and the slabs
        self.cpudata: list[CpuCache | None] = []  # by CPU
        self.stats = CacheStats()
        self.made = 0  # slabs made so far; the kernel does not keep this
        self.outside = False  # its objects are not in this machine's memory at all
        self.outside_inuse = 0  # objects of such a cache

    @property
    def off_slab(self) -> bool:
        """Whether slab_t and bufctl are in another cache. kernel: mm/slab.c:OFF_SLAB"""
        return bool(self.flags & CFLGS_OFF_SLAB)

    @property
    def management_size(self) -> int:
        """Bytes of a slab_t with its bufctl, in whole cache lines."""
        return l1_cache_align(self.num * SIZEOF_BUFCTL + SIZEOF_SLAB_T)

    def lists(self) -> list[tuple[str, SlabList]]:
        """The three lists by name, in the order in which the kernel names them."""
        return [("full", self.slabs_full), ("partial", self.slabs_partial), ("free", self.slabs_free)]

    def slabs(self) -> Iterator[Slab]:
        """Every slab: full, partial, free, each list from its head."""
        for _, slabs in self.lists():
            yield from slabs

    @property
    def active_objs(self) -> int:
        """Objects in use (those in per-CPU arrays count as used)."""
        return sum(slab.inuse for slab in self.slabs())

    @property
    def pages(self) -> int:
        """Pages it has from the page allocator."""
        return sum(1 for _ in self.slabs()) << self.gfporder

    def flag_names(self) -> list[str]:
        """Names of the flags that are set."""
        return [name for bit, name in FLAG_NAMES.items() if self.flags & bit]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "ctor": function_name(self.ctor), "dtor": function_name(self.dtor)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.ctor = named_function(state["ctor"])
        self.dtor = named_function(state["dtor"])

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(slabs)} {name}" for name, slabs in self.lists())
        return f"<KmemCache {self.name}: objects of {self.objsize} bytes, {self.num} in a slab of order {self.gfporder}; slabs: {counts}>"
