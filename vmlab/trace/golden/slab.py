"""Replay of slab-* and slab-smp-* traces: the slab allocator above the page allocator, without processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from ...errors import KernelBug, KernelHang, TraceError
from ...hw.e820 import pc_map
from ...hw.layout import PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE
from ...machine import Machine
from ...mm.gfp import GFP_DMA
from ...mm.init import ram_frames
from ...mm.page_init import ZoneSetup
from ...mm.slab import SlabAllocator
from ...mm.slab_cache import CFLGS_OFF_SLAB, CFLGS_OPTIMIZE, L1_CACHE_BYTES, SIZEOF_SLAB_T, KmemCache, Slab
from ...mm.slab_objects import BUG_LINES
from ...mm.slab_smp import SmpSlabAllocator
from .common import bug_site, free_pages, integer, need_balance, zonelists

Line = dict[str, Any]

MAX_SHOWN = 64  # slabs of a cache that a snapshot lists
_INPUTS = ("op", "h", "name", "size", "offset", "flags", "ctor", "dtor", "pa", "gfp", "limit", "batchcount", "cpu")


class _SmpZoneSetup(ZoneSetup):
    """A wait queue head has a spinlock when there is more than one processor."""

    sizeof_wait_queue_head = 12


class SlabReplay:
    """Keeps one machine; a ``trace`` line boots a fresh one and runs kmem_cache_init and kmem_cache_sizes_init."""

    def __init__(self, header: Line) -> None:
        self.smp = "i386, SMP" in str(header.get("config"))
        self.machine: Machine | None = None
        self.slab: SlabAllocator = SlabAllocator()
        self.handles: dict[int, KmemCache] = {}
        self.called = {"ctors": 0, "dtors": 0}
        self.numbers: dict[KmemCache, dict[Slab, int]] = {}

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            return self._boot(line)
        machine = self.machine
        if machine is None:
            raise TraceError("a trace line must come first")
        handler: Callable[[Line], Line] | None = getattr(self, f"_op_{op}", None) if isinstance(op, str) else None
        if handler is None:
            raise TraceError(f"unknown operation {op!r}")
        got: Line = {k: line[k] for k in _INPUTS if k in line}
        self.called = {"ctors": 0, "dtors": 0}
        try:
            return got | handler(line)
        except KernelBug as bug:
            site = BUG_LINES.get((bug.function, bug.kind))
            where = f"slab.c:{site}" if site else bug_site(bug)
            return got | {"r": "bug", "bug": where, "fp": free_pages(machine), "nb": need_balance(machine)}
        except KernelHang:
            return got | {"r": "loop", "fp": free_pages(machine), "nb": need_balance(machine)}

    # -- operations ---------------------------------------------------------------------------

    def _op_kmem_create(self, line: Line) -> Line:
        ctor = self._ctor if integer(line, "ctor") else None
        dtor = self._dtor if integer(line, "dtor") else None
        size, offset, flags = (integer(line, k) for k in ("size", "offset", "flags"))
        cachep = self.slab.kmem_cache_create(line["name"], size, offset, flags, ctor, dtor)
        if cachep is not None:
            self.handles[integer(line, "h")] = cachep
        got = {"r": None if cachep is None else self._parameters(cachep)} | self._cc(cachep)
        return got | {"fp": self._fp(), "cc_l": self._l(self.slab.state.cache_cache)}

    def _op_kmem_alloc(self, line: Line) -> Line:
        cachep = self._cache(line)
        return self._allocated(cachep, self.slab.kmem_cache_alloc(cachep, integer(line, "flags")))

    def _op_kmem_free(self, line: Line) -> Line:
        cachep = self._cache(line)
        objp, obj = self._object(line)
        self.slab.kmem_cache_free(cachep, objp)
        return {"obj": obj} | self._state(cachep)

    def _op_kmalloc(self, line: Line) -> Line:
        size, flags = integer(line, "size"), integer(line, "flags")
        objp = self.slab.kmalloc(size, flags)
        if not objp:
            return {"r": None, "fp": self._fp()}
        cachep = self.slab.kmem_find_general_cachep(size, flags & GFP_DMA)
        return {"cache": cachep.name} | self._allocated(cachep, objp)

    def _op_kfree(self, line: Line) -> Line:
        objp, obj = self._object(line)
        place = self.slab.find(objp)
        assert place is not None
        self.slab.kfree(objp)
        return {"cache": place.cache.name, "obj": obj} | self._state(place.cache)

    def _op_kmem_shrink(self, line: Line) -> Line:
        cachep = self._cache(line)
        return {"r": self.slab.kmem_cache_shrink(cachep)} | self._state(cachep)

    def _op_kmem_destroy(self, line: Line) -> Line:
        cachep = self._cache(line)
        r = self.slab.kmem_cache_destroy(cachep)
        if not r:
            del self.handles[integer(line, "h")]
        got: Line = {"r": r, "dtors": self.called["dtors"], "clock": self.slab.state.clock_searchp.name}
        return got | {"cc_l": self._l(self.slab.state.cache_cache), "fp": self._fp()}

    def _op_kmem_reap(self, line: Line) -> Line:
        r = self.slab.kmem_cache_reap(integer(line, "gfp"))
        return {"r": r, "clock": self.slab.state.clock_searchp.name, "fp": self._fp()}

    def _op_kmem_tune(self, line: Line) -> Line:
        cachep = self._cache(line)
        assert isinstance(self.slab, SmpSlabAllocator)
        r = self.slab.kmem_tune_cpucache(cachep, integer(line, "limit"), integer(line, "batchcount"))
        return {"r": r} | self._state(cachep)

    def _op_cpu(self, line: Line) -> Line:
        assert isinstance(self.slab, SmpSlabAllocator)
        self.slab.set_cpu(integer(line, "cpu"))
        return {}

    def _op_slabsnap(self, line: Line) -> Line:
        return self._snap()

    def _op_caches(self, line: Line) -> Line:
        return {"caches": self._caches(), "clock": self.slab.state.clock_searchp.name}

    # -- operands -----------------------------------------------------------------------------

    def _cache(self, line: Line) -> KmemCache:
        h = integer(line, "h")
        if h not in self.handles:
            raise TraceError(f"no cache has the handle {h}")
        return self.handles[h]

    def _object(self, line: Line) -> tuple[int, list[int]]:
        """Address of the object at ``pa``, and its [slab, number]."""
        pa = integer(line, "pa")
        place = self.slab.find(PAGE_OFFSET + pa)
        if place is None or place.number < 0:
            raise TraceError(f"there is no object at {pa}")
        return PAGE_OFFSET + pa, [self._numbers(place.cache)[place.slab], place.number]

    def _numbers(self, cachep: KmemCache) -> dict[Slab, int]:
        """Sequence numbers of a cache's slabs.

        The observer of the traces numbered new slabs whenever it walked the cache's lists (for ``l``, ``lm``, ``cc_l``
        and snapshots), in the order in which it met them. On UP that is the order of their making; on SMP an
        operation on one cache can add several slabs to another, for the per-CPU arrays.
        """
        numbers = self.numbers.setdefault(cachep, {})
        if len(numbers) < cachep.made:
            for slab in cachep.slabs():
                if slab not in numbers:
                    numbers[slab] = len(numbers)
        return numbers

    def _ctor(self, objp: int, cachep: KmemCache, flags: int) -> None:
        self.called["ctors"] += 1

    def _dtor(self, objp: int, cachep: KmemCache, flags: int) -> None:
        self.called["dtors"] += 1

    # -- what is recorded ---------------------------------------------------------------------

    def _allocated(self, cachep: KmemCache, objp: int) -> Line:
        got: Line = {"r": None}
        if objp:
            _, obj = self._object({"pa": objp - PAGE_OFFSET})
            got = {"r": obj, "pa": objp - PAGE_OFFSET}
        if cachep.ctor is not None:
            got["ctors"] = self.called["ctors"]
        return got | self._state(cachep)

    def _fp(self) -> int:
        assert self.machine is not None
        return self.machine.nr_free_pages()

    def _state(self, cachep: KmemCache) -> Line:
        got: Line = {"l": self._l(cachep)}
        if cachep.slabp_cache is not None:
            got["lm"] = self._l(cachep.slabp_cache)
        return got | self._cc(cachep) | {"fp": self._fp()}

    def _l(self, cachep: KmemCache) -> list[int]:
        self._numbers(cachep)
        return [*(len(slabs) for _, slabs in cachep.lists()), cachep.active_objs]

    def _cc(self, cachep: KmemCache | None) -> Line:
        if not self.smp or cachep is None:
            return {}
        arrays = cachep.cpudata or [None] * SmpSlabAllocator.smp_num_cpus
        return {"cc": [-1 if cc is None else cc.avail for cc in arrays[: SmpSlabAllocator.smp_num_cpus]]}

    def _parameters(self, cachep: KmemCache) -> Line:
        got: Line = {
            "name": cachep.name,
            "objsize": cachep.objsize,
            "flags": cachep.flags,
            "num": cachep.num,
            "gfporder": cachep.gfporder,
            "gfpflags": cachep.gfpflags,
            "colour": cachep.colour,
            "colour_off": cachep.colour_off,
            "colour_next": cachep.colour_next,
            "off_slab": int(bool(cachep.flags & CFLGS_OFF_SLAB)),
            "optimize": int(bool(cachep.flags & CFLGS_OPTIMIZE)),
            "slabp_cache": cachep.slabp_cache.name if cachep.slabp_cache else None,
        }
        if self.smp:
            cc = cachep.cpudata[0] if cachep.cpudata else None
            got |= {"batchcount": cachep.batchcount, "limit": cc.limit if cc else 0}
        return got

    def _caches(self) -> list[Line]:
        return [self._parameters(cachep) for cachep in self.slab.caches()]

    def _snap(self) -> Line:
        caches = []
        for cachep in self.slab.caches():
            if not cachep.pages:
                continue
            entry: Line = {"name": cachep.name, "colour_next": cachep.colour_next, "dflags": cachep.dflags}
            numbers = self._numbers(cachep)
            text = ""
            shown = 0
            for name, slabs in cachep.lists():
                rows: list[list[int]] = []
                text += name + ":"
                for slab in slabs:
                    pfn = slab.start - PAGE_OFFSET >> PAGE_SHIFT
                    chain = "".join(f"{i}," for i in slab.free_objects())
                    text += f"{numbers[slab]}@{pfn}+{slab.colouroff}({chain})"
                    if shown < MAX_SHOWN:
                        rows.append([numbers[slab], slab.inuse, pfn, slab.colouroff])
                    shown += 1
                text += "\n"
                entry[name] = rows
            caches.append(entry | {"crc": f"{zlib.crc32(text.encode()):08x}"} | self._cc(cachep))
        return {"caches": caches, "clock": self.slab.state.clock_searchp.name, "fp": self._fp()}

    # -- booting ------------------------------------------------------------------------------

    def _boot(self, line: Line) -> Line:
        mib = integer(line, "mib")
        zone_setup = _SmpZoneSetup if self.smp else ZoneSetup
        machine = Machine(e820=pc_map(mib << 20), sanitize_e820=False, kernel_objects=None, zone_setup=zone_setup)
        machine.boot_step("setup_memory_region")
        machine.boot_step("setup_memory")
        if self.smp:  # smp_alloc_memory: the page where the other processors start
            machine.bootmem.alloc_bootmem(PAGE_SIZE, PAGE_SIZE)
        machine.boot_step("paging_init")
        machine.boot_step("register_memory")
        bdata = machine.pgdats[0].bdata
        map_start = bdata.map_pa >> PAGE_SHIFT
        frees = [[a, b, 1] for a, b in bdata.ranges()] + [[map_start, map_start + ((machine.max_low_pfn // 8 + 4095) >> PAGE_SHIFT), 1]]
        frees += [[b - 1, a - 1, -1] for a, b in reversed(ram_frames(machine, machine.highstart_pfn, machine.highend_pfn))]
        machine.boot_step("mem_init")
        self.machine, self.handles, self.numbers = machine, {}, {}
        before = machine.nr_free_pages()
        self.slab = slab = SmpSlabAllocator() if self.smp else SlabAllocator()
        slab.attach(machine)
        slab.kmem_cache_init()
        slab.kmem_cache_sizes_init()
        slab.kmem_cpucache_init()
        return {
            **{k: line[k] for k in ("op", "name", "mib", "seed") if k in line},
            "zones": [
                {
                    "zone": z.zone_num,
                    "size": z.size,
                    "start_mapnr": z.zone_start_mapnr,
                    "pages_min": z.pages_min,
                    "pages_low": z.pages_low,
                    "pages_high": z.pages_high,
                }
                for z in machine.zones
            ],
            "zonelists": zonelists(machine),
            "boot_frees": frees,
            "free_before_kmem_init": before,
            "init": {
                "slab_break_gfp_order": slab.state.slab_break_gfp_order,
                "offslab_limit": slab.state.offslab_limit,
                "sizeof_slab_t": SIZEOF_SLAB_T,
                "sizeof_kmem_cache_t": slab.SIZEOF_KMEM_CACHE_T,
                "L1_CACHE_BYTES": L1_CACHE_BYTES,
                "smp": int(self.smp),
                "cpus": SmpSlabAllocator.smp_num_cpus if self.smp else 1,
                "fp": machine.nr_free_pages(),
            },
            "caches": self._caches(),
            "slabsnap": self._snap(),
        }
