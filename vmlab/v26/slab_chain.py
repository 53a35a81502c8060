"""The chain of caches in 2.6: creating, tuning and destroying one; tidying them all up by the clock. kernel: mm/slab.c"""

from __future__ import annotations

from ..errors import KernelBug, KernelPanic
from ..hw.layout import PAGE_SIZE
from ..mm.errno import ENOMEM
from ..mm.gfp import GFP_DMA
from ..mm.slab_cache import (
    BYTES_PER_WORD,
    L1_CACHE_BYTES,
    SIZEOF_SLAB_T,
    SLAB_CACHE_DMA,
    SLAB_HWCACHE_ALIGN,
    SLAB_NO_REAP,
    Constructor,
    KmemCache,
)
from ..mm.slab_chain import SlabChain
from .gfp import GFP_KERNEL
from .slab_cache import (
    BOOT_CPUCACHE_ENTRIES,
    CFLGS_OFF_SLAB,
    CREATE_MASK,
    MAX_GFP_ORDER,
    MAX_OBJ_ORDER,
    REAPTIMEOUT_CPUC,
    REAPTIMEOUT_LIST3,
    SIZEOF_ARRAY_CACHE,
    SIZEOF_BUFCTL,
    SLAB_DESTROY_BY_RCU,
    SLAB_PANIC,
    SLAB_RECLAIM_ACCOUNT,
    ArrayCache,
    KmemCache26,
    cache_estimate,
)
from .slab_objects import SlabObjects26


