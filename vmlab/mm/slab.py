"""The slab allocator: memory for the kernel's own objects.

Asking the page allocator for every 32-byte structure would waste 99 % of a page and the time to set
the structure up. So each kind of object has a cache; kmalloc serves the rest from 13 caches of sizes
32 bytes to 128 KiB, each also in a DMA edition. See slab_cache.py for how a slab looks.

Addresses are kernel virtual addresses (0xC0000000 + physical); 0 is NULL. kernel: mm/slab.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import KernelBug, KernelPanic
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT
from .gfp import GFP_DMA, GFP_KERNEL
from .slab_cache import (
    BREAK_GFP_ORDER_HI,
    L1_CACHE_BYTES,
    SIZEOF_SLAB_T,
    SLAB_CACHE_DMA,
    SLAB_HWCACHE_ALIGN,
    SLAB_MUST_HWCACHE_ALIGN,
    SLAB_NO_REAP,
    Constructor,
    KmemCache,
    Slab,
    kmem_cache_estimate,
)
from .slab_chain import SlabChain
from .slab_objects import CacheSize

if TYPE_CHECKING:
    from .kernel import Kernel

CACHE_SIZES = tuple(32 << i for i in range(13))  # bytes: 32 to 131072

# What proc_caches_init makes: name, sizeof, as on a UP machine with empty spinlocks.
_SIGNAL_ACT = ("signal_act", 1284)
_FILES = ("files_cache", 412)
_FS = ("fs_cache", 32)
_VM_AREA = ("vm_area_struct", 68)
_MM = ("mm_struct", 128)
SIZEOF_BUFFER_HEAD = 96
SIZEOF_PAE_PGD = 32


class Place(NamedTuple):
    """Where an address is among the slabs: its cache, its slab, and the number of the object it is in (-1: in none)."""

    cache: KmemCache
    slab: Slab
    number: int


class SlabAllocator(SlabChain):
    """Caches of kernel objects, and kmalloc.

    Where objects live depends on the machine: in its memory ("ram", the default), outside it (addresses
    with nothing behind them), or outside but for vm_area_struct and mm_struct ("vm-only").
    """

    SIZEOF_KMEM_CACHE_T = 108  # bytes

    def attach(self, kernel: Kernel) -> None:
        """Take hold of the machine's columns."""
        super().attach(kernel)
        self.state.outside = kernel.config.kernel_objects == "outside"

    # -- starting -----------------------------------------------------------------------------

    def kmem_cache_init(self) -> None:
        """Set up the cache of caches; no memory is taken yet. kernel: mm/slab.c:kmem_cache_init"""
        cache_cache = self.state.cache_cache
        cache_cache.objsize = self.SIZEOF_KMEM_CACHE_T
        cache_cache.flags = SLAB_NO_REAP
        cache_cache.colour_off = L1_CACHE_BYTES
        cache_cache.num, left_over = kmem_cache_estimate(0, cache_cache.objsize, 0)
        if not cache_cache.num:
            raise self.bug("kmem_cache_init", "num", "no kmem_cache_t fits into a page")
        cache_cache.colour = left_over // cache_cache.colour_off
        cache_cache.colour_next = 0

    def kmem_cache_sizes_init(self) -> None:
        """Make kmalloc's caches: for each size one, and one of DMA memory. kernel: mm/slab.c:kmem_cache_sizes_init"""
        state = self.state
        if state.outside:
            return
        if self.kernel.num_physpages > 32 << 20 >> PAGE_SHIFT:
            state.slab_break_gfp_order = BREAK_GFP_ORDER_HI
        for size in CACHE_SIZES:
            cachep = self.kmem_cache_create(f"size-{size}", size, 0, SLAB_HWCACHE_ALIGN)
            if cachep is None:
                raise self.bug("kmem_cache_sizes_init", "cache", f"no memory for the cache size-{size}")
            if not cachep.off_slab:
                state.offslab_limit = (size - SIZEOF_SLAB_T) // 2
            # The first objects of other caches may already come from this one, so it is entered before its DMA edition.
            state.cache_sizes.append(CacheSize(size, cachep, cachep))
            dma = self.kmem_cache_create(f"size-{size}(DMA)", size, 0, SLAB_CACHE_DMA | SLAB_HWCACHE_ALIGN)
            if dma is None:
                raise self.bug("kmem_cache_sizes_init", "dma cache", f"no memory for the cache size-{size}(DMA)")
            state.cache_sizes[-1] = CacheSize(size, cachep, dma)

    def kmem_cpucache_init(self) -> None:
        """Give every cache its per-CPU arrays, on a machine with several CPUs. kernel: mm/slab.c:kmem_cpucache_init"""

    def proc_caches_init(self) -> None:
        """Make the caches of what a process consists of. kernel: kernel/fork.c:proc_caches_init

        Raises KernelPanic without memory.
        """
        vm_only = self.kernel.config.kernel_objects == "vm-only"
        for name, size in (_SIGNAL_ACT, _FILES, _FS, _VM_AREA, _MM):
            self.keep_cache(name, size, SLAB_HWCACHE_ALIGN)
            if vm_only and name not in ("vm_area_struct", "mm_struct"):
                self.state.named[name] = self.outside_cache(name, size)
        self.state.outside |= vm_only

    def buffer_init(self) -> None:
        """Make the cache of buffer heads. kernel: fs/dcache.c:vfs_caches_init"""
        self.keep_cache("buffer_head", SIZEOF_BUFFER_HEAD, SLAB_HWCACHE_ALIGN)

    def keep_cache(self, name: str, size: int, flags: int, ctor: Constructor | None = None) -> KmemCache:
        """Make a cache that other files keep a pointer to. Raises KernelPanic without memory."""
        cachep = self.kmem_cache_create(name, size, 0, flags, ctor)
        if cachep is None:
            raise KernelPanic(f"Cannot create {name} SLAB cache")
        self.state.named[name] = cachep
        return cachep

    @property
    def vm_area_cachep(self) -> KmemCache:
        """The cache of vm_area_struct."""
        return self.state.named["vm_area_struct"]

    @property
    def mm_cachep(self) -> KmemCache:
        """The cache of mm_struct."""
        return self.state.named["mm_struct"]

    @property
    def files_cachep(self) -> KmemCache:
        """The cache of files_struct."""
        return self.state.named["files_cache"]

    @property
    def fs_cachep(self) -> KmemCache:
        """The cache of fs_struct."""
        return self.state.named["fs_cache"]

    @property
    def sigact_cachep(self) -> KmemCache:
        """The cache of signal_struct."""
        return self.state.named["signal_act"]

    @property
    def bh_cachep(self) -> KmemCache:
        """The cache of buffer_head. Made when first asked for, if the boot did not need it."""
        if "buffer_head" not in self.state.named:
            self.buffer_init()
        return self.state.named["buffer_head"]

    @property
    def pae_pgd_cachep(self) -> KmemCache:
        """The cache of PAE page directories. Made when first asked for. kernel: arch/i386/mm/init.c:pgtable_cache_init"""
        if "pae_pgd" not in self.state.named:
            self.keep_cache("pae_pgd", SIZEOF_PAE_PGD, SLAB_HWCACHE_ALIGN | SLAB_MUST_HWCACHE_ALIGN)
        return self.state.named["pae_pgd"]

    def run_timer(self) -> bool:
        """Do what time has come for; here nothing is done by the clock. Returns whether there was something."""
        return False

    # -- kmalloc ------------------------------------------------------------------------------

    def kmalloc(self, size: int, flags: int = GFP_KERNEL) -> int:
        """*size* bytes: the kernel address, 0 without memory or above 131072 bytes.

        kernel: mm/slab.c:kmalloc
        """
        state = self.state
        if state.outside:
            return self.outside_address(size) if size <= CACHE_SIZES[-1] else 0
        # The kernel walks the sizes; they are 32 << 0, 1, 2 ..., so the index of the first that fits can be computed.
        index = (size - 1 >> 5).bit_length() if size > 0 else 0
        if index >= len(state.cache_sizes) or size < 0:
            return 0
        entry = state.cache_sizes[index]
        cachep = entry.cs_dmacachep if flags & GFP_DMA else entry.cs_cachep
        if self.on_event is not None:
            self.on_event(("kmalloc", size, cachep.name))
        return self.kmem_cache_alloc(cachep, flags)

    def kfree(self, objp: int) -> None:
        """Give back what kmalloc returned; 0 is ignored. kernel: mm/slab.c:kfree, GET_PAGE_CACHE"""
        if not objp or self.state.outside:
            return
        try:
            cachep = self.state.cache_at[self.page_list.next[(objp - PAGE_OFFSET & M32) >> PAGE_SHIFT]]
        except LookupError:
            raise self.bad_pointer("kfree", objp) from None
        self.kmem_cache_free_irq(cachep, objp)

    def kmem_cache_size(self, cachep: KmemCache) -> int:
        """Bytes of an object that its user may use. kernel: mm/slab.c:kmem_cache_size"""
        return cachep.objsize

    # -- looking ------------------------------------------------------------------------------

    def caches(self) -> list[KmemCache]:
        """Every cache, in the order of the chain, kmem_cache first."""
        return list(self.state.cache_chain)

    def cache(self, name: str) -> KmemCache:
        """The cache called *name*. Raises ValueError when there is none."""
        for cachep in self.state.cache_chain:
            if cachep.name == name:
                return cachep
        raise ValueError(f"no cache {name!r}; there are {', '.join(c.name for c in self.state.cache_chain)}")

    def find(self, address: int) -> Place | None:
        """The cache, slab and object that a kernel address is in; None when it is in no slab."""
        pfn = (address - PAGE_OFFSET & M32) >> PAGE_SHIFT
        if pfn >= self.kernel.mem.frames or not self.page_flags[pfn] >> 8 & 1:
            return None
        slab = self.state.slab_at.get(self.page_list.prev[pfn])
        cachep = self.state.cache_at.get(self.page_list.next[pfn])
        if slab is None or cachep is None:
            return None
        number = (address - slab.s_mem) // cachep.objsize
        return Place(cachep, slab, number if 0 <= number < cachep.num else -1)

    def read(self, address: int, length: int) -> bytes:
        """*length* bytes at a kernel *address*: what an object holds."""
        return self.kernel.ram.read(address - PAGE_OFFSET, length)

    def write(self, address: int, data: bytes) -> None:
        """Store *data* at a kernel *address*; nothing checks that it is yours."""
        self.kernel.ram.write(address - PAGE_OFFSET, data)

    SLABINFO = "slabinfo - version: 1.1"

    def slabinfo(self) -> str:
        """The text of /proc/slabinfo: name, objects in use and in all, their size, slabs in use and in all, pages in a slab.

        Looking takes no semaphore here: one can look even after a task has died with it.
        Raises KernelBug when a slab is on the wrong list. kernel: mm/slab.c:s_start, s_next, s_stop, slabinfo_op
        """
        return "\n".join([self.SLABINFO, *(self.s_show(cachep) for cachep in self.state.cache_chain)]) + "\n"

    def s_show(self, cachep: KmemCache) -> str:
        """The line of one cache. kernel: mm/slab.c:s_show"""
        for kind, slabs in cachep.lists():
            for slab in slabs:
                right = "full" if slab.inuse == cachep.num else "partial" if slab.inuse else "free"
                if kind != right:
                    raise KernelBug("s_show", f"a slab of {cachep.name} with {slab.inuse} objects in use is on the {kind} list", kind)
        active_slabs = len(cachep.slabs_full) + len(cachep.slabs_partial)
        num_slabs = active_slabs + len(cachep.slabs_free)
        return (
            f"{cachep.name:<17} {cachep.active_objs:6} {num_slabs * cachep.num:6} {cachep.objsize:6}"
            f" {active_slabs:4} {num_slabs:4} {1 << cachep.gfporder:4}{self.statistics(cachep)}"
        )

    def statistics(self, cachep: KmemCache) -> str:
        """What a kernel that counts adds to the line."""
        return ""
