"""Slab debugging: red zones around objects, poison in free ones. A kernel built with CONFIG_DEBUG_SLAB.

    offset 0     4                                     objsize - 4
    +------------+-----------------------------+------------+
    | red zone   | what the user gets          | red zone   |   a zone says whether the object is in use
    +------------+-----------------------------+------------+
    free object:   5a 5a 5a 5a 5a ........ 5a a5

A write past either end is found when the object is freed, a second free at once. A write to a free
object is found when it is next handed out or its slab is given back, but only if it hit the last byte or
wrote an a5: the check looks for the first a5 and is content when that is the last byte.
kernel: mm/slab.c, the parts under DEBUG
"""

from __future__ import annotations

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from .page_flags import PG_slab
from .slab import SlabAllocator
from .slab_cache import (
    BUFCTL_END,
    BYTES_PER_WORD,
    SLAB_CTOR_CONSTRUCTOR,
    SLAB_CTOR_VERIFY,
    SLAB_DEBUG_INITIAL,
    SLAB_HWCACHE_ALIGN,
    SLAB_MUST_HWCACHE_ALIGN,
    SLAB_POISON,
    SLAB_RED_ZONE,
    Constructor,
    KmemCache,
    Slab,
)
from .slab_smp import SmpSlabAllocator

RED_MAGIC1 = 0x5A2CF071  # the object is free
RED_MAGIC2 = 0x170FC2A5  # it is in use
POISON_BYTE = 0x5A
POISON_END = 0xA5  # in the last byte


