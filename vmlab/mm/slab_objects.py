"""Objects and slabs: handing out, taking back, growing a cache, giving a slab back. kernel: mm/slab.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import KernelBug, KernelHang
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT
from .gfp import GFP_DMA, GFP_KERNEL
from .kernel import Part
from .page_flags import PG_slab
from .slab_cache import (
    BREAK_GFP_ORDER_LO,
    BUFCTL_END,
    DFLGS_GROWN,
    SLAB_ATOMIC,
    SLAB_CTOR_ATOMIC,
    SLAB_CTOR_CONSTRUCTOR,
    SLAB_DMA,
    SLAB_LEVEL_MASK,
    SLAB_NO_GROW,
    KmemCache,
    Slab,
)

if TYPE_CHECKING:
    from .kernel import Kernel

CACHE_CACHE_ADDRESS = PAGE_OFFSET + 0x1F8000  # cache_cache is a variable of the kernel image, not an object
OUTSIDE = 0x0804C000  # where addresses of objects that are not in this machine's memory begin

# Where mm/slab.c has its BUG()s: the console says "kernel BUG at slab.c:<line>!".
BUG_LINES = {
    ("kmem_cache_init", "num"): 426,
    ("kmem_cache_sizes_init", "cache"): 456,
    ("kmem_cache_sizes_init", "dma cache"): 468,
    ("kmem_slab_destroy", "red zone before"): 568,
    ("kmem_slab_destroy", "red zone after"): 571,
    ("kmem_slab_destroy", "poison"): 583,
    ("kmem_cache_create", "sanity"): 640,
    ("kmem_cache_create", "flags"): 670,
    ("kmem_cache_create", "name"): 815,
    ("kmem_cache_shrink_locked", "inuse"): 933,
    ("kmem_cache_shrink", "cache"): 971,
    ("kmem_cache_destroy", "cache"): 1000,
    ("kmem_cache_init_objs", "red zone before"): 1089,
    ("kmem_cache_init_objs", "red zone after"): 1092,
    ("kmem_cache_grow", "flags"): 1119,
    ("kmem_cache_grow", "interrupt"): 1130,
    ("kmem_extra_free_checks", "number"): 1218,
    ("kmem_extra_free_checks", "start"): 1220,
    ("kmem_extra_free_checks", "double free"): 1225,
    ("kmem_cache_alloc_head", "not DMA"): 1235,
    ("kmem_cache_alloc_head", "DMA"): 1238,
    ("kmem_cache_alloc_one_tail", "poison"): 1263,
    ("kmem_cache_alloc_one_tail", "red zone before"): 1268,
    ("kmem_cache_alloc_one_tail", "red zone after"): 1271,
    ("kmem_cache_free_one", "range"): 1418,  # CHECK_PAGE, where it is used
    ("kmem_cache_free_one", "bad ptr"): 1418,
    ("kmem_cache_free_one", "red zone before"): 1439,
    ("kmem_cache_free_one", "red zone after"): 1443,
    ("kmem_cache_free_irq", "range"): 1498,
    ("kmem_cache_free_irq", "bad ptr"): 1498,
    ("kmem_cache_free", "range"): 1580,
    ("kmem_cache_free", "bad ptr"): 1580,
    ("kmem_cache_free", "cache"): 1582,
    ("kfree", "range"): 1605,
    ("kfree", "bad ptr"): 1605,
    ("kmem_cache_reap", "inuse"): 1790,
}


class CacheSize(NamedTuple):
    """One of kmalloc's sizes, in bytes, with its two caches. kernel: mm/slab.c:cache_sizes_t"""

    cs_size: int
    cs_cachep: KmemCache
    cs_dmacachep: KmemCache


class SlabState:
    """Everything the allocator remembers."""

    def __init__(self) -> None:
        self.cache_cache = KmemCache("kmem_cache", CACHE_CACHE_ADDRESS)  # the cache of cache descriptors
        self.cache_chain = [self.cache_cache]  # the ring of caches; new ones come right after the first
        self.clock_searchp = self.cache_cache  # where kmem_cache_reap goes on
        self.cache_sizes: list[CacheSize] = []
        self.slab_at: dict[int, Slab] = {}  # by address of the slab_t: what page->list.prev of its pages says
        self.cache_at = {CACHE_CACHE_ADDRESS: self.cache_cache}  # by address of the kmem_cache_t: page->list.next
        self.named: dict[str, KmemCache] = {}  # the caches that other files keep a pointer to
        self.slab_break_gfp_order = BREAK_GFP_ORDER_LO
        self.offslab_limit = 0  # most objects in a slab whose management is elsewhere
        self.chain_sem_holder = ""  # the function that has cache_chain_sem; one that died keeps it for ever
        self.in_interrupt = False
        self.outside = False  # new caches and kmalloc are outside this machine's memory
        self.next_outside = OUTSIDE
        self.g_cpucache_up = False
        self.cpu = 0  # the processor that runs


