"""The slab allocator of 2.6: caches with arrays of objects at hand, and kmalloc, whose sizes have steps in between.

kernel: mm/slab.c
"""

from __future__ import annotations

from bisect import bisect_left
from typing import cast

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT
from ..mm.errno import EINVAL
from ..mm.gfp import GFP_DMA
from ..mm.slab import SlabAllocator
from ..mm.slab_cache import L1_CACHE_BYTES, SIZEOF_SLAB_T, SLAB_CACHE_DMA, SLAB_HWCACHE_ALIGN, Constructor, KmemCache
from ..mm.slab_objects import CacheSize
from .gfp import GFP_KERNEL
from .slab_cache import (
    BREAK_GFP_ORDER_HI,
    SIZEOF_ARRAY_CACHE,
    SIZEOF_BUFCTL,
    SIZEOF_KMEM_CACHE_T,
    SLAB_PANIC,
    KmemCache26,
    cache_estimate,
)
from .slab_chain import SlabChain26

CACHE_SIZES = (32, 64, 96, 128, 192, *(256 << i for i in range(10)))  # bytes: to 131072
FIRST_REAP = 1000  # jiffies after boot
MAX_SLABINFO_WRITE = 128

# What proc_caches_init makes, as on a UP machine: name, sizeof, whether aligned to cache lines.
_PROCESS_CACHES = (
    ("sighand_cache", 1284, True),
    ("signal_cache", 236, True),
    ("files_cache", 412, True),
    ("fs_cache", 32, True),
    ("vm_area_struct", 88, False),
    ("mm_struct", 548, True),
)
SIZEOF_BUFFER_HEAD = 48
_PAGE_ALIGNED = ("pgd", "pmd")  # these must be aligned to their size


