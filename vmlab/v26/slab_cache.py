"""What 2.6's slab allocator is made of: caches with an array of objects at hand, and lists that count what is free.

    alloc <- the last of array.entries        free -> after the last
             empty: batchcount from the slabs         full: the oldest batchcount back to the slabs

A free list's links are 2 bytes each (kmem_bufctl_t). kernel: mm/slab.c
"""

from __future__ import annotations

from typing import Any

from ..hw.layout import PAGE_SIZE
from ..mm.slab_cache import FLAG_NAMES, SIZEOF_SLAB_T, SLAB_NO_REAP, Estimate, KmemCache
from ..mm.slab_objects import CACHE_CACHE_ADDRESS, SlabState

SIZEOF_BUFCTL = 2
SIZEOF_ARRAY_CACHE = 16  # bytes, before the entries
SIZEOF_KMEM_CACHE_T = 120
BOOT_CPUCACHE_ENTRIES = 1
BATCHREFILL_LIMIT = 16  # objects fetched for a cache that was not used lately
MAX_OBJ_ORDER = MAX_GFP_ORDER = 5
BREAK_GFP_ORDER_LO, BREAK_GFP_ORDER_HI = 0, 1  # slabs are not made larger than this to waste less; the second above 32 MiB
SLAB_LIMIT = 0xFFFD
REAPTIMEOUT_CPUC, REAPTIMEOUT_LIST3 = 2000, 4000  # jiffies

SLAB_STORE_USER = 0x10000
SLAB_RECLAIM_ACCOUNT = 0x20000  # its pages count as nearly free: small slabs only
SLAB_PANIC = 0x40000  # no memory for the cache is the end
SLAB_DESTROY_BY_RCU = 0x80000  # its pages are freed when no CPU looks at them any more
CFLGS_OFF_SLAB = 0x80000000
CREATE_MASK = 0x2000 | 0x1000 | 0x4000 | 0x8000 | SLAB_RECLAIM_ACCOUNT | SLAB_PANIC | SLAB_DESTROY_BY_RCU

FLAG_NAMES26 = {bit: name for bit, name in FLAG_NAMES.items() if bit < SLAB_STORE_USER} | {
    SLAB_STORE_USER: "SLAB_STORE_USER",
    SLAB_RECLAIM_ACCOUNT: "SLAB_RECLAIM_ACCOUNT",
    SLAB_PANIC: "SLAB_PANIC",
    SLAB_DESTROY_BY_RCU: "SLAB_DESTROY_BY_RCU",
    CFLGS_OFF_SLAB: "CFLGS_OFF_SLAB",
}

# Where mm/slab.c of 2.6.11 has its BUG()s.
BUG_LINES26 = {
    ("kmem_cache_init", "num"): 786,
    ("kmem_freepages", "PG_slab"): 927,
    ("kmem_cache_create", "sanity"): 1204,
    ("kmem_cache_create", "dtor"): 1232,
    ("kmem_cache_create", "flags"): 1239,
    ("kmem_cache_create", "name"): 1472,
    ("kmem_cache_shrink", "cache"): 1580,
    ("kmem_cache_destroy", "cache"): 1634,
    ("kmem_flagcheck", "not DMA"): 1754,
    ("kmem_flagcheck", "DMA"): 1757,
    ("cache_grow", "flags"): 1792,
    ("cache_alloc_refill", "avail"): 2002,
    ("cache_reap", "inuse"): 2819,
}


def cache_estimate(gfporder: int, size: int, align: int, flags: int) -> Estimate:
    """In 2.6 the slab's head is aligned as the objects are, because caches choose their alignment; before that by cache lines.

    How many objects of *size* bytes fit into 2^*gfporder* pages, and what is left over. kernel: mm/slab.c:cache_estimate
    """
    room = PAGE_SIZE << gfporder
    base, extra = (0, 0) if flags & CFLGS_OFF_SLAB else (SIZEOF_SLAB_T, SIZEOF_BUFCTL)
    num = room // (size + extra) + 1
    while num and num * size + (base + num * extra + align - 1 & -align) > room:
        num -= 1
    num = min(num, SLAB_LIMIT)
    return Estimate(num, room - num * size - (base + num * extra + align - 1 & -align))


class ArrayCache:
    """In 2.6 every CPU has such a stack of objects, also the only one, because what was freed last is still in its cache; before that only
    machines with several CPUs.

    *entries* are object addresses: the last one is handed out first. ``touched``: used since cache_reap() came by.
    kernel: mm/slab.c:array_cache
    """

    __slots__ = ("address", "batchcount", "entries", "limit", "touched")

    def __init__(self, address: int, limit: int, batchcount: int) -> None:
        self.address = address  # of its memory: 16 + 4 * limit bytes from kmalloc; 0: in the kernel image
        self.limit = limit
        self.batchcount = batchcount
        self.touched = 0
        self.entries: list[int] = []

    @property
    def avail(self) -> int:
        """Objects in it."""
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<ArrayCache {len(self.entries)} of {self.limit} objects>"


class KmemCache26(KmemCache):
    """In 2.6 with an array of objects at hand, and the count of free ones, because a cache may keep only so many; before that neither.

    kernel: mm/slab.c:kmem_cache_s, kmem_list3
    """

    def __init__(self, name: str, address: int) -> None:
        super().__init__(name, address)
        self.array = ArrayCache(0, BOOT_CPUCACHE_ENTRIES, 1)
        self.shared: ArrayCache | None = None  # between CPUs; one CPU alone has one with no room
        self.limit = BOOT_CPUCACHE_ENTRIES
        self.batchcount = 1
        self.free_objects = 0  # in slabs: those in arrays do not count
        self.free_limit = 0  # more than so many, and empty slabs are given back at once
        self.free_touched = 0  # a free slab was needed since cache_reap() came by
        self.next_reap = 0  # jiffies
        self.slab_size = 0  # bytes of the slab's head

    @property
    def off_slab(self) -> bool:
        """In 2.6 another bit, because flags were added; before that bit 16. kernel: mm/slab.c:OFF_SLAB"""
        return bool(self.flags & CFLGS_OFF_SLAB)

    @property
    def management_size(self) -> int:
        """In 2.6 kept (slab_size), because it depends on the alignment; before that it was computed. Bytes of the slab's head."""
        return self.slab_size

    def flag_names(self) -> list[str]:
        """In 2.6 with the flags that came. Names of the flags that are set."""
        return [name for bit, name in FLAG_NAMES26.items() if self.flags & bit]


class SlabState26(SlabState):
    """In 2.6 also the pages that could be freed in need, because __vm_enough_memory() counts them, and when to tidy up."""

    def __init__(self) -> None:
        super().__init__()
        self.cache_cache: Any = KmemCache26("kmem_cache", CACHE_CACHE_ADDRESS)
        self.cache_cache.flags = SLAB_NO_REAP
        self.cache_chain = [self.cache_cache]  # newest first; this one stays last
        self.clock_searchp = self.cache_cache
        self.cache_at = {CACHE_CACHE_ADDRESS: self.cache_cache}
        self.slab_break_gfp_order = BREAK_GFP_ORDER_LO
        self.cpucache_up = "NONE"  # g_cpucache_up: NONE, PARTIAL or FULL
        self.slab_reclaim_pages = 0
        self.reap_at: int | None = None  # jiffies at which cache_reap() is due
        self.jiffies = 0  # of a machine that has no clock