class SlabChain26(SlabObjects26, SlabChain):
    """In 2.6 the newest cache is the first of the chain, and cache_cache the last, because the chain has a head of its own; before that
    cache_cache was the head."""

    # -- creating -----------------------------------------------------------------------------

    def kmem_cache_create(
        self, name: str, size: int, offset: int = 0, flags: int = 0, ctor: Constructor | None = None, dtor: Constructor | None = None
    ) -> KmemCache | None:
        """In 2.6 *offset* is the alignment of the objects, because some must not cross pages; before that it was the distance of colours.

        Make a cache of objects of *size* bytes and put it at the front of the chain. *flags*: SLAB_ constants. Returns None without
        memory, or raises KernelPanic with SLAB_PANIC; raises KernelBug for a size below 4 bytes or above 32 pages, a destructor without
        a constructor, unknown flags, a name that exists. kernel: mm/slab.c:kmem_cache_create
        """
        cachep = self._create(name, size, offset, flags, ctor, dtor)
        if cachep is None and flags & SLAB_PANIC:
            raise KernelPanic(f"kmem_cache_create(): failed to create slab `{name}'")
        return cachep

    def _create(
        self, name: str, size: int, align: int, flags: int, ctor: Constructor | None, dtor: Constructor | None
    ) -> KmemCache26 | None:
        """Make the cache; None without memory."""
        state = self.state
        if state.in_interrupt or not BYTES_PER_WORD <= size <= PAGE_SIZE << MAX_OBJ_ORDER or (dtor is not None and ctor is None):
            self.kernel.printk(3, f"kmem_cache_create: Early error in slab {name}")
            raise self.bug("kmem_cache_create", "sanity", f"name {name!r}, size {size}: not a sound request for a cache")
        if flags & SLAB_DESTROY_BY_RCU and dtor is not None:
            raise self.bug("kmem_cache_create", "dtor", f"{name} has a destructor, but its slabs outlive their objects")
        if flags & ~CREATE_MASK:
            raise self.bug("kmem_cache_create", "flags", f"flags {flags & ~CREATE_MASK:#x} of {name} are unknown to this kernel")
        if state.outside:
            return self.outside_cache(name, size)
        size = size + BYTES_PER_WORD - 1 & -BYTES_PER_WORD
        aligned = BYTES_PER_WORD
        if flags & SLAB_HWCACHE_ALIGN:
            aligned = L1_CACHE_BYTES
            while size <= aligned // 2:  # several such objects fit into a line
                aligned //= 2
        align = max(aligned, align)
        address = self.kmem_cache_alloc(state.cache_cache, GFP_KERNEL)
        if not address:
            return None
        cachep = KmemCache26(name, address)
        if size >= PAGE_SIZE >> 3:
            flags |= CFLGS_OFF_SLAB
        size = size + align - 1 & -align
        left_over = self._size_slabs(cachep, size, align, flags)
        if not cachep.num:
            self.kernel.printk(None, f"kmem_cache_create: couldn't create cache {name}.")
            self.kmem_cache_free(state.cache_cache, address)
            return None
        head = cachep.num * SIZEOF_BUFCTL + SIZEOF_SLAB_T
        cachep.slab_size = head + align - 1 & -align
        if flags & CFLGS_OFF_SLAB and left_over >= cachep.slab_size:
            flags &= ~CFLGS_OFF_SLAB  # there is room for it after all
            left_over -= cachep.slab_size
        if flags & CFLGS_OFF_SLAB:
            cachep.slab_size = head
        cachep.colour_off = max(L1_CACHE_BYTES, align)
        cachep.colour = left_over // cachep.colour_off
        cachep.flags = flags
        cachep.gfpflags = GFP_DMA if flags & SLAB_CACHE_DMA else 0
        cachep.objsize = size
        if flags & CFLGS_OFF_SLAB:
            cachep.slabp_cache = self.kmem_find_general_cachep(cachep.slab_size, 0)
        cachep.ctor = ctor
        cachep.dtor = dtor
        state.cache_at[address] = cachep
        self._first_array(cachep)
        cachep.next_reap = self.jiffies + REAPTIMEOUT_LIST3 + address % REAPTIMEOUT_LIST3
        self.down_cache_chain("kmem_cache_create")
        if any(other.name == name for other in state.cache_chain):
            self.kernel.printk(None, f"kmem_cache_create: duplicate cache {name}")
            self.up_cache_chain()
            raise self.bug("kmem_cache_create", "name", f"there is a cache {name} already")
        state.cache_chain.insert(0, cachep)
        self.up_cache_chain()
        if self.on_event is not None:
            self.on_event(("cache_create", name, size, cachep.num, cachep.gfporder, cachep.colour, int(cachep.off_slab)))
        return cachep

    def _size_slabs(self, cachep: KmemCache26, size: int, align: int, flags: int) -> int:
        """Choose how many pages a slab has and how many objects go into it; returns the bytes left over.

        Slabs that reclaim counts on have one page if an object fits into it: pages in a row are hard to get when memory is short.
        """
        state = self.state
        if flags & SLAB_RECLAIM_ACCOUNT and size <= PAGE_SIZE:
            cachep.num, left_over = cache_estimate(0, size, align, flags)
            return left_over
        while True:
            cachep.num, left_over = cache_estimate(cachep.gfporder, size, align, flags)
            if cachep.gfporder >= MAX_GFP_ORDER:
                return left_over
            if cachep.num:
                if flags & CFLGS_OFF_SLAB and cachep.num > state.offslab_limit:
                    cachep.gfporder -= 1  # too many for links that must themselves be on-slab
                    cachep.num, left_over = cache_estimate(cachep.gfporder, size, align, flags)
                    return left_over
                if cachep.gfporder >= state.slab_break_gfp_order or left_over * 8 <= PAGE_SIZE << cachep.gfporder:
                    return left_over
            cachep.gfporder += 1

    def _first_array(self, cachep: KmemCache26) -> None:
        """Give a new cache its arrays; while kmalloc is not ready yet, one for a single object."""
        state = self.state
        if state.cpucache_up == "FULL":
            self.enable_cpucache(cachep)
            return
        address = 0
        if state.cpucache_up == "NONE":
            state.cpucache_up = "PARTIAL"  # this is the cache that the arrays of the others come from
        else:
            address = self.kmalloc(SIZEOF_ARRAY_CACHE + 4 * BOOT_CPUCACHE_ENTRIES, GFP_KERNEL)
        cachep.array = ArrayCache(address, BOOT_CPUCACHE_ENTRIES, 1)
        cachep.free_limit = 2 * cachep.batchcount + cachep.num

    def outside_cache(self, name: str, size: int) -> KmemCache26:
        """In 2.6 and before: a cache whose objects are not in this machine's memory."""
        cachep = KmemCache26(name, self.outside_address(128))
        cachep.objsize = size
        cachep.outside = True
        return cachep

    # -- arrays -------------------------------------------------------------------------------

    def kmalloc(self, size: int, flags: int = GFP_KERNEL) -> int:
        """In slab.py."""
        raise NotImplementedError

    def kfree(self, objp: int) -> None:
        """In mm/slab.py."""
        raise NotImplementedError

    def alloc_arraycache(self, limit: int, batchcount: int) -> ArrayCache | None:
        """In 2.6 new, because of the arrays: one for *limit* objects; None without memory. kernel: mm/slab.c:alloc_arraycache"""
        address = self.kmalloc(SIZEOF_ARRAY_CACHE + 4 * limit, GFP_KERNEL)
        return ArrayCache(address, limit, batchcount) if address else None

    def do_tune_cpucache(self, cachep: KmemCache26, limit: int, batchcount: int, shared: int) -> int:
        """In 2.6 with a *shared* array of so many batches, because objects may be freed on another CPU; before that none.

        Give the cache new arrays of *limit* objects, moved *batchcount* at a time. Returns 0 or -ENOMEM. kernel: mm/slab.c:do_tune_cpucache
        """
        new = self.alloc_arraycache(limit, batchcount) or self.alloc_arraycache(limit, batchcount)  # the kernel asks twice
        if new is None:
            return -ENOMEM
        old, cachep.array = cachep.array, new
        cachep.batchcount = batchcount
        cachep.limit = limit
        cachep.free_limit = 2 * batchcount + cachep.num
        self.free_block(cachep, old.entries)
        self.kfree(old.address)
        new_shared = self.alloc_arraycache(batchcount * shared, 0xBAADF00D)
        if new_shared is not None:
            before, cachep.shared = cachep.shared, new_shared
            if before is not None:
                self.free_block(cachep, before.entries)
                self.kfree(before.address)
        if self.on_event is not None:
            self.on_event(("array_tune", cachep.name, limit, batchcount))
        return 0

    def enable_cpucache(self, cachep: KmemCache26) -> None:
        """In 2.6 for every cache, because one CPU profits too; before that with several CPUs only. Small objects: long arrays.

        kernel: mm/slab.c:enable_cpucache
        """
        size = cachep.objsize
        limit = 1 if size > 131072 else 8 if size > PAGE_SIZE else 24 if size > 1024 else 54 if size > 256 else 120
        error = self.do_tune_cpucache(cachep, limit, (limit + 1) // 2, 0)
        if error:
            self.kernel.printk(3, f"enable_cpucache failed for {cachep.name}, error {-error}.")

    def drain_array_locked(self, cachep: KmemCache26, ac: ArrayCache, force: bool) -> None:
        """In 2.6 new, because what lies in arrays keeps slabs from being freed: give a fifth of an array back, with *force* all.

        An array that was used lately only loses that mark. kernel: mm/slab.c:drain_array_locked
        """
        avail = len(ac.entries)
        if ac.touched and not force:
            ac.touched = 0
        elif avail:
            tofree = avail if force else (ac.limit + 4) // 5
            if tofree > avail:
                tofree = (avail + 1) // 2
            self.free_block(cachep, ac.entries[:tofree])
            del ac.entries[:tofree]

    def drain_cpu_caches(self, cachep: KmemCache) -> None:
        """In 2.6 the arrays of one CPU too, because it has them; before that with several CPUs only.

        kernel: mm/slab.c:drain_cpu_caches, do_drain
        """
        assert isinstance(cachep, KmemCache26)
        self.free_block(cachep, cachep.array.entries)
        cachep.array.entries = []
        if cachep.shared is not None:
            self.drain_array_locked(cachep, cachep.shared, True)

    # -- giving back --------------------------------------------------------------------------

    def cache_shrink(self, cachep: KmemCache26) -> int:
        """In 2.6 it tells whether any slab is left, because only kmem_cache_destroy() asked; before that how many went.

        Give all free slabs back, last one first. kernel: mm/slab.c:__cache_shrink
        """
        self.drain_cpu_caches(cachep)
        slabs = 0
        while cachep.slabs_free:
            slab = cachep.slabs_free.prev
            slab.del_()
            cachep.free_objects -= cachep.num
            self.kmem_slab_destroy(cachep, slab)
            slabs += 1
        if self.on_event is not None:
            self.on_event(("cache_shrink", cachep.name, slabs))
        return int(bool(cachep.slabs_full or cachep.slabs_partial))

    def kmem_cache_shrink(self, cachep: KmemCache) -> int:
        """In 2.6 0 when no slab is left, else 1, because of :meth:`cache_shrink`; before that the pages freed.

        kernel: mm/slab.c:kmem_cache_shrink
        """
        if not cachep or self.state.in_interrupt:
            raise self.bug("kmem_cache_shrink", "cache", f"{cachep!r} cannot be shrunk now")
        if cachep.outside:
            return int(cachep.outside_inuse != 0)
        assert isinstance(cachep, KmemCache26)
        return self.cache_shrink(cachep)

    def kmem_cache_destroy(self, cachep: KmemCache) -> int:
        """In 2.6 its arrays are freed too, because every cache has them; before that with several CPUs only.

        Destroy a cache with all its slabs. Returns 0, or 1 when objects are still in use: it stays then.
        kernel: mm/slab.c:kmem_cache_destroy
        """
        state = self.state
        if not cachep or state.in_interrupt:
            raise self.bug("kmem_cache_destroy", "cache", f"{cachep!r} cannot be destroyed now")
        if cachep.outside:
            return int(cachep.outside_inuse != 0)
        assert isinstance(cachep, KmemCache26)
        self.down_cache_chain("kmem_cache_destroy")
        if cachep not in state.cache_chain:
            raise KernelBug("kmem_cache_destroy", f"{cachep.name} is not on the chain: it was destroyed before", "oops")
        state.cache_chain.remove(cachep)
        self.up_cache_chain()
        if self.cache_shrink(cachep):
            self.kernel.printk(3, f"slab error in kmem_cache_destroy(): cache `{cachep.name}': Can't free all objects")
            self.down_cache_chain("kmem_cache_destroy")
            state.cache_chain.insert(0, cachep)
            self.up_cache_chain()
            return 1
        self.kfree(cachep.array.address)
        if cachep.shared is not None:
            self.kfree(cachep.shared.address)
            cachep.shared = None
        self.kmem_cache_free(state.cache_cache, cachep.address)
        state.cache_at.pop(cachep.address, None)
        if self.on_event is not None:
            self.on_event(("cache_destroy", cachep.name))
        return 0

    def cache_reap(self) -> int:
        """In 2.6 new, because caches are tidied every two seconds rather than when memory is short: arrays not used lately lose a fifth,
        and caches that needed no free slab for four seconds some of those.

        Returns in how many jiffies it wants to run again. kernel: mm/slab.c:cache_reap
        """
        state = self.state
        state.reap_at = self.jiffies + REAPTIMEOUT_CPUC
        if state.chain_sem_holder:
            return REAPTIMEOUT_CPUC
        self.down_cache_chain("cache_reap")
        for searchp in list(state.cache_chain):
            assert isinstance(searchp, KmemCache26)
            if not searchp.flags & SLAB_NO_REAP and not searchp.outside:
                self._reap_cache(searchp)
        self.up_cache_chain()
        return REAPTIMEOUT_CPUC

    def _reap_cache(self, searchp: KmemCache26) -> None:
        """One cache's part of cache_reap()."""
        self.drain_array_locked(searchp, searchp.array, False)
        now = self.jiffies
        if now - searchp.next_reap & 0x80000000:  # time_after: not yet
            return
        searchp.next_reap = now + REAPTIMEOUT_LIST3 & 0xFFFFFFFF
        if searchp.shared is not None:
            self.drain_array_locked(searchp, searchp.shared, False)
        if searchp.free_touched:
            searchp.free_touched = 0
            return
        tofree = (searchp.free_limit + 5 * searchp.num - 1) // (5 * searchp.num)
        slabs = 0
        while searchp.slabs_free:
            slab = searchp.slabs_free.next
            if slab.inuse:
                raise self.bug("cache_reap", "inuse", f"a free slab of {searchp.name} has {slab.inuse} objects in use")
            slab.del_()
            searchp.stats.reaped += 1
            searchp.free_objects -= searchp.num
            self.kmem_slab_destroy(searchp, slab)
            slabs += 1
            if slabs >= tofree:
                break
        if self.on_event is not None and slabs:
            self.on_event(("reap", searchp.name, slabs, slabs << searchp.gfporder))

    def kmem_cache_reap(self, gfp_mask: int) -> int:
        """In 2.6 gone, because cache_reap() goes by the clock; before that reclaim asked for it. Runs that; returns the pages freed.

        kernel: mm/slab.c:cache_reap
        """
        before = self.page_state.nr_slab
        self.cache_reap()
        return before - self.page_state.nr_slab