class SlabAllocator26(SlabChain26, SlabAllocator):
    """Caches of kernel objects, and kmalloc."""

    SIZEOF_KMEM_CACHE_T = SIZEOF_KMEM_CACHE_T
    SLABINFO = (
        "slabinfo - version: 2.1\n# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
        " : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
    )

    # -- starting -----------------------------------------------------------------------------

    def kmem_cache_init(self) -> None:
        """In 2.6 all caches of kmalloc are made here, because caches do not work without arrays, which are kmalloc's; before that later.

        The first caches have arrays for one object, replaced when kmalloc works. kernel: mm/slab.c:kmem_cache_init
        """
        state = self.state
        if state.outside:
            return
        if self.kernel.num_physpages > 32 << 20 >> PAGE_SHIFT:
            state.slab_break_gfp_order = BREAK_GFP_ORDER_HI
        cache_cache = cast(KmemCache26, state.cache_cache)
        cache_cache.colour_off = L1_CACHE_BYTES
        cache_cache.objsize = self.SIZEOF_KMEM_CACHE_T + L1_CACHE_BYTES - 1 & -L1_CACHE_BYTES
        cache_cache.num, left_over = cache_estimate(0, cache_cache.objsize, L1_CACHE_BYTES, 0)
        if not cache_cache.num:
            raise self.bug("kmem_cache_init", "num", "no kmem_cache_t fits into a page")
        cache_cache.colour = left_over // cache_cache.colour_off
        cache_cache.slab_size = cache_cache.num * SIZEOF_BUFCTL + SIZEOF_SLAB_T + L1_CACHE_BYTES - 1 & -L1_CACHE_BYTES
        for size in CACHE_SIZES:
            cachep = self.kmem_cache_create(f"size-{size}", size, 0, SLAB_HWCACHE_ALIGN | SLAB_PANIC)
            assert cachep is not None
            if not cachep.off_slab:
                state.offslab_limit = (size - SIZEOF_SLAB_T) // SIZEOF_BUFCTL
            # Other caches' arrays may already come from this one, so it is entered before its DMA edition.
            state.cache_sizes.append(CacheSize(size, cachep, cachep))
            dma = self.kmem_cache_create(f"size-{size}(DMA)", size, 0, SLAB_HWCACHE_ALIGN | SLAB_CACHE_DMA | SLAB_PANIC)
            assert dma is not None
            state.cache_sizes[-1] = CacheSize(size, cachep, dma)
        for first in (cache_cache, cast(KmemCache26, state.cache_sizes[0].cs_cachep)):
            first.array.address = self.kmalloc(SIZEOF_ARRAY_CACHE + 4, GFP_KERNEL)
        for cachep in list(state.cache_chain):
            self.enable_cpucache(cast(KmemCache26, cachep))
        state.cpucache_up = "FULL"
        state.reap_at = self.jiffies + FIRST_REAP

    def kmem_cache_sizes_init(self) -> None:
        """In 2.6 part of kmem_cache_init(), because of the arrays; before that a step of its own. kernel: mm/slab.c:kmem_cache_init"""

    def keep_cache(self, name: str, size: int, flags: int, ctor: Constructor | None = None) -> KmemCache:
        """In 2.6 with the alignment that some objects need, because the caller now says it; before that slabs of a page gave it.

        Make a cache that other files keep a pointer to. Raises KernelPanic without memory. kernel: mm/slab.c:kmem_cache_create
        """
        cachep = self.kmem_cache_create(name, size, size if name in _PAGE_ALIGNED else 0, flags | SLAB_PANIC, ctor)
        assert cachep is not None
        self.state.named[name] = cachep
        return cachep

    def proc_caches_init(self) -> None:
        """In 2.6 two caches for signals, because threads share the handlers; before that one.

        Make the caches of what a process consists of. kernel: kernel/fork.c:proc_caches_init
        """
        vm_only = self.kernel.config.kernel_objects == "vm-only"
        for name, size, aligned in _PROCESS_CACHES:
            self.keep_cache(name, size, SLAB_HWCACHE_ALIGN if aligned else 0)
            if vm_only and name not in ("vm_area_struct", "mm_struct"):
                self.state.named[name] = self.outside_cache(name, size)
        self.state.outside |= vm_only

    def buffer_init(self) -> None:
        """In 2.6 half as large, because a buffer is no longer a request; before that 96 bytes.

        Make the cache of buffer heads. kernel: fs/buffer.c:buffer_init
        """
        self.keep_cache("buffer_head", SIZEOF_BUFFER_HEAD, 0)

    @property
    def sigact_cachep(self) -> KmemCache:
        """In 2.6 sighand_struct, because threads share it apart from signal_struct; before that signal_struct."""
        return self.state.named["sighand_cache"]

    @property
    def slab_reclaim_pages(self) -> int:
        """In 2.6 new, because __vm_enough_memory() counts them as free: pages of caches with SLAB_RECLAIM_ACCOUNT. kernel: mm/slab.c"""
        return self.state.slab_reclaim_pages

    def run_timer(self) -> bool:
        """In 2.6 new, because of cache_reap(): run it if it is due; whether it was. kernel: mm/slab.c:start_cpu_timer"""
        due = self.state.reap_at
        if due is None or self.jiffies - due & 0x80000000:
            return False
        self.cache_reap()
        return True

    # -- kmalloc ------------------------------------------------------------------------------

    def kmalloc(self, size: int, flags: int = GFP_KERNEL) -> int:
        """In 2.6 there are caches of 96 and 192 bytes, because much is just above 64 or 128; before that only powers of two.

        *size* bytes: the kernel address, 0 without memory or above 131072 bytes. kernel: mm/slab.c:__kmalloc
        """
        state = self.state
        if state.outside:
            return self.outside_address(size) if size <= CACHE_SIZES[-1] else 0
        index = bisect_left(CACHE_SIZES, size)
        if index >= len(state.cache_sizes) or size < 0:
            return 0
        entry = state.cache_sizes[index]
        cachep = entry.cs_dmacachep if flags & GFP_DMA else entry.cs_cachep
        if self.on_event is not None:
            self.on_event(("kmalloc", size, cachep.name))
        return self.kmem_cache_alloc(cachep, flags)

    def kcalloc(self, n: int, size: int, flags: int = GFP_KERNEL) -> int:
        """In 2.6 new, because n * size may overflow: memory for *n* things of *size* bytes, zeroed; 0 without. kernel: mm/slab.c:kcalloc"""
        if n and size > 0x7FFFFFFF // n:
            return 0
        address = self.kmalloc(n * size, flags)
        if address and not self.state.outside:
            self.write(address, bytes(n * size))
        return address

    def kfree(self, objp: int) -> None:
        """In 2.6 into the array of its cache, because of :meth:`kmem_cache_free_irq`; before that into its slab. kernel: mm/slab.c:kfree"""
        SlabAllocator.kfree(self, objp)

    # -- looking ------------------------------------------------------------------------------

    def s_show(self, cachep: KmemCache) -> str:
        """In 2.6 with the arrays' sizes, because they can be set here; before that slabs only. The line of one cache.

        kernel: mm/slab.c:s_show
        """
        assert isinstance(cachep, KmemCache26)
        for kind, slabs in cachep.lists():
            for slab in slabs:
                right = "full" if slab.inuse == cachep.num else "partial" if slab.inuse else "free"
                if kind != right:
                    raise KernelBug("s_show", f"a slab of {cachep.name} with {slab.inuse} objects in use is on the {kind} list", kind)
        active_slabs = len(cachep.slabs_full) + len(cachep.slabs_partial)
        num_slabs = active_slabs + len(cachep.slabs_free)
        shared, avail = (cachep.shared.limit // cachep.batchcount, cachep.shared.avail) if cachep.shared is not None else (0, 0)
        return (
            f"{cachep.name:<17} {cachep.active_objs:6} {num_slabs * cachep.num:6} {cachep.objsize:6}"
            f" {cachep.num:4} {1 << cachep.gfporder:4}"
            f" : tunables {cachep.limit:4} {cachep.batchcount:4} {shared:4}"
            f" : slabdata {active_slabs:6} {num_slabs:6} {avail:6}"
        )

    def slabinfo_write(self, text: str) -> int:
        """In 2.6 the size of the shared array too, because there is one; before that limit and batchcount.

        ``"name limit batchcount shared"``: the length of *text*, or -EINVAL, -ENOMEM. kernel: mm/slab.c:slabinfo_write
        """
        name, *numbers = text.split(" ", 1) if len(text) <= MAX_SLABINFO_WRITE else [""]
        words = numbers[0].split() if numbers else []
        if len(words) < 3 or not all(word.lstrip("-").isdigit() for word in words[:3]):
            return -EINVAL
        limit, batchcount, shared = map(int, words[:3])
        for cachep in self.state.cache_chain:
            if cachep.name == name:
                if not 1 <= batchcount <= limit or shared < 0:
                    return -EINVAL
                return self.do_tune_cpucache(cast(KmemCache26, cachep), limit, batchcount, shared) or len(text)
        return -EINVAL
