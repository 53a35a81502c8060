"""Objects and slabs in 2.6: the array at hand, fetching and returning by the batch, growing. kernel: mm/slab.c"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT
from ..mm.gfp import GFP_DMA, GFP_KERNEL
from ..mm.page_flags import PG_slab
from ..mm.slab_cache import BUFCTL_END, SLAB_CTOR_ATOMIC, SLAB_CTOR_CONSTRUCTOR, SLAB_DMA, KmemCache, Slab
from ..mm.slab_objects import SlabObjects
from .gfp import GFP_LEVEL_MASK, HIGHIO, NO_GROW, WAIT
from .slab_cache import BATCHREFILL_LIMIT, BUG_LINES26, SLAB_RECLAIM_ACCOUNT, ArrayCache, KmemCache26, SlabState26

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from .page_alloc import PageAllocator26


class SlabObjects26(SlabObjects):
    """What happens inside a cache."""

    state: SlabState26

    def __init__(self) -> None:
        super().__init__()
        self.state = SlabState26()

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.page_list = kernel.mem.lru  # page->list is gone
        self.page_state = cast("PageAllocator26", kernel.page_allocator).page_state

    @property
    def jiffies(self) -> int:
        """In 2.6 needed here, because caches are tidied by the clock; before that only when memory was short."""
        sched: Any = self.kernel.more_parts.get("sched")
        return int(sched.jiffies) if sched is not None else self.state.jiffies

    def bug(self, function: str, kind: str, why: str) -> KernelBug:
        """In 2.6 with the file's path, because many files have the same name; before that its name only.

        kernel: include/asm-i386/bug.h:BUG
        """
        self.kernel.printk(None, f"kernel BUG at mm/slab.c:{BUG_LINES26[function, kind]}!")
        return KernelBug(function, why, kind)

    # -- pages --------------------------------------------------------------------------------

    def kmem_getpages(self, cachep: KmemCache, flags: int) -> int:
        """In 2.6 the pages are counted and marked here, because /proc tells how many slabs have; before that kmem_cache_grow() marked them.

        Pages for a slab: their kernel address, 0 when there are none. kernel: mm/slab.c:kmem_getpages
        """
        pfn = self.kernel.page_allocator.alloc_pages(flags | cachep.gfpflags, cachep.gfporder)
        if pfn is None:
            return 0
        pages = 1 << cachep.gfporder
        if cachep.flags & SLAB_RECLAIM_ACCOUNT:
            self.state.slab_reclaim_pages += pages
        self.page_state.nr_slab += pages
        owner = self.kernel.owner_id("slab")
        for frame in range(pfn, pfn + pages):
            self.page_flags[frame] |= 1 << PG_slab
            self.page_owner[frame] = owner
        return PAGE_OFFSET + (pfn << PAGE_SHIFT)

    def kmem_freepages(self, cachep: KmemCache, address: int) -> None:
        """In 2.6 reclaim is told, because a shrinker only frees objects and must know whether pages came of it; before that not.

        Give a slab's pages back. kernel: mm/slab.c:kmem_freepages
        """
        first, pages = address - PAGE_OFFSET >> PAGE_SHIFT, 1 << cachep.gfporder
        for pfn in range(first, first + pages):
            if not self.page_flags[pfn] >> PG_slab & 1:
                raise self.bug("kmem_freepages", "PG_slab", f"frame {pfn} is no slab's")
            self.page_flags[pfn] &= ~(1 << PG_slab)
            self.page_owner[pfn] = 0
        self.page_state.nr_slab -= pages
        reclaim: Any = self.kernel.reclaim
        if hasattr(reclaim, "reclaimed_slab"):
            reclaim.reclaimed_slab += pages
        self.kernel.page_allocator.free_pages(first, cachep.gfporder)
        if cachep.flags & SLAB_RECLAIM_ACCOUNT:
            self.state.slab_reclaim_pages -= pages

    # -- slabs --------------------------------------------------------------------------------

    def kmem_flagcheck(self, cachep: KmemCache, flags: int) -> None:
        """In 2.6 only when a cache grows, because that is where it matters; before that at each allocation.

        Refuse a request for the other kind of memory. kernel: mm/slab.c:kmem_flagcheck
        """
        if flags & SLAB_DMA:
            if not cachep.gfpflags & GFP_DMA:
                raise self.bug("kmem_flagcheck", "not DMA", f"SLAB_DMA asked of {cachep.name}, which has no DMA memory")
        elif cachep.gfpflags & GFP_DMA:
            raise self.bug("kmem_flagcheck", "DMA", f"{cachep.name} has DMA memory, but SLAB_DMA was not asked for")

    def kmem_cache_grow(self, cachep: KmemCache, flags: int) -> int:
        """In 2.6 nothing notes that the cache grows, because cache_reap() goes by the clock; before that it spared such caches.

        Add one slab to *cachep*. Returns 1, or 0 when *flags* forbid it or memory is short. Raises KernelBug for flags that are no
        allocation flags. kernel: mm/slab.c:cache_grow, alloc_slabmgmt, cache_init_objs, set_slab_attr
        """
        assert isinstance(cachep, KmemCache26)
        if flags & ~(SLAB_DMA | GFP_LEVEL_MASK | NO_GROW | HIGHIO):
            raise self.bug("cache_grow", "flags", f"flags {flags:#x} of an allocation from {cachep.name}")
        if flags & NO_GROW:
            return 0
        local_flags = flags & (GFP_LEVEL_MASK | HIGHIO)
        ctor_flags = SLAB_CTOR_CONSTRUCTOR | (0 if local_flags & WAIT else SLAB_CTOR_ATOMIC)
        offset = cachep.colour_next * cachep.colour_off
        cachep.colour_next += 1
        if cachep.colour_next >= cachep.colour:
            cachep.colour_next = 0
        self.kmem_flagcheck(cachep, flags)
        objp = self.kmem_getpages(cachep, flags)
        if not objp:
            return 0
        slab = self.kmem_cache_slabmgmt(cachep, objp, offset, local_flags)
        if slab is None:
            self.kmem_freepages(cachep, objp)
            return 0
        first = objp - PAGE_OFFSET >> PAGE_SHIFT
        columns = self.page_list
        for pfn in range(first, first + (1 << cachep.gfporder)):
            columns.next[pfn] = cachep.address
            columns.prev[pfn] = slab.address
        self.kmem_cache_init_objs(cachep, slab, ctor_flags)
        cachep.slabs_free.add_tail(slab)
        cachep.made += 1
        cachep.stats.grown += 1
        cachep.free_objects += cachep.num
        if self.on_event is not None:
            self.on_event(("slab_grow", cachep.name, first, slab.address, slab.colouroff))
        return 1

    # -- handing out --------------------------------------------------------------------------

    def cache_alloc_refill(self, cachep: KmemCache26, flags: int) -> int:
        """In 2.6 new, because of the arrays: fetch a batch of objects for the empty array, and hand out the last; 0 without memory.

        They come from the shared array, else from the first partial slabs, else from free ones; else the cache grows.
        kernel: mm/slab.c:cache_alloc_refill
        """
        ev = self.on_event
        while True:
            ac = cachep.array
            entries = ac.entries
            batch = ac.batchcount
            if not ac.touched and batch > BATCHREFILL_LIMIT:
                batch = BATCHREFILL_LIMIT
            if entries:
                raise self.bug("cache_alloc_refill", "avail", f"the array of {cachep.name} is not empty")
            shared = cachep.shared
            if shared is not None and shared.entries:
                batch = min(batch, len(shared.entries))
                entries += shared.entries[-batch:]
                del shared.entries[-batch:]
                shared.touched = 1
            else:
                self._take_batch(cachep, entries, batch)
                cachep.free_objects -= len(entries)
            if ev is not None and entries:
                ev(("array_refill", cachep.name, len(entries)))
            if not entries:
                grown = self.kmem_cache_grow(cachep, flags)
                ac = cachep.array  # it may have slept
                if not ac.entries:
                    if not grown:
                        return 0
                    continue
            ac.touched = 1
            return ac.entries.pop()

    def _take_batch(self, cachep: KmemCache26, entries: list[int], batch: int) -> None:
        """Take up to *batch* objects out of the slabs."""
        partial, free, full = cachep.slabs_partial, cachep.slabs_free, cachep.slabs_full
        size, num = cachep.objsize, cachep.num
        ev = self.on_event
        while batch > 0:
            slab = partial.next
            if slab is partial:
                cachep.free_touched = 1
                slab = free.next
                if slab is free:
                    return
            bufctl = slab.bufctl
            while slab.inuse < num and batch:
                batch -= 1
                number = slab.free
                entries.append(slab.s_mem + number * size)
                slab.inuse += 1
                try:
                    slab.free = bufctl[number]
                except IndexError:  # objects were freed into the wrong cache
                    raise self.bad_pointer("cache_alloc_refill", entries[-1]) from None
                if ev is not None:
                    ev(("object_alloc", cachep.name, entries[-1], slab.address, number))
            slab.del_()
            (full if slab.free == BUFCTL_END else partial).add(slab)
            if ev is not None:
                ev(("slab_list", cachep.name, slab.address, "full" if slab.free == BUFCTL_END else "partial"))

    def kmem_cache_alloc(self, cachep: KmemCache, flags: int = GFP_KERNEL) -> int:
        """In 2.6 from the array if it has one, because that is the warmest; before that from the first partial slab.

        An object of *cachep*: its kernel address, 0 when there is no memory for another slab.
        kernel: mm/slab.c:kmem_cache_alloc, __cache_alloc
        """
        if cachep.outside:
            return self.outside_alloc(cachep)
        ac: ArrayCache = cachep.array  # type: ignore[attr-defined]
        if not ac.entries:
            return self.cache_alloc_refill(cast(KmemCache26, cachep), flags)
        ac.touched = 1
        objp = ac.entries.pop()
        if self.on_event is not None:
            self.on_event(("array_alloc", cachep.name, objp, len(ac.entries)))
        return objp

    # -- taking back --------------------------------------------------------------------------

    def free_block(self, cachep: KmemCache26, objects: list[int]) -> None:
        """In 2.6 a slab some of whose objects are in use goes to the end of its list, because it may empty by itself; before that it
        stayed.

        Put objects back into their slabs. An empty slab is kept as the first free one, or given back when the cache has more than
        ``free_limit`` free objects. kernel: mm/slab.c:free_block
        """
        ev = self.on_event
        cachep.free_objects += len(objects)
        for objp in objects:
            slab, number = self.slab_of(cachep, objp)
            slab.del_()
            slab.bufctl[number] = slab.free
            slab.free = number
            slab.inuse = slab.inuse - 1 & M32
            if ev is not None:
                ev(("object_free", cachep.name, objp, slab.address, number))
            if slab.inuse:
                cachep.slabs_partial.add_tail(slab)
            elif cachep.free_objects > cachep.free_limit:
                cachep.free_objects -= cachep.num
                self.kmem_slab_destroy(cachep, slab)
            else:
                cachep.slabs_free.add(slab)
                if ev is not None:
                    ev(("slab_list", cachep.name, slab.address, "free"))

    def slab_of(self, cachep: KmemCache26, objp: int) -> tuple[Slab, int]:
        """In 2.6 through page->lru, because page->list is gone; before that through page->list.

        The slab of an object, and its number in it. Raises KernelBug for an address that is in no slab. kernel: mm/slab.c:GET_PAGE_SLAB
        """
        try:
            slab = self.state.slab_at[self.page_list.prev[(objp - PAGE_OFFSET & M32) >> PAGE_SHIFT]]
            number = (objp - slab.s_mem & M32) // cachep.objsize
            _ = slab.bufctl[number]
        except LookupError:
            raise self.bad_pointer("free_block", objp) from None
        return slab, number

    def cache_flusharray(self, cachep: KmemCache26, ac: ArrayCache) -> None:
        """In 2.6 new, because of the arrays: the oldest batch of a full one goes to the shared array, or back to the slabs.

        kernel: mm/slab.c:cache_flusharray
        """
        batch = ac.batchcount
        shared = cachep.shared
        room = shared.limit - len(shared.entries) if shared is not None else 0
        if room and shared is not None:
            batch = min(batch, room)
            shared.entries += ac.entries[:batch]
        else:
            self.free_block(cachep, ac.entries[:batch])
        del ac.entries[:batch]
        if self.on_event is not None:
            self.on_event(("array_flush", cachep.name, batch))

    def kmem_cache_free_irq(self, cachep: KmemCache, objp: int) -> None:
        """In 2.6 into the array, because the next allocation then gets what is still in the CPU's cache; before that into its slab.

        Give an object back, with interrupts off. kernel: mm/slab.c:__cache_free, kmem_cache_free
        """
        assert isinstance(cachep, KmemCache26)
        ac = cachep.array
        if len(ac.entries) >= ac.limit:
            self.cache_flusharray(cachep, ac)
        ac.entries.append(objp)
        if self.on_event is not None:
            self.on_event(("array_free", cachep.name, objp, len(ac.entries)))
