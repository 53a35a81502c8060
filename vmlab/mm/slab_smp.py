"""The slab allocator of a machine with several processors: each keeps a few objects of every cache at hand.

Most allocations and frees then need no lock and find an object that is still in the CPU's cache. The
array is refilled, and emptied, half at a time. kernel: mm/slab.c, the parts under CONFIG_SMP
"""

from __future__ import annotations

from collections.abc import Sequence

from ..hw.layout import PAGE_SIZE
from .errno import EINVAL, ENOMEM
from .gfp import GFP_KERNEL
from .slab import SlabAllocator
from .slab_cache import CpuCache, KmemCache

NR_CPUS = 32
SIZEOF_CPUCACHE_T = 8  # bytes: avail, limit


class SmpSlabAllocator(SlabAllocator):
    """Slab allocation on *smp_num_cpus* processors; :meth:`set_cpu` says which one runs.

    ``boot(parts={"slab": SmpSlabAllocator})`` puts it into a machine.
    """

    SIZEOF_KMEM_CACHE_T = 244
    SLABINFO = SlabAllocator.SLABINFO + " (SMP)"
    smp_num_cpus = 2

    def set_cpu(self, cpu: int) -> None:
        """What follows happens on processor *cpu*. Raises ValueError when there is no such processor."""
        if not 0 <= cpu < self.smp_num_cpus:
            raise ValueError(f"processor {cpu}: this machine has {self.smp_num_cpus}, numbered from 0")
        self.state.cpu = cpu

    def cc_data(self, cachep: KmemCache) -> CpuCache | None:
        """The running processor's array of *cachep*. kernel: mm/slab.c:cc_data"""
        return cachep.cpudata[self.state.cpu] if cachep.cpudata else None

    # -- handing out and taking back ----------------------------------------------------------

    def kmem_cache_alloc_batch(self, cachep: KmemCache, cc: CpuCache) -> int:
        """Fill an empty array with up to *batchcount* objects and hand one out; 0 when the cache has none.

        kernel: mm/slab.c:kmem_cache_alloc_batch
        """
        for _ in range(cachep.batchcount):
            objp = self.kmem_cache_alloc_one(cachep)
            if not objp:
                break
            cc.entries.append(objp)
        if self.on_event is not None:
            self.on_event(("cc_refill", cachep.name, self.state.cpu, len(cc.entries)))
        return cc.entries.pop() if cc.entries else 0

    def kmem_cache_alloc(self, cachep: KmemCache, flags: int = GFP_KERNEL) -> int:
        """An object of *cachep*, from this processor's array if it has one. kernel: mm/slab.c:__kmem_cache_alloc"""
        if cachep.outside:
            return self.outside_alloc(cachep)
        self.kmem_cache_alloc_head(cachep, flags)
        while True:
            cc = self.cc_data(cachep)
            if cc is None:
                objp = self.kmem_cache_alloc_one(cachep)
            elif cc.entries:
                cachep.stats.allochit += 1
                objp = cc.entries.pop()
                if self.on_event is not None:
                    self.on_event(("cc_hit", cachep.name, self.state.cpu, objp, len(cc.entries)))
            else:
                cachep.stats.allocmiss += 1
                objp = self.kmem_cache_alloc_batch(cachep, cc)
            if objp:
                return objp
            if not self.kmem_cache_grow(cachep, flags):
                return 0

    def free_block(self, cachep: KmemCache, objects: Sequence[int]) -> None:
        """Put *objects* back into their slabs, in this order. kernel: mm/slab.c:free_block, __free_block"""
        for objp in objects:
            self.kmem_cache_free_one(cachep, objp)
        if self.on_event is not None:
            self.on_event(("cc_flush", cachep.name, self.state.cpu, len(objects)))

    def kmem_cache_free_irq(self, cachep: KmemCache, objp: int) -> None:
        """Keep the object in this processor's array; a full array gives *batchcount* back first. kernel: mm/slab.c:__kmem_cache_free"""
        cc = self.cc_data(cachep)
        if cc is None:
            self.free_block(cachep, (objp,))
            return
        entries = cc.entries
        if len(entries) < cc.limit:
            cachep.stats.freehit += 1
        else:
            cachep.stats.freemiss += 1
            keep = len(entries) - cachep.batchcount
            block = entries[keep:]
            del entries[keep:]
            self.free_block(cachep, block)
        entries.append(objp)
        if self.on_event is not None:
            self.on_event(("cc_park", cachep.name, self.state.cpu, objp, len(entries)))

    # -- the arrays ---------------------------------------------------------------------------

    def smp_call_function_all_cpus(self, function: str, cachep: KmemCache, new: list[CpuCache | None]) -> None:
        """Have every processor exchange its array of *cachep* for the one in *new*, this processor first.

        kernel: mm/slab.c:smp_call_function_all_cpus, do_ccupdate_local
        """
        if self.on_event is not None:
            self.on_event(("smp_call", cachep.name, function))
        here = self.state.cpu
        for cpu in (here, *(c for c in range(self.smp_num_cpus) if c != here)):
            cachep.cpudata[cpu], new[cpu] = new[cpu], cachep.cpudata[cpu]

    def drain_cpu_caches(self, cachep: KmemCache) -> None:
        """Take every processor's array away, empty it, and hand it back. kernel: mm/slab.c:drain_cpu_caches"""
        self.down_cache_chain("drain_cpu_caches")
        arrays: list[CpuCache | None] = [None] * NR_CPUS
        if not cachep.cpudata:
            cachep.cpudata = [None] * NR_CPUS
        self.smp_call_function_all_cpus("do_ccupdate_local", cachep, arrays)
        for old in arrays[: self.smp_num_cpus]:
            if old is not None and old.entries:
                self.free_block(cachep, old.entries)
                old.entries = []
        self.smp_call_function_all_cpus("do_ccupdate_local", cachep, arrays)
        self.up_cache_chain()

    def flush_this_cpu(self, cachep: KmemCache) -> None:
        """Empty this processor's array, as kmem_cache_reap does before it counts. kernel: mm/slab.c:kmem_cache_reap"""
        cc = self.cc_data(cachep)
        if cc is not None and cc.entries:
            self.free_block(cachep, cc.entries)
            cc.entries = []

    def kmem_tune_cpucache(self, cachep: KmemCache, limit: int, batchcount: int) -> int:
        """Give every processor a new array for *limit* objects (0: none), moved *batchcount* at a time.

        Returns 0, -EINVAL or -ENOMEM. The old arrays are emptied into the slabs. kernel: mm/slab.c:kmem_tune_cpucache
        """
        if limit < 0 or batchcount < 0 or batchcount > limit or (limit and not batchcount):
            return -EINVAL
        new: list[CpuCache | None] = [None] * NR_CPUS
        if limit:
            for cpu in range(self.smp_num_cpus):
                address = self.kmalloc(4 * limit + SIZEOF_CPUCACHE_T, GFP_KERNEL)
                if not address:
                    for made in reversed(new[:cpu]):
                        if made is not None:
                            self.kfree(made.address)
                    return -ENOMEM
                new[cpu] = CpuCache(address, limit)
        cachep.batchcount = batchcount
        if not cachep.cpudata:
            cachep.cpudata = [None] * NR_CPUS
        self.smp_call_function_all_cpus("do_ccupdate_local", cachep, new)
        for old in new[: self.smp_num_cpus]:
            if old is not None:
                self.free_block(cachep, old.entries)
                self.kfree(old.address)
        if self.on_event is not None:
            self.on_event(("cc_tune", cachep.name, limit, batchcount))
        return 0

    def enable_cpucache(self, cachep: KmemCache) -> None:
        """Arrays for a cache: the smaller its objects, the longer; none above a page. kernel: mm/slab.c:enable_cpucache"""
        if cachep.objsize > PAGE_SIZE:
            return
        limit = 60 if cachep.objsize > 1024 else 124 if cachep.objsize > 256 else 252
        err = self.kmem_tune_cpucache(cachep, limit, limit // 2)
        if err:
            self.kernel.printk(3, f"enable_cpucache failed for {cachep.name}, error {-err}.")

    def kmem_cpucache_init(self) -> None:
        """The general caches are up: arrays for every cache, and for every cache to come.

        kernel: mm/slab.c:kmem_cpucache_init, enable_all_cpucaches
        """
        self.state.g_cpucache_up = True
        self.down_cache_chain("enable_all_cpucaches")
        for cachep in list(self.state.cache_chain):
            self.enable_cpucache(cachep)
        self.up_cache_chain()

    def cpucache_create(self, cachep: KmemCache) -> None:
        """Arrays for a cache that is being created."""
        if self.state.g_cpucache_up:
            self.enable_cpucache(cachep)

    def cpucache_destroy(self, cachep: KmemCache) -> None:
        """Free the arrays of a cache that is being destroyed."""
        for cc in cachep.cpudata:
            if cc is not None:
                self.kfree(cc.address)

    # -- /proc/slabinfo -----------------------------------------------------------------------

    def s_show(self, cachep: KmemCache) -> str:
        """A cache's line, with the length of its arrays and its batchcount. kernel: mm/slab.c:s_show"""
        cc = self.cc_data(cachep)
        return super().s_show(cachep) + f" : {cc.limit if cc else 0:4} {cachep.batchcount:4}"

    def slabinfo_write(self, text: str) -> int:
        """What writing "name limit batchcount" to /proc/slabinfo does. Returns the length, -EINVAL or -ENOMEM.

        kernel: mm/slab.c:slabinfo_write
        """
        name, space, rest = text.partition(" ")
        if len(text.encode()) > 128 or not space:
            return -EINVAL
        limit, rest = _strtol(rest)
        batchcount, _ = _strtol(rest.lstrip(" "))
        self.down_cache_chain("slabinfo_write")
        res = -EINVAL
        for cachep in self.state.cache_chain[1:]:
            if cachep.name == name:
                res = self.kmem_tune_cpucache(cachep, limit, batchcount)
                break
        self.up_cache_chain()
        return len(text.encode()) if res >= 0 else res


def _strtol(text: str) -> tuple[int, str]:
    """The number *text* begins with (0 if with none) and what follows it. kernel: lib/vsprintf.c:simple_strtol"""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    end = 0
    while end < len(digits) and digits[end] in "0123456789":
        end += 1
    return sign * int(digits[:end] or "0"), digits[end:]
