"""The chain of caches: creating and destroying one, and taking free slabs back from them. kernel: mm/slab.c"""

from __future__ import annotations

from ..errors import KernelBug
from ..hw.layout import PAGE_SIZE
from .gfp import GFP_DMA, GFP_KERNEL, WAIT
from .slab_cache import (
    BYTES_PER_WORD,
    CACHE_NAMELEN,
    CFLGS_OFF_SLAB,
    CFLGS_OPTIMIZE,
    CREATE_MASK,
    DFLGS_GROWN,
    L1_CACHE_BYTES,
    MAX_GFP_ORDER,
    MAX_OBJ_ORDER,
    REAP_PERFECT,
    REAP_SCANLEN,
    SLAB_CACHE_DMA,
    SLAB_HWCACHE_ALIGN,
    SLAB_NO_REAP,
    Constructor,
    KmemCache,
    kmem_cache_estimate,
)
from .slab_objects import SlabObjects


class SlabChain(SlabObjects):
    """The ring of caches that begins with cache_cache."""

    CREATE_MASK = CREATE_MASK

    # -- creating -----------------------------------------------------------------------------

    def kmem_cache_create(
        self, name: str, size: int, offset: int = 0, flags: int = 0, ctor: Constructor | None = None, dtor: Constructor | None = None
    ) -> KmemCache | None:
        """Make a cache of objects of *size* bytes and put it at the front of the chain.

        *offset*: bytes between two colours (0: a cache line). *flags*: SLAB_ constants. *ctor* is called as
        ctor(address, cache, SLAB_CTOR_ flags) on each object of a new slab, *dtor* before a slab goes. Returns None without memory; raises
        KernelBug for a name of 19 or more characters or one that exists, a size below 4 bytes or above 32
        pages, an offset beyond the size, a destructor without a constructor, unknown flags.
        kernel: mm/slab.c:kmem_cache_create
        """
        state = self.state
        if (
            not name
            or len(name.encode()) >= CACHE_NAMELEN - 1
            or state.in_interrupt
            or not BYTES_PER_WORD <= size <= PAGE_SIZE << MAX_OBJ_ORDER
            or (dtor is not None and ctor is None)
            or not 0 <= offset <= size
        ):
            raise self.bug("kmem_cache_create", "sanity", f"name {name!r}, size {size}, offset {offset}: not a sound request for a cache")
        flags = self.debug_flags(name, size, flags, ctor)
        if flags & ~self.CREATE_MASK:
            raise self.bug("kmem_cache_create", "flags", f"flags {flags & ~self.CREATE_MASK:#x} of {name} are unknown to this kernel")
        if state.outside:
            return self.outside_cache(name, size)
        address = self.kmem_cache_alloc(state.cache_cache, GFP_KERNEL)
        if not address:
            return None
        cachep = KmemCache(name, address)
        if size & BYTES_PER_WORD - 1:
            size = size + BYTES_PER_WORD - 1 & -BYTES_PER_WORD
            self.kernel.printk(3, f"kmem_create: Forcing size word alignment - {name}")
        size, flags = self.debug_size(size, flags)
        align = BYTES_PER_WORD
        if flags & SLAB_HWCACHE_ALIGN:
            align = L1_CACHE_BYTES
        if size >= PAGE_SIZE >> 3:
            flags |= CFLGS_OFF_SLAB
        if flags & SLAB_HWCACHE_ALIGN:
            while size < align // 2:  # at least two such objects fit into a line
                align //= 2
            size = size + align - 1 & -align
        left_over = self.kmem_cache_size_slabs(cachep, size, flags)
        if not cachep.num:
            self.kernel.printk(None, f"kmem_cache_create: couldn't create cache {name}.")
            self.kmem_cache_free(state.cache_cache, address)
            return None
        if flags & CFLGS_OFF_SLAB and left_over >= cachep.management_size:
            flags &= ~CFLGS_OFF_SLAB  # there is room for it after all
            left_over -= cachep.management_size
        offset = offset + align - 1 & -align
        if not offset:
            offset = L1_CACHE_BYTES
        cachep.colour_off = offset
        cachep.colour = left_over // offset
        if not cachep.gfporder and not flags & CFLGS_OFF_SLAB:
            flags |= CFLGS_OPTIMIZE
        cachep.flags = flags
        cachep.gfpflags = GFP_DMA if flags & SLAB_CACHE_DMA else 0
        cachep.objsize = size
        if flags & CFLGS_OFF_SLAB:
            cachep.slabp_cache = self.kmem_find_general_cachep(cachep.management_size, 0)
        cachep.ctor = ctor
        cachep.dtor = dtor
        self.cpucache_create(cachep)
        self.down_cache_chain("kmem_cache_create")
        if any(other.name == name for other in state.cache_chain[1:]):
            raise self.bug("kmem_cache_create", "name", f"there is a cache {name} already")
        state.cache_chain.insert(1, cachep)
        self.up_cache_chain()
        state.cache_at[address] = cachep
        if self.on_event is not None:
            self.on_event(("cache_create", name, size, cachep.num, cachep.gfporder, cachep.colour, int(cachep.off_slab)))
        return cachep

    def kmem_cache_size_slabs(self, cachep: KmemCache, size: int, flags: int) -> int:
        """Choose how many pages a slab of *cachep* has and how many objects go into it; returns the bytes left over.

        Small slabs are easy to get; larger ones waste less. It stops at 1/8 of waste, or at
        slab_break_gfp_order. kernel: mm/slab.c:kmem_cache_create
        """
        state = self.state
        while True:
            cachep.num, left_over = kmem_cache_estimate(cachep.gfporder, size, flags)
            if cachep.gfporder >= MAX_GFP_ORDER:
                return left_over
            if cachep.num:
                if flags & CFLGS_OFF_SLAB and cachep.num > state.offslab_limit:
                    cachep.gfporder -= 1  # too many for a bufctl array that must itself be on-slab
                    cachep.num, left_over = kmem_cache_estimate(cachep.gfporder, size, flags)
                    return left_over
                if cachep.gfporder >= state.slab_break_gfp_order or left_over * 8 <= PAGE_SIZE << cachep.gfporder:
                    return left_over
            cachep.gfporder += 1

    def debug_flags(self, name: str, size: int, flags: int, ctor: Constructor | None) -> int:
        """The flags as this kernel takes them; one with CONFIG_DEBUG_SLAB adds some."""
        return flags

    def debug_size(self, size: int, flags: int) -> tuple[int, int]:
        """Size and flags with room for red zones, in a kernel that has them."""
        return size, flags

    def cpucache_create(self, cachep: KmemCache) -> None:
        """Give a new cache its per-CPU arrays, on a machine with several CPUs."""

    def kmem_find_general_cachep(self, size: int, gfpflags: int) -> KmemCache:
        """kmalloc's cache for *size* bytes. kernel: mm/slab.c:kmem_find_general_cachep"""
        for entry in self.state.cache_sizes:
            if size <= entry.cs_size:
                return entry.cs_dmacachep if gfpflags & GFP_DMA else entry.cs_cachep
        raise KernelBug("kmem_find_general_cachep", f"no general cache has objects of {size} bytes (yet)", "oops")

    def outside_cache(self, name: str, size: int) -> KmemCache:
        """A cache whose objects are not in this machine's memory."""
        cachep = KmemCache(name, self.outside_address(128))
        cachep.objsize = size
        cachep.outside = True
        return cachep

    # -- giving back --------------------------------------------------------------------------

    def kmem_cache_shrink_locked(self, cachep: KmemCache) -> int:
        """Give all free slabs back, last one first, unless the cache is growing; returns how many.

        kernel: mm/slab.c:__kmem_cache_shrink_locked
        """
        slabs = 0
        free = cachep.slabs_free
        while not cachep.growing and free:
            slab = free.prev
            if self.DEBUG and slab.inuse:
                raise self.bug("kmem_cache_shrink_locked", "inuse", f"a free slab of {cachep.name} has {slab.inuse} objects in use")
            slab.del_()
            self.kmem_slab_destroy(cachep, slab)
            slabs += 1
        if self.on_event is not None:
            self.on_event(("cache_shrink", cachep.name, slabs))
        return slabs

    def drain_cpu_caches(self, cachep: KmemCache) -> None:
        """Empty every CPU's array, on a machine with several. kernel: mm/slab.c:drain_cpu_caches"""

    def is_chained_kmem_cache(self, cachep: KmemCache) -> bool:
        """Whether it is a cache at all. Only a debugging kernel looks. kernel: mm/slab.c:is_chained_kmem_cache"""
        if not self.DEBUG:
            return True
        self.down_cache_chain("is_chained_kmem_cache")
        chained = cachep in self.state.cache_chain[1:]
        self.up_cache_chain()
        return chained

    def kmem_cache_shrink(self, cachep: KmemCache) -> int:
        """Give the free slabs of *cachep* back; returns how many pages that are. kernel: mm/slab.c:kmem_cache_shrink"""
        if not cachep or self.state.in_interrupt or not self.is_chained_kmem_cache(cachep):
            raise self.bug("kmem_cache_shrink", "cache", f"{cachep!r} cannot be shrunk now")
        if cachep.outside:
            return 0
        return self.kmem_cache_shrink_locked(cachep) << cachep.gfporder

    def kmem_cache_destroy(self, cachep: KmemCache) -> int:
        """Destroy a cache with all its slabs. Returns 0, or 1 when objects are still in use: it stays then.

        kernel: mm/slab.c:kmem_cache_destroy, __kmem_cache_shrink
        """
        state = self.state
        if not cachep or state.in_interrupt or cachep.growing:
            raise self.bug("kmem_cache_destroy", "cache", f"{cachep!r} cannot be destroyed now")
        if cachep.outside:
            return int(cachep.outside_inuse != 0)
        self.down_cache_chain("kmem_cache_destroy")
        if cachep not in state.cache_chain:
            raise KernelBug("kmem_cache_destroy", f"{cachep.name} is not on the chain: it was destroyed before", "oops")
        if state.clock_searchp is cachep:
            state.clock_searchp = self.next_cache(cachep)
        state.cache_chain.remove(cachep)
        self.up_cache_chain()
        self.drain_cpu_caches(cachep)
        self.kmem_cache_shrink_locked(cachep)
        if cachep.slabs_full or cachep.slabs_partial:
            self.kernel.printk(3, f"kmem_cache_destroy: Can't free all objects {cachep.address:08x}")
            self.down_cache_chain("kmem_cache_destroy")
            state.cache_chain.insert(1, cachep)
            self.up_cache_chain()
            return 1
        self.cpucache_destroy(cachep)
        self.kmem_cache_free(state.cache_cache, cachep.address)
        state.cache_at.pop(cachep.address, None)
        if self.on_event is not None:
            self.on_event(("cache_destroy", cachep.name))
        return 0

    def cpucache_destroy(self, cachep: KmemCache) -> None:
        """Free the per-CPU arrays of a cache that goes."""

    def next_cache(self, cachep: KmemCache) -> KmemCache:
        """The cache after *cachep* in the ring."""
        chain = self.state.cache_chain
        return chain[(chain.index(cachep) + 1) % len(chain)]

    def flush_this_cpu(self, cachep: KmemCache) -> None:
        """Before a cache is judged, this CPU's array goes back to its slabs."""

    def kmem_cache_reap(self, gfp_mask: int) -> int:
        """Take memory from one of the next ten caches: half of the free slabs of the one that has most to give.

        A cache that grew since the last visit is spared, once. A cache with a constructor, and one with
        slabs of several pages, counts for four fifths. Returns the pages freed.
        kernel: mm/slab.c:kmem_cache_reap
        """
        state = self.state
        if not gfp_mask & WAIT and state.chain_sem_holder:
            return 0
        self.down_cache_chain("kmem_cache_reap")
        ev = self.on_event
        chain = state.cache_chain
        at = chain.index(state.clock_searchp)
        best: KmemCache | None = None
        best_pages = best_len = 0
        for _ in range(REAP_SCANLEN):
            searchp = chain[at]
            at = (at + 1) % len(chain)
            pages, why = 0, "considered"
            if searchp.flags & SLAB_NO_REAP:
                why = "never reaped"
            elif searchp.growing:
                why = "growing"
            elif searchp.dflags & DFLGS_GROWN:
                searchp.dflags &= ~DFLGS_GROWN
                why = "has grown lately"
            else:
                self.flush_this_cpu(searchp)
                full_free = self.count_free_slabs(searchp)
                pages = full_free << searchp.gfporder
                if searchp.ctor is not None:
                    pages = (pages * 4 + 1) // 5
                if searchp.gfporder:
                    pages = (pages * 4 + 1) // 5
            if ev is not None:
                ev(("reap_look", searchp.name, pages, why))
            if pages > best_pages:
                best, best_len, best_pages = searchp, full_free, pages
                if pages >= REAP_PERFECT:
                    break
            if chain[at] is state.clock_searchp:
                break
        state.clock_searchp = chain[at]
        if best is None:
            self.up_cache_chain()
            return 0
        scan = 0
        best_len = (best_len + 1) // 2
        while scan < best_len and not best.growing and best.slabs_free:
            slab = best.slabs_free.prev
            slab.del_()
            best.stats.reaped += 1
            self.kmem_slab_destroy(best, slab)
            scan += 1
        self.up_cache_chain()
        if ev is not None:
            ev(("reap", best.name, scan, scan << best.gfporder))
        return scan << best.gfporder

    def count_free_slabs(self, cachep: KmemCache) -> int:
        """How many slabs of *cachep* have no object in use."""
        full_free = 0
        for slab in cachep.slabs_free:
            if self.DEBUG and slab.inuse:
                raise self.bug("kmem_cache_reap", "inuse", f"a free slab of {cachep.name} has {slab.inuse} objects in use")
            full_free += 1
        return full_free