class DebugSlabAllocator(SlabAllocator):
    """Slab allocation that watches its users, and counts. ``boot(parts={"slab": DebugSlabAllocator})``."""

    DEBUG = True
    FORCED_DEBUG = True  # watch every cache, asked or not
    CREATE_MASK = SlabAllocator.CREATE_MASK | SLAB_DEBUG_INITIAL | SLAB_RED_ZONE | SLAB_POISON
    SIZEOF_KMEM_CACHE_T = 132  # six counters more
    SLABINFO = SlabAllocator.SLABINFO + " (statistics)"

    # -- creating a cache ---------------------------------------------------------------------

    def debug_flags(self, name: str, size: int, flags: int, ctor: Constructor | None) -> int:
        """Drop checks that cannot be made, and add those that every cache gets. kernel: mm/slab.c:kmem_cache_create"""
        if flags & SLAB_DEBUG_INITIAL and ctor is None:
            self.kernel.printk(3, f"kmem_create: No con, but init state check requested - {name}")
            flags &= ~SLAB_DEBUG_INITIAL
        if flags & SLAB_POISON and ctor is not None:
            self.kernel.printk(3, f"kmem_create: Poisoning requested, but con given - {name}")
            flags &= ~SLAB_POISON
        if self.FORCED_DEBUG:
            if size < PAGE_SIZE >> 3 and not flags & SLAB_MUST_HWCACHE_ALIGN:
                flags |= SLAB_RED_ZONE
            if ctor is None:
                flags |= SLAB_POISON
        return flags

    def debug_size(self, size: int, flags: int) -> tuple[int, int]:
        """A word more on either side; alignment is given up for it. kernel: mm/slab.c:kmem_cache_create"""
        if flags & SLAB_RED_ZONE:
            return size + 2 * BYTES_PER_WORD, flags & ~SLAB_HWCACHE_ALIGN
        return size, flags

    def kmem_cache_size(self, cachep: KmemCache) -> int:
        """Bytes of an object that its user may use. kernel: mm/slab.c:kmem_cache_size"""
        return cachep.objsize - (2 * BYTES_PER_WORD if cachep.flags & SLAB_RED_ZONE else 0)

    # -- red zones and poison -----------------------------------------------------------------

    def xchg(self, address: int, value: int) -> int:
        """Store a word and return what was there. kernel: include/asm-i386/system.h:xchg"""
        old = int.from_bytes(self.read(address, 4), "little")
        self.write(address, value.to_bytes(4, "little"))
        return old

    def red_zones(self, cachep: KmemCache, objp: int) -> tuple[int, int]:
        """Addresses of the words before and after the object that begins at *objp*, its red zone included."""
        return objp, objp + cachep.objsize - BYTES_PER_WORD

    def set_red_zones(self, cachep: KmemCache, objp: int, magic: int, expected: int, function: str) -> None:
        """Write both zones; raises KernelBug when one did not hold *expected*."""
        for place, address in zip(("before", "after"), self.red_zones(cachep, objp), strict=True):
            found = self.xchg(address, magic)
            if found != expected:
                raise self.red_zone_bug(cachep, objp, place, found, expected, function)
        if self.on_event is not None:
            self.on_event(("red_zone", cachep.name, objp + BYTES_PER_WORD, int(magic == RED_MAGIC2)))

    def check_red_zones(self, cachep: KmemCache, objp: int, function: str) -> None:
        """Raises KernelBug unless both zones say that the object is free."""
        for place, address in zip(("before", "after"), self.red_zones(cachep, objp), strict=True):
            found = int.from_bytes(self.read(address, 4), "little")
            if found != RED_MAGIC1:
                raise self.red_zone_bug(cachep, objp, place, found, RED_MAGIC1, function)

    def red_zone_bug(self, cachep: KmemCache, objp: int, place: str, found: int, expected: int, function: str) -> KernelBug:
        """What a damaged red zone means."""
        side = "start" if place == "before" else "end"
        what = f"somebody wrote past the {side} of it"
        if found == RED_MAGIC1:
            what = "it is free already (a double free), or not the start of an object"
        elif found == RED_MAGIC2:
            what = "it is in use"
        return self.bug(
            function,
            f"red zone {place}",
            f"object {objp + BYTES_PER_WORD:#x} of {cachep.name}: the word {place} it is {found:#010x}, not {expected:#010x}: {what}",
        )

    def kmem_poison_obj(self, cachep: KmemCache, objp: int) -> None:
        """Fill a free object with the pattern. kernel: mm/slab.c:kmem_poison_obj"""
        address, size = self.inside(cachep, objp)
        self.write(address, bytes([POISON_BYTE]) * (size - 1) + bytes([POISON_END]))
        if self.on_event is not None:
            self.on_event(("poison", cachep.name, address))

    def kmem_check_poison_obj(self, cachep: KmemCache, objp: int) -> bool:
        """Whether the pattern is damaged: its first end mark is not its last byte. kernel: mm/slab.c:kmem_check_poison_obj"""
        address, size = self.inside(cachep, objp)
        return self.read(address, size).find(POISON_END) != size - 1

    def inside(self, cachep: KmemCache, objp: int) -> tuple[int, int]:
        """Address and size of what the user gets of the object that begins at *objp*."""
        if cachep.flags & SLAB_RED_ZONE:
            return objp + BYTES_PER_WORD, cachep.objsize - 2 * BYTES_PER_WORD
        return objp, cachep.objsize

    def poison_bug(self, cachep: KmemCache, objp: int, function: str) -> KernelBug:
        """What damaged poison means."""
        address, size = self.inside(cachep, objp)
        data = self.read(address, size)
        pattern = bytes([POISON_BYTE]) * (size - 1) + bytes([POISON_END])
        first = next((i for i in range(size) if data[i] != pattern[i]), 0)
        return self.bug(function, "poison", f"object {address:#x} of {cachep.name} was written to after it was freed (byte {first})")

    # -- slabs --------------------------------------------------------------------------------

    def kmem_cache_init_objs(self, cachep: KmemCache, slab: Slab, ctor_flags: int) -> None:
        """Set red zones, construct, poison, and see whether the constructor stayed inside. kernel: mm/slab.c:kmem_cache_init_objs"""
        red, poison = cachep.flags & SLAB_RED_ZONE, cachep.flags & SLAB_POISON
        for objp in range(slab.s_mem, slab.s_mem + cachep.objsize * cachep.num, cachep.objsize):
            if red:
                for address in self.red_zones(cachep, objp):
                    self.xchg(address, RED_MAGIC1)
            if cachep.ctor is not None:
                cachep.ctor(self.inside(cachep, objp)[0], cachep, ctor_flags)
                if self.on_event is not None:
                    self.on_event(("ctor", cachep.name, self.inside(cachep, objp)[0]))
            if poison:
                self.kmem_poison_obj(cachep, objp)
            if red:
                self.check_red_zones(cachep, objp, "kmem_cache_init_objs")
        slab.bufctl = [*range(1, cachep.num), BUFCTL_END]
        slab.free = 0

    def destruct_objs(self, cachep: KmemCache, slab: Slab) -> None:
        """Check every object of a slab that goes, and call its destructor. kernel: mm/slab.c:kmem_slab_destroy"""
        for objp in range(slab.s_mem, slab.s_mem + cachep.objsize * cachep.num, cachep.objsize):
            if cachep.flags & SLAB_RED_ZONE:
                self.check_red_zones(cachep, objp, "kmem_slab_destroy")
            if cachep.dtor is not None:
                cachep.dtor(self.inside(cachep, objp)[0], cachep, 0)
                if self.on_event is not None:
                    self.on_event(("dtor", cachep.name, self.inside(cachep, objp)[0]))
            if cachep.flags & SLAB_POISON and self.kmem_check_poison_obj(cachep, objp):
                raise self.poison_bug(cachep, objp, "kmem_slab_destroy")

    # -- objects ------------------------------------------------------------------------------

    def kmem_cache_alloc_one_tail(self, cachep: KmemCache, slab: Slab) -> int:
        """Take an object and check that nobody has touched it since it was freed. kernel: mm/slab.c:kmem_cache_alloc_one_tail"""
        stats = cachep.stats
        stats.num_allocations += 1
        stats.num_active += 1
        stats.high_mark = max(stats.high_mark, stats.num_active)
        objp = super().kmem_cache_alloc_one_tail(cachep, slab)
        if cachep.flags & SLAB_POISON and self.kmem_check_poison_obj(cachep, objp):
            raise self.poison_bug(cachep, objp, "kmem_cache_alloc_one_tail")
        if cachep.flags & SLAB_RED_ZONE:
            self.set_red_zones(cachep, objp, RED_MAGIC2, RED_MAGIC1, "kmem_cache_alloc_one_tail")
            objp += BYTES_PER_WORD
        return objp

    def kmem_cache_free_one(self, cachep: KmemCache, objp: int) -> None:
        """Check an object, poison it, and put it back. kernel: mm/slab.c:kmem_cache_free_one"""
        pfn = self.CHECK_PAGE(objp, "kmem_cache_free_one")
        slab = self.state.slab_at.get(self.page_list.prev[pfn])
        if slab is None:
            raise self.bad_pointer("kmem_cache_free_one", objp)
        if cachep.flags & SLAB_DEBUG_INITIAL and cachep.ctor is not None:
            cachep.ctor(objp, cachep, SLAB_CTOR_CONSTRUCTOR | SLAB_CTOR_VERIFY)
        if cachep.flags & SLAB_RED_ZONE:
            objp -= BYTES_PER_WORD
            self.set_red_zones(cachep, objp, RED_MAGIC1, RED_MAGIC2, "kmem_cache_free_one")
        if cachep.flags & SLAB_POISON:
            self.kmem_poison_obj(cachep, objp)
        self.kmem_extra_free_checks(cachep, slab, objp)
        cachep.stats.num_active -= 1
        super().kmem_cache_free_one(cachep, objp)

    def kmem_extra_free_checks(self, cachep: KmemCache, slab: Slab, objp: int) -> None:
        """Raises KernelBug unless *objp* is the start of an object in use of *slab*. kernel: mm/slab.c:kmem_extra_free_checks"""
        number = (objp - slab.s_mem & M32) // cachep.objsize
        if number >= cachep.num:
            raise self.bug("kmem_extra_free_checks", "number", f"{objp:#x} is in no object of the slab at {slab.start:#x}")
        if objp != slab.s_mem + number * cachep.objsize:
            raise self.bug("kmem_extra_free_checks", "start", f"{objp:#x} is inside object {number} of {cachep.name}, not its start")
        if number in slab.free_objects():
            raise self.bug("kmem_extra_free_checks", "double free", f"object {number} at {objp:#x} of {cachep.name} is free already")

    def CHECK_PAGE(self, objp: int, function: str) -> int:
        """The frame of an address, which must be one of a slab; *function* is the one that looks. kernel: mm/slab.c:CHECK_PAGE, CHECK_NR"""
        pfn = (objp - PAGE_OFFSET & M32) >> PAGE_SHIFT
        if pfn >= self.kernel.mem.frames:
            self.kernel.printk(3, f"kfree: out of range ptr {objp:x}h.")
            raise self.bug(function, "range", f"{objp:#x} is no address of this machine's low memory")
        if not self.page_flags[pfn] >> PG_slab & 1:
            self.kernel.printk(3, f"kfree: bad ptr {objp:x}h.")
            raise self.bug(function, "bad ptr", f"{objp:#x} is in frame {pfn}, which is no part of a slab")
        return pfn

    def kmem_cache_free(self, cachep: KmemCache, objp: int) -> None:
        """Give an object back, after a look at whether it is *cachep*'s. kernel: mm/slab.c:kmem_cache_free"""
        if not cachep.outside:
            pfn = self.CHECK_PAGE(objp, "kmem_cache_free")
            if self.page_list.next[pfn] != cachep.address:
                owner = self.state.cache_at.get(self.page_list.next[pfn])
                name = owner.name if owner else "no cache"
                raise self.bug("kmem_cache_free", "cache", f"{objp:#x} belongs to {name}, not to {cachep.name}")
        super().kmem_cache_free(cachep, objp)

    def kfree(self, objp: int) -> None:
        """Give back what kmalloc returned, after a look at the page it is in. kernel: mm/slab.c:kfree"""
        if objp and not self.state.outside:
            self.CHECK_PAGE(objp, "kfree")
        super().kfree(objp)

    def statistics(self, cachep: KmemCache) -> str:
        """Most objects ever, allocations, slabs made, slabs reaped, errors. kernel: mm/slab.c:s_show"""
        stats = cachep.stats
        return f" : {stats.high_mark:6} {stats.num_allocations:7} {stats.grown:5} {stats.reaped:4} {stats.errors:4}"


class DebugSmpSlabAllocator(DebugSlabAllocator, SmpSlabAllocator):
    """Slab debugging on a machine with several processors."""

    SIZEOF_KMEM_CACHE_T = 284
    SLABINFO = DebugSlabAllocator.SLABINFO + " (SMP)"

    def kmem_cache_free_irq(self, cachep: KmemCache, objp: int) -> None:
        """Look at the page, then park the object. kernel: mm/slab.c:__kmem_cache_free"""
        self.CHECK_PAGE(objp, "kmem_cache_free_irq")
        super().kmem_cache_free_irq(cachep, objp)

    def s_show(self, cachep: KmemCache) -> str:
        """A cache's line, with how often a CPU found an object in its array, or room for one. kernel: mm/slab.c:s_show"""
        stats = cachep.stats
        return super().s_show(cachep) + f" : {stats.allochit:6} {stats.allocmiss:6} {stats.freehit:6} {stats.freemiss:6}"