class SlabObjects(Part):
    """What happens inside a cache. The caches themselves are made and destroyed in SlabAllocator."""

    state_names = ("state",)
    DEBUG = False

    def __init__(self) -> None:
        super().__init__()
        self.state = SlabState()

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.page_list = kernel.mem.list
        self.page_flags = kernel.mem.flags
        self.page_owner = kernel.mem.owner

    def bug(self, function: str, kind: str, why: str) -> KernelBug:
        """Say on the console which BUG() this is, and return it to be raised. kernel: include/asm-i386/page.h:BUG"""
        self.kernel.printk(None, f"kernel BUG at slab.c:{BUG_LINES[function, kind]}!")
        return KernelBug(function, why, kind)

    def down_cache_chain(self, function: str) -> None:
        """Take the semaphore of the cache chain. Raises KernelHang when a task has died with it.

        kernel: include/asm-i386/semaphore.h:down
        """
        if self.state.chain_sem_holder:
            raise KernelHang(function, f"it waits for cache_chain_sem, which {self.state.chain_sem_holder} held when it died")
        self.state.chain_sem_holder = function

    def up_cache_chain(self) -> None:
        """Give the semaphore of the cache chain back. kernel: include/asm-i386/semaphore.h:up"""
        self.state.chain_sem_holder = ""

    # -- pages --------------------------------------------------------------------------------

    def kmem_getpages(self, cachep: KmemCache, flags: int) -> int:
        """Pages for a slab: their kernel address, 0 when there are none. kernel: mm/slab.c:kmem_getpages"""
        pfn = self.kernel.page_allocator.alloc_pages(flags | cachep.gfpflags, cachep.gfporder)
        return 0 if pfn is None else PAGE_OFFSET + (pfn << PAGE_SHIFT)

    def kmem_freepages(self, cachep: KmemCache, address: int) -> None:
        """Give a slab's pages back. kernel: mm/slab.c:kmem_freepages"""
        first = address - PAGE_OFFSET >> PAGE_SHIFT
        for pfn in range(first, first + (1 << cachep.gfporder)):
            self.page_flags[pfn] &= ~(1 << PG_slab)
            self.page_owner[pfn] = 0
        self.kernel.page_allocator.free_pages(first, cachep.gfporder)

    # -- slabs --------------------------------------------------------------------------------

    def kmem_cache_slabmgmt(self, cachep: KmemCache, objp: int, colour_off: int, local_flags: int) -> Slab | None:
        """The slab_t for pages at *objp*: in front of the objects, or from another cache. None without memory.

        *colour_off*: bytes to leave at the start. kernel: mm/slab.c:kmem_cache_slabmgmt
        """
        if cachep.slabp_cache is not None:
            address = self.kmem_cache_alloc(cachep.slabp_cache, local_flags)
            if not address:
                return None
        else:
            address = objp + colour_off
            colour_off += cachep.management_size
        slab = Slab(address, colour_off, objp + colour_off, cachep.made)
        self.state.slab_at[address] = slab
        return slab

    def kmem_cache_init_objs(self, cachep: KmemCache, slab: Slab, ctor_flags: int) -> None:
        """Construct the objects of a new slab and chain them, first to last. kernel: mm/slab.c:kmem_cache_init_objs"""
        ctor = cachep.ctor
        if ctor is not None:
            ev = self.on_event
            for objp in range(slab.s_mem, slab.s_mem + cachep.objsize * cachep.num, cachep.objsize):
                ctor(objp, cachep, ctor_flags)
                if ev is not None:
                    ev(("ctor", cachep.name, objp))
        slab.bufctl = [*range(1, cachep.num), BUFCTL_END]
        slab.free = 0

    def kmem_cache_grow(self, cachep: KmemCache, flags: int) -> int:
        """Add one slab to *cachep*. Returns 1, or 0 when *flags* forbid it or memory is short.

        The pages learn whose they are: page->list.next holds the address of the cache, page->list.prev that of the slab_t.
        Raises KernelBug for flags that are no allocation flags. kernel: mm/slab.c:kmem_cache_grow, SET_PAGE_CACHE, SET_PAGE_SLAB
        """
        if flags & ~(SLAB_DMA | SLAB_LEVEL_MASK | SLAB_NO_GROW):
            raise self.bug("kmem_cache_grow", "flags", f"flags {flags:#x} of an allocation from {cachep.name}")
        if flags & SLAB_NO_GROW:
            return 0
        local_flags = flags & SLAB_LEVEL_MASK
        if self.state.in_interrupt and local_flags != SLAB_ATOMIC:
            raise self.bug("kmem_cache_grow", "interrupt", f"an interrupt wants to grow {cachep.name} without SLAB_ATOMIC")
        ctor_flags = SLAB_CTOR_CONSTRUCTOR | (SLAB_CTOR_ATOMIC if local_flags == SLAB_ATOMIC else 0)
        offset = cachep.colour_next
        cachep.colour_next += 1
        if cachep.colour_next >= cachep.colour:
            cachep.colour_next = 0
        offset *= cachep.colour_off
        cachep.dflags |= DFLGS_GROWN
        cachep.growing += 1  # keeps shrink and reap away while the page allocator may sleep
        objp = self.kmem_getpages(cachep, flags)
        if not objp:
            cachep.growing -= 1
            return 0
        slab = self.kmem_cache_slabmgmt(cachep, objp, offset, local_flags)
        if slab is None:
            self.kmem_freepages(cachep, objp)
            cachep.growing -= 1
            return 0
        first = objp - PAGE_OFFSET >> PAGE_SHIFT
        columns = self.page_list
        owner = self.kernel.owner_id("slab")
        for pfn in range(first, first + (1 << cachep.gfporder)):
            columns.next[pfn] = cachep.address
            columns.prev[pfn] = slab.address
            self.page_flags[pfn] |= 1 << PG_slab
            self.page_owner[pfn] = owner
        self.kmem_cache_init_objs(cachep, slab, ctor_flags)
        cachep.growing -= 1
        cachep.slabs_free.add_tail(slab)
        cachep.made += 1
        cachep.stats.grown += 1
        cachep.failures = 0
        if self.on_event is not None:
            self.on_event(("slab_grow", cachep.name, first, slab.address, slab.colouroff))
        return 1

    def kmem_slab_destroy(self, cachep: KmemCache, slab: Slab) -> None:
        """Destruct the objects of a slab that is on no list, and free its pages. kernel: mm/slab.c:kmem_slab_destroy"""
        self.destruct_objs(cachep, slab)
        del self.state.slab_at[slab.address]
        self.kmem_freepages(cachep, slab.start)
        if cachep.slabp_cache is not None:
            self.kmem_cache_free(cachep.slabp_cache, slab.address)
        if self.on_event is not None:
            self.on_event(("slab_destroy", cachep.name, slab.start - PAGE_OFFSET >> PAGE_SHIFT, slab.address))

    def destruct_objs(self, cachep: KmemCache, slab: Slab) -> None:
        """Call the destructor on every object of a slab that goes. kernel: mm/slab.c:kmem_slab_destroy"""
        dtor = cachep.dtor
        if dtor is not None:
            ev = self.on_event
            for objp in range(slab.s_mem, slab.s_mem + cachep.objsize * cachep.num, cachep.objsize):
                dtor(objp, cachep, 0)
                if ev is not None:
                    ev(("dtor", cachep.name, objp))

    # -- handing out --------------------------------------------------------------------------

    def kmem_cache_alloc_head(self, cachep: KmemCache, flags: int) -> None:
        """Refuse a request for the other kind of memory. kernel: mm/slab.c:kmem_cache_alloc_head"""
        if flags & SLAB_DMA:
            if not cachep.gfpflags & GFP_DMA:
                raise self.bug("kmem_cache_alloc_head", "not DMA", f"SLAB_DMA asked of {cachep.name}, which has no DMA memory")
        elif cachep.gfpflags & GFP_DMA:
            raise self.bug("kmem_cache_alloc_head", "DMA", f"{cachep.name} has DMA memory, but SLAB_DMA was not asked for")

    def kmem_cache_alloc_one_tail(self, cachep: KmemCache, slab: Slab) -> int:
        """Take the first free object of *slab*, which has one; returns its address. kernel: mm/slab.c:kmem_cache_alloc_one_tail"""
        number = slab.free
        objp = slab.s_mem + number * cachep.objsize
        try:
            slab.free = slab.bufctl[number]
        except IndexError:  # objects were freed into the wrong cache
            raise self.bad_pointer("kmem_cache_alloc_one_tail", objp) from None
        slab.inuse += 1
        ev = self.on_event
        if ev is not None:
            ev(("object_alloc", cachep.name, objp, slab.address, number))
        if slab.free == BUFCTL_END:
            slab.del_()
            cachep.slabs_full.add(slab)
            if ev is not None:
                ev(("slab_list", cachep.name, slab.address, "full"))
        return objp

    def kmem_cache_alloc_one(self, cachep: KmemCache) -> int:
        """An object of the first partial slab, else of the first free one; 0 when the cache has neither.

        kernel: mm/slab.c:kmem_cache_alloc_one
        """
        partial = cachep.slabs_partial
        slab = partial.next
        if slab is partial:
            free = cachep.slabs_free
            slab = free.next
            if slab is free:
                return 0
            slab.del_()
            partial.add(slab)
            if self.on_event is not None:
                self.on_event(("slab_list", cachep.name, slab.address, "partial"))
        return self.kmem_cache_alloc_one_tail(cachep, slab)

    def kmem_cache_alloc(self, cachep: KmemCache, flags: int = GFP_KERNEL) -> int:
        """An object of *cachep*: its kernel address, 0 when there is no memory for another slab.

        Raises KernelBug when DMA memory is asked of a cache without it, or the other way round.
        kernel: mm/slab.c:kmem_cache_alloc, __kmem_cache_alloc
        """
        if cachep.outside:
            return self.outside_alloc(cachep)
        self.kmem_cache_alloc_head(cachep, flags)
        while True:
            objp = self.kmem_cache_alloc_one(cachep)
            if objp:
                return objp
            if not self.kmem_cache_grow(cachep, flags):
                return 0

    # -- taking back --------------------------------------------------------------------------

    def kmem_cache_free_one(self, cachep: KmemCache, objp: int) -> None:
        """Put an object back at the front of its slab's free chain. kernel: mm/slab.c:kmem_cache_free_one, GET_PAGE_SLAB, slab_bufctl"""
        try:
            slab = self.state.slab_at[self.page_list.prev[(objp - PAGE_OFFSET & M32) >> PAGE_SHIFT]]
            number = (objp - slab.s_mem & M32) // cachep.objsize
            slab.bufctl[number] = slab.free
        except LookupError:
            raise self.bad_pointer("kmem_cache_free_one", objp) from None
        slab.free = number
        inuse = slab.inuse
        slab.inuse = inuse - 1 & M32
        ev = self.on_event
        if ev is not None:
            ev(("object_free", cachep.name, objp, slab.address, number))
        if inuse == 1:  # was partial or full, now empty
            slab.del_()
            cachep.slabs_free.add(slab)
            if ev is not None:
                ev(("slab_list", cachep.name, slab.address, "free"))
        elif inuse == cachep.num:  # was full
            slab.del_()
            cachep.slabs_partial.add(slab)
            if ev is not None:
                ev(("slab_list", cachep.name, slab.address, "partial"))

    def kmem_cache_free(self, cachep: KmemCache, objp: int) -> None:
        """Give an object of *cachep* back. The kernel believes what it is told: a wrong address or a second
        free damages the cache, unless slab debugging is on. kernel: mm/slab.c:kmem_cache_free
        """
        if cachep.outside:
            cachep.outside_inuse -= 1
            return
        self.kmem_cache_free_irq(cachep, objp)

    def kmem_cache_free_irq(self, cachep: KmemCache, objp: int) -> None:
        """Give an object back, with interrupts off. kernel: mm/slab.c:__kmem_cache_free"""
        self.kmem_cache_free_one(cachep, objp)

    def bad_pointer(self, function: str, objp: int) -> KernelBug:
        """What happens to the kernel when it looks for a slab where there is none: it follows a wild pointer."""
        return KernelBug(function, f"{objp:#x} is in no slab: the kernel would write to memory it does not own", "oops")

    # -- objects that are not in this machine's memory ----------------------------------------

    def outside_alloc(self, cachep: KmemCache) -> int:
        """An address that nothing else has; no memory stands behind it."""
        cachep.outside_inuse += 1
        return self.outside_address(cachep.objsize)

    def outside_address(self, size: int) -> int:
        """The next address outside, *size* bytes of it."""
        address = self.state.next_outside
        self.state.next_outside = address + max(32, size + 31 & -32)
        if self.state.next_outside >= PAGE_OFFSET:
            self.state.next_outside = OUTSIDE
        return address
